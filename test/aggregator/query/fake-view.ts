import { create } from '@bufbuild/protobuf';
import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import {
  type Alert,
  AlertSchema,
  AlertState,
  Resolution,
  Severity,
} from '#proto/gpufleet/alert/v1/alert_pb.ts';
import {
  type DeadLetter,
  DeadLetterSchema,
  GpuSchema,
  type LatestSample,
  LatestSampleSchema,
  type Loss,
  LossSchema,
  NodeSchema,
  NodeState,
  SampleState,
} from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { createRegistry, type Registry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { ApiServer, type ApiServerOptions } from '../../../aggregator/query/api-server.ts';
import type {
  FleetView,
  GpuRow,
  ListRow,
  LossQuery,
  NodeRow,
  ReplayQuery,
} from '../../../aggregator/query/fleet-view.ts';
import { FakeAlerting } from './fake-alerting.ts';
import { FakeHealth } from './fake-health.ts';

/** Nodes of two GPUs with two series each, and alerts that a test puts in. */
export class FakeView implements FleetView {
  readonly health = new FakeHealth();
  readonly alerting = new FakeAlerting();
  readonly names: readonly string[];
  readonly table = new Map<string, Alert>();
  readonly listeners = new Set<(alert: Alert) => void>();

  constructor(names: readonly string[] = ['node-1', 'node-2', 'rack/7 ü']) {
    this.names = [...names].sort();
  }

  nodes(): readonly NodeRow[] {
    return this.names.map(nodeRow);
  }

  node(name: string): NodeRow | undefined {
    return this.names.includes(name) ? nodeRow(name) : undefined;
  }

  gpu(uuid: string): GpuRow | undefined {
    return this.nodes()
      .flatMap((row) => row.gpus())
      .find((gpu) => gpu.uuid === uuid);
  }

  alerts(): Iterable<Alert> {
    return this.table.values();
  }

  alert(id: string): Alert | undefined {
    return this.table.get(id);
  }

  shown(alert: Alert): Alert {
    return { ...alert, silencedBy: [...alert.silencedBy, ...this.silenced] };
  }

  /** Ids of silences that cover every alert. */
  silenced: readonly string[] = [];

  /** The comment decides: "still hot" keeps the alert suppressed. */
  async resolveAlert(id: string, comment: string): ReturnType<FleetView['resolveAlert']> {
    const alert = this.table.get(id);
    if (!alert) return 'not_found';
    if (alert.state !== AlertState.FIRING) return 'not_active';
    const suppressed = comment === 'still hot';
    this.change({
      ...alert,
      state: AlertState.RESOLVED,
      resolution: Resolution.OPERATOR,
      suppressed,
      summary: comment,
    });
    return suppressed ? 'suppressed' : 'resolved';
  }

  subscribe(listener: (alert: Alert) => void): Disposable {
    this.listeners.add(listener);
    return { [Symbol.dispose]: () => void this.listeners.delete(listener) };
  }

  /** Oldest first, as they were put in. */
  readonly lossList: Loss[] = [];
  readonly letterList: DeadLetter[] = [];
  readonly replays: ReplayQuery[] = [];
  readonly replayedLetters: (readonly string[])[] = [];

  losses({ node, reason, fromMs, toMs }: LossQuery): ReturnType<FleetView['losses']> {
    const found = this.lossList.filter(
      (loss) =>
        (node === '' || loss.node === node) &&
        (reason === '' || loss.reason === reason) &&
        (fromMs === undefined || timestampMs(loss.to!) >= fromMs) &&
        (toMs === undefined || timestampMs(loss.from!) <= toMs),
    );
    return {
      rows: newestFirst(found),
      samples: Number(found.reduce((sum, { samples }) => sum + samples, 0n)),
    };
  }

  async replay(order: ReplayQuery): ReturnType<FleetView['replay']> {
    this.replays.push(order);
    return { id: `replay-${this.replays.length}`, agents: 2 };
  }

  deadLetters(node: string): readonly ListRow<DeadLetter>[] {
    return newestFirst(this.letterList.filter((letter) => node === '' || letter.node === node));
  }

  /** Takes those of which the id is even. */
  async replayDeadLetters(ids: readonly string[]): ReturnType<FleetView['replayDeadLetters']> {
    this.replayedLetters.push(ids);
    const wanted = this.letterList.filter(({ id }) => ids.length === 0 || ids.includes(id));
    if (wanted.length < ids.length)
      throw new FleetError('not_found', 'Cannot replay dead letter: there is no such letter');
    const accepted = wanted.filter(({ id }) => Number(id) % 2 === 0).length;
    return { accepted, refused: wanted.length - accepted };
  }

  /** Keeps an alert and tells the watchers. */
  change(alert: Alert): void {
    this.table.set(alert.id, alert);
    for (const listener of this.listeners) listener(alert);
  }
}

export function alertOf(id: string, fields: Partial<Omit<Alert, '$typeName'>> = {}): Alert {
  return create(AlertSchema, {
    id,
    rule: 'gpu_hot',
    node: 'node-1',
    state: AlertState.FIRING,
    severity: Severity.WARNING,
    ...fields,
  });
}

export function lossOf(id: string, fields: Partial<Omit<Loss, '$typeName'>> = {}): Loss {
  return create(LossSchema, {
    ...{ id, cluster: 'test', node: 'node-1', reason: 'trimmed', samples: 10n, detail: 'aged out' },
    ...{ from: timestampFromMs(1_000), to: timestampFromMs(2_000), recordedAt: timestampFromMs(3_000) },
    ...fields,
  });
}

export function letterOf(id: string, fields: Partial<Omit<DeadLetter, '$typeName'>> = {}): DeadLetter {
  return create(DeadLetterSchema, {
    ...{ id, cluster: 'test', node: 'node-1', series: 'a{b="c"}', samples: 1n, status: 400, answer: 'bad' },
    ...{ from: timestampFromMs(1_000), to: timestampFromMs(1_000), recordedAt: timestampFromMs(3_000) },
    ...fields,
  });
}

function newestFirst<Message>(messages: readonly Message[]): ListRow<Message>[] {
  return messages.map((message, index) => ({ key: String(9_999 - index), message: () => message })).reverse();
}

/** The API over a view on a free port of loopback; whatever a test does not name asks for nothing. */
export async function startApi(
  options: Partial<ApiServerOptions> = {},
): Promise<
  { api: ApiServer; url: string; port: number; registry: Registry; view: FleetView } & AsyncDisposable
> {
  const registry = options.registry ?? createRegistry();
  const view = options.view ?? new FakeView();
  const api = await ApiServer.listen({
    listen: { host: '127.0.0.1', port: 0 },
    tls: undefined,
    access: { check: undefined, anonymousRead: false },
    guard: { allowedHosts: [], allowedOrigins: [] },
    notes: () => [],
    logger: silentLogger,
    ...options,
    registry,
    view,
  });
  const { port } = api.address;
  return {
    api,
    port,
    url: `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}`,
    registry,
    view,
    [Symbol.asyncDispose]: () => api[Symbol.asyncDispose](),
  };
}

function nodeRow(name: string): NodeRow {
  const gpus = ['0', '1'].map((index) => gpuRow(name, index));
  return {
    key: `test\n${name}`,
    name,
    state: name === 'node-2' ? NodeState.DOWN : NodeState.UP,
    gpus: () => gpus,
    *samples() {
      for (const { uuid, samples } of gpus) {
        for (const sample of samples()) yield { name: sample.name, uuid, message: () => sample };
      }
    },
    message: () => create(NodeSchema, { cluster: 'test', name, gpuCount: gpus.length, state: NodeState.UP }),
  };
}

function gpuRow(node: string, index: string): GpuRow {
  const uuid = `GPU-${node}-${index}`;
  const sample = (name: string, value: number): LatestSample =>
    create(LatestSampleSchema, {
      name,
      value,
      labels: { node, gpu: index, uuid },
      state: SampleState.PRESENT,
    });
  return {
    key: `test\n${node}\n${index}`,
    node,
    index,
    uuid,
    model: index === '0' ? 'NVIDIA H100' : 'NVIDIA A100',
    healthState: HealthState.UNKNOWN,
    samples: () => [sample('gpu_power_watts', 100 + Number(index)), sample('gpu_temperature_celsius', 40)],
    message: () => create(GpuSchema, { cluster: 'test', node, index, uuid }),
  };
}
