import { describe, expect, test } from 'vitest';
import { fuzzFrames } from './frame-fuzz.ts';
import { fuzzDictionaries, fuzzRecords, fuzzSegments } from './record-fuzz.ts';

describe('the same, for a million inputs', () => {
  test.each([11, 12, 13, 14])('frames, seed %i', { timeout: 600_000 }, (seed) => {
    expect(fuzzFrames(seed, 250_000).read).toBeGreaterThan(1_000);
  });

  test('records', { timeout: 600_000 }, () => {
    const { opened, intact } = fuzzRecords(15, 200_000);
    expect(opened).toBe(intact);
  });

  test('segments', { timeout: 600_000 }, () => {
    expect(fuzzSegments(17, 100_000)).toBeGreaterThan(1_000);
  });

  test('dictionaries', { timeout: 600_000 }, () => {
    expect(fuzzDictionaries(16, 50_000)).toBeGreaterThan(5_000);
  });
});
