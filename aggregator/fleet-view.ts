import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { AlertState } from '#proto/gpufleet/alert/v1alpha1/alert_pb.ts';
import {
  type Gpu,
  GpuSchema,
  type LatestSample,
  LatestSampleSchema,
  type Node,
  NodeSchema,
  NodeState,
  SampleState,
} from '#proto/gpufleet/fleet/v1alpha1/fleet_pb.ts';
import { HealthState } from '#proto/gpufleet/health/v1alpha1/health_pb.ts';
import type { Clock } from '#shared/model/clock.ts';
import { labelOf } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import type { AlertEngine } from './alerts/alert-engine.ts';
import type { HealthEngine } from './health/health-engine.ts';
import type { FleetView, GpuRow, NodeRow, SampleRow } from './query/fleet-view.ts';
import {
  gpuOrder,
  type LatestGpu,
  type LatestGroup,
  type LatestNode,
  type LatestTable,
} from './store/latest.ts';

const NODE_STATES = { up: NodeState.UP, stale: NodeState.STALE, down: NodeState.DOWN } as const;
const SAMPLE_STATES = [
  SampleState.PRESENT,
  SampleState.ABSENT,
  SampleState.QUARANTINED,
  SampleState.STALE,
  SampleState.TIMEOUT,
];

/** Live table, health and alerts as one answer: the only place where they meet for a query. */
export function createFleetView(
  latest: LatestTable,
  alerts: AlertEngine,
  health: HealthEngine,
  clock: Clock,
): FleetView {
  const firing = (matches: { node: string; uuid?: string }): number => {
    let count = 0;
    for (const alert of alerts.alerts()) {
      if (alert.state !== AlertState.FIRING || alert.node !== matches.node) continue;
      if (matches.uuid === undefined || alert.gpuUuid === matches.uuid) count++;
    }
    return count;
  };
  const healthOf = (gpu: LatestGpu) =>
    health.healthOf(gpu.uuid || `${gpu.node.source.cluster}/${gpu.node.source.node}/${gpu.gpu}`);

  const gpuRow = (gpu: LatestGpu): GpuRow => ({
    key: `${nodeKey(gpu.node)}\n${gpuOrder(gpu)}`,
    node: gpu.node.source.node,
    index: gpu.gpu,
    uuid: gpu.uuid,
    model: gpu.model,
    get healthState() {
      return healthOf(gpu)?.state ?? HealthState.UNKNOWN;
    },
    samples: () => gpuSamples(gpu),
    message: () => gpuMessage(gpu, healthOf(gpu), firing({ node: gpu.node.source.node, uuid: gpu.uuid })),
  });
  const nodeRow = (node: LatestNode): NodeRow => ({
    key: nodeKey(node),
    name: node.source.node,
    state: NODE_STATES[node.state],
    gpus: () => node.gpus.map(gpuRow),
    samples: () => nodeSamples(node),
    message: () => nodeMessage(node, firing({ node: node.source.node }), node.gpus.map(healthOf)),
  });
  return {
    nodes: () => latest.nodes().map(nodeRow),
    node(name) {
      const node = latest.node(name);
      return node && nodeRow(node);
    },
    gpu(uuid) {
      const gpu = latest.gpu(uuid);
      return gpu && gpuRow(gpu);
    },
    alerts: () => alerts.alerts(),
    alert: (id) => alerts.get(id),
    resolveAlert: (id, comment) => alerts.resolve(id, comment, clock.now()),
    subscribe: (listener) => alerts.subscribe((alert) => listener(alert)),
  };
}

function nodeMessage(
  node: LatestNode,
  firingAlerts: number,
  health: readonly (Gpu['health'] | undefined)[],
): Node {
  const scores = health.flatMap((one) => (one && one.state !== HealthState.UNKNOWN ? [one.score] : []));
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

function* nodeSamples(node: LatestNode): Iterable<SampleRow> {
  for (const group of node.groups) {
    for (const [slot, { name, labels }] of group.dictionary.series.entries()) {
      yield {
        name,
        uuid: labelOf(labels, 'uuid') ?? '',
        message: () => sampleMessage(node, group, slot),
      };
    }
  }
}

function* gpuSamples(gpu: LatestGpu): Iterable<LatestSample> {
  for (const { group, slots } of gpu.places)
    for (const slot of slots.slots) yield sampleMessage(gpu.node, group, slot);
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
    state: SAMPLE_STATES[group.states[slot]!] ?? SampleState.UNSPECIFIED,
  });
}

function nodeKey({ source }: LatestNode): string {
  return `${source.cluster}\n${source.node}`;
}
