import { expect, test } from 'vitest';
import { DepartedLog } from '../../../agent/buffer/departed-log.ts';

// Lost without these: the account of what a store lost that was set back further than the ring is long.

const START = 1_780_000_000_000;
const MINUTE_MS = 60_000;

function setUp() {
  const facts = new Map<string, string>();
  const writes: string[] = [];
  const store = {
    fact: (name: string) => facts.get(name),
    saveFact: (name: string, value: string) => {
      writes.push(name);
      facts.set(name, value);
    },
  };
  return { facts, writes, store };
}

/** A record of 10 samples a second: sequence 1 is of START. */
function fill(log: DepartedLog, from: number, to: number, run = 1): void {
  for (let sequence = from; sequence <= to; sequence++) {
    log.add(run, { sequence, timeMs: START + (sequence - 1) * 1000, samples: 10 });
    log.save();
  }
}

test('says what the records of the ranges held, and keeps the others', () => {
  const log = new DepartedLog(setUp().store);
  fill(log, 1, 600);
  fill(log, 601, 900);
  expect(log.take([{ run: 2, first: 1, last: 900 }])).toBeUndefined();
  // Of the first ten minutes a half, of the next all; said twice counts once.
  const ranges = [
    { run: 1, first: 301, last: 700 },
    { run: 1, first: 650, last: 5_000 },
  ];
  expect(log.take(ranges)).toEqual({
    ...{ records: 600, samples: 6_000 },
    ...{ fromMs: START, toMs: START + 899_000 },
  });
  expect(log.take(ranges)).toBeUndefined();
  expect(log.take([{ run: 1, first: 1, last: 300 }])).toMatchObject({ records: 300, samples: 3_000 });
});

test('runs do not mix, nor does a clock that stepped back widen a range', () => {
  const log = new DepartedLog(setUp().store);
  fill(log, 1, 10);
  fill(log, 1, 5, 2);
  log.add(2, { sequence: 6, timeMs: START - 3_600_000, samples: 7 });
  expect(log.take([{ run: 2, first: 1, last: 5 }])).toMatchObject({ records: 5, fromMs: START });
  expect(log.take([{ run: 2, first: 6, last: 6 }])).toMatchObject({ samples: 7, toMs: START - 3_600_000 });
});

test('outlives the process but for a minute, writes once a minute, and is bounded', () => {
  const { store, facts, writes } = setUp();
  const log = new DepartedLog(store);
  const days = 2 * 1440;
  for (let minute = 0; minute < days; minute++) {
    log.add(1, { sequence: minute + 1, timeMs: START + minute * MINUTE_MS, samples: 1 });
    log.save();
    log.save();
  }
  // Each ten minutes' last state once more, when the next begin.
  expect(writes).toHaveLength(days + days / 10 - 1);
  expect(facts.size).toBe(144);
  const next = new DepartedLog(store);
  expect(next.take([{ run: 1, first: 1, last: days }])).toEqual({
    ...{ records: 1440, samples: 1440 },
    ...{ fromMs: START + 1440 * MINUTE_MS, toMs: START + (days - 1) * MINUTE_MS },
  });
  expect(new DepartedLog(store).take([{ run: 1, first: 1, last: days }])).toBeUndefined();
});

test('a fact that is damaged costs its ten minutes', () => {
  const { store, facts } = setUp();
  const log = new DepartedLog(store);
  fill(log, 1, 1_200);
  const [first] = facts.keys();
  facts.set(first!, '{"serial":0,"run":1');
  facts.set('buffer/departed/7', '{"serial":"x"}');
  expect(new DepartedLog(store).take([{ run: 1, first: 1, last: 1_200 }])).toMatchObject({ records: 541 });
});
