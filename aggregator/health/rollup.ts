import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import type { Source } from '#shared/model/block.ts';

/** One GPU as a group sees it. */
export interface GroupMember {
  readonly uuid: string;
  readonly source: Pick<Source, 'node'>;
  readonly score: number;
  /** The low end of its score. */
  readonly low: number;
  readonly state: HealthState;
}

/** What one GPU, or all that are not named, take off a group's score. */
export interface GroupContribution {
  /** Empty for the rest. */
  readonly uuid: string;
  readonly node: string;
  /** Its own score; of the rest the lowest. */
  readonly score: number;
  readonly points: number;
  readonly explanation: string;
}

export interface GroupHealth {
  /** 0 to 100; undefined where nothing is known of any GPU. */
  readonly score: number | undefined;
  /** The score if all that is not known of its GPUs, and every GPU of which nothing is known, were at its worst. */
  readonly low: number | undefined;
  readonly gpus: number;
  /** Share of the GPUs of which something is known. */
  readonly coverage: number;
  readonly states: Readonly<Record<'healthy' | 'degraded' | 'critical' | 'flapping' | 'unknown', number>>;
  /** Most points first; they add up to 100 - score, exactly. At most WORST_GPUS, and one line for the rest. */
  readonly contributions: readonly GroupContribution[];
}

/** GPUs named by a group: what fits on a screen. */
export const WORST_GPUS = 20;
/** Points are multiples of 2^-20, so that they add up without an error: as in a GPU's own score. */
const QUANTUM = 2 ** 20;

/**
 * *node*: a job takes all GPUs of a node, so that it is as good as its worst one, and several bad ones make it worse:
 * the cubic norm of the points lost, as signals within a dimension. One dead GPU of eight is a dead node.
 *
 * *pool*, for pools and the fleet: jobs are placed around what is bad, so that the share counts: the root mean
 * square of the points lost. More than a mean, which hides a dead GPU behind a thousand good ones: one dead GPU of
 * 10,000 takes about one point, one of a hundred ten, a third of them more than half. Own judgement.
 */
export type GroupKind = 'node' | 'pool';

/** The health of a group from that of its GPUs. A GPU of which nothing is known neither adds nor takes away. */
export function rollUp(members: Iterable<GroupMember>, kind: GroupKind): GroupHealth {
  const power = kind === 'node' ? 3 : 2;
  const states = { healthy: 0, degraded: 0, critical: 0, flapping: 0, unknown: 0 };
  const worst: GroupMember[] = [];
  let sum = 0;
  let lowSum = 0;
  let known = 0;
  let gpus = 0;
  for (const one of members) {
    gpus++;
    states[STATE_NAMES[one.state] ?? 'unknown']++;
    if (isUnknown(one)) {
      lowSum += 1;
      continue;
    }
    known++;
    sum += lossOf(one.score) ** power;
    lowSum += lossOf(one.low) ** power;
    if (one.score < 100) keepWorst(worst, one);
  }
  const coverage = gpus === 0 ? 0 : known / gpus;
  if (known === 0) return { score: undefined, low: undefined, gpus, coverage, states, contributions: [] };
  const lost = quantised(100 * normed(sum, known, kind));
  const contributions = shareOut(worst, { lost, sum, power, known });
  const score = 100 - lost;
  return {
    score,
    low: Math.min(score, 100 - 100 * normed(lowSum, gpus, kind)),
    ...{ gpus, coverage, states, contributions },
  };
}

const STATE_NAMES: Readonly<Partial<Record<HealthState, 'healthy' | 'degraded' | 'critical' | 'flapping'>>> =
  {
    [HealthState.HEALTHY]: 'healthy',
    [HealthState.DEGRADED]: 'degraded',
    [HealthState.CRITICAL]: 'critical',
    [HealthState.FLAPPING]: 'flapping',
  };

function isUnknown({ state }: GroupMember): boolean {
  return state === HealthState.UNKNOWN || state === HealthState.UNSPECIFIED;
}

function lossOf(score: number): number {
  return Math.min(1, Math.max(0, 1 - score / 100));
}

/** 0 to 1. */
function normed(sum: number, gpus: number, kind: GroupKind): number {
  return kind === 'node' ? Math.min(1, Math.cbrt(sum)) : Math.sqrt(sum / gpus);
}

/** Inserts by score, lowest first; of equal ones the first stays first. */
function keepWorst(worst: GroupMember[], one: GroupMember): void {
  if (worst.length === WORST_GPUS && one.score >= worst[WORST_GPUS - 1]!.score) return;
  let at = worst.length;
  while (at > 0 && worst[at - 1]!.score > one.score) at--;
  worst.splice(at, 0, one);
  if (worst.length > WORST_GPUS) worst.pop();
}

/** Each GPU's part of the sum is its part of the points; what is left belongs to those that are not named. */
function shareOut(
  worst: readonly GroupMember[],
  { lost, sum, power, known }: { lost: number; sum: number; power: number; known: number },
): GroupContribution[] {
  let left = lost;
  let named = 0;
  const contributions = worst.flatMap(({ uuid, source: { node }, score }): GroupContribution[] => {
    const points = Math.min(left, quantised((lost * lossOf(score) ** power) / sum));
    if (points <= 0) return [];
    left -= points;
    named++;
    const explanation = `GPU ${uuid} of ${node} has a score of ${figure(score)}`;
    return [{ uuid, node, score, points, explanation }];
  });
  if (left <= 0) return contributions;
  const rest = known - named;
  const first = contributions[0];
  // Rounding, or GPUs so little worse than 100 that they are not named.
  if (worst.length < WORST_GPUS && first !== undefined) {
    contributions[0] = { ...first, points: first.points + left };
    return contributions;
  }
  const score = worst.at(-1)?.score ?? 100;
  const explanation = `${rest} other GPUs with a score of ${figure(score)} or more`;
  return [...contributions, { uuid: '', node: '', score, points: left, explanation }].sort(
    (a, b) => b.points - a.points,
  );
}

function quantised(points: number): number {
  return Math.round(points * QUANTUM) / QUANTUM;
}

function figure(score: number): string {
  return String(Number(score.toFixed(1)));
}
