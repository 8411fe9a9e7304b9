/** Normal-consistent scale of the median absolute deviation: 1 / 0.6745. */
const MAD_TO_SIGMA = 1.4826;

/** Median of the first `count` values, which it sorts. NaN of none. */
export function medianOf(values: Float64Array, count: number): number {
  if (count === 0) return Number.NaN;
  const sorted = values.subarray(0, count).sort();
  const middle = count >> 1;
  return count % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** 1.4826 MAD of the first `count` values around `centre`; overwrites them. */
export function robustScale(values: Float64Array, count: number, centre: number): number {
  for (let i = 0; i < count; i++) values[i] = Math.abs(values[i]! - centre);
  return MAD_TO_SIGMA * medianOf(values, count);
}

/**
 * Mean distance of each of the first `count` values to all others (Minder's sum of pairwise distances over the number
 * of siblings), into `out`. `order` is scratch. By sorting and running sums: a job of 8,000 GPUs costs no 64 million
 * pairs.
 */
export function meanDistances(
  values: Float64Array,
  count: number,
  order: Uint32Array,
  out: Float64Array,
): void {
  for (let i = 0; i < count; i++) order[i] = i;
  order.subarray(0, count).sort((a, b) => values[a]! - values[b]!);
  let total = 0;
  for (let i = 0; i < count; i++) total += values[i]!;
  let below = 0;
  for (let rank = 0; rank < count; rank++) {
    const value = values[order[rank]!]!;
    const above = total - below - value;
    const sum = value * rank - below + (above - value * (count - 1 - rank));
    out[order[rank]!] = sum / Math.max(1, count - 1);
    below += value;
  }
}
