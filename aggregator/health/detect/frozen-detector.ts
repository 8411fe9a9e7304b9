/** Repeats, and time, before a sensor may be called frozen, however noisy it was. Own judgement. */
const LEAST_REPEATS = 4;
const LEAST_MS = 110_000;
/** Samples of a context before its repeats are judged. */
const LEAST_SAMPLES = 240;
/** A week at 30 s: older habits are forgotten. */
const MOST_SAMPLES = 20_160;
/** How many times longer than it ever was. */
const TIMES_LONGEST = 2;
/** The longest run is forgotten within weeks: share that is kept at each end of a run. */
const KEPT_LONGEST = 0.9999;

/** Two contexts: the GPU works, or it does not. */
const CONTEXTS = 2;

/**
 * A sensor that repeats one value bit by bit. A noisy sensor hardly ever does; an integer temperature of an idle
 * GPU does for hours: each learns how often it repeats, and how long, working and idle apart. Two rules: the run is so
 * unlikely that the budget of false alarms is met, and longer than twice the longest; or what the sensor should
 * have shown moved by `moved` during the run, far beyond what it did in any run that ended well. 60 bytes a row.
 */
export class FrozenDetector {
  readonly #last: Float64Array;
  readonly #sinceMs: Float64Array;
  readonly #repeats: Float32Array;
  readonly #surprise: Float32Array;
  readonly #lowest: Float32Array;
  readonly #highest: Float32Array;
  readonly #widest: Float32Array;
  readonly #samples: Float32Array;
  readonly #repeated: Float32Array;
  readonly #longest: Float32Array;
  /** 1 where this run was called frozen: it teaches nothing. */
  readonly #called: Uint8Array;
  /** Repeats of the last `step` that gave a strength. */
  repeats = 0;

  constructor(rows: number) {
    this.#last = new Float64Array(rows).fill(Number.NaN);
    this.#sinceMs = new Float64Array(rows);
    this.#repeats = new Float32Array(rows);
    this.#surprise = new Float32Array(rows);
    this.#lowest = new Float32Array(rows);
    this.#highest = new Float32Array(rows);
    this.#widest = new Float32Array(rows);
    this.#samples = new Float32Array(rows * CONTEXTS);
    this.#repeated = new Float32Array(rows * CONTEXTS);
    this.#longest = new Float32Array(rows);
    this.#called = new Uint8Array(rows);
  }

  take(row: number, from: FrozenDetector, other: number): void {
    this.#widest[row] = from.#widest[other]!;
    this.#longest[row] = from.#longest[other]!;
    for (let i = 0; i < CONTEXTS; i++) {
      this.#samples[row * CONTEXTS + i] = from.#samples[other * CONTEXTS + i]!;
      this.#repeated[row * CONTEXTS + i] = from.#repeated[other * CONTEXTS + i]!;
    }
  }

  rearm(row: number): void {
    this.#last[row] = Number.NaN;
  }

  /**
   * `working`: whether the GPU does anything. `should`: what the sensor should show, NaN where nobody knows. `moved`:
   * least movement of that, in its unit, that a sensor cannot sleep through. `threshold`: surprise in nats, Infinity
   * for a sensor too coarse to judge by it.
   * Strength, 1 is the threshold; 0 below.
   */
  step(
    row: number,
    value: number,
    timestampMs: number,
    working: boolean,
    should: number,
    moved: number,
    threshold: number,
  ): number {
    const context = row * CONTEXTS + (working ? 1 : 0);
    if (value !== this.#last[row]) {
      if (!Number.isNaN(this.#last[row]!)) this.#endRun(row, context);
      this.#last[row] = value;
      this.#sinceMs[row] = timestampMs;
      this.#repeats[row] = 0;
      this.#surprise[row] = 0;
      this.#lowest[row] = should;
      this.#highest[row] = should;
      return 0;
    }
    const repeats = ++this.#repeats[row]!;
    const samples = this.#samples[context]!;
    if (samples >= LEAST_SAMPLES)
      this.#surprise[row]! -= Math.log((this.#repeated[context]! + 1) / (samples + 2));
    this.#watch(row, should);
    const strength = this.#judge(row, repeats, timestampMs, moved, threshold);
    // A run that is called frozen is no habit.
    if (strength === 0) this.#count(context, 1);
    else this.#called[row] = 1;
    this.repeats = repeats;
    return strength;
  }

  #judge(row: number, repeats: number, timestampMs: number, moved: number, threshold: number): number {
    if (repeats < LEAST_REPEATS || timestampMs - this.#sinceMs[row]! < LEAST_MS) return 0;
    const unlikely = repeats > TIMES_LONGEST * this.#longest[row]! ? this.#surprise[row]! / threshold : 0;
    const range = this.#highest[row]! - this.#lowest[row]!;
    const asleep = range > 0 ? range / Math.max(moved, TIMES_LONGEST * this.#widest[row]!) : 0;
    const strength = Math.max(unlikely, asleep);
    return strength >= 1 ? strength : 0;
  }

  #watch(row: number, should: number): void {
    if (Number.isNaN(should)) return;
    // The first one known begins.
    if (!(should >= this.#lowest[row]!)) this.#lowest[row] = should;
    if (!(should <= this.#highest[row]!)) this.#highest[row] = should;
  }

  #endRun(row: number, context: number): void {
    this.#count(context, 0);
    const repeats = this.#repeats[row]!;
    const called = this.#called[row] === 1;
    this.#called[row] = 0;
    if (repeats === 0 || called) return;
    this.#longest[row] = Math.max(this.#longest[row]! * KEPT_LONGEST, repeats);
    const range = this.#highest[row]! - this.#lowest[row]!;
    if (range > 0) this.#widest[row] = Math.max(this.#widest[row]! * KEPT_LONGEST, range);
  }

  #count(context: number, repeated: number): void {
    if (this.#samples[context]! >= MOST_SAMPLES) {
      this.#samples[context]! /= 2;
      this.#repeated[context]! /= 2;
    }
    this.#samples[context]!++;
    this.#repeated[context]! += repeated;
  }
}
