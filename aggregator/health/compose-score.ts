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
  readonly explanation: string;
}

/** The score may not be higher than this, whatever else is fine. */
export interface ScoreCap extends Omit<Complaint, 'badness' | 'weight'> {
  readonly score: number;
}

export interface Contribution extends Omit<Complaint, 'badness' | 'weight'> {
  readonly points: number;
}

/** How hard a dimension pulls on the whole: a GPU that computes wrongly is worse than one that computes slowly. */
export const DIMENSION_WEIGHT: Readonly<Record<number, number>> = {
  [HealthDimension.MEMORY]: 1,
  [HealthDimension.RELIABILITY]: 1,
  [HealthDimension.THERMAL]: 0.8,
  [HealthDimension.PERFORMANCE]: 0.7,
  [HealthDimension.POWER]: 0.6,
};

/** A dimension is never worse than this, so that its logarithm is finite. */
const WORST_DIMENSION = 0.999;
/** Points are multiples of 1/1024: float64 then adds them without error, so that they add up exactly. */
const QUANTUM = 1024;

/**
 * Within a dimension the cubic norm of weight x badness: a mean would hide one dying part, a product would saturate
 * over many. Over the dimensions a weighted product: a dead dimension makes a dead GPU. The points lost are shared
 * out by each dimension's part of the logarithm and each signal's part of the cubes; the lowest cap takes the rest.
 * `100 - score` equals the sum of the points, exactly. A worse signal never gives a better score (but for 1/1024 of
 * a point).
 */
export function composeScore(
  complaints: readonly Complaint[],
  caps: readonly ScoreCap[],
): { score: number; contributions: Contribution[] } {
  const cubes = new Map<HealthDimension, number>();
  for (const one of complaints) {
    cubes.set(one.dimension, (cubes.get(one.dimension) ?? 0) + (one.weight * one.badness) ** 3);
  }
  const logs = new Map<HealthDimension, number>();
  let logSum = 0;
  for (const [dimension, sum] of cubes) {
    const log = DIMENSION_WEIGHT[dimension]! * Math.log(1 - Math.min(WORST_DIMENSION, Math.cbrt(sum)));
    logs.set(dimension, log);
    logSum += log;
  }
  const free = 100 * Math.exp(logSum);

  const contributions: Contribution[] = [];
  let lost = 0;
  const add = (
    { dimension, signal, value, threshold, explanation }: Complaint | ScoreCap,
    points: number,
  ) => {
    const rounded = Math.min(100 - lost, Math.round(points * QUANTUM) / QUANTUM);
    if (rounded <= 0) return;
    lost += rounded;
    contributions.push({ dimension, signal, value, threshold, points: rounded, explanation });
  };
  for (const one of complaints) {
    const inDimension = (one.weight * one.badness) ** 3 / cubes.get(one.dimension)!;
    add(one, (100 - free) * (logs.get(one.dimension)! / logSum) * inDimension);
  }
  const cap = caps.reduce<ScoreCap | undefined>(
    (low, one) => (low && low.score <= one.score ? low : one),
    undefined,
  );
  if (cap !== undefined) add(cap, 100 - lost - cap.score);
  contributions.sort((a, b) => b.points - a.points);
  return { score: 100 - lost, contributions };
}
