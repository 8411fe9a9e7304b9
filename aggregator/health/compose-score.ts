import { HealthDimension } from '#proto/gpufleet/health/v1/health_pb.ts';

/** One signal that is not fine. */
export interface Complaint {
  readonly dimension: HealthDimension;
  /** Canonical metric, or the event. */
  readonly signal: string;
  readonly value: number;
  /** Where it begins to cost points. */
  readonly threshold: number;
  /** Over 0, at most 1. */
  readonly badness: number;
  /** How much of its dimension the signal can take, 0 to 1. */
  readonly weight: number;
  /** Where the threshold comes from. */
  readonly source: string;
  readonly explanation: string;
}

/** The score may not be higher than this, whatever else is fine. */
export interface ScoreCap extends Omit<Complaint, 'badness' | 'weight'> {
  readonly score: number;
}

export interface Contribution extends Omit<Complaint, 'badness' | 'weight'> {
  readonly points: number;
}

const { MEMORY, THERMAL, POWER, PERFORMANCE, RELIABILITY } = HealthDimension;

/** Every dimension, in the order of its number, which also is its index in the arrays below. */
export const DIMENSIONS = [MEMORY, THERMAL, POWER, PERFORMANCE, RELIABILITY] as const;
/** Length of an array with a place for each dimension. */
export const DIMENSION_SLOTS = Math.max(...DIMENSIONS) + 1;

/** How hard a dimension pulls on the whole: a GPU that computes wrongly is worse than one that computes slowly. Own judgement. */
export const DIMENSION_WEIGHT: Readonly<Record<(typeof DIMENSIONS)[number], number>> = {
  [MEMORY]: 1,
  [RELIABILITY]: 1,
  [THERMAL]: 0.8,
  [PERFORMANCE]: 0.7,
  [POWER]: 0.6,
};

/** A dimension is never worse than this, so that its logarithm is finite. */
const WORST_DIMENSION = 0.999;
/** Points are multiples of 2^-20: float64 then adds them without error, so that they add up exactly. */
const QUANTUM = 2 ** 20;

/** Score of a dimension, 0.1 to 100, from the sum of the cubes of weight x badness of its signals. */
export function dimensionScore(cubes: number): number {
  return 100 * (1 - Math.min(WORST_DIMENSION, Math.cbrt(cubes)));
}

/** The score without caps, from the sum of cubes of each dimension. */
export function freeScore(cubes: Float64Array): number {
  let logs = 0;
  for (const dimension of DIMENSIONS) if (cubes[dimension]! > 0) logs += logOf(dimension, cubes[dimension]!);
  return 100 * Math.exp(logs);
}

/** Sums of cubes while a score is composed. */
const CUBES = new Float64Array(DIMENSION_SLOTS);

/**
 * Within a dimension the cubic norm of weight x badness: a mean would hide one dying part, a product would saturate
 * over many. Over the dimensions a weighted product: a dead dimension makes a dead GPU. The points lost are shared
 * out by each dimension's part of the logarithm and each signal's part of the cubes; the lowest cap takes the rest.
 * `100 - score` equals the sum of the points, exactly. A worse signal never gives a better score.
 */
export function composeScore(
  complaints: readonly Complaint[],
  caps: readonly ScoreCap[],
): { score: number; contributions: Contribution[] } {
  CUBES.fill(0);
  for (const { dimension, weight, badness } of complaints) CUBES[dimension]! += (weight * badness) ** 3;
  const free = quantised(freeScore(CUBES));
  const logs = Math.log(freeScore(CUBES) / 100);
  const contributions = complaints.map(({ badness, weight, ...said }): Contribution => {
    const cube = CUBES[said.dimension]!;
    const ofDimension = logs === 0 ? 0 : logOf(said.dimension, cube) / logs;
    const share = cube === 0 ? 0 : ofDimension * ((weight * badness) ** 3 / cube);
    return { ...said, points: roundedDown((100 - free) * share) };
  });
  settle(contributions, 100 - free);
  const lowest = lowestCap(caps);
  const score = lowest === undefined ? free : Math.min(free, quantised(lowest.score));
  if (lowest !== undefined && score < free) {
    const { score: _, ...said } = lowest;
    contributions.push({ ...said, points: free - score });
  }
  const counted = contributions.filter(({ points }) => points > 0);
  return { score, contributions: counted.sort((a, b) => b.points - a.points) };
}

/** Each share was rounded down by itself: the largest one takes what that left over, so that they add up to `lost`. */
function settle(contributions: Contribution[], lost: number): void {
  if (contributions.length === 0) return;
  let sum = 0;
  let largest = 0;
  for (const [i, { points }] of contributions.entries()) {
    sum += points;
    if (points > contributions[largest]!.points) largest = i;
  }
  const one = contributions[largest]!;
  contributions[largest] = { ...one, points: one.points + (lost - sum) };
}

function lowestCap(caps: readonly ScoreCap[]): ScoreCap | undefined {
  let lowest: ScoreCap | undefined;
  for (const cap of caps) if (lowest === undefined || cap.score < lowest.score) lowest = cap;
  return lowest;
}

function logOf(dimension: HealthDimension, cubes: number): number {
  const weight = DIMENSION_WEIGHT[dimension as (typeof DIMENSIONS)[number]];
  return weight * Math.log(1 - Math.min(WORST_DIMENSION, Math.cbrt(cubes)));
}

function quantised(points: number): number {
  return Math.round(points * QUANTUM) / QUANTUM;
}

function roundedDown(points: number): number {
  return Math.floor(points * QUANTUM) / QUANTUM;
}
