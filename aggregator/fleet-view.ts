import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Alert, AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import {
  type DeadLetter as DeadLetterMessage,
  DeadLetterSchema,
  type Gpu,
  GpuSchema,
  type LatestSample,
  LatestSampleSchema,
  type Loss,
  LossSchema,
  type Node,
  NodeSchema,
  NodeState,
  SampleState,
} from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { labelOf } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import type { AlertEngine } from './alerts/alert-engine.ts';
import type { HealthEngine } from './health/health-engine.ts';
import type { DeadLetter, DeadLetters } from './ledger/dead-letters.ts';
import type { Ledger } from './ledger/ledger.ts';
import { type LedgerEntry, sumOfSamples } from './ledger/ledger-entry.ts';
import type { AlertingView } from './query/alerting-view.ts';
import type { FleetView, GpuRow, NodeRow, ReplayQuery, SampleRow } from './query/fleet-view.ts';
import type { HealthView } from './query/health-view.ts';
import {
  gpuOrder,
  type LatestGpu,
  type LatestGroup,
  type LatestNode,
  type LatestTable,
} from './store/latest.ts';

const NODE_STATES = { up: NodeState.UP, stale: NodeState.STALE, down: NodeState.DOWN } as const;
const SAMPLE_STATES: Readonly<Record<SlotState, SampleState>> = {
  [SlotState.Present]: SampleState.PRESENT,
  [SlotState.Absent]: SampleState.ABSENT,
  [SlotState.Quarantined]: SampleState.QUARANTINED,
  [SlotState.Stale]: SampleState.STALE,
  [SlotState.Timeout]: SampleState.TIMEOUT,
  [SlotState.NotSupported]: SampleState.NOT_SUPPORTED,
  [SlotState.NoPermission]: SampleState.NO_PERMISSION,
  [SlotState.GpuLost]: SampleState.GPU_LOST,
  [SlotState.Blank]: SampleState.BLANK,
};

/** How far behind an agent says it is. */
interface NodeStatus {
  /** Unix ms, 0 where there is none. */
  readonly oldestUndurableMs: number;
  readonly pendingSamples: number;
}

/** The aggregator's durable lists, as queries need them. */
export interface FleetLists {
  readonly ledger: Pick<Ledger, 'list'>;
  readonly letters: Pick<DeadLetters, 'list' | 'replay'>;
  /** Keeps the order and tells the connected agents, whose number it returns. */
  readonly replay: (order: ReplayQuery) => Promise<{ readonly id: string; readonly agents: number }>;
  readonly statusOf: (cluster: string, node: string) => NodeStatus | undefined;
}

/** Alerts, and what is done about them. */
export interface AlertAccess {
  readonly engine: AlertEngine;
  readonly view: AlertingView;
  shown(alert: Alert): Alert;
  resolve: FleetView['resolveAlert'];
}

/** Live table, health, alerts and ledger as one answer: the only place where they meet for a query. */
export function createFleetView(
  latest: LatestTable,
  access: AlertAccess,
  health: HealthEngine,
  lists: FleetLists,
  healthView: HealthView,
): FleetView {
  const { engine: alerts } = access;
  // One for each query, which its rows share.
  const answers = (node?: LatestNode): Answers => new Answers(alerts, health, lists, node);
  return {
    health: healthView,
    alerting: access.view,
    nodes() {
      const shared = answers();
      return latest.nodes().map((node) => new NodeOfFleet(node, shared));
    },
    node(name) {
      const node = latest.node(name);
      return node && new NodeOfFleet(node, answers(node));
    },
    gpu(uuid) {
      const gpu = latest.gpu(uuid);
      return gpu && new GpuOfFleet(gpu, answers(gpu.node));
    },
    alerts: () => alerts.alerts(),
    alert: (id) => alerts.get(id),
    shown: (alert) => access.shown(alert),
    resolveAlert: (...order) => access.resolve(...order),
    subscribe: (listener) => alerts.subscribe((alert) => listener(alert)),
    losses({ node, reason, fromMs, toMs }) {
      const entries = lists.ledger.list({
        ...(node !== '' && { node }),
        ...(reason !== '' && { reason }),
        ...(fromMs !== undefined && { fromMs }),
        ...(toMs !== undefined && { toMs }),
      });
      const rows = entries.map((entry) => ({
        key: newestFirst(Number(entry.id)),
        message: () => lossMessage(entry),
      }));
      return { rows, samples: sumOfSamples(entries) };
    },
    replay: (order) => lists.replay(order),
    deadLetters: (node) =>
      lists.letters.list(node === '' ? undefined : node).map((letter) => ({
        key: newestFirst(letter.number),
        message: () => deadLetterMessage(letter),
      })),
    replayDeadLetters: (ids) => lists.letters.replay(ids),
  };
}

/** A key that sorts what was numbered in order with the newest first. */
function newestFirst(number: number): string {
  return String(Number.MAX_SAFE_INTEGER - number).padStart(16, '0');
}

/** What the rows of one query look up elsewhere. Nothing in it waits, so that a query is one moment. */
class Answers {
  readonly #alerts: AlertEngine;
  readonly #health: HealthEngine;
  readonly #lists: FleetLists;
  /** The one node that is asked for, if it is one. */
  readonly #node: string | undefined;
  #firing: ReadonlyMap<string, number> | undefined;

  constructor(alerts: AlertEngine, health: HealthEngine, lists: FleetLists, node: LatestNode | undefined) {
    this.#alerts = alerts;
    this.#health = health;
    this.#lists = lists;
    this.#node = node?.source.node;
  }

  healthOf(gpu: LatestGpu): Gpu['health'] {
    return this.#health.healthOf(healthKey(gpu));
  }

  scoreOf(gpu: LatestGpu): ReturnType<HealthEngine['scoreOf']> {
    return this.#health.scoreOf(healthKey(gpu));
  }

  statusOf({ source }: LatestNode): NodeStatus | undefined {
    return this.#lists.statusOf(source.cluster, source.node);
  }

  /** Alerts that fire on a node, by its key, or on a GPU: counted once for all rows, not once for each. */
  firing(key: string): number {
    this.#firing ??= this.#countFiring();
    return this.#firing.get(key) ?? 0;
  }

  #countFiring(): Map<string, number> {
    const counts = new Map<string, number>();
    const count = (key: string): unknown => counts.set(key, (counts.get(key) ?? 0) + 1);
    for (const { state, cluster, node, gpu, gpuUuid } of this.#alerts.alerts()) {
      if (state !== AlertState.FIRING || (this.#node !== undefined && node !== this.#node)) continue;
      const key = `${cluster}\n${node}`;
      count(key);
      if (gpuUuid !== '' || gpu !== '') count(`${key}\n${gpuUuid || gpu}`);
    }
    return counts;
  }
}

/** Rows are classes and not closures: a page of a fleet of 100,000 GPUs walks over a row of each. */
class NodeOfFleet implements NodeRow {
  readonly #node: LatestNode;
  readonly #answers: Answers;

  constructor(node: LatestNode, answers: Answers) {
    this.#node = node;
    this.#answers = answers;
  }

  get key(): string {
    return nodeKey(this.#node);
  }

  get name(): string {
    return this.#node.source.node;
  }

  get state(): NodeState {
    return NODE_STATES[this.#node.state];
  }

  gpus(): readonly GpuRow[] {
    return this.#node.gpus.map((gpu) => new GpuOfFleet(gpu, this.#answers));
  }

  *samples(): Iterable<SampleRow> {
    for (const group of this.#node.groups) {
      for (let slot = 0; slot < group.dictionary.series.length; slot++)
        yield new SampleOfFleet(this.#node, group, slot);
    }
  }

  message(): Node {
    const scores = this.#node.gpus.flatMap((gpu) => {
      const health = this.#answers.scoreOf(gpu);
      return health && health.state !== HealthState.UNKNOWN ? [health.score] : [];
    });
    return nodeMessage(
      this.#node,
      this.#answers.firing(this.key),
      scores,
      this.#answers.statusOf(this.#node),
    );
  }
}

class GpuOfFleet implements GpuRow {
  readonly #gpu: LatestGpu;
  readonly #answers: Answers;

  constructor(gpu: LatestGpu, answers: Answers) {
    this.#gpu = gpu;
    this.#answers = answers;
  }

  get key(): string {
    return `${nodeKey(this.#gpu.node)}\n${gpuOrder(this.#gpu)}`;
  }

  get node(): string {
    return this.#gpu.node.source.node;
  }

  get index(): string {
    return this.#gpu.gpu;
  }

  get uuid(): string {
    return this.#gpu.uuid;
  }

  get model(): string {
    return this.#gpu.model;
  }

  get healthState(): HealthState {
    return this.#answers.scoreOf(this.#gpu)?.state ?? HealthState.UNKNOWN;
  }

  *samples(): Iterable<LatestSample> {
    for (const { group, slots } of this.#gpu.places)
      for (const slot of slots.slots) yield sampleMessage(this.#gpu.node, group, slot);
  }

  message(): Gpu {
    const gpu = this.#gpu;
    const firing = this.#answers.firing(`${nodeKey(gpu.node)}\n${gpu.uuid || gpu.gpu}`);
    return gpuMessage(gpu, this.#answers.healthOf(gpu), firing);
  }
}

class SampleOfFleet implements SampleRow {
  readonly #node: LatestNode;
  readonly #group: LatestGroup;
  readonly #slot: number;

  constructor(node: LatestNode, group: LatestGroup, slot: number) {
    this.#node = node;
    this.#group = group;
    this.#slot = slot;
  }

  get name(): string {
    return this.#group.dictionary.series[this.#slot]!.name;
  }

  get uuid(): string {
    const { labels } = this.#group.dictionary.series[this.#slot]!;
    // Written large where dcgm-exporter's own names were kept.
    return labelOf(labels, 'uuid') ?? labelOf(labels, 'UUID') ?? '';
  }

  message(): LatestSample {
    return sampleMessage(this.#node, this.#group, this.#slot);
  }
}

function nodeMessage(
  node: LatestNode,
  firingAlerts: number,
  scores: readonly number[],
  status: NodeStatus | undefined,
): Node {
  return create(NodeSchema, {
    cluster: node.source.cluster,
    name: node.source.node,
    state: NODE_STATES[node.state],
    agentVersion: node.peer.agentVersion,
    address: node.peer.address,
    machineId: node.peer.machineId,
    connectedAt: timestampFromMs(node.connectedAtMs),
    ...(node.lastSampleMs > 0 && { lastSampleAt: timestampFromMs(node.lastSampleMs) }),
    clockSkewSeconds: node.peer.clockSkewSeconds,
    gpuCount: node.gpus.length,
    seriesCount: node.groups.reduce((sum, group) => sum + group.dictionary.series.length, 0),
    ...(scores.length > 0 && { minHealthScore: Math.min(...scores) }),
    firingAlerts,
    labels: Object.fromEntries(node.source.externalLabels),
    ...(status && { pendingSamples: BigInt(Math.round(status.pendingSamples)) }),
    ...(status &&
      status.oldestUndurableMs > 0 && { oldestUndurableAt: timestampFromMs(status.oldestUndurableMs) }),
  });
}

function lossMessage({ fromMs, toMs, samples, recordedAtMs, ...entry }: LedgerEntry): Loss {
  const { id, cluster, node, reason, estimated, detail } = entry;
  return create(LossSchema, {
    ...{ id, cluster, node, reason, estimated, detail },
    from: timestampFromMs(fromMs),
    to: timestampFromMs(toMs),
    samples: BigInt(samples),
    recordedAt: timestampFromMs(recordedAtMs),
  });
}

function deadLetterMessage({
  fromMs,
  toMs,
  samples,
  recordedAtMs,
  ...letter
}: DeadLetter): DeadLetterMessage {
  const { id, cluster, node, series, status, answer } = letter;
  return create(DeadLetterSchema, {
    ...{ id, cluster, node, series, status, answer },
    from: timestampFromMs(fromMs),
    to: timestampFromMs(toMs),
    samples: BigInt(samples),
    recordedAt: timestampFromMs(recordedAtMs),
  });
}

function gpuMessage(gpu: LatestGpu, health: Gpu['health'], firingAlerts: number): Gpu {
  const newest = Math.max(...gpu.places.map(({ group }) => group.timestampMs));
  return create(GpuSchema, {
    cluster: gpu.node.source.cluster,
    node: gpu.node.source.node,
    index: gpu.gpu,
    uuid: gpu.uuid,
    model: gpu.model,
    ...(health && { health }),
    lastSampleAt: timestampFromMs(newest),
    firingAlerts,
    ...headline(gpu),
    labels: { ...Object.fromEntries(gpu.node.source.externalLabels), ...Object.fromEntries(gpu.labels) },
  });
}

type Headline =
  | 'temperatureCelsius'
  | 'powerWatts'
  | 'powerLimitWatts'
  | 'utilizationRatio'
  | 'memoryUsedBytes'
  | 'memoryTotalBytes';

/** Which series each headline value is: name, and the label that tells it from its siblings. */
const HEADLINES: Readonly<Record<string, readonly [field: Headline, label?: string, value?: string]>> = {
  gpu_temperature_celsius: ['temperatureCelsius', 'sensor', 'core'],
  gpu_power_watts: ['powerWatts'],
  gpu_power_limit_watts: ['powerLimitWatts', 'limit', 'enforced'],
  gpu_utilization_ratio: ['utilizationRatio', 'task', 'general'],
  gpu_memory_used_bytes: ['memoryUsedBytes'],
  gpu_memory_total_bytes: ['memoryTotalBytes'],
};

function headline(gpu: LatestGpu): Partial<Record<Headline, number>> {
  const found: Partial<Record<Headline, number>> = {};
  for (const { group, slots } of gpu.places) {
    for (const slot of slots.slots) {
      const { name, labels } = group.dictionary.series[slot]!;
      const [field, label, value] = HEADLINES[name] ?? [];
      if (field === undefined || group.states[slot] !== SlotState.Present) continue;
      // A MIG instance's share is not the GPU's figure.
      if (
        labelOf(labels, 'mig_id') !== undefined ||
        (label !== undefined && labelOf(labels, label) !== value)
      )
        continue;
      found[field] ??= group.values[slot]!;
    }
  }
  return found;
}

function sampleMessage({ source }: LatestNode, group: LatestGroup, slot: number): LatestSample {
  const { name, labels } = group.dictionary.series[slot]!;
  const present = group.states[slot] === SlotState.Present;
  return create(LatestSampleSchema, {
    name,
    labels: {
      ...Object.fromEntries(source.externalLabels),
      cluster: source.cluster,
      node: source.node,
      ...Object.fromEntries(labels),
    },
    value: present ? group.values[slot]! : 0,
    time: timestampFromMs(group.timestampMs),
    state: SAMPLE_STATES[group.states[slot] as SlotState] ?? SampleState.UNSPECIFIED,
  });
}

function healthKey({ uuid, gpu, node: { source } }: LatestGpu): string {
  return uuid || `${source.cluster}/${source.node}/${gpu}`;
}

function nodeKey({ source }: LatestNode): string {
  return `${source.cluster}\n${source.node}`;
}
