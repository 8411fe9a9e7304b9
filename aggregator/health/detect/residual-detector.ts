/** A slow wander of the residual is the hall's day, not the GPU's: it is followed within hours. */
const OFFSET_SECONDS = 6 * 3600;
/** The variance is slower than the mean: what is unusual must not make itself usual (best of what NAB shows). */
const VARIANCE_SECONDS = 86_400;
/** Of a row's own time before it is judged. */
const PROBATION_SECONDS = 3600;
/** While a residual is far off it is learned at this share: a fault becomes usual within days, not hours. */
const LEARNING_WHILE_UNUSUAL = 0.05;
/** Deviations that learning and CUSUM see at most, in sigmas. */
const WINSOR = 4;
/** Slack of the CUSUM in sigmas: it ignores shifts of less than this. */
const SLACK = 2;
/** Of the last five samples so many must be far off. */
const OF_FIVE = 3;
const FIVE = 0b11111;

export interface ResidualLimits {
  /** Deviations are never measured in less than this, in the metric's unit. */
  readonly sigma: number;
  /** Of |z|, and of the CUSUM in sigmas. */
  readonly level: number;
  readonly shift: number;
  /** How long it must last, ms. */
  readonly persistMs: number;
  /** 1: only too much is unusual; -1: only too little; 0: both. */
  readonly side: number;
}

/**
 * Level and shift of residuals, one row for each channel of each GPU: z of an exponential mean and a slower variance,
 * three of five samples over a time; and a two-sided CUSUM of winsorised z. 41 bytes a row.
 */
export class ResidualDetector {
  readonly #offset: Float32Array;
  readonly #variance: Float32Array;
  readonly #seconds: Float32Array;
  readonly #high: Float32Array;
  readonly #low: Float32Array;
  readonly #recent: Uint8Array;
  readonly #sinceMs: Float64Array;
  readonly #shiftSinceMs: Float64Array;
  /** Of the last `step`: signed z, NaN in probation; what the residual was expected to be. */
  z = Number.NaN;
  cusum = 0;
  expected = 0;
  /** Strength of each; 0 below its threshold. */
  level = 0;
  shift = 0;

  constructor(rows: number) {
    this.#offset = new Float32Array(rows);
    this.#variance = new Float32Array(rows);
    this.#seconds = new Float32Array(rows);
    this.#high = new Float32Array(rows);
    this.#low = new Float32Array(rows);
    this.#recent = new Uint8Array(rows);
    this.#sinceMs = new Float64Array(rows);
    this.#shiftSinceMs = new Float64Array(rows);
  }

  take(row: number, from: ResidualDetector, other: number): void {
    this.#offset[row] = from.#offset[other]!;
    this.#variance[row] = from.#variance[other]!;
    this.#seconds[row] = from.#seconds[other]!;
  }

  /** Forgets what it holds against the row, not what it knows of it. */
  rearm(row: number): void {
    this.#high[row] = 0;
    this.#low[row] = 0;
    this.#recent[row] = 0;
  }

  /** `tolerance`: what the residual may be off by because its load moved. Sets the fields. */
  step(
    row: number,
    residual: number,
    tolerance: number,
    seconds: number,
    timestampMs: number,
    limits: ResidualLimits,
  ): void {
    this.level = 0;
    this.shift = 0;
    this.cusum = 0;
    const sigma = Math.max(limits.sigma, Math.sqrt(this.#variance[row]!));
    const offset = this.#offset[row]!;
    this.expected = offset;
    const off = residual - offset;
    const z = (off > tolerance ? off - tolerance : off < -tolerance ? off + tolerance : 0) / sigma;
    const learned = this.#seconds[row]!;
    if (learned >= PROBATION_SECONDS) {
      this.z = z;
      this.#judge(row, z, timestampMs, limits);
    } else this.z = Number.NaN;
    if (tolerance < sigma) this.#learn(row, off, sigma, learned, seconds);
  }

  #learn(row: number, off: number, sigma: number, learned: number, seconds: number): void {
    const far = learned >= PROBATION_SECONDS && Math.abs(off) > WINSOR * sigma;
    const share = far ? LEARNING_WHILE_UNUSUAL : 1;
    const seen = Math.max(-WINSOR * sigma, Math.min(WINSOR * sigma, off));
    this.#seconds[row] = Math.min(1e7, learned + seconds);
    this.#offset[row]! += share * seen * (seconds / (seconds + Math.min(OFFSET_SECONDS, learned)));
    const gain = share * (seconds / (seconds + Math.min(VARIANCE_SECONDS, learned)));
    this.#variance[row]! += gain * (Math.min(seen * seen, 9 * sigma * sigma) - this.#variance[row]!);
  }

  #judge(
    row: number,
    z: number,
    timestampMs: number,
    { side, level, shift, persistMs }: ResidualLimits,
  ): void {
    const off = side > 0 ? z : side < 0 ? -z : Math.abs(z);
    const before = this.#recent[row]!;
    const recent = ((before << 1) | (off >= level ? 1 : 0)) & FIVE;
    this.#recent[row] = recent;
    if (recent !== 0) {
      if (before === 0) this.#sinceMs[row] = timestampMs;
      if (off >= level && bits(recent) >= OF_FIVE && timestampMs - this.#sinceMs[row]! >= persistMs)
        this.level = off / level;
    }
    const seen = Math.max(-WINSOR, Math.min(WINSOR, z));
    const high = side < 0 ? 0 : Math.max(0, this.#high[row]! + seen - SLACK);
    const low = side > 0 ? 0 : Math.max(0, this.#low[row]! - seen - SLACK);
    const sum = Math.max(high, low);
    if (sum > 0 && this.#high[row] === 0 && this.#low[row] === 0) this.#shiftSinceMs[row] = timestampMs;
    // Not far above the threshold: what is over is to be forgotten within minutes.
    this.#high[row] = Math.min(high, 2 * shift);
    this.#low[row] = Math.min(low, 2 * shift);
    this.cusum = sum;
    if (sum >= shift && timestampMs - this.#shiftSinceMs[row]! >= persistMs) this.shift = sum / shift;
  }
}

function bits(five: number): number {
  return (five & 1) + ((five >> 1) & 1) + ((five >> 2) & 1) + ((five >> 3) & 1) + ((five >> 4) & 1);
}
