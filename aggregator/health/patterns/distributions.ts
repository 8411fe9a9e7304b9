/** Probabilities that the patterns need; each checked against published or scipy values in its test. */

export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** Standard normal quantile of 0.975: two-sided 95 %. */
export const Z95 = 1.959963984540054;

/**
 * P(Z > z) of a standard normal, relative error below 1.2e-7: the Chebyshev fit to erfc in Numerical Recipes
 * (2nd edition, 6.2), also far out in the tail.
 */
export function normalTail(z: number): number {
  const x = Math.abs(z) / Math.SQRT2;
  const t = 1 / (1 + x / 2);
  let poly = 0.17087277;
  for (const c of ERFC) poly = poly * t + c;
  const upper = (t * Math.exp(-x * x + poly)) / 2;
  return z >= 0 ? upper : 1 - upper;
}

const ERFC = [
  -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368,
  -1.26551223,
];

/** Wilson's interval for `hits` of `trials` (Wilson 1927): honest for few trials, within 0 to 1. */
export function wilson(hits: number, trials: number, z: number = Z95): Interval {
  if (trials <= 0) return { low: 0, high: 1 };
  const p = hits / trials;
  const z2 = z * z;
  const scale = 1 + z2 / trials;
  const centre = (p + z2 / (2 * trials)) / scale;
  const half = (z / scale) * Math.sqrt((p * (1 - p)) / trials + z2 / (4 * trials * trials));
  return {
    low: hits === 0 ? 0 : Math.max(0, centre - half),
    high: hits === trials ? 1 : Math.min(1, centre + half),
  };
}

/**
 * ln P(X >= k): of `total` things `marked` are marked; `drawn` are drawn without putting back, k of them marked.
 * The hypergeometric tail, as a logarithm because it may be smaller than a float64 holds.
 */
export function logHypergeometricTail(k: number, total: number, marked: number, drawn: number): number {
  const most = Math.min(marked, drawn);
  const least = Math.max(0, marked + drawn - total);
  if (k <= least) return 0;
  if (k > most) return Number.NEGATIVE_INFINITY;
  const whole = logChoose(total, drawn);
  const first = logChoose(marked, k) + logChoose(total - marked, drawn - k) - whole;
  // Each term from the one before; past the mode they fall fast.
  let sum = 1;
  let term = 1;
  for (let x = k; x < most; x++) {
    term *= ((marked - x) * (drawn - x)) / ((x + 1) * (total - marked - drawn + x + 1));
    sum += term;
    if (term < sum * 1e-15) break;
  }
  return Math.min(0, first + Math.log(sum));
}

function logChoose(n: number, k: number): number {
  return logGamma(n + 1) - logGamma(k + 1) - logGamma(n - k + 1);
}

/** Lanczos' approximation (g = 7, 9 terms), relative error about 1e-15 for x >= 1. */
function logGamma(x: number): number {
  let sum = LANCZOS[0]!;
  for (let i = 1; i < LANCZOS.length; i++) sum += LANCZOS[i]! / (x - 1 + i);
  const t = x + 6.5;
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(sum);
}

const LANCZOS = [
  0.9999999999998099, 676.5203681218851, -1259.1392167224028, 771.3234287776531, -176.6150291621406,
  12.507343278686905, -0.13857109526572012, 9.984369578019572e-6, 1.5056327351493116e-7,
];

/** The median of the first `count` values; sorts them in place. NaN for none. */
export function medianInPlace(values: Float64Array, count: number): number {
  if (count === 0) return Number.NaN;
  const part = values.subarray(0, count).sort();
  const middle = count >> 1;
  return count % 2 === 1 ? part[middle]! : (part[middle - 1]! + part[middle]!) / 2;
}
