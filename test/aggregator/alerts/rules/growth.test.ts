import { describe, expect, it } from 'vitest';
import { Growth, GrowthMemory } from '../../../../aggregator/alerts/rules/growth.ts';
import { GrowthWindow } from '../../../../aggregator/alerts/rules/growth-window.ts';

const WINDOW_MS = 600_000;

function counters(keys: readonly string[], windowMs = WINDOW_MS) {
  return { windowsMs: () => keys.map(() => windowMs), counterKeys: () => keys };
}
const COUNTER = counters(['a']);

/** Growth over ten minutes of samples [minute, value]. */
function growthOf(samples: readonly (readonly [minute: number, value: number])[]): number[] {
  const growth = new Growth(COUNTER);
  return samples.map(([minute, value]) => growth.measure(0, value, minute * 60_000));
}

describe('the growth of a counter', () => {
  it.each([
    ['is none at first: who knows what it was', [[0, 5]], [0]],
    [
      'adds up within the window',
      [
        [0, 5],
        [1, 7],
        [2, 7],
        [3, 10],
      ],
      [0, 2, 2, 5],
    ],
    // The two of minute 1 leave with minute 11, the three of minute 3 with minute 13.
    [
      'leaves with its age, to the sample',
      [
        [0, 5],
        [1, 7],
        [3, 10],
        [10.9, 10],
        [11, 10],
        [12.9, 10],
        [13, 10],
      ],
      [0, 2, 5, 5, 3, 3, 0],
    ],
    [
      'of a reset is none, and goes on from there',
      [
        [0, 100],
        [1, 3],
        [2, 4],
      ],
      [0, 0, 1],
    ],
    [
      'over a gap within the window is all within it',
      [
        [0, 5],
        [10, 9],
      ],
      [0, 4],
    ],
    [
      'over a longer gap is not invented',
      [
        [0, 5],
        [1, 6],
        [11.1, 90],
        [12, 91],
      ],
      [0, 1, 0, 1],
    ],
    [
      'is not taken twice from a repeat',
      [
        [0, 5],
        [1, 6],
        [1, 60],
        [2, 7],
      ],
      [0, 1, Number.NaN, 2],
    ],
    [
      'begins anew after a clock was set back',
      [
        [100, 5],
        [101, 6],
        [2, 8],
        [3, 9],
      ],
      [0, 1, 0, 1],
    ],
    [
      'is not known of what is no number',
      [
        [0, 5],
        [1, Number.POSITIVE_INFINITY],
        [2, 6],
      ],
      [0, Number.NaN, 1],
    ],
  ] as const)('%s', (_, samples, expected) => {
    expect(growthOf(samples)).toEqual(expected);
  });

  it('is known in full only after a whole window without a longer gap', () => {
    const growth = new Growth(COUNTER);
    const covered = [0, 5, 9.9, 10, 15, 26, 36].map((minute) => {
      growth.measure(0, minute, minute * 60_000);
      return growth.covers(0);
    });
    expect(covered).toEqual([false, false, false, true, true, false, true]);
  });
});

describe('a window', () => {
  // A counter of bytes grows with each tick; a rate of it must be right, and cost no more than a rare error's.
  it('of a counter that grows all the time is right to a sixtieth, never above what there was', () => {
    const window = new GrowthWindow(WINDOW_MS);
    for (let s = 1; s <= 5000; s++) {
      window.add(s * 1000, 3);
      const truth = Math.min(s, 600) * 3;
      const sum = window.sumAt(s * 1000);
      expect(sum).toBeLessThanOrEqual(truth);
      expect(sum).toBeGreaterThanOrEqual(truth * (1 - 1 / 60) - 3);
    }
  });

  it('is empty when all has left, without a rest of rounding', () => {
    const window = new GrowthWindow(WINDOW_MS);
    for (let i = 0; i < 200; i++) window.add(i * 10_000, 0.1 * i);
    expect(window.sumAt(200 * 10_000 + WINDOW_MS)).toBe(0);
    expect(window.empty).toBe(true);
  });
});

describe('what is remembered', () => {
  it('is over a new dictionary what it was: an error during a reconnect counts', () => {
    const memory = new GrowthMemory();
    const first = memory.begin('n1', counters(['a', 'b']));
    for (const [minute, value] of [
      [0, 1],
      [1, 4],
    ] as const)
      first.measure(1, value, minute * 60_000);
    const second = memory.begin('n1', counters(['b']));
    expect(second.measure(0, 6, 120_000)).toBe(5);
    // Of another window, or of another node, nothing is known.
    expect(memory.begin('n1', counters(['b'], 60_000)).measure(0, 9, 180_000)).toBe(0);
    expect(memory.begin('n2', counters(['b'])).measure(0, 9, 180_000)).toBe(0);
  });

  it('has a bound: nodes that came and went for years do not fill the memory', () => {
    const memory = new GrowthMemory();
    for (let i = 0; i < 50_010; i++) memory.begin(`n${i}`, COUNTER);
    expect(memory.size).toBe(50_000);
    memory.begin('n50009', counters([]));
    expect(memory.size).toBe(49_999);
  });
});
