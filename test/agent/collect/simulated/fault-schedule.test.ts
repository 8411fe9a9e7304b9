import { describe, expect, test } from 'vitest';
import { FaultSchedule, MAX_FAULTS } from '../../../../agent/collect/simulated/fault-schedule.ts';
import {
  effectOf,
  FAULTS,
  NO_FAULT,
  type ScriptedFault,
} from '../../../../agent/collect/simulated/faults.ts';
import { Prng } from '../../../../agent/collect/simulated/prng.ts';
import type { Vendor } from '../../../../agent/collect/simulated/profiles.ts';

const schedule = (
  script: ScriptedFault[] = [],
  ratePerGpuHour = 0,
  vendor: Vendor = 'nvidia',
): FaultSchedule =>
  new FaultSchedule({ gpus: 8, vendor, script, ratePerGpuHour, random: new Prng('faults') });

// Lost without it: a demonstration's fault begins or ends at another time than its script says, or stays.
test('a fault lasts from its time until its duration is over, on its GPU alone', () => {
  const faults = schedule([{ at: 10, gpu: 2, kind: 'memory_full', duration: 5000 }]);
  const at = (now: number): number[] => {
    faults.advance(now);
    return [faults.conditionsOf(2).memoryFull, faults.conditionsOf(3).memoryFull];
  };
  expect(at(0)).toEqual([0, 0]);
  expect(at(9.9)).toEqual([0, 0]);
  expect(at(10)).toEqual([1, 0]);
  expect(at(14.9)).toEqual([1, 0]);
  expect(at(15)).toEqual([0, 0]);
  expect(faults.conditionsOf(2)).toEqual(NO_FAULT);
});

// Lost without it: a fault shorter than the interval is never read, and its author thinks that nothing detects it.
test('a fault that is over before the read is still read once', () => {
  const faults = schedule([{ at: 1, gpu: 0, kind: 'power_brake', duration: 100 }]);
  faults.advance(10);
  expect(faults.conditionsOf(0).powerBrake).toBe(1);
  faults.advance(20);
  expect(faults.conditionsOf(0).powerBrake).toBe(0);
});

// Lost without it: two faults at once on one GPU, and the end of the first takes the second away.
test('faults that overlap add up, and end one by one', () => {
  const faults = schedule([
    { at: 0, gpu: 0, kind: 'ecc_burst', duration: 20_000 },
    { at: 5, gpu: 0, kind: 'row_remap_failure' },
  ]);
  expect(faults.advance(5)).toMatchObject([
    { gpu: 0, xid: 48 },
    { gpu: 0, xid: 64 },
  ]);
  expect(faults.conditionsOf(0)).toMatchObject({ remapFailed: 1, correctedPerSecond: 20, recoveryAction: 4 });
  expect(faults.advance(20)).toEqual([]);
  expect(faults.conditionsOf(0)).toMatchObject({ remapFailed: 1, correctedPerSecond: 0, recoveryAction: 1 });
});

describe('a fault that cannot be', () => {
  // Lost without it: a typing error in a script is a demonstration in which nothing happens.
  test.each([
    [
      { gpu: 0, kind: 'termal_runaway' },
      /Cannot inject fault "termal_runaway" into GPU 0: the kinds are thermal_runaway,/,
    ],
    [{ gpu: 0, kind: 'toString' }, /the kinds are/],
    [{ kind: 'off_the_bus' }, /into GPU \(none\): the node has GPUs 0 to 7/],
    [{ gpu: 8, kind: 'xid' }, /the node has GPUs 0 to 7/],
    [{ gpu: -1, kind: 'xid' }, /the node has GPUs 0 to 7/],
    [{ gpu: 0.5, kind: 'xid' }, /the node has GPUs 0 to 7/],
    [{ gpu: 0, kind: 'xid', code: 0 }, /0 is not an Xid/],
    [{ gpu: 0, kind: 'xid', code: 1001 }, /1001 is not an Xid/],
    [{ gpu: 0, kind: 'xid', duration: -1 }, /it lasts -1 ms/],
  ])('%o is refused', (fault, message) => {
    expect(() => schedule([{ at: 0, ...fault }])).toThrow(message);
    expect(() => schedule().inject(fault)).toThrow(message);
  });

  // Lost without it: a fault that is said to begin before the start, or never, is silently one or the other.
  test.each([-1, -5, Number.NaN, Infinity])('a script that begins one at %d s is refused', (at) => {
    expect(() => schedule([{ at, gpu: 0, kind: 'xid' }])).toThrow(/it begins .* s after the start/);
  });

  // Lost without it: a loop that injects faults takes the agent's memory.
  test('one over the limit is refused, and there is room again when others ended', () => {
    const faults = schedule();
    for (let i = 0; i < MAX_FAULTS; i++) faults.inject({ gpu: 0, kind: 'xid', duration: 1000 });
    faults.advance(0);
    expect(() => faults.inject({ gpu: 0, kind: 'xid' })).toThrow(/1000 faults are waiting or active/);
    faults.advance(2);
    faults.inject({ gpu: 0, kind: 'xid' });
    const script = new Array(MAX_FAULTS + 1).fill({ at: 0, gpu: 0, kind: 'xid' });
    expect(() => schedule(script)).toThrow(/Cannot script 1001 faults/);
  });
});

// Lost without it: `fault_rate: 1` means some other number of faults, or one that ends a whole board.
test('faults by chance come at their rate, mild ones alone, and pass', () => {
  const faults = schedule([], 0.5);
  const mild = Object.keys(FAULTS).filter((kind) => effectOf(kind)!.byChanceSeconds !== undefined);
  expect(mild).toEqual(['ecc_corrected', 'application_xid', 'frozen_sensor', 'power_brake']);
  const hours = 1000;
  const xids = new Set<number | undefined>();
  let began = 0;
  let grave = 0;
  for (let minute = 0; minute <= hours * 60; minute++) {
    for (const { xid } of faults.advance(minute * 60)) {
      began++;
      xids.add(xid);
    }
    for (let gpu = 0; gpu < 8; gpu++) {
      const { lost, addedCelsius, uncorrectedPerSecond } = faults.conditionsOf(gpu);
      if (lost || addedCelsius || uncorrectedPerSecond) grave++;
    }
  }
  expect(xids).toEqual(new Set([undefined, 13]));
  expect(grave).toBe(0);
  // 4,000 expected, deviation 63.
  expect(began).toBeGreaterThan(3700);
  expect(began).toBeLessThan(4300);

  expect(schedule([], 0).advance(1e9)).toEqual([]);
});
