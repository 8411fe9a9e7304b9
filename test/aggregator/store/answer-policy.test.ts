import { expect, test } from 'vitest';
import { retryAfterMs, retryWait, verdictOf } from '../../../aggregator/store/answer-policy.ts';

// Lost without it: samples that are given up over a fault that passes, or a queue that stands still over one sample.
test.each([
  ['accepted', [200, 202, 204]],
  ['retry', [0, 408, 429, 500, 502, 503, 504, 302, 418]],
  ['content', [400, 409, 413, 415, 422]],
  ['path', [401, 403, 404]],
] as const)('%s', (verdict, statuses) => {
  for (const status of statuses) expect(verdictOf(status), String(status)).toBe(verdict);
});

test('waits grow from 100 ms to 30 s with full jitter, so that a store which comes back is not run down', () => {
  expect([0, 1, 2, 20, 1000].map((attempt) => retryWait(attempt, 0, () => 1))).toEqual([
    100, 200, 400, 30_000, 30_000,
  ]);
  expect(retryWait(7, 0, () => 0)).toBe(0);
});

test('Retry-After, seconds or a date, is a floor with up to a fifth on top, and at most five minutes', () => {
  const now = Date.parse('2026-06-01T00:00:00Z');
  expect(retryAfterMs('7', now)).toBe(7_000);
  expect(retryAfterMs('Mon, 01 Jun 2026 00:00:30 GMT', now)).toBe(30_000);
  expect(retryAfterMs('Mon, 01 Jun 2026 12:00:00 GMT', now)).toBe(300_000);
  expect(retryAfterMs('Sun, 31 May 2026 00:00:00 GMT', now)).toBe(0);
  expect(retryAfterMs('soon', now)).toBe(0);
  expect(retryAfterMs(undefined, now)).toBe(0);
  expect(retryWait(0, 7_000, () => 0)).toBe(7_000);
  expect(retryWait(0, 7_000, () => 1)).toBe(8_400);
});
