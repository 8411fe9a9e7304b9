import type { Work } from '../work.ts';
import { nodeOf, type PatternEvent } from './event-journal.ts';

const DAY_MS = 86_400_000;
/** Meta looks at four weeks (Revisiting Reliability in Large-Scale ML Research Clusters, 2024). */
const LEMON_WINDOW_MS = 28 * DAY_MS;
/**
 * An incident counts half after two weeks. On the public fault trace of 400 GPU servers (InfiniteHBD, SIGCOMM'25)
 * any half-life from 3 to 21 days does as well, and counting a node's whole past does half as well: in that fleet a
 * lemon is a node whose last repair did not hold, not one that is bad for ever.
 */
const HALF_LIFE_MS = 14 * DAY_MS;
/** In the same trace a node that is back from repair faults again within a week in 30.0 % of cases, by chance 2.9 %. */
const REPEAT_MS = 7 * DAY_MS;
/** What the repair itself weighs on its day. Own judgement, flat between 0 and 1 on that trace. */
const REPAIR_WEIGHT = 0.5;
/** Equal incidents of a node within so long are one: a burst ends after 3 minutes of silence (NVIDIA Fleet Intelligence). */
const BURST_MS = 180_000;

/** Events, or nodes, between two places to stop at. */
const AT_ONCE = 500;

/** What a node is blamed for. Meta's signals, as far as an aggregator sees them. */
export type LemonSignal =
  | 'out'
  | 'drain'
  | 'hardware_xid'
  | 'failed_diagnostic'
  | 'critical'
  | 'job_failure_many_nodes'
  | 'job_failure_one_node'
  | 'excluded_by_job'
  | 'repair';

/**
 * Points of one incident on its day, own judgement but for the order: an outage is what everybody agrees on; a job
 * over many nodes may have failed for another's sake. A kind counts at most MAX_EACH times.
 */
const WEIGHT: Readonly<Record<LemonSignal, number>> = {
  out: 1,
  drain: 0.75,
  failed_diagnostic: 1,
  critical: 0.5,
  hardware_xid: 0.5,
  job_failure_one_node: 0.5,
  job_failure_many_nodes: 0.25,
  excluded_by_job: 0.25,
  repair: 0,
};
const MAX_EACH = 5;

const WORDS: Readonly<Record<LemonSignal, readonly [one: string, many: string]>> = {
  out: ['outage', 'outages'],
  drain: ['drain', 'drains'],
  failed_diagnostic: ['failed diagnostic', 'failed diagnostics'],
  critical: ['time critical', 'times critical'],
  hardware_xid: ['hardware Xid', 'hardware Xids'],
  job_failure_one_node: ['failed job of its own', 'failed jobs of its own'],
  job_failure_many_nodes: ['failed job with other nodes', 'failed jobs with other nodes'],
  excluded_by_job: ['job that excluded it', 'jobs that excluded it'],
  repair: ['repair', 'repairs'],
};

export interface LemonReason {
  readonly signal: LemonSignal;
  readonly count: number;
  readonly points: number;
}

export interface LemonScore {
  /** `cluster/node`. */
  readonly node: string;
  readonly score: number;
  /** Most points first. */
  readonly reasons: readonly LemonReason[];
  /** Faults within a week after a repair, in the window. */
  readonly repeats: number;
  /** Of the newest repair; NaN where there was none. */
  readonly repairedMs: number;
  /** First incident in the window. */
  readonly sinceMs: number;
}

interface Incident {
  readonly signal: LemonSignal;
  readonly ms: number;
}

/**
 * Nodes by how much they had to be dealt with in the last 28 days, worst first; nodes without an incident are left
 * out. `signalOf` says what an event means for a node, undefined for nothing. Events in order of time.
 */
export function* lemonScores(
  events: readonly PatternEvent[],
  signalOf: (event: PatternEvent) => LemonSignal | undefined,
  nowMs: number,
): Work<LemonScore[]> {
  const byNode = new Map<string, Incident[]>();
  let done = 0;
  for (const event of events) {
    if (++done % AT_ONCE === 0) yield;
    if (event.ms > nowMs || event.ms <= nowMs - LEMON_WINDOW_MS) continue;
    const signal = signalOf(event);
    if (signal === undefined) continue;
    const node = nodeOf(event);
    const list = byNode.get(node) ?? [];
    byNode.set(node, list);
    if (!inBurst(list, signal, event.ms)) list.push({ signal, ms: event.ms });
  }
  const scores: LemonScore[] = [];
  for (const [node, incidents] of byNode) {
    if (++done % AT_ONCE === 0) yield;
    const score = scoreOf(node, incidents, nowMs);
    if (score.score > 0) scores.push(score);
  }
  return scores.sort((a, b) => b.score - a.score || (a.node < b.node ? -1 : 1));
}

/** Two incidents at least, or one that came back after a repair: who had one bad day is no lemon. Own judgement. */
export function isLemon({ reasons, repeats, score }: LemonScore): boolean {
  const incidents = reasons.reduce((sum, one) => sum + (one.signal === 'repair' ? 0 : one.count), 0);
  return repeats > 0 || (incidents >= 3 && score >= 1.5);
}

export function lemonWords({ node, reasons, repeats }: LemonScore): string {
  const list = reasons
    .filter((one) => one.count > 0)
    .map((one) => `${one.count} ${WORDS[one.signal][one.count === 1 ? 0 : 1]}`)
    .join(', ');
  const again =
    repeats === 0 ? '' : `; ${repeats === 1 ? 'once' : `${repeats} times`} within a week of a repair`;
  return `Node ${node} had ${list} in 28 days${again}.`;
}

function scoreOf(node: string, incidents: readonly Incident[], nowMs: number): LemonScore {
  const reasons = new Map<LemonSignal, { signal: LemonSignal; count: number; points: number }>();
  let repairedMs = Number.NaN;
  let repeats = 0;
  // The newest count: an old burst must not use up the five.
  for (const { signal, ms } of [...incidents].reverse()) {
    const reason = reasons.get(signal) ?? { signal, count: 0, points: 0 };
    reasons.set(signal, reason);
    if (reason.count++ < MAX_EACH) reason.points += WEIGHT[signal] * 2 ** (-(nowMs - ms) / HALF_LIFE_MS);
  }
  for (const { signal, ms } of incidents) {
    if (signal === 'repair') repairedMs = ms;
    else if (ms - repairedMs <= REPEAT_MS) {
      repeats++;
      // One repair that did not hold is one repeat, however many incidents follow.
      repairedMs = Number.NaN;
    }
  }
  const repair = reasons.get('repair');
  const newest = incidents.findLast((one) => one.signal === 'repair')?.ms ?? Number.NaN;
  if (repair !== undefined) repair.points = REPAIR_WEIGHT * 2 ** (-(nowMs - newest) / REPEAT_MS);
  const sorted = [...reasons.values()].sort((a, b) => b.points - a.points);
  return {
    node,
    score: sorted.reduce((sum, one) => sum + one.points, 0),
    reasons: sorted,
    repeats,
    repairedMs: newest,
    sinceMs: incidents[0]!.ms,
  };
}

function inBurst(list: readonly Incident[], signal: LemonSignal, ms: number): boolean {
  const before = list.findLast((one) => one.signal === signal);
  return before !== undefined && ms - before.ms <= BURST_MS;
}
