import { setImmediate } from 'node:timers/promises';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import type { Assessment } from './assessment.ts';
import { DIMENSIONS } from './health/compose-score.ts';
import type { HealthRow } from './health/health-engine.ts';
import { type GroupHealth, rollUp } from './health/rollup.ts';
import type { GpuFigures, NodeFigures, ScopeFigures } from './store/derived-series.ts';
import type { LatestTable } from './store/latest.ts';

/** Pools with series of their own. */
const MAX_POOLS = 1000;

function scopeOf(scope: 'pool' | 'fleet', name: string, group: GroupHealth): ScopeFigures {
  return { scope, name, score: group.score ?? Number.NaN, gpus: group.states };
}

function figuresOf(row: HealthRow, strengths: ReadonlyMap<string, number>): GpuFigures {
  const { gpu, uuid, model, state, coverage } = row;
  const isKnown = state !== HealthState.UNKNOWN;
  const score = isKnown ? row.score : Number.NaN;
  const dimensions = DIMENSIONS.map((dimension) =>
    isKnown && row.dimensionCoverage[dimension]! > 0 ? row.dimensionScores[dimension]! : Number.NaN,
  );
  const anomaly = strengths.get(uuid) ?? 0;
  return { gpu, uuid, model, score, dimensions, state, confidence: coverage, anomaly };
}

/** GPUs at a time, between which the process does other work: about two milliseconds. */
const AT_ONCE = 1_000;

/** What is written about the fleet's health at one moment, node by node, and of each pool and the fleet. */
export async function healthFigures(
  assessment: Pick<Assessment, 'health' | 'detection' | 'poolOf'>,
  latest: Pick<LatestTable, 'nodes'>,
): Promise<{ readonly nodes: readonly NodeFigures[]; readonly scopes: readonly ScopeFigures[] }> {
  const { health, detection } = assessment;
  const strengths = new Map<string, number>();
  for (const { uuid, endedMs, strength } of detection.anomalies())
    if (endedMs === undefined) strengths.set(uuid, Math.max(strength, strengths.get(uuid) ?? 0));
  const byNode = new Map<string, HealthRow[]>();
  const byPool = new Map<string, HealthRow[]>();
  let done = 0;
  for (const row of health.details()) {
    listOf(byNode, `${row.source.cluster}\n${row.source.node}`).push(row);
    listOf(byPool, assessment.poolOf(row.source)).push(row);
    if (++done % AT_ONCE === 0) await setImmediate();
  }
  const nodes: NodeFigures[] = [];
  for (const { source, connected } of latest.nodes()) {
    const gpus = byNode.get(`${source.cluster}\n${source.node}`) ?? [];
    const score = rollUp(gpus, 'node').score ?? Number.NaN;
    nodes.push({ source, up: connected, score, gpus: gpus.map((gpu) => figuresOf(gpu, strengths)) });
    if (nodes.length % 100 === 0) await setImmediate();
  }
  const all = [...byPool.values()].flat();
  const scopes: ScopeFigures[] = [scopeOf('fleet', '', rollUp(all, 'pool'))];
  for (const [pool, rows] of [...byPool].slice(0, MAX_POOLS))
    if (pool !== '') scopes.push(scopeOf('pool', pool, rollUp(rows, 'pool')));
  return { nodes, scopes };
}

function listOf<Row>(groups: Map<string, Row[]>, key: string): Row[] {
  let list = groups.get(key);
  if (list === undefined) {
    list = [];
    groups.set(key, list);
  }
  return list;
}
