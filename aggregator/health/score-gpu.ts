import { HealthDimension } from '#proto/gpufleet/health/v1/health_pb.ts';
import { badness } from './badness.ts';
import {
  type Complaint,
  composeScore,
  DIMENSION_SLOTS,
  DIMENSION_WEIGHT,
  DIMENSIONS,
  dimensionScore,
  freeScore,
  type ScoreCap,
} from './compose-score.ts';
import type { GpuRecord } from './gpu-record.ts';
import { SIGNAL_NAMES } from './profiles/names.ts';
import type { SignalRule } from './profiles/profile.ts';
import { incidentPhrase, SIGNALS } from './signals.ts';

/** One GPU at a time is scored: what it takes is reused, so that a GPU without a complaint allocates nothing. */
const CUBES = new Float64Array(DIMENSION_SLOTS);
const LOW_CUBES = new Float64Array(DIMENSION_SLOTS);
const KNOWN = new Float64Array(DIMENSION_SLOTS);
const WANTED = new Float64Array(DIMENSION_SLOTS);
const VALUES = new Float64Array(SIGNAL_NAMES.length);
const BADNESS = new Float64Array(SIGNAL_NAMES.length);

const ALL_WEIGHTS = DIMENSIONS.reduce((sum, dimension) => sum + DIMENSION_WEIGHT[dimension], 0);

/**
 * Scores a GPU from what is known of it now. `at` by the monotonic clock, `nowMs` by the wall clock.
 *
 * Missing data: a signal that is not known costs nothing and earns nothing. Coverage of a dimension is the weight of
 * what is known over the weight of what is required or known; confidence is the coverage weighted by dimension. The
 * low end takes every required signal that is missing as failed.
 */
export function scoreGpu(gpu: GpuRecord, at: number, nowMs: number): void {
  const { signals } = gpu.profile;
  CUBES.fill(0);
  LOW_CUBES.fill(0);
  KNOWN.fill(0);
  WANTED.fill(0);
  let complaints = 0;
  let missing = 0;
  let stamp = 0;
  for (let i = 0; i < signals.length; i++) {
    const rule = signals[i]!;
    const value = SIGNALS[rule.name].read(gpu, at, nowMs);
    VALUES[i] = value;
    BADNESS[i] = 0;
    if (Number.isNaN(value)) {
      if (!rule.required) continue;
      WANTED[rule.dimension]! += rule.weight;
      LOW_CUBES[rule.dimension]! += rule.weight ** 3;
      missing++;
      continue;
    }
    WANTED[rule.dimension]! += rule.weight;
    KNOWN[rule.dimension]! += rule.weight;
    const u = badness(rule.log ? Math.log(Math.max(0, value)) : value, rule.scaled);
    if (u <= 0) continue;
    BADNESS[i] = u;
    CUBES[rule.dimension]! += (rule.weight * u) ** 3;
    stamp += value * (i + 1.37);
    complaints++;
  }
  cover(gpu);
  const capped = gpu.incidents.size > 0 && hasXidCap(gpu, nowMs);
  if (complaints === 0 && !capped) {
    gpu.score = 100;
    gpu.capped = undefined;
    gpu.capReason = '';
    gpu.contributions = [];
    gpu.stamp = 0;
  } else if (stamp !== gpu.stamp || capped || gpu.contributions.length === 0) {
    // An Xid's cap ends by time alone: what it was composed of would then still be the same.
    gpu.stamp = capped ? Number.NaN : stamp;
    compose(gpu, nowMs);
  }
  for (const dimension of DIMENSIONS) gpu.dimensionScores[dimension] = dimensionScore(CUBES[dimension]!);
  gpu.low = missing === 0 ? gpu.score : lowEnd(gpu);
}

function cover(gpu: GpuRecord): void {
  let confidence = 0;
  for (const dimension of DIMENSIONS) {
    const coverage = WANTED[dimension]! > 0 ? KNOWN[dimension]! / WANTED[dimension]! : 0;
    gpu.dimensionCoverage[dimension] = coverage;
    confidence += DIMENSION_WEIGHT[dimension] * coverage;
  }
  gpu.confidence = confidence / ALL_WEIGHTS;
}

function lowEnd(gpu: GpuRecord): number {
  for (const dimension of DIMENSIONS) LOW_CUBES[dimension]! += CUBES[dimension]!;
  return Math.min(gpu.score, gpu.capped ?? 100, freeScore(LOW_CUBES));
}

/** The complaints of the values that were just read, with their sentences. */
function compose(gpu: GpuRecord, nowMs: number): void {
  const complaints: Complaint[] = [];
  const caps: Cap[] = [];
  const { signals } = gpu.profile;
  for (let i = 0; i < signals.length; i++) {
    const u = BADNESS[i]!;
    if (u === 0) continue;
    const rule = signals[i]!;
    const value = VALUES[i]!;
    const what = SIGNALS[rule.name].say(value, gpu, nowMs);
    if (rule.weight > 0) complaints.push({ ...saidOf(rule, value, what), badness: u, weight: rule.weight });
    addCaps(rule, value, what, caps);
  }
  addXidCaps(gpu, nowMs, caps);
  const { score, contributions } = composeScore(complaints, caps);
  gpu.score = score;
  gpu.contributions = contributions;
  let lowest: Cap | undefined;
  for (const cap of caps) if (lowest === undefined || cap.score < lowest.score) lowest = cap;
  gpu.capped = lowest?.score;
  gpu.capReason = lowest?.reason ?? '';
}

type Said = Omit<ScoreCap, 'score'>;
/** With what it stands on: the sentence without its figures. */
type Cap = ScoreCap & { readonly reason: string };

/** `what` is wrong, without the threshold. */
function saidOf(rule: SignalRule, value: number, what: string): Said {
  const { metric, show } = SIGNALS[rule.name];
  const { dimension, source } = rule;
  const threshold = rule.points[0];
  const beyond = rule.points[3] >= threshold ? 'over' : 'under';
  const explanation = `${what}; costs points ${beyond} ${show(threshold)} (${source})`;
  return { dimension, signal: metric, value, threshold, source, explanation };
}

function addCaps(rule: SignalRule, value: number, what: string, caps: Cap[]): void {
  const sign = rule.points[3] >= rule.points[0] ? 1 : -1;
  for (const { from, score, source } of rule.caps) {
    if ((value - from) * sign < 0) continue;
    const { dimension, name } = rule;
    const explanation = `${what}: the score is held at ${score} (${source})`;
    caps.push({
      dimension,
      signal: SIGNALS[name].metric,
      value,
      threshold: from,
      source,
      score,
      explanation,
      reason: what,
    });
  }
}

/** A cap that holds whether or not the GPU is heard: it is lost, or an Xid said so. */
export function hasEventCap(gpu: GpuRecord, nowMs: number): boolean {
  return gpu.lostMs !== undefined || (gpu.incidents.size > 0 && hasXidCap(gpu, nowMs));
}

function hasXidCap({ incidents, profile: { events } }: GpuRecord, nowMs: number): boolean {
  for (const [code, { windowMs }] of events.xidCaps) {
    const atMs = incidents.newest('xid', String(code));
    if (nowMs - atMs <= windowMs) return true;
  }
  return false;
}

function addXidCaps(gpu: GpuRecord, nowMs: number, caps: Cap[]): void {
  const { events } = gpu.profile;
  for (const one of gpu.incidents.list('xid', nowMs, events)) {
    const cap = events.xidCaps.get(Number(one.code));
    if (cap === undefined || nowMs - one.atMs > cap.windowMs) continue;
    const { score, source } = cap;
    const reason = incidentPhrase(one, 'Xid', nowMs);
    const explanation = `${reason}: the score is held at ${score} (${source})`;
    const said = {
      dimension: HealthDimension.RELIABILITY,
      signal: 'xid',
      value: Number(one.code),
      threshold: 0,
    };
    caps.push({ ...said, source, score, explanation, reason });
  }
}
