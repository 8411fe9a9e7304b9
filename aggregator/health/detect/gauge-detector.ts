import { SlotState } from '#shared/model/slot-state.ts';
import { Refractory } from './refractory.ts';
import { RelativeEntropy } from './relative-entropy.ts';

/** Weight of a new sample in the mean, and in the variance around it: fast and slow. Chosen on NAB, which is flat from half to twice both. */
const MEAN_WEIGHT = 0.05;
const VARIANCE_WEIGHT = 0.001;
/** Samples before the first opinion. */
const WARM_UP = 50;
/** The least scale of a series that never varied: this part of its mean, and this. */
const LEAST_PART = 1e-6;
const LEAST_SCALE = 1e-12;
/**
 * Each series has a limit of its own for its deviations, in standard deviations: the one that this share of its samples is
 * over, found by small steps, within bounds. A heavy-tailed series gets a high one. Worth 3 points on NAB, which is
 * flat from .0005 to .002, steps of 2 to 10 % and bounds above 12; the least keeps a quiet series from alarms at its noise.
 */
const OVER_SHARE = 0.001;
const LIMIT_STEP = 0.02;
const LEAST_LIMIT = 4;
const GREATEST_LIMIT = 16;
const LIMIT_UP = 1 + LIMIT_STEP * (1 - OVER_SHARE);
const LIMIT_DOWN = 1 - LIMIT_STEP * OVER_SHARE;
/** A deviation of this many times the limit is strength 1: the best single threshold on NAB, with learned and with known ranges. */
const OVER_LIMIT = 1.65;
/** What a distribution that was never seen counts for. Just above the threshold: it says that, not how much, is new. NAB is flat from 1.05 to 1.4. */
const ENTROPY_STRENGTH = 1.05;
/** Until the usual distributions have been seen, every one is new. NAB loses half a point against saying it at once. */
const ENTROPY_AFTER_SAMPLES = 300;
/** A first step of a constant series is infinitely unusual; more than this would silence the series for a day. NAB loses nothing. */
const HIGHEST = 10;
/** Samples until a strength that was passed has faded to 1/e. NAB is flat from 100 to 200. */
const REFRACTORY_SAMPLES = 150;
const MOST_SAMPLES = 65_535;
/** No gauge measures more, and squares of more leave the range of a 32-bit float: one such value would blind the series for weeks. */
const LARGEST = 1e18;

/** How a series is looked at. */
export interface GaugeSeries {
  /** Where its values can be: a range that physics or the catalogue gives. NaN: learn it. */
  readonly low: number;
  readonly high: number;
  /** The smallest change that means anything, e.g. the sensor's step: the scale is never less. 0: unknown. */
  readonly resolution: number;
  /** Test its distribution too (RelativeEntropy)? For the few series of a GPU whose range and pattern are telling. */
  readonly entropy: boolean;
}

export interface GaugeDetectorOptions {
  /** Of each series; the index is the series' number. */
  readonly describe: (series: number) => GaugeSeries;
  /** Samples, see Refractory; 0 leaves every strength as it is. 150 without it. */
  readonly refractorySamples?: number;
  /** Samples of a series before a new distribution counts, at most 65,535. 300 without it. */
  readonly entropyAfterSamples?: number;
}

/** Which of its tests a strength comes from. */
export const GaugeTest = { Level: 0, Entropy: 1 } as const;

/** No series of the block belongs to this one. */
export const NO_SLOT = -1;

/**
 * Anomaly strengths of many gauges, a sample of each at a time: how far a value is from a fast moving mean in units of a
 * slow moving deviation, and for chosen series whether the distribution of the last 52 values is a new one; the greater
 * of both, said once for each spell. Looks at nothing but the past, and at each series alone.
 */
export class GaugeDetector {
  readonly series: number;
  /** After `step`: the GaugeTest that each strength comes from. */
  readonly tests: Uint8Array;
  readonly #means: Float32Array;
  readonly #variances: Float32Array;
  readonly #least: Float32Array;
  /** In standard deviations. */
  readonly #limits: Float32Array;
  /** Samples so far, up to MOST_SAMPLES. Until a weight is less than their share, all of them weigh the same. */
  readonly #counts: Uint16Array;
  readonly #refractory: Refractory;
  readonly #entropy: RelativeEntropy;
  /** The series' number in #entropy, or -1. */
  readonly #entropyOf: Int32Array;
  readonly #entropyAfter: number;
  readonly #describe: GaugeDetectorOptions['describe'];

  constructor(series: number, options: GaugeDetectorOptions) {
    this.series = series;
    this.tests = new Uint8Array(series);
    this.#means = new Float32Array(series);
    this.#variances = new Float32Array(series);
    this.#least = new Float32Array(series);
    this.#limits = new Float32Array(series);
    this.#counts = new Uint16Array(series);
    this.#refractory = new Refractory(series, options.refractorySamples ?? REFRACTORY_SAMPLES);
    this.#entropyAfter = Math.min(options.entropyAfterSamples ?? ENTROPY_AFTER_SAMPLES, MOST_SAMPLES);
    this.#describe = options.describe;
    this.#entropyOf = new Int32Array(series);
    let tested = 0;
    for (let i = 0; i < series; i++) this.#entropyOf[i] = options.describe(i).entropy ? tested++ : -1;
    this.#entropy = new RelativeEntropy(tested);
    for (let i = 0; i < series; i++) this.reset(i);
  }

  /** Of state, for all series: 27 for each, and 270 more for each whose distribution is tested. */
  get bytes(): number {
    const floats = 4 * this.#means.byteLength + this.#entropyOf.byteLength;
    const small = this.#counts.byteLength + this.tests.byteLength;
    return floats + small + this.#refractory.bytes + this.#entropy.bytes;
  }

  /** Forgets what was seen of a series: it is another device's now, or its driver was reloaded. */
  reset(series: number): void {
    const { low, high, resolution } = this.#describe(series);
    this.#counts[series] = 0;
    this.#means[series] = 0;
    this.#variances[series] = 0;
    this.#least[series] = resolution;
    this.#limits[series] = LEAST_LIMIT;
    this.#refractory.forget(series);
    if (this.#entropyOf[series]! >= 0) this.#entropy.reset(this.#entropyOf[series]!, low, high);
  }

  /** The moving mean of a series; NaN before its first value. */
  expected(series: number): number {
    return this.#counts[series] === 0 ? Number.NaN : this.#means[series]!;
  }

  /**
   * One tick. `slots[i]` is the place of series i in `values` and `states`, or NO_SLOT; `out[i]` becomes its strength:
   * 1 is the threshold, 0 is usual or said already, NaN is no opinion (no value or one beyond 1e18, or fewer than 50 so
   * far). A series without a value keeps its state.
   */
  step(values: Float64Array, states: Uint8Array, slots: Int32Array, out: Float32Array): void {
    for (let i = 0; i < this.series; i++) {
      const slot = slots[i]!;
      const value = slot >= 0 && states[slot] === SlotState.Present ? values[slot]! : Number.NaN;
      out[i] = Math.abs(value) <= LARGEST ? this.#observe(i, value) : Number.NaN;
    }
  }

  #observe(series: number, value: number): number {
    const level = this.#level(series, value);
    const isEntropy = this.#isNew(series, value) && ENTROPY_STRENGTH > level;
    this.tests[series] = isEntropy ? GaugeTest.Entropy : GaugeTest.Level;
    return this.#refractory.admit(series, isEntropy ? ENTROPY_STRENGTH : level);
  }

  #isNew(series: number, value: number): boolean {
    const tested = this.#entropyOf[series]!;
    if (tested < 0) return false;
    return this.#entropy.observe(tested, value) === 1 && this.#counts[series]! >= this.#entropyAfter;
  }

  /** Strength of the value against the mean so far, which it then moves. */
  #level(series: number, value: number): number {
    const seen = this.#counts[series]!;
    const mean = this.#means[series]!;
    const variance = this.#variances[series]!;
    const deviation = seen === 0 ? 0 : value - mean;
    if (seen < MOST_SAMPLES) this.#counts[series] = seen + 1;
    const even = 1 / (seen + 1);
    this.#means[series] = mean + Math.max(even, MEAN_WEIGHT) * (value - mean);
    this.#variances[series] = variance + Math.max(even, VARIANCE_WEIGHT) * (deviation * deviation - variance);
    if (seen < WARM_UP) return Number.NaN;
    const scale =
      Math.max(Math.sqrt(variance), this.#least[series]!) + LEAST_PART * Math.abs(mean) + LEAST_SCALE;
    const over = Math.abs(deviation) / scale;
    const limit = this.#limits[series]!;
    const moved = limit * (over > limit ? LIMIT_UP : LIMIT_DOWN);
    this.#limits[series] = Math.max(LEAST_LIMIT, Math.min(moved, GREATEST_LIMIT));
    return Math.min(over / (limit * OVER_LIMIT), HIGHEST);
  }
}
