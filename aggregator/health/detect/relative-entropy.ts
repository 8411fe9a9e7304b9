/**
 * Samples in the window whose distribution is tested. 52 and the chi-square limit: Wang et al., Statistical techniques
 * for online anomaly detection in data centers (IM 2011), as numenta/NAB runs it.
 */
const WINDOW = 52;
/** Even, so that a range can double exactly: two bins become one. */
const BINS = 6;
/** Distributions remembered for each series: with 32 NAB shows no difference to an unlimited number, 16 cost seven points. */
const KNOWN = 32;
/** 99.9 % point of chi-square with 5 degrees of freedom, for twice the window times the relative entropy. */
const LIMIT = 20.515;
/** A known range is widened by this part of itself on both sides, so that its ends do not lie on the edge of a bin. Chosen on NAB (.05 to .22 are within two points, .25 costs six). */
const KNOWN_MARGIN = 0.1;
/** Samples that an unknown range is learned from: two windows. Chosen on NAB (one and a half or three are within a point). */
const LEARNING = 2 * WINDOW;
/** What was seen while learning is widened by this part of itself on both sides. Chosen on NAB (.5 to .8 are within a point and a half). */
const LEARNED_MARGIN = 0.75;
/** The width of a range that is learned from one repeated value, as a part of it. NAB shows no difference from .01 to 1. */
const FLAT_WIDTH = 0.1;
/** A learned range is at least this part of the values, or else could not grow in floating point. */
const LEAST_WIDTH = 1e-6;
const LEAST_ABSOLUTE_WIDTH = 1e-9;
/** In place of the samples that are left to learn from: the range was given. */
const GIVEN = 255;

const HISTOGRAM = WINDOW;
const REMEMBERED = HISTOGRAM + BINS;
const STRIDE = REMEMBERED + KNOWN * BINS;

/** Logarithms of counts. That of 0 is so low that a bin never seen before is always a new distribution. */
const LOG = Float64Array.from({ length: WINDOW + 1 }, (_, count) => (count === 0 ? -1e9 : Math.log(count)));

const MERGED = new Uint8Array(BINS / 2);
const MOVED = new Uint8Array(BINS);

/**
 * Is the distribution of the last 52 values of a series one that it had before? A new one is unusual once, then known:
 * 32 are remembered for each series, the longest unseen one gives way. Sees what a moving mean does not: a level inside
 * the usual range that is held too long, a load that lost its pattern.
 *
 * Values are counted in six bins over the series' range. Where it is not known it is learned from the first 104 values
 * and doubles whenever a value lies outside, which merges bins in pairs and forgets nothing.
 */
export class RelativeEntropy {
  /** For each series: the window's bins, its histogram, then remembered histograms, the last seen first. */
  readonly #bytes: Uint8Array;
  readonly #low: Float64Array;
  readonly #width: Float64Array;
  /** Samples so far, up to the window's length. */
  readonly #filled: Uint8Array;
  /** Where the window's oldest bin stands. */
  readonly #oldest: Uint8Array;
  readonly #known: Uint8Array;
  /** Samples that an unknown range still needs; 255 where the range is given and never doubles. */
  readonly #learning: Uint8Array;

  constructor(series: number) {
    this.#bytes = new Uint8Array(series * STRIDE);
    this.#low = new Float64Array(series);
    this.#width = new Float64Array(series);
    this.#filled = new Uint8Array(series);
    this.#oldest = new Uint8Array(series);
    this.#known = new Uint8Array(series);
    this.#learning = new Uint8Array(series);
    for (let i = 0; i < series; i++) this.reset(i, Number.NaN, Number.NaN);
  }

  /** Forgets a series, and gives it the range in which its values can be: NaN for both where it is to be learned. */
  reset(series: number, low: number, high: number): void {
    const given = high > low;
    this.#learning[series] = given ? GIVEN : LEARNING;
    this.#low[series] = given ? low - KNOWN_MARGIN * (high - low) : Number.POSITIVE_INFINITY;
    this.#width[series] = given ? (1 + 2 * KNOWN_MARGIN) * (high - low) : Number.NEGATIVE_INFINITY;
    this.#filled[series] = 0;
    this.#oldest[series] = 0;
    this.#known[series] = 0;
    this.#bytes.fill(0, series * STRIDE, (series + 1) * STRIDE);
  }

  /** Of state, for all series. */
  get bytes(): number {
    return this.#bytes.byteLength + 2 * this.#low.byteLength + 4 * this.#filled.byteLength;
  }

  /** 1 where the distribution is a new one, 0 where it is known, NaN until a window is full. `value` is within 1e18 of 0. */
  observe(series: number, value: number): number {
    const learning = this.#learning[series]!;
    if (learning !== GIVEN) {
      if (learning > 0) return this.#learn(series, value, learning);
      this.#grow(series, value);
    }
    return this.#count(series, this.#bin(series, value));
  }

  /** Until the range is known, `low` and `width` hold the least and the greatest value. */
  #learn(series: number, value: number, left: number): number {
    const low = Math.min(this.#low[series]!, value);
    const high = Math.max(this.#width[series]!, value);
    const size = Math.max(Math.abs(low), Math.abs(high));
    const flat = high > low ? LEAST_WIDTH : FLAT_WIDTH;
    const width = Math.max(high - low, flat * size, LEAST_ABSOLUTE_WIDTH);
    const last = left === 1;
    this.#low[series] = last ? low - LEARNED_MARGIN * width : low;
    this.#width[series] = last ? (1 + 2 * LEARNED_MARGIN) * width : high;
    this.#learning[series] = left - 1;
    return Number.NaN;
  }

  /** Doubles a learned range until the value is inside: 90 doublings lead from the least width to 1e18. */
  #grow(series: number, value: number): void {
    while (value < this.#low[series]!) {
      this.#low[series] = this.#low[series]! - this.#width[series]!;
      this.#mergePairs(series, BINS / 2);
    }
    while (value >= this.#low[series]! + this.#width[series]!) this.#mergePairs(series, 0);
  }

  /** Twice the width with as many bins: bin b becomes b / 2, from `first` on. */
  #mergePairs(series: number, first: number): void {
    this.#width[series] = this.#width[series]! * 2;
    const bytes = this.#bytes;
    const start = series * STRIDE;
    for (let at = start; at < start + HISTOGRAM; at++) bytes[at] = first + (bytes[at]! >> 1);
    const end = start + REMEMBERED + this.#known[series]! * BINS;
    for (let at = start + HISTOGRAM; at < end; at += BINS) {
      for (let bin = 0; bin < BINS / 2; bin++) MERGED[bin] = bytes[at + 2 * bin]! + bytes[at + 2 * bin + 1]!;
      for (let bin = 0; bin < BINS; bin++) bytes[at + bin] = 0;
      for (let bin = 0; bin < BINS / 2; bin++) bytes[at + first + bin] = MERGED[bin]!;
    }
  }

  #bin(series: number, value: number): number {
    const bin = Math.floor(((value - this.#low[series]!) / this.#width[series]!) * BINS);
    return bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin;
  }

  #count(series: number, bin: number): number {
    const bytes = this.#bytes;
    const start = series * STRIDE;
    const oldest = this.#oldest[series]!;
    const filled = this.#filled[series]!;
    const leaving = bytes[start + oldest]!;
    this.#oldest[series] = oldest + 1 === WINDOW ? 0 : oldest + 1;
    if (filled === WINDOW) {
      // The same histogram as before, which was either known or is since then.
      if (leaving === bin) return 0;
      bytes[start + HISTOGRAM + leaving]!--;
    }
    bytes[start + oldest] = bin;
    bytes[start + HISTOGRAM + bin]!++;
    if (filled < WINDOW) this.#filled[series] = filled + 1;
    return filled < WINDOW - 1 ? Number.NaN : this.#judge(series, start);
  }

  #judge(series: number, start: number): number {
    const known = this.#known[series]!;
    for (let number = 0; number < known; number++) {
      if (!this.#agrees(start + HISTOGRAM, start + REMEMBERED + number * BINS)) continue;
      if (number > 0) this.#toFront(start, start + REMEMBERED + number * BINS, number);
      return 0;
    }
    if (known < KNOWN) this.#known[series] = known + 1;
    this.#toFront(start, start + HISTOGRAM, Math.min(known, KNOWN - 1));
    // The first distribution is one to compare with, not an unusual one.
    return known === 0 ? 0 : 1;
  }

  /** Is twice the window times the relative entropy of the histogram to a remembered one below the limit? */
  #agrees(histogram: number, remembered: number): boolean {
    const bytes = this.#bytes;
    let entropy = 0;
    for (let bin = 0; bin < BINS; bin++) {
      const count = bytes[histogram + bin]!;
      if (count > 0) entropy += count * (LOG[count]! - LOG[bytes[remembered + bin]!]!);
    }
    return 2 * entropy < LIMIT;
  }

  /** The histogram at `from` becomes the first remembered one; those before place `number` move back by one. */
  #toFront(start: number, from: number, number: number): void {
    const bytes = this.#bytes;
    const first = start + REMEMBERED;
    for (let bin = 0; bin < BINS; bin++) MOVED[bin] = bytes[from + bin]!;
    bytes.copyWithin(first + BINS, first, first + number * BINS);
    for (let bin = 0; bin < BINS; bin++) bytes[first + bin] = MOVED[bin]!;
  }
}
