import { describe, expect, test } from 'vitest';
import { heapAfter } from '../../support/heap.ts';
import { fuzzEnvelopes } from './envelope-fuzz.ts';

// What a user would lose: one agent with a bug, or one attacker with a token, takes down what the whole fleet needs.
describe('whatever an agent sends, its stream takes it or ends, and nothing else happens', () => {
  test('messages', async () => {
    const { taken, ended, ticks, events } = await fuzzEnvelopes(1, 10_000);
    expect(taken).toBeGreaterThan(1_500);
    expect(ended).toBeGreaterThan(500);
    expect(ticks).toBeGreaterThan(1_500);
    expect(events).toBeGreaterThan(1_000);
  });

  test('and nothing is kept of streams that are over', async () => {
    const before = await heapAfter(() => fuzzEnvelopes(2, 2_000));
    const after = await heapAfter(() => fuzzEnvelopes(3, 5_000));
    expect(after - before).toBeLessThan(8 * 2 ** 20);
  });
});
