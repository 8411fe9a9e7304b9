import { describe, expect, test } from 'vitest';
import {
  GaugeDetector,
  type GaugeDetectorOptions,
  type GaugeSeries,
  GaugeTest,
  NO_SLOT,
} from '../../../../aggregator/health/detect/gauge-detector.ts';
import { SlotState } from '../../../../shared/model/slot-state.ts';
import { heapAfter } from '../../../support/heap.ts';
import { seededRandom } from '../../../support/random.ts';

const PLAIN: GaugeSeries = { low: Number.NaN, high: Number.NaN, resolution: 0, entropy: false };
const PERCENT: GaugeSeries = { low: 0, high: 100, resolution: 0, entropy: true };

/** A detector with blocks of its own, in which series i is in slot i. */
class Bench {
  readonly detector: GaugeDetector;
  readonly values: Float64Array;
  readonly states: Uint8Array;
  readonly slots: Int32Array;
  readonly out: Float32Array;

  constructor(of: readonly GaugeSeries[], options: Omit<GaugeDetectorOptions, 'describe'> = {}) {
    this.detector = new GaugeDetector(of.length, { describe: (i) => of[i]!, ...options });
    this.values = new Float64Array(of.length);
    this.states = new Uint8Array(of.length);
    this.slots = Int32Array.from(of, (_, i) => i);
    this.out = new Float32Array(of.length);
  }

  tick(...values: number[]): number[] {
    this.values.set(values);
    this.detector.step(this.values, this.states, this.slots, this.out);
    return [...this.out];
  }
}

function noise(seed: number, count: number, level = 50): number[] {
  const random = seededRandom(seed);
  return Array.from({ length: count }, () => level + random() + random() + random() - 1.5);
}

describe('the gauge detector', () => {
  test('has no opinion of the first 50 values, and one from then on', () => {
    const bench = new Bench([PLAIN]);
    const said = noise(1, 200).map((value) => bench.tick(value)[0]!);
    expect(said.slice(0, 50).every(Number.isNaN)).toBe(true);
    expect(said.slice(50).some(Number.isNaN)).toBe(false);
  });

  test('a step of a noisy series is over the threshold at once, its noise never: a level that breaks away is seen', () => {
    const bench = new Bench([PLAIN]);
    const before = noise(2, 5000).map((value) => bench.tick(value)[0]!);
    expect(Math.max(...before.slice(50))).toBeLessThan(1);
    const [strength] = bench.tick(60);
    expect(strength).toBeGreaterThan(1);
    expect(bench.detector.tests[0]).toBe(GaugeTest.Level);
    expect(bench.detector.expected(0)).toBeCloseTo(50, 0);
  });

  test('a constant series that steps is told once, as strong as strengths go', () => {
    const bench = new Bench([PLAIN]);
    for (let at = 0; at < 500; at++) bench.tick(30);
    expect(bench.out[0]).toBe(0);
    const after = Array.from({ length: 300 }, () => bench.tick(31)[0]!);
    expect(after[0]).toBe(10);
    expect(after.slice(1).every((strength) => strength === 0)).toBe(true);
  });

  test('a step of less than the sensor resolves is no anomaly: one degree of a GPU that idled for a week', () => {
    const bench = new Bench([{ ...PLAIN, resolution: 1 }]);
    for (let at = 0; at < 500; at++) bench.tick(30);
    expect(bench.tick(31)[0]).toBeLessThan(0.2);
    expect(bench.tick(45)[0]).toBeGreaterThan(1);
  });

  test('a distribution that never was is told although each value is usual, and only of series that are to be tested', () => {
    const bench = new Bench([PERCENT, { ...PERCENT, entropy: false }]);
    const busy = (at: number) => (at % 2 === 0 ? 20 : 80);
    for (let at = 0; at < 1000; at++) bench.tick(busy(at), busy(at));
    const stuck = Array.from({ length: 52 }, () => {
      bench.tick(50, 50);
      return { strength: bench.out[0]!, test: bench.detector.tests[0]!, other: bench.out[1]! };
    });
    expect(stuck.find(({ strength }) => strength >= 1)?.test).toBe(GaugeTest.Entropy);
    expect(Math.max(...stuck.map(({ other }) => other))).toBeLessThan(1);
  });

  test('a new distribution does not count before enough were seen: a GPU that comes up is no incident', () => {
    const early = new Bench([PERCENT], { entropyAfterSamples: 0, refractorySamples: 0 });
    const late = new Bench([PERCENT], { refractorySamples: 0 });
    const isNew = (bench: Bench, at: number) => {
      bench.tick(at < 150 ? 20 : 24 + (at % 60));
      return bench.detector.tests[0] === GaugeTest.Entropy;
    };
    const found = [early, late].map((bench) =>
      Array.from({ length: 300 }, (_, at) => isNew(bench, at)).slice(0, 299),
    );
    expect(found[0]).toContain(true);
    expect(found[1]).not.toContain(true);
  });

  test('a heavy-tailed series gets a higher limit: what it does every hour is not told forever', () => {
    const bench = new Bench([PLAIN], { refractorySamples: 0 });
    const spikes = noise(3, 20_000).map((value, at) => bench.tick(at % 200 === 199 ? value + 12 : value)[0]!);
    const told = (from: number, to: number) => spikes.slice(from, to).filter((one) => one >= 1).length;
    expect(told(0, 2000)).toBeGreaterThan(0);
    expect(told(18_000, 20_000)).toBe(0);
  });

  test.each([
    ['absent', (bench: Bench) => bench.states.fill(SlotState.Absent)],
    ['quarantined', (bench: Bench) => bench.states.fill(SlotState.Quarantined)],
    ['not a number', (bench: Bench) => bench.values.fill(Number.NaN)],
    ['infinite', (bench: Bench) => bench.values.fill(Number.NEGATIVE_INFINITY)],
    ['beyond any gauge', (bench: Bench) => bench.values.fill(1e30)],
    ['not in this block', (bench: Bench) => bench.slots.fill(NO_SLOT)],
  ])(
    '%s: no opinion, and as if the tick had not been (a gap is neither a drop to 0 nor a new beginning)',
    (_, spoil) => {
      const whole = new Bench([PERCENT]);
      const holey = new Bench([PERCENT]);
      noise(4, 1000).forEach((value, at) => {
        if (at % 3 === 0) {
          spoil(holey);
          holey.detector.step(holey.values, holey.states, holey.slots, holey.out);
          expect(holey.out[0]).toBeNaN();
          holey.states.fill(SlotState.Present);
          holey.slots[0] = 0;
        }
        expect(holey.tick(value)).toEqual(whole.tick(value));
      });
    },
  );

  test('the greatest, the smallest and opposite values leave finite strengths: one bad sensor does not poison a block', () => {
    for (const extremes of [
      [1e18, -1e18],
      [Number.MIN_VALUE, -Number.MIN_VALUE],
      [1e-30, 2e-30],
      [1e17, 1],
    ]) {
      const bench = new Bench([{ ...PERCENT }, { ...PLAIN, entropy: true }]);
      for (let at = 0; at < 600; at++) {
        const value = extremes[at % 2]!;
        for (const strength of bench.tick(value, value))
          expect(at < 50 ? Number.isNaN(strength) : strength >= 0 && strength <= 10).toBe(true);
      }
      expect(Number.isFinite(bench.detector.expected(0))).toBe(true);
    }
  });

  test('a series says the same alone, beside others, and in any order of series', () => {
    const kinds = [
      PERCENT,
      PLAIN,
      { ...PERCENT, low: Number.NaN, high: Number.NaN },
      { ...PLAIN, resolution: 0.5 },
    ];
    const inputs = kinds.map((_, i) =>
      noise(10 + i, 1500).map((value, at) => (at % 400 > 350 ? value + i * 9 : value)),
    );
    const alone = kinds.map((kind, i) => {
      const bench = new Bench([kind]);
      return inputs[i]!.map((value) => bench.tick(value)[0]!);
    });
    const order = [2, 0, 3, 1];
    const beside = new Bench(order.map((i) => kinds[i]!));
    // Series 0 of the detector is in the last slot of the block.
    beside.slots.set([3, 2, 1, 0]);
    for (let at = 0; at < 1500; at++) {
      const said = beside.tick(...order.map((i) => inputs[i]![at]!).reverse());
      expect(said).toEqual(order.map((i) => alone[i]![at]!));
    }
    expect(alone.flat().some((strength) => strength >= 1)).toBe(true);
  });

  test('a series that is reset is as on its first day', () => {
    const bench = new Bench([PERCENT, PERCENT]);
    for (const value of noise(5, 500)) bench.tick(value, value);
    bench.detector.reset(0);
    expect(bench.detector.expected(0)).toBeNaN();
    const [fresh, old] = bench.tick(90, 90);
    expect(fresh).toBeNaN();
    expect(old).toBeGreaterThan(1);
  });

  test('a million samples leave nothing on the heap: a collector pause is a late alarm', async () => {
    const bench = new Bench(
      Array.from({ length: 1000 }, (_, i) => ({ ...PERCENT, low: i % 2 ? 0 : Number.NaN })),
    );
    const random = seededRandom(6);
    const work = (ticks: number) => {
      for (let tick = 0; tick < ticks; tick++) {
        for (let i = 0; i < 1000; i++) bench.values[i] = 100 * random();
        bench.detector.step(bench.values, bench.states, bench.slots, bench.out);
      }
    };
    const before = await heapAfter(() => work(300));
    const after = await heapAfter(() => work(1000));
    expect(after - before).toBeLessThan(1_000_000);
  });

  test('state is as large as documented: 27 bytes a series, 270 more where the distribution is tested', () => {
    expect(new Bench(Array(100).fill(PLAIN)).detector.bytes).toBe(2700);
    expect(new Bench(Array(100).fill(PERCENT)).detector.bytes).toBe(29_700);
  });
});
