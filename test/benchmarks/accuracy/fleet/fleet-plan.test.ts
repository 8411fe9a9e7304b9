import { expect, test } from 'vitest';
import {
  FAULT_KINDS,
  type FleetPart,
  planOf,
  secondsOf,
  WEEK_SECONDS,
} from '../../../../benchmarks/accuracy/fleet/fleet-plan.ts';
import { reportingSeed, tuningSeed } from '../../../../benchmarks/accuracy/fleet/fleet-seeds.ts';

const faultyPart = (index: number): FleetPart => ({ seed: 7, index, faulty: true, nodes: 8, seconds: 0 });
const QUIET: FleetPart = { seed: 7, index: 0, faulty: false, nodes: 8, seconds: WEEK_SECONDS };

test('every kind of fault comes equally often, over several models: a recall of easy kinds says nothing', () => {
  const nodes = Array.from({ length: 16 }, (_, index) => planOf(faultyPart(index))).flat();
  for (const kind of FAULT_KINDS) {
    const own = nodes.filter(({ fault }) => fault!.kind === kind);
    expect(own, kind).toHaveLength(8);
    expect(new Set(own.map(({ model }) => model)).size, kind).toBeGreaterThanOrEqual(3);
  }
  // What its driver cannot say is not asked of a board.
  for (const { model, fault } of nodes) if (fault!.kind === 'xid') expect(model).not.toBe('MI300X');
  for (const { fault } of nodes) expect(fault!.begins).toBeGreaterThanOrEqual(12 * 3600);
});

test('nothing benign counts as a fault, and all of it happens to the healthy fleet', () => {
  const benign = new Set(planOf(QUIET).flatMap(({ script }) => script.map(({ kind }) => kind)));
  expect([...benign].sort()).toEqual(['application_xid', 'job_start', 'job_stop', 'memory_full']);
  expect(FAULT_KINDS.filter((kind) => benign.has(kind))).toEqual([]);
});

test('the same part gives the same plan, another seed another: figures can be had again', () => {
  expect(planOf(faultyPart(3))).toEqual(planOf(faultyPart(3)));
  expect(planOf({ ...faultyPart(3), seed: 8 })).not.toEqual(planOf(faultyPart(3)));
});

test('a faulty part is watched until its last fault could still be found', () => {
  const plan = planOf(faultyPart(0));
  expect(secondsOf(faultyPart(0), plan)).toBe(Math.max(...plan.map(({ fault }) => fault!.ends)) + 600);
  expect(secondsOf(QUIET, planOf(QUIET))).toBe(WEEK_SECONDS);
});

test('no seed is both looked at while tuning and reported', () => {
  for (const seed of [0, 1, 999, 1000, 123_456]) {
    expect(tuningSeed(seed)).toBeLessThan(1000);
    expect(reportingSeed(seed)).toBeGreaterThanOrEqual(1000);
  }
});
