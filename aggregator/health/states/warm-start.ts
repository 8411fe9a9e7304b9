import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { MachineSnapshot } from '../state-machine.ts';
import { CRITICAL_CAP } from './state-limits.ts';

/** What the store is asked where no snapshot exists, each for an instant query (`/api/v1/query`). */
export interface WarmStartQueries {
  readonly score: string;
  readonly state: string;
  /** Unix seconds of the newest state. */
  readonly atSeconds: string;
}

/** What the store still knows of a GPU. */
export interface WarmGpu {
  readonly uuid: string;
  readonly cluster: string;
  readonly node: string;
  readonly gpu: string;
  readonly model: string;
  /** NaN where the store has none. */
  readonly score: number;
  readonly atMs: number;
  readonly machine: MachineSnapshot;
}

/** A critical state holds for a day of silence and so does the flap guard: older ones say nothing. */
const WINDOW_MS = 24 * 3_600_000;
/** GPUs taken of one answer. */
const MAX_GPUS = 200_000;

/** How far back is asked: 90 samples a GPU, then all that still says something, 8,640 samples a GPU. */
export const WARM_START_WINDOWS = ['15m', '24h'] as const;
export type WarmStartWindow = (typeof WARM_START_WINDOWS)[number];

/** `gpufleet_health_state` is the number of the HealthState, 1 healthy to 5 flapping. */
export function warmStartQueries(window: WarmStartWindow): WarmStartQueries {
  return {
    score: `last_over_time(gpufleet_health_score{dimension="all",uuid!=""}[${window}])`,
    state: `last_over_time(gpufleet_health_state{uuid!=""}[${window}])`,
    // MetricsQL: PromQL has no last timestamp of a window.
    atSeconds: `tlast_over_time(gpufleet_health_state{uuid!=""}[${window}])`,
  };
}

/**
 * Makes of the store's answers what a machine can go on from: no wait has begun, a critical state holds for what is
 * left of its day and, where its score is as low as only a hard cap takes it, or nearly so, owes a clearing event. A
 * GPU that the store knows from two nodes is taken as it was last. States that say nothing (unknown, too old) are left
 * out. Throws `unavailable` for an answer that is none.
 */
export function parseWarmStart(
  answers: Readonly<Record<keyof WarmStartQueries, unknown>>,
  nowMs: number,
): WarmGpu[] {
  const scores = new Map<string, number>();
  for (const { metric, value } of seriesOf(answers.score)) scores.set(identityOf(metric), value);
  const times = new Map<string, number>();
  for (const { metric, value } of seriesOf(answers.atSeconds)) times.set(identityOf(metric), value * 1000);

  const found = new Map<string, WarmGpu>();
  for (const { metric, value } of seriesOf(answers.state)) {
    const identity = identityOf(metric);
    const atMs = times.get(identity);
    const score = scores.get(identity) ?? Number.NaN;
    const { uuid = '', cluster = '', node = '', gpu = '', model = '' } = metric;
    if (uuid === '' || atMs === undefined || nowMs - atMs >= WINDOW_MS) continue;
    if (!found.has(uuid) && found.size >= MAX_GPUS) continue;
    const machine = machineOf(value, score, Math.min(atMs, nowMs));
    if (machine === undefined || atMs < (found.get(uuid)?.atMs ?? Number.NEGATIVE_INFINITY)) continue;
    found.set(uuid, { uuid, cluster, node, gpu, model, score, atMs, machine });
  }
  return [...found.values()];
}

function machineOf(state: number, score: number, atMs: number): MachineSnapshot | undefined {
  switch (state) {
    case HealthState.HEALTHY:
    case HealthState.DEGRADED:
      return { state };
    case HealthState.CRITICAL:
      return { state, staleSinceMs: atMs, ...(score <= CRITICAL_CAP && { owesClearing: true as const }) };
    case HealthState.FLAPPING:
      // A critical one is written as critical. When its day ends is not in the store: it is held for a whole one.
      return { state: HealthState.DEGRADED, pinnedUntilMs: atMs + WINDOW_MS };
    default:
      return undefined;
  }
}

interface Answered {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: number;
}

function identityOf({ cluster = '', node = '', uuid = '' }: Answered['metric']): string {
  return `${cluster}\n${node}\n${uuid}`;
}

/** The series of an instant query's answer (Prometheus HTTP API, resultType "vector"). */
function seriesOf(answer: unknown): Answered[] {
  const { status, data } = (answer ?? {}) as { status?: unknown; data?: { result?: unknown } };
  if (status !== 'success' || !Array.isArray(data?.result))
    throw new FleetError(
      'unavailable',
      'Cannot read health from the store: the answer is not one of a query',
    );
  return data.result.flatMap((one: unknown) => {
    const { metric, value } = (one ?? {}) as { metric?: Answered['metric']; value?: [number, string] };
    const number = Number(value?.[1]);
    return typeof metric === 'object' && metric !== null && Number.isFinite(number)
      ? [{ metric, value: number }]
      : [];
  });
}
