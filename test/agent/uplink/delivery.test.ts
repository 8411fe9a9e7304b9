import { describe, expect, test } from 'vitest';
import { RangeSet } from '#shared/model/range-set.ts';
import {
  Delivery,
  DURABLE_AFTER_MS,
  DURABLE_AFTER_UNKNOWN_EPOCH_MS,
  MAX_UNDECIDED,
} from '../../../agent/uplink/delivery.ts';

const run = (counter: number, first: number, last: number) => ({
  counter,
  first,
  last,
  durable: new RangeSet(),
});

test('accepted is not durable: only the same incarnation, seen 30 s later, makes it so', () => {
  const live = run(1, 1, 10);
  const delivery = new Delivery(() => [live]);
  for (let sequence = 1; sequence <= 10; sequence++) delivery.sent(1, sequence, 100, 'live');
  delivery.accepted({ run: 1, first: 1, last: 10 }, 5n, 1_000);
  expect(delivery.observe(5n, 1_000 + DURABLE_AFTER_MS - 1)).toEqual({ moved: new Set(), again: 0 });
  expect(live.durable.size).toBe(0);
  expect(delivery.observe(5n, 1_000 + DURABLE_AFTER_MS)).toEqual({ moved: new Set([1]), again: 0 });
  expect(live.durable.ranges).toEqual([{ first: 1, last: 10 }]);
});

test('a store that restarted gets everything again that was not durable yet, and nothing else', () => {
  const live = run(1, 1, 20);
  const delivery = new Delivery(() => [live]);
  for (let sequence = 1; sequence <= 20; sequence++) delivery.sent(1, sequence, 100, 'live');
  delivery.accepted({ run: 1, first: 1, last: 10 }, 5n, 0);
  delivery.accepted({ run: 1, first: 11, last: 20 }, 5n, 25_000);
  delivery.observe(5n, 31_000);
  expect(delivery.nextPending(20)).toBeUndefined();
  expect(delivery.observe(6n, 32_000).again).toBe(10);
  expect(delivery.nextPending(20)).toEqual({ run: 1, first: 11, last: 20 });
});

test('where the incarnation cannot be known, time alone decides, and it is a long time', () => {
  const live = run(1, 1, 1);
  const delivery = new Delivery(() => [live]);
  delivery.sent(1, 1, 100, 'live');
  delivery.accepted({ run: 1, first: 1, last: 1 }, 0n, 0);
  delivery.observe(0n, DURABLE_AFTER_UNKNOWN_EPOCH_MS - 1);
  expect(live.durable.size).toBe(0);
  delivery.observe(0n, DURABLE_AFTER_UNKNOWN_EPOCH_MS);
  expect(live.durable.size).toBe(1);
});

test('a broken stream puts back what was in flight; what was accepted stays', () => {
  const old = run(1, 5, 8);
  const live = run(2, 1, 3);
  const delivery = new Delivery(() => [old, live]);
  expect(delivery.pendingRecords(3)).toBe(7);
  for (let sequence = 5; sequence <= 8; sequence++) delivery.sent(1, sequence, 10, 'backfill');
  delivery.sent(2, 3, 50, 'live');
  expect(delivery.inFlightBytes('backfill')).toBe(40);
  expect(delivery.inFlightBytes('live')).toBe(50);
  delivery.accepted({ run: 1, first: 5, last: 6 }, 5n, 0);
  delivery.disconnected();
  expect(delivery.inFlightBytes('backfill')).toBe(0);
  expect(delivery.nextPending(3)).toEqual({ run: 1, first: 7, last: 8 });
  expect(delivery.pendingRecords(3)).toBe(5);
});

test('deferred records are pending again; refused ones are settled and do not come back', () => {
  const live = run(1, 1, 4);
  const delivery = new Delivery(() => [live]);
  for (let sequence = 1; sequence <= 4; sequence++) delivery.sent(1, sequence, 10, 'live');
  delivery.deferred({ run: 1, first: 2, last: 3 });
  delivery.settled({ run: 1, first: 1, last: 1 });
  expect(delivery.nextPending(4)).toEqual({ run: 1, first: 2, last: 3 });
  expect(live.durable.ranges).toEqual([{ first: 1, last: 1 }]);
  expect(delivery.inFlightBytes('live')).toBe(10);
});

test('an acknowledgement of what was never sent changes nothing: a wrong one must not delete samples', () => {
  const live = run(1, 1, 1_000);
  const delivery = new Delivery(() => [live]);
  delivery.sent(1, 7, 10, 'live');
  delivery.accepted({ run: 1, first: 1, last: Number.MAX_SAFE_INTEGER }, 5n, 0);
  delivery.accepted({ run: 9, first: 1, last: 50 }, 5n, 0);
  delivery.observe(5n, DURABLE_AFTER_MS);
  expect(live.durable.ranges).toEqual([{ first: 7, last: 7 }]);
  expect(delivery.nextPending(1_000)).toEqual({ run: 1, first: 1, last: 6 });
});

test('durable marks on disk are not sent again after a restart', () => {
  const old = run(1, 1, 10);
  old.durable.add(1, 6);
  const delivery = new Delivery(() => [old, run(2, 1, 0)]);
  expect(delivery.nextPending(0)).toEqual({ run: 1, first: 7, last: 10 });
});

test('a replay makes pending again what was accepted or durable, and leaves what is in flight to its answer', () => {
  const live = run(1, 1, 30);
  const delivery = new Delivery(() => [live]);
  for (let sequence = 1; sequence <= 30; sequence++) delivery.sent(1, sequence, 10, 'live');
  delivery.accepted({ run: 1, first: 1, last: 10 }, 5n, 0);
  delivery.observe(5n, 31_000);
  expect(live.durable.ranges).toEqual([{ first: 1, last: 10 }]);
  delivery.accepted({ run: 1, first: 11, last: 20 }, 5n, 40_000);
  expect(delivery.oldestUndurable(30)).toEqual({ run: 1, sequence: 11 });

  expect(delivery.replay({ run: 1, first: 5, last: 25 })).toEqual([{ first: 5, last: 20 }]);
  expect(live.durable.ranges).toEqual([{ first: 1, last: 4 }]);
  expect(delivery.nextPending(30)).toEqual({ run: 1, first: 5, last: 20 });
  expect(delivery.oldestUndurable(30)).toEqual({ run: 1, sequence: 5 });
  // What was accepted before the replay must not become durable by it: the store may have been set back since.
  delivery.observe(5n, 100_000);
  expect(live.durable.ranges).toEqual([{ first: 1, last: 4 }]);
  delivery.accepted({ run: 1, first: 21, last: 30 }, 5n, 100_000);
  expect(delivery.pendingRecords(30)).toBe(16);
});

describe('a restart of the agent', () => {
  const undecided = () => {
    const delivery = new Delivery(() => [run(1, 1, 20)]);
    for (let sequence = 1; sequence <= 20; sequence++) delivery.sent(1, sequence, 100, 'live');
    delivery.accepted({ run: 1, first: 1, last: 8 }, 5n, 0);
    delivery.accepted({ run: 1, first: 11, last: 20 }, 5n, 20_000);
    return delivery.undecided();
  };

  // Lost without it: half a minute of samples is sent a second time after each restart.
  test('sends only what the store had not taken, and waits 30 s anew before it is durable', () => {
    const old = run(1, 1, 20);
    const delivery = new Delivery(() => [old, run(2, 1, 0)], undecided(), 100_000);
    expect(delivery.nextPending(0)).toEqual({ run: 1, first: 9, last: 10 });
    delivery.observe(5n, 100_000 + DURABLE_AFTER_MS - 1);
    expect(old.durable.size).toBe(0);
    delivery.observe(5n, 100_000 + DURABLE_AFTER_MS);
    expect(old.durable.size).toBe(18);
  });

  // Lost without it: what a store forgot while the agent was down.
  test('sends all of it again where the store restarted meanwhile', () => {
    const old = run(1, 1, 20);
    const delivery = new Delivery(() => [old, run(2, 1, 0)], undecided(), 100_000);
    expect(delivery.observe(6n, 100_001).again).toBe(18);
    expect(delivery.nextPending(0)).toEqual({ run: 1, first: 1, last: 20 });
  });

  test('remembers nothing of a store whose incarnation cannot be known, of trimmed records, and only so much', () => {
    const unknown = new Delivery(() => [run(1, 1, 5)]);
    unknown.sent(1, 1, 100, 'live');
    unknown.accepted({ run: 1, first: 1, last: 1 }, 0n, 0);
    expect(unknown.undecided()).toEqual([]);
    const trimmed = new Delivery(() => [run(1, 15, 20)], undecided(), 0);
    expect(trimmed.undecided()).toEqual([{ run: 1, first: 15, last: 20, epoch: 5n }]);
    const long = new Delivery(() => [run(1, 1, 4 * MAX_UNDECIDED)]);
    for (let sequence = 1; sequence <= 4 * MAX_UNDECIDED; sequence += 2) {
      long.sent(1, sequence, 1, 'live');
      long.accepted({ run: 1, first: sequence, last: sequence }, 5n, 0);
    }
    expect(long.undecided().length).toBe(MAX_UNDECIDED);
    expect(long.undecided().at(-1)!.first).toBe(4 * MAX_UNDECIDED - 1);
  });
});
