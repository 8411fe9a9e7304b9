/** Time constants that are tried, s: from a bare die to a memory stack under a heavy sink. Own judgement. */
export const TIME_CONSTANTS = [10, 25, 60, 150] as const;
/** The one that is taken until a GPU has shown its own. */
const FIRST_GUESS = 1;
/** A longer gap tells nothing of the temperature before it. */
const LONGEST_GAP_SECONDS = 300;
/** Changes below this share of the rated power are noise of the load: the filter follows them well enough. */
const CALM = 0.08;
/** Weight of a new error in the choice of the time constant. */
const CHOICE_GAIN = 0.02;
/** Where a source gives no limit: the largest common board. */
const RATED_WATTS = 700;
/** Room above the rated power, so that overshoot is on the scale. */
const HEADROOM = 1.15;

/**
 * What has heated a GPU: its power, filtered with several time constants, as a share of what it is made for. Energy
 * counters give the exact mean between two samples; without one, the samples do. One row for each GPU.
 */
export class LoadFilter {
  readonly #filtered: Float64Array;
  readonly #lastMs: Float64Array;
  readonly #power: Float64Array;
  readonly #mean: Float64Array;
  readonly #energy: Float64Array;
  readonly #change: Float32Array;
  readonly #changeBefore: Float32Array;
  /** Error of each time constant in transients, for two temperatures. */
  readonly #errors: Float32Array;
  readonly #shares = new Float64Array(TIME_CONSTANTS.length);
  #sharesOf = Number.NaN;

  constructor(rows: number) {
    this.#filtered = new Float64Array(rows * TIME_CONSTANTS.length);
    this.#lastMs = new Float64Array(rows).fill(Number.NaN);
    this.#power = new Float64Array(rows);
    this.#mean = new Float64Array(rows);
    this.#energy = new Float64Array(rows).fill(Number.NaN);
    this.#change = new Float32Array(rows);
    this.#changeBefore = new Float32Array(rows);
    this.#errors = new Float32Array(rows * 2 * TIME_CONSTANTS.length);
  }

  take(row: number, from: LoadFilter, other: number): void {
    const width = 2 * TIME_CONSTANTS.length;
    this.#errors.set(from.#errors.subarray(other * width, (other + 1) * width), row * width);
  }

  /** The next sample begins anew: what is between is not known. */
  rearm(row: number): void {
    this.#lastMs[row] = Number.NaN;
  }

  /** False while nothing is known of the power before this sample. NaN for energy and rated where not given. */
  step(row: number, watts: number, joules: number, rated: number, timestampMs: number): boolean {
    const full = HEADROOM * (rated > 0 ? rated : RATED_WATTS);
    const power = watts / full;
    const seconds = (timestampMs - this.#lastMs[row]!) / 1000;
    if (!(seconds > 0 && seconds <= LONGEST_GAP_SECONDS)) return this.#begin(row, power, joules, timestampMs);
    this.#settle(seconds);
    const mean = this.#meanOf(row, power, joules, seconds, full);
    const before = this.#power[row]!;
    const change = Math.max(
      Math.abs(power - mean),
      Math.abs(mean - this.#mean[row]!),
      Math.abs(power - before),
    );
    this.#changeBefore[row] = this.#change[row]!;
    this.#change[row] = change < CALM ? 0 : change;
    for (let i = 0; i < TIME_CONSTANTS.length; i++) {
      const at = row * TIME_CONSTANTS.length + i;
      this.#filtered[at]! += this.#shares[i]! * (mean - this.#filtered[at]!);
    }
    this.#power[row] = power;
    this.#mean[row] = mean;
    this.#energy[row] = joules;
    this.#lastMs[row] = timestampMs;
    return true;
  }

  /**
   * How far the filtered load may be off, as a share of the range: what is between it and the next faster filter, and
   * what changed within the last two samples, of which nobody knows when.
   */
  unsettledOf(row: number, constant: number): number {
    const at = row * TIME_CONSTANTS.length + constant;
    const faster = constant === 0 ? this.#power[row]! : this.#filtered[at - 1]!;
    return Math.max(Math.abs(this.#filtered[at]! - faster), this.changeOf(row));
  }

  /** Largest change of the load within the last two samples, as a share of the range; small ones are none. */
  changeOf(row: number): number {
    return Math.max(this.#change[row]!, this.#changeBefore[row]!);
  }

  loadOf(row: number, constant: number): number {
    return this.#filtered[row * TIME_CONSTANTS.length + constant]!;
  }

  /** Index of the time constant that predicted this temperature (0 or 1) best while the load moved. */
  bestFor(row: number, temperature: number): number {
    const at = (row * 2 + temperature) * TIME_CONSTANTS.length;
    let best = FIRST_GUESS;
    for (let i = 0; i < TIME_CONSTANTS.length; i++)
      if (this.#errors[at + i]! < this.#errors[at + best]! * 0.95) best = i;
    return best;
  }

  noteError(row: number, temperature: number, constant: number, error: number): void {
    const at = (row * 2 + temperature) * TIME_CONSTANTS.length + constant;
    this.#errors[at]! += CHOICE_GAIN * (Math.abs(error) - this.#errors[at]!);
  }

  #begin(row: number, power: number, joules: number, timestampMs: number): boolean {
    this.#filtered.fill(power, row * TIME_CONSTANTS.length, (row + 1) * TIME_CONSTANTS.length);
    this.#power[row] = power;
    this.#mean[row] = power;
    this.#energy[row] = joules;
    this.#lastMs[row] = timestampMs;
    // Anything may have been before.
    this.#change[row] = 1;
    this.#changeBefore[row] = 1;
    return false;
  }

  #meanOf(row: number, power: number, joules: number, seconds: number, full: number): number {
    const mean = (joules - this.#energy[row]!) / seconds / full;
    return mean >= 0 && mean <= 1.5 ? mean : (power + this.#power[row]!) / 2;
  }

  /** Exponentials are the same for all GPUs of a tick. */
  #settle(seconds: number): void {
    if (seconds === this.#sharesOf) return;
    this.#sharesOf = seconds;
    for (let i = 0; i < TIME_CONSTANTS.length; i++)
      this.#shares[i] = 1 - Math.exp(-seconds / TIME_CONSTANTS[i]!);
  }
}
