import { expect, test } from 'vitest';
import { ConcurrencyLimit, MAX_CONCURRENCY } from '../../../aggregator/store/concurrency-limit.ts';

/** A store with so many cores, each taking `serviceMs` for a request, `roundTripMs` away; kept busy by the limit. */
function drive(limit: ConcurrencyLimit, cores: number, serviceMs: number, roundTripMs: number): number {
  for (let i = 0; i < 1_900; i++) {
    const inFlight = limit.limit;
    limit.answered(roundTripMs + serviceMs * Math.max(1, inFlight / cores), 10_000, inFlight);
  }
  return limit.limit;
}

// Lost without it: half the throughput of a store far away, or seconds of requests that wait inside a near one.
test('a store far away gets many requests at once, a near one hardly more than it has cores', () => {
  expect(drive(new ConcurrencyLimit(), 16, 10, 100)).toBe(MAX_CONCURRENCY);
  const near = drive(new ConcurrencyLimit(), 2, 10, 0);
  expect(near).toBeGreaterThanOrEqual(2);
  expect(near).toBeLessThanOrEqual(4);
});

test('a store that is overloaded gets half, down to one request, and more again once it keeps up', () => {
  const limit = new ConcurrencyLimit();
  for (let i = 0; i < 10; i++) limit.overloaded();
  expect(limit.limit).toBe(1);
  expect(drive(limit, 2, 10, 0)).toBeGreaterThanOrEqual(2);
});

test('small requests and limits that were not reached change nothing', () => {
  const limit = new ConcurrencyLimit();
  const before = limit.limit;
  for (let i = 0; i < 500; i++) limit.answered(5, 100, before);
  for (let i = 0; i < 500; i++) limit.answered(5, 10_000, before - 1);
  expect(limit.limit).toBe(before);
});

// Lost without it: a quarter of the rate at which a backlog drains, where answers vary for reasons of the store's own.
test('answers that vary leave a store that takes everything with two requests', () => {
  const limit = new ConcurrencyLimit();
  for (let i = 0; i < 900; i++) limit.answered(i % 20 === 0 ? 5 : 20, 40_000, limit.limit);
  expect(limit.limit).toBe(2);
});
