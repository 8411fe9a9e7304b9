import { expect, test } from 'vitest';
import { RateLimit } from '../../../aggregator/ingest/rate-limit.ts';

// Lost without it: one node that sends a hundred times what it may takes the time of all others.
test('a node may burst for a moment, and then send at its rate', () => {
  const limit = new RateLimit(1_000, 0);
  let passed = 0;
  for (let i = 0; i < 100; i++) if (limit.take(100, 0)) passed++;
  expect(passed).toBe(50);
  passed = 0;
  for (let second = 1; second <= 10; second++)
    for (let i = 0; i < 100; i++) if (limit.take(100, second * 1_000)) passed++;
  expect(passed).toBe(100);
});

test('a tick of more samples than the whole burst passes when nothing else did', () => {
  const limit = new RateLimit(10, 0);
  expect(limit.take(1_000, 0)).toBe(true);
  expect(limit.take(1_000, 1_000)).toBe(false);
});
