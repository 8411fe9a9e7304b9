import { METRIC, PEER_METRICS } from './peer-metrics.ts';
import { meanDistances, medianOf, robustScale } from './robust.ts';

/** GPUs that a group is known by: of a larger one every n-th. A median of 256 is within 0.08 deviations. */
export const MAX_REFERENCE = 256;
/** Fewer peers, the GPU itself counted, say nothing. */
export const LEAST_PEERS = 4;
/** Peers are alike enough in power within this share of the limit: a decile. */
const POWER_BAND = 0.1;
/** °C of the air that heat rises above: makes degrees for each watt of two figures that are known. Own judgement. */
const AIR_CELSIUS = 28;
/** One in so many may differ and be the one at fault; more do so by design or share a cause (Minder: 99 % of faults are of one machine). */
const ODD_ONE_IN = 16;
/** One whose distance to the others is at least so much of the largest counts as differing too. */
const AS_FAR = 0.5;

/** One metric of a group of peers: filled by `add`, judged by `judge`. Arrays are reused. */
export class PeerColumn {
  count = 0;
  /** By GPU added: its index, value, offset and watts, then what `judge` finds. */
  readonly gpus = new Int32Array(MAX_REFERENCE);
  readonly values = new Float64Array(MAX_REFERENCE);
  readonly offsets = new Float64Array(MAX_REFERENCE);
  readonly floors = new Float64Array(MAX_REFERENCE);
  readonly watts = new Float64Array(MAX_REFERENCE);
  readonly limitWatts = new Float64Array(MAX_REFERENCE);
  /** Deviation from the peers before the offset, and after it, in the metric's unit or as a share. */
  readonly raw = new Float64Array(MAX_REFERENCE);
  readonly beside = new Float64Array(MAX_REFERENCE);
  /** Signed; NaN where its load is too unlike the others'. */
  readonly z = new Float64Array(MAX_REFERENCE);
  /** Median of the values. */
  median = Number.NaN;
  readonly #scratch = new Float64Array(MAX_REFERENCE);
  readonly #distances = new Float64Array(MAX_REFERENCE);
  readonly #order = new Uint32Array(MAX_REFERENCE);

  reset(): void {
    this.count = 0;
  }

  add(gpu: number, value: number, offset: number, floor: number, watts: number, limitWatts: number): void {
    const at = this.count++;
    this.gpus[at] = gpu;
    this.values[at] = value;
    this.offsets[at] = offset;
    this.floors[at] = floor;
    this.watts[at] = watts;
    this.limitWatts[at] = limitWatts;
  }

  /** False where there are too few, or nothing to be a share of. */
  judge(metric: number): boolean {
    const { relative, detector, countsAlone } = PEER_METRICS[metric]!;
    const { count } = this;
    if (count < LEAST_PEERS) return false;
    this.median = this.#medianOf(this.values);
    if (relative && !(this.median > 0)) return false;
    this.#deviate(relative, metric === METRIC.core || metric === METRIC.memory);
    if (detector === 'straggler') this.#judgeDistances();
    else this.#judgeDeviations();
    if (!countsAlone) this.#dropCrowd(metric);
    return true;
  }

  #deviate(relative: boolean, thermal: boolean): void {
    const { count, median } = this;
    const watts = thermal ? this.#medianOf(this.watts) : Number.NaN;
    for (let i = 0; i < count; i++) {
      const expected = median + (thermal ? this.#warmer(i, watts) : 0);
      this.raw[i] = relative ? this.values[i]! / median - 1 : this.values[i]! - expected;
      this.beside[i] = this.raw[i]! - this.offsets[i]!;
    }
    const centre = this.#medianOf(this.beside);
    for (let i = 0; i < count; i++) {
      this.beside[i]! -= centre;
      this.z[i] = thermal && this.#otherLoad(i, watts) ? Number.NaN : this.beside[i]!;
    }
  }

  /** °C that its power makes it warmer than the median, within the band in which that is linear. */
  #warmer(i: number, median: number): number {
    const band = POWER_BAND * (this.limitWatts[i]! || this.watts[i]!);
    const more = Math.max(-band, Math.min(band, this.watts[i]! - median));
    return Number.isNaN(more) || !(median > 0) ? 0 : (Math.max(0, this.median - AIR_CELSIUS) / median) * more;
  }

  /** Hot is told beside peers that draw no less, cold beside those that draw no more: heat only follows power. */
  #otherLoad(i: number, median: number): boolean {
    const band = POWER_BAND * (this.limitWatts[i]! || this.watts[i]!);
    return this.beside[i]! > 0 ? this.watts[i]! > median + band : this.watts[i]! < median - band;
  }

  #judgeDeviations(): void {
    const { count } = this;
    this.#scratch.set(this.beside.subarray(0, count));
    const scale = robustScale(this.#scratch, count, 0);
    for (let i = 0; i < count; i++) this.z[i]! /= Math.max(scale, this.floors[i]!);
  }

  /** How much farther from all others than they are from each other. */
  #judgeDistances(): void {
    const { count } = this;
    const distances = this.#distances;
    meanDistances(this.beside, count, this.#order, distances);
    const typical = this.#medianOf(distances);
    this.#scratch.set(distances.subarray(0, count));
    const scale = robustScale(this.#scratch, count, typical);
    for (let i = 0; i < count; i++) {
      const farther = Math.max(0, distances[i]! - typical);
      this.z[i] = (Math.sign(this.beside[i]!) * farther) / Math.max(scale, this.floors[i]!);
    }
  }

  /** No opinion where too many are as far out on the same side as the farthest. */
  #dropCrowd(metric: number): void {
    const { limit } = PEER_METRICS[metric]!;
    for (const side of [1, -1]) {
      let farthest = 0;
      for (let i = 0; i < this.count; i++) if (side * this.z[i]! > farthest) farthest = side * this.z[i]!;
      if (farthest < limit) continue;
      let crowd = 0;
      for (let i = 0; i < this.count; i++) if (side * this.z[i]! >= AS_FAR * farthest) crowd++;
      if (crowd <= Math.max(1, this.count / ODD_ONE_IN)) continue;
      for (let i = 0; i < this.count; i++) if (side * this.z[i]! > 0) this.z[i] = 0;
    }
  }

  #medianOf(values: Float64Array): number {
    this.#scratch.set(values.subarray(0, this.count));
    return medianOf(this.#scratch, this.count);
  }
}
