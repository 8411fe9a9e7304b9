import { expect, test } from 'vitest';
import type { Clock } from '#shared/model/clock.ts';
import { AcceptedLog } from '../../../agent/uplink/accepted-log.ts';

const MINUTE_MS = 60_000;

function setUp() {
  const facts = new Map<string, string>();
  const store = {
    fact: (name: string) => facts.get(name),
    saveFact: (name: string, value: string) => void facts.set(name, value),
  };
  const time = { wall: 1_780_000_000_000, mono: 5_000 };
  const clock: Clock = { now: () => time.wall, monotonic: () => time.mono };
  const pass = (ms: number): void => {
    time.wall += ms;
    time.mono += ms;
  };
  return { facts, store, time, clock, pass };
}

// Lost without it: backlog of yesterday that was delivered an hour before the store was set back by two.
test('what was accepted lately is found whatever its own time, and what came earlier is left out', () => {
  const { store, clock, pass } = setUp();
  const log = new AcceptedLog(clock, store);
  log.add({ run: 1, first: 1, last: 100 });
  pass(60 * MINUTE_MS);
  log.add({ run: 2, first: 1, last: 10 });
  log.add({ run: 1, first: 101, last: 150 });
  pass(10 * MINUTE_MS);
  log.add({ run: 2, first: 11, last: 12 });
  expect(log.within(5 * MINUTE_MS)).toEqual([{ run: 2, first: 11, last: 12 }]);
  expect(log.within(15 * MINUTE_MS)).toEqual([
    { run: 2, first: 1, last: 10 },
    { run: 1, first: 101, last: 150 },
    { run: 2, first: 11, last: 12 },
  ]);
  expect(log.within(100 * MINUTE_MS)).toHaveLength(4);
});

test('it outlives the process, over hours, and another start of the monotonic clock', () => {
  const { store, clock, pass, time } = setUp();
  const log = new AcceptedLog(clock, store);
  for (let minute = 0; minute < 180; minute++) {
    log.add({ run: 1, first: minute * 10, last: minute * 10 + 9 });
    log.save();
    pass(MINUTE_MS);
  }
  time.mono = 7;
  const next = new AcceptedLog(clock, store);
  const ranges = next.within(90 * MINUTE_MS);
  expect(Math.min(...ranges.map(({ first }) => first))).toBeLessThanOrEqual(900);
  expect(Math.min(...ranges.map(({ first }) => first))).toBeGreaterThanOrEqual(850);
  expect(Math.max(...ranges.map(({ last }) => last))).toBe(1799);
});

test('a fact that is damaged costs that hour and not the agent', () => {
  const { store, facts, clock } = setUp();
  const log = new AcceptedLog(clock, store);
  log.add({ run: 1, first: 1, last: 1 });
  log.save();
  for (const name of facts.keys()) facts.set(name, '{cut');
  expect(new AcceptedLog(clock, store).within(MINUTE_MS)).toEqual([]);
});

test('names of facts are bounded: an agent that runs for years does not fill its disk', () => {
  const { store, facts, clock, pass } = setUp();
  const log = new AcceptedLog(clock, store);
  for (let hour = 0; hour < 1_500; hour++) {
    log.add({ run: 1, first: hour, last: hour });
    log.save();
    pass(60 * MINUTE_MS);
  }
  expect(facts.size).toBeLessThanOrEqual(720);
});
