import { expect, test } from 'vitest';
import { fuzzEnvelopes } from './envelope-fuzz.ts';

test.each([11, 12, 13, 14])('the same for many messages, seed %i', { timeout: 900_000 }, async (seed) => {
  const { taken, ended } = await fuzzEnvelopes(seed, 100_000);
  expect(taken).toBeGreaterThan(20_000);
  expect(ended).toBeGreaterThan(5_000);
});
