/** Knots of a curve: thirteenths of the range, 58 W of a 700 W board. */
const KNOTS = 13;
/** Least weight, in samples of UNIT_SECONDS, of a knot that speaks for itself. */
const KNOWN_WEIGHT = 10;
/** Least weight of a curve that may be asked at all: half an hour. */
const LEAST_WEIGHT = 60;
/** A week: what is older is forgotten. */
const MOST_WEIGHT = 20_160;
const UNIT_SECONDS = 30;
/** Where only the straight line is known, this share of what it adds to the middle is doubted. */
const DOUBT = 0.3;
/** Weight of the slope that is assumed, as a variance of the load (a deviation of 3 % of the range). */
const PRIOR_VARIANCE = 1e-3;

/**
 * What a metric is at a given load, learned for each row: a piecewise linear curve over 0 to 1, and a straight line
 * that stands in where the curve has not been yet. 124 bytes a row.
 */
export class LoadCurve {
  readonly #knots: Float32Array;
  readonly #weights: Float32Array;
  /** Straight line: weight, mean x, mean y, variance of x, covariance. */
  readonly #line: Float64Array;
  readonly #slopes: Float32Array;
  /** Of the last `predict`. */
  expected = Number.NaN;
  /** How far off the prediction may be because the load was never seen before. */
  doubt = 0;

  constructor(rows: number) {
    this.#knots = new Float32Array(rows * KNOTS);
    this.#weights = new Float32Array(rows * KNOTS);
    this.#line = new Float64Array(rows * 5);
    this.#slopes = new Float32Array(rows);
  }

  /** `slope`: of the metric over the whole range of load, before anything is known. */
  begin(row: number, slope: number): void {
    this.#slopes[row] = slope;
  }

  take(row: number, from: LoadCurve, other: number): void {
    this.#knots.set(from.#knots.subarray(other * KNOTS, (other + 1) * KNOTS), row * KNOTS);
    this.#weights.set(from.#weights.subarray(other * KNOTS, (other + 1) * KNOTS), row * KNOTS);
    this.#line.set(from.#line.subarray(other * 5, other * 5 + 5), row * 5);
    this.#slopes[row] = from.#slopes[other]!;
  }

  /** Change of the metric over the whole range of load. */
  slopeOf(row: number): number {
    const at = row * 5;
    const covariance = this.#line[at + 4]! + PRIOR_VARIANCE * this.#slopes[row]!;
    return covariance / (this.#line[at + 3]! + PRIOR_VARIANCE);
  }

  /** Sets `expected` and `doubt`; false where nothing can be said yet. */
  predict(row: number, load: number): boolean {
    if (this.#line[row * 5]! < LEAST_WEIGHT) return false;
    const place = placeOf(load);
    const knot = Math.min(KNOTS - 2, Math.floor(place));
    const share = place - knot;
    this.doubt = 0;
    this.expected = this.#at(row, knot, 1 - share) + this.#at(row, knot + 1, share);
    return true;
  }

  learn(row: number, load: number, value: number, seconds: number): void {
    const weight = Math.min(4, seconds / UNIT_SECONDS);
    this.#learnLine(row, load, value, weight);
    const place = placeOf(load);
    const knot = Math.min(KNOTS - 2, Math.floor(place));
    const share = place - knot;
    const low = row * KNOTS + knot;
    const error =
      value -
      (1 - share) * this.#start(row, knot, place, value) -
      share * this.#start(row, knot + 1, place, value);
    this.#move(low, error, weight, 1 - share);
    this.#move(low + 1, error, weight, share);
  }

  /** A knot's part of the prediction; where it was not seen, the line's, with doubt. */
  #at(row: number, knot: number, share: number): number {
    if (share === 0) return 0;
    const at = row * KNOTS + knot;
    if (this.#weights[at]! >= KNOWN_WEIGHT) return share * this.#knots[at]!;
    const line = row * 5;
    const rise = this.slopeOf(row) * (knot / (KNOTS - 1) - this.#line[line + 1]!);
    this.doubt += share * DOUBT * Math.abs(rise);
    return share * (this.#line[line + 2]! + rise);
  }

  /** A knot that is seen for the first time, maybe from afar: the line says what lies between. */
  #start(row: number, knot: number, place: number, value: number): number {
    const at = row * KNOTS + knot;
    if (this.#weights[at] === 0) this.#knots[at] = value + (this.slopeOf(row) * (knot - place)) / (KNOTS - 1);
    return this.#knots[at]!;
  }

  /** A sample says of a knot as much as the square of its share in it: least squares, knot by knot. */
  #move(at: number, error: number, weight: number, share: number): void {
    if (weight === 0 || share === 0) return;
    const total = Math.min(MOST_WEIGHT, this.#weights[at]! + weight * share * share);
    this.#weights[at] = total;
    this.#knots[at] = this.#knots[at]! + error * Math.min(1, (weight * share) / total);
  }

  #learnLine(row: number, load: number, value: number, weight: number): void {
    const line = this.#line;
    const at = row * 5;
    const total = Math.min(MOST_WEIGHT, line[at]! + weight);
    const gain = weight / total;
    const dx = load - line[at + 1]!;
    const dy = value - line[at + 2]!;
    line[at] = total;
    line[at + 1]! += gain * dx;
    line[at + 2]! += gain * dy;
    line[at + 3]! += gain * (dx * dx * (1 - gain) - line[at + 3]!);
    line[at + 4]! += gain * (dx * dy * (1 - gain) - line[at + 4]!);
  }
}

function placeOf(load: number): number {
  return Math.min(1, Math.max(0, load)) * (KNOTS - 1);
}
