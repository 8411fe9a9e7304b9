import { describe, expect, test } from 'vitest';
import { RelativeEntropy } from '../../../../aggregator/health/detect/relative-entropy.ts';
import { seededRandom } from '../../../support/random.ts';

const WINDOW = 52;
const LEARNING = 104;
const UNKNOWN: readonly [number, number] = [Number.NaN, Number.NaN];

/** The rule written down with whole windows of raw values: slow, with nothing packed, merged or reused. */
class SlowEntropy {
  #low: number;
  #width: number;
  readonly #grows: boolean;
  readonly #learned: number[] = [];
  #window: number[] = [];
  #remembered: number[][] = [];

  constructor([low, high]: readonly [number, number]) {
    this.#grows = Number.isNaN(low);
    this.#low = low - 0.1 * (high - low);
    this.#width = 1.2 * (high - low);
  }

  observe(value: number): number {
    if (this.#grows && this.#learned.length < LEARNING) return this.#learn(value);
    if (this.#grows) this.#include(value);
    this.#window = [...this.#window, value].slice(-WINDOW);
    if (this.#window.length < WINDOW) return Number.NaN;
    const match = this.#remembered.findIndex((window) => this.#entropy(window) < 20.515);
    const found = match < 0 ? this.#window : this.#remembered.splice(match, 1)[0]!;
    const first = this.#remembered.length === 0 && match < 0;
    this.#remembered = [found, ...this.#remembered].slice(0, 32);
    return match < 0 && !first ? 1 : 0;
  }

  #learn(value: number): number {
    this.#learned.push(value);
    const [least, most] = [Math.min(...this.#learned), Math.max(...this.#learned)];
    const size = Math.max(Math.abs(least), Math.abs(most));
    const width = Math.max(most - least, (most > least ? 1e-6 : 0.1) * size, 1e-9);
    this.#low = least - 0.75 * width;
    this.#width = 2.5 * width;
    return Number.NaN;
  }

  #include(value: number): void {
    while (value < this.#low) {
      this.#low -= this.#width;
      this.#width *= 2;
    }
    while (value >= this.#low + this.#width) this.#width *= 2;
  }

  #histogram(window: readonly number[]): number[] {
    const counts = [0, 0, 0, 0, 0, 0];
    for (const value of window) {
      const bin = Math.floor(((value - this.#low) / this.#width) * 6);
      counts[Math.min(Math.max(bin, 0), 5)]!++;
    }
    return counts;
  }

  #entropy(window: readonly number[]): number {
    const expected = this.#histogram(window);
    return this.#histogram(this.#window).reduce(
      (sum, count, bin) => sum + (count === 0 ? 0 : 2 * count * Math.log(count / expected[bin]!)),
      0,
    );
  }
}

function run(range: readonly [number, number], values: readonly number[]): number[] {
  const entropy = new RelativeEntropy(1);
  entropy.reset(0, ...range);
  return values.map((value) => entropy.observe(0, value));
}

/** Levels that change at times, noise, and jumps that outgrow a learned range on both sides. */
function restless(seed: number, count: number): number[] {
  const random = seededRandom(seed);
  let level = 50;
  return Array.from({ length: count }, (_, at) => {
    if (random() < 0.02) level = 100 * random();
    if (at > 400 && random() < 0.001) return level + 2000 * (random() - 0.5);
    return level + 15 * (random() - 0.5);
  });
}

describe('relative entropy', () => {
  test.each([
    ['known', [0, 100] as const, 1],
    ['known', [0, 100] as const, 2],
    ['learned', UNKNOWN, 3],
    ['learned', UNKNOWN, 4],
  ])('%s range: packed state says what the plain rule says, value by value', (_, range, seed) => {
    const values = restless(seed, 4000);
    const slow = new SlowEntropy(range);
    const found = run(range, values);
    expect(found).toEqual(values.map((value) => slow.observe(value)));
    // It must have had something to say.
    expect(found.filter((one) => one === 1).length).toBeGreaterThan(15);
  });

  test('no opinion before a window is full, or a range learned: the first minutes of a GPU are no anomaly', () => {
    const values = Array.from({ length: 300 }, (_, at) => at % 7);
    expect(run([0, 100], values).findIndex((one) => !Number.isNaN(one))).toBe(WINDOW - 1);
    expect(run(UNKNOWN, values).findIndex((one) => !Number.isNaN(one))).toBe(LEARNING + WINDOW - 1);
  });

  test('a level held inside the usual range is told when it is new, and not when it comes again', () => {
    const busy = Array.from({ length: 200 }, (_, at) => (at % 2 === 0 ? 10 : 90));
    const stuck = Array<number>(100).fill(50);
    const found = run([0, 100], [...busy, ...stuck, ...busy, ...stuck]);
    expect(found.slice(200, 300)).toContain(1);
    expect(found.slice(500)).not.toContain(1);
  });

  test('a constant series is never new, whatever its value: idle GPUs stay quiet', () => {
    for (const value of [0, 1e-30, -40, 1e15]) expect(run(UNKNOWN, Array(500).fill(value))).not.toContain(1);
  });

  test('a value as far out as floats go ends the growing and leaves a detector that still answers', () => {
    for (const far of [1e18, -1e18]) {
      const found = run(UNKNOWN, [...Array(200).fill(1e-9), far, ...Array(200).fill(1e-9)]);
      expect(found[200]).toBe(1);
      expect(found.at(-1)).toBe(0);
    }
  });

  test('what is reset is as new, and its neighbours are as before', () => {
    const entropy = new RelativeEntropy(2);
    entropy.reset(0, 0, 100);
    entropy.reset(1, 0, 100);
    for (let at = 0; at < 100; at++) for (const series of [0, 1]) entropy.observe(series, 50);
    entropy.reset(0, 0, 10);
    expect(entropy.observe(0, 5)).toBeNaN();
    expect(entropy.observe(1, 50)).toBe(0);
  });
});
