import { describe, expect, test } from 'vitest';
import { heapAfter } from '../../support/heap.ts';
import { fuzzFrames } from './frame-fuzz.ts';
import { fuzzDictionaries, fuzzRecords, fuzzSegments } from './record-fuzz.ts';

// What a user would lose: one agent that sends garbage, or one bad sector, takes the whole process down.
describe('whatever the bytes say, a decoder reads them or refuses them in one way', () => {
  test('frames', () => {
    const { read, refused } = fuzzFrames(1, 60_000);
    expect(read).toBeGreaterThan(1_000);
    expect(refused).toBeGreaterThan(10_000);
  });

  test('records: what was damaged is never taken for a record', () => {
    const { opened, intact } = fuzzRecords(2, 20_000);
    expect(opened).toBe(intact);
    expect(intact).toBeGreaterThan(0);
  });

  test('segments', () => {
    expect(fuzzSegments(6, 10_000)).toBeGreaterThan(100);
  });

  test('dictionaries', () => {
    expect(fuzzDictionaries(3, 5_000)).toBeGreaterThan(500);
  });

  test('and keeps nothing of them', async () => {
    const before = await heapAfter(() => fuzzFrames(4, 5_000));
    const after = await heapAfter(() => fuzzFrames(5, 20_000));
    expect(after - before).toBeLessThan(8 * 2 ** 20);
  });
});
