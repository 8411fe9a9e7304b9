/** What is four hours old counts a third. */
const MEMORY_SECONDS = 4 * 3600;
/** A drift of less than this was not watched for long enough. */
const LEAST_SECONDS = 2 * 3600;
/** Share of the variance that the line must explain: a step explains three quarters of its own. Own judgement. */
const LEAST_EXPLAINED = 0.85;

/** Drift over hours: least squares over exponentially forgotten samples. 40 bytes a row. */
export class SlopeDetector {
  /** Weight (s), age (s, negative), mean, variance of age, covariance, variance, last time is the caller's. */
  readonly #stats: Float64Array;
  /** Per hour, of the last `step`. */
  perHour = 0;

  constructor(rows: number) {
    this.#stats = new Float64Array(rows * 6);
  }

  rearm(row: number): void {
    this.#stats.fill(0, row * 6, row * 6 + 6);
  }

  take(row: number, from: SlopeDetector, other: number): void {
    this.#stats.set(from.#stats.subarray(other * 6, other * 6 + 6), row * 6);
  }

  /** Drift over MEMORY_SECONDS as a share of `drift`; 0 where it is no line. */
  step(row: number, value: number, seconds: number, drift: number): number {
    const s = this.#stats;
    const at = row * 6;
    const kept = MEMORY_SECONDS / (MEMORY_SECONDS + seconds);
    const weight = s[at]! * kept + seconds;
    const gain = seconds / weight;
    const age = s[at + 1]! - seconds;
    const off = value - s[at + 2]!;
    s[at] = weight;
    s[at + 1] = age - gain * age;
    s[at + 2]! += gain * off;
    const rest = (1 - gain) * gain;
    s[at + 3] = (1 - gain) * s[at + 3]! + rest * age * age;
    s[at + 4] = (1 - gain) * s[at + 4]! - rest * age * off;
    s[at + 5] = (1 - gain) * s[at + 5]! + rest * off * off;
    if (weight < LEAST_SECONDS) return 0;
    const slope = s[at + 4]! / s[at + 3]!;
    if (slope * s[at + 4]! < LEAST_EXPLAINED * s[at + 5]!) return 0;
    this.perHour = slope * 3600;
    return (Math.abs(slope) * MEMORY_SECONDS) / drift;
  }
}
