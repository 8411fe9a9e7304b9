import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { GpuHealth } from '#proto/gpufleet/health/v1/health_pb.ts';
import {
  AnomalySchema,
  type GpuShare,
  GpuShareSchema,
  HealthScope,
  type HealthTransition,
  HealthTransitionSchema,
  type NodeMark,
  NodeMarkSchema,
  type Pattern as PatternMessage,
  PatternSchema,
  type RejectedSample,
  RejectedSampleSchema,
  type ScopeHealth,
  ScopeHealthSchema,
} from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Assessment } from './assessment.ts';
import type { Anomaly } from './health/detect/anomaly.ts';
import type { GpuScore } from './health/health-engine.ts';
import type { Pattern } from './health/patterns/pattern.ts';
import { type GroupHealth, type GroupKind, rollUp } from './health/rollup.ts';
import { NODE_STATES, type NodeState, type OperatorState } from './health/states/operator-state.ts';
import type { TransitionEntry } from './health/states/transition.ts';
import type { NodeMarks } from './node-marks.ts';
import type { HealthView } from './query/health-view.ts';
import type { LatestTable } from './store/latest.ts';
import type { Rejection } from './validate/rejection-table.ts';
import type { Validation } from './validate/validation.ts';

/** Parts of a pool or a fleet in one answer. */
const MAX_PARTS = 1000;
const DEFAULT_METRIC = 'gpu_temperature_celsius';
const DEFAULT_STRENGTH = 2;
const DEFAULT_SECONDS = 60;
const CLEARING: readonly string[] = ['diagnostic', 'repair', 'operator'];

/** Health as queries ask for it. */
export function createHealthView(
  assessment: Assessment,
  validation: Validation,
  latest: LatestTable,
  marks: NodeMarks,
  clock: Clock,
): HealthView {
  const { health, detection } = assessment;
  // One that is drained is often off: its mark is all that is known of it after a restart.
  const nodeNamed = (name: string, action: string): Source => {
    const { source } = latest.node(name) ?? {};
    if (source) return source;
    const marked = marks.list().find(({ node }) => node === name);
    if (marked) return { cluster: marked.cluster, node: name, externalLabels: [] };
    throw new FleetError(
      'not_found',
      `Cannot ${action} node "${name.slice(0, 253)}": no agent of that name was seen`,
    );
  };
  return {
    scope: (scope, name) => scopeOf(assessment, scope, name),
    async transitions({ node, gpuUuid, to, fromMs, toMs }, size, cursor) {
      const page = await assessment.transitions.list(
        {
          ...(node !== '' && { node }),
          ...(gpuUuid !== '' && { uuid: gpuUuid }),
          ...(to !== 0 && { state: to }),
          ...(fromMs !== undefined && { sinceMs: fromMs }),
          ...(toMs !== undefined && { untilMs: toMs + 1 }),
        },
        size,
        cursor === '' ? undefined : cursor,
      );
      return { transitions: page.entries.map(transitionMessage), next: page.cursor ?? '' };
    },
    anomalies({ node, gpuUuid, includeEnded }) {
      const found = [...(gpuUuid === '' ? detection.anomalies() : detection.anomaliesOf(gpuUuid))].filter(
        ({ source, endedMs }) =>
          (node === '' || source.node === node) && (includeEnded || endedMs === undefined),
      );
      return found
        .sort((a, b) => b.startedMs - a.startedMs || (a.id < b.id ? -1 : 1))
        .map((anomaly) => ({
          key: `${String(MAX_MS - anomaly.startedMs).padStart(16, '0')}\n${anomaly.id}`,
          message: () => anomalyMessage(anomaly),
        }));
    },
    patterns: (kind) =>
      assessment.patterns
        .patterns()
        .filter((pattern) => kind === '' || pattern.kind === kind)
        .map(patternMessage),
    rejected: (node) => ({
      samples: validation.rejected(node === '' ? undefined : node).map(rejectedMessage),
      totals: validation.totals(),
    }),
    marks: () => marks.list().map(markMessage),
    async mark({ node, mark, why, by, untilMs }) {
      const source = nodeNamed(node, 'mark');
      if (!(NODE_STATES as readonly string[]).includes(mark))
        throw new FleetError('invalid_input', `Cannot mark: it must be one of ${NODE_STATES.join(', ')}`);
      const told = { state: mark as NodeState, by, why, ...(untilMs !== undefined && { untilMs }) };
      return markMessage(await marks.set(source, told));
    },
    async unmark(node, why, by) {
      await marks.clear(nodeNamed(node, 'unmark'), why, by);
    },
    clear(uuid, cause, why, by): GpuHealth {
      const gpu = latest.gpu(uuid);
      if (!gpu || !health.healthOf(uuid))
        throw new FleetError('not_found', `Cannot clear GPU "${uuid.slice(0, 100)}": it was not seen`);
      if (!CLEARING.includes(cause))
        throw new FleetError('invalid_input', `Cannot clear: cause must be one of ${CLEARING.join(', ')}`);
      const event = clearingEvent(gpu.gpu, uuid, cause, why, by, clock.now());
      assessment.tell(gpu.node.source, event);
      assessment.event(gpu.node.source, event);
      return health.healthOf(uuid)!;
    },
    inject({ uuid, node, gpu, metric, strength, seconds }, by) {
      const test = detection.inject({
        ...(uuid !== '' ? { uuid } : { node, gpu }),
        metric: metric || DEFAULT_METRIC,
        strength: strength || DEFAULT_STRENGTH,
        seconds: seconds || DEFAULT_SECONDS,
      });
      const anomaly = [...detection.anomaliesOf(test.uuid)].find(
        (one) => one.test && one.endedMs === undefined,
      );
      if (!anomaly)
        throw new FleetError(
          'resource_exhausted',
          `Cannot inject for ${by || 'you'}: too many anomalies are open`,
        );
      return anomalyMessage(anomaly);
    },
  };
}

const MAX_MS = Number.MAX_SAFE_INTEGER;

function scopeOf(assessment: Assessment, scope: HealthScope, name: string): ReturnType<HealthView['scope']> {
  if (scope === HealthScope.NODE) {
    const rows = [...assessment.health.scores()].filter(({ source }) => source.node === name);
    return rows.length === 0 ? undefined : { health: scopeMessage(scope, name, rows, 'node'), parts: [] };
  }
  const all = [...assessment.health.scores()];
  if (scope === HealthScope.FLEET) {
    const pools = Map.groupBy(all, ({ source }) => assessment.poolOf(source));
    // A fleet without pools has nodes.
    const parts =
      pools.size > 1 || !pools.has('')
        ? partsOf(pools, HealthScope.POOL)
        : partsOf(
            Map.groupBy(all, ({ source }) => source.node),
            HealthScope.NODE,
          );
    return { health: scopeMessage(scope, '', all, 'pool'), parts };
  }
  const rows = all.filter(({ source }) => assessment.poolOf(source) === name);
  if (rows.length === 0) return undefined;
  const parts = partsOf(
    Map.groupBy(rows, ({ source }) => source.node),
    HealthScope.NODE,
  );
  return { health: scopeMessage(scope, name, rows, 'pool'), parts };
}

/** Worst first, those without a score last. */
function partsOf(groups: ReadonlyMap<string, readonly GpuScore[]>, scope: HealthScope): ScopeHealth[] {
  const kind = scope === HealthScope.NODE ? 'node' : 'pool';
  return [...groups]
    .map(([name, rows]) => ({ ...scopeMessage(scope, name, rows, kind), worst: [], otherPoints: 0 }))
    .sort((a, b) => orderOf(a) - orderOf(b))
    .slice(0, MAX_PARTS);
}

const orderOf = ({ score }: ScopeHealth): number => (Number.isNaN(score) ? 101 : score);

function scopeMessage(
  scope: HealthScope,
  name: string,
  rows: readonly GpuScore[],
  kind: GroupKind,
): ScopeHealth {
  const group = rollUp(rows, kind);
  return create(ScopeHealthSchema, {
    ...{ scope, name, score: group.score ?? Number.NaN, gpuCount: group.gpus, ...group.states },
    worst: worstOf(group, rows),
    otherPoints: group.contributions.find(({ uuid }) => uuid === '')?.points ?? 0,
  });
}

function worstOf({ contributions }: GroupHealth, rows: readonly GpuScore[]): GpuShare[] {
  const named = new Set(contributions.map(({ uuid }) => uuid));
  const byUuid = new Map(rows.filter(({ uuid }) => named.has(uuid)).map((row) => [row.uuid, row]));
  return contributions.flatMap(({ uuid, points }) => {
    const row = byUuid.get(uuid);
    if (!row) return [];
    const { source, gpu, model, score, state } = row;
    const { cluster, node } = source;
    return [create(GpuShareSchema, { cluster, node, gpu, uuid, model, score, state, points })];
  });
}

function transitionMessage(entry: TransitionEntry): HealthTransition {
  const { cluster, node, gpu, uuid, model, from, to, atMs, cause, why, score } = entry;
  return create(HealthTransitionSchema, {
    ...{ cluster, node, gpu, uuid, model, from, to, cause, why, by: entry.by },
    ...{ flapping: entry.flapping, suppressed: entry.suppressed, time: timestampFromMs(atMs) },
    ...(score !== undefined && { score }),
    contributions: entry.contributions.map(({ signal, points }) => ({ signal, points })),
  });
}

function anomalyMessage({ source, startedMs, lastMs, endedMs, contributions, ...rest }: Anomaly) {
  const { id, gpu, uuid, model, strength, test, text } = rest;
  const { cluster, node } = source;
  return create(AnomalySchema, {
    ...{ id, cluster, node, gpu, uuid, model, strength, test, text },
    ...{ startedAt: timestampFromMs(startedMs), lastAt: timestampFromMs(lastMs) },
    ...(endedMs !== undefined && { endedAt: timestampFromMs(endedMs) }),
    contributions: contributions.map(({ expected, ...one }) => ({
      ...one,
      ...(!Number.isNaN(expected) && { expected }),
    })),
  });
}

function patternMessage({
  id,
  kind,
  scope,
  subjects,
  sentence,
  figures,
  sinceMs,
  confidence,
}: Pattern): PatternMessage {
  return create(PatternSchema, {
    ...{ id, kind, scope, subjects: [...subjects], sentence, figures: { ...figures }, confidence },
    since: timestampFromMs(sinceMs),
  });
}

function rejectedMessage({ labels, value, lastMs, ...rest }: Rejection): RejectedSample {
  const { cluster, node, group, metric, reason, count } = rest;
  return create(RejectedSampleSchema, {
    ...{ cluster, node, group, metric, reason, count, time: timestampFromMs(lastMs) },
    labels: Object.fromEntries(labels),
    ...(value !== undefined && { value }),
  });
}

function markMessage({ cluster, node, state, by, why, sinceMs, untilMs }: OperatorState): NodeMark {
  return create(NodeMarkSchema, {
    ...{ cluster, node, mark: state, by, why, since: timestampFromMs(sinceMs) },
    ...(untilMs !== undefined && { until: timestampFromMs(untilMs) }),
  });
}

/** `mark` is empty where it was taken away. */
function clearingEvent(
  gpu: string,
  gpuUuid: string,
  cause: string,
  why: string,
  by: string,
  timestampMs: number,
) {
  const type = cause === 'operator' ? 'operator_clear' : cause;
  const attributes = { by, source: 'operator', ...(cause === 'diagnostic' && { result: 'pass' }) };
  return { type, timestampMs, gpu, gpuUuid, text: why, attributes };
}
