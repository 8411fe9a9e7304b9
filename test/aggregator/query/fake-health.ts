import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type GpuHealth, GpuHealthSchema, HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import {
  type Anomaly,
  AnomalySchema,
  HealthScope,
  HealthTransitionSchema,
  type InjectAnomalyRequest,
  type NodeMark,
  NodeMarkSchema,
  type Pattern,
  PatternSchema,
  RejectedSampleSchema,
  ScopeHealthSchema,
} from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type {
  AnomalyQuery,
  HealthView,
  MarkOrder,
  TransitionQuery,
} from '../../../aggregator/query/health-view.ts';

/** One of each on node-1; what is written can be read back, and `calls` says what was asked. */
export class FakeHealth implements HealthView {
  readonly calls: unknown[] = [];
  readonly #marks = new Map<string, NodeMark>();

  scope(scope: HealthScope, name: string): ReturnType<HealthView['scope']> {
    if (scope === HealthScope.NODE && name !== 'node-1') return undefined;
    const health = create(ScopeHealthSchema, {
      scope,
      name,
      score: 62.5,
      gpuCount: 8,
      healthy: 7,
      critical: 1,
    });
    return { health, parts: [] };
  }

  async transitions(filter: TransitionQuery, size: number, cursor: string) {
    this.calls.push({ transitions: filter, size, cursor });
    const transition = create(HealthTransitionSchema, {
      ...{ cluster: 'c', node: 'node-1', gpu: '0', uuid: 'GPU-1', model: 'H100', cause: 'cap' },
      ...{ from: HealthState.HEALTHY, to: HealthState.CRITICAL, time: timestampFromMs(1_767_225_600_000) },
      ...{ why: 'Xid 79: fallen off the bus', score: 10 },
    });
    return { transitions: [transition], next: cursor === '' ? '7' : '' };
  }

  anomalies({ includeEnded }: AnomalyQuery) {
    const ids = includeEnded ? ['a1', 'a2'] : ['a1'];
    return ids.map((id) => ({
      key: id,
      message: (): Anomaly =>
        create(AnomalySchema, {
          ...{
            id,
            cluster: 'c',
            node: 'node-1',
            gpu: '0',
            uuid: 'GPU-1',
            strength: 2.5,
            text: 'unlike its peers',
          },
          startedAt: timestampFromMs(1_767_225_600_000),
          ...(id === 'a2' && { endedAt: timestampFromMs(1_767_225_700_000) }),
          contributions: [{ detector: 'peer', signal: 'gpu_temperature_celsius', value: 80, strength: 2.5 }],
        }),
    }));
  }

  patterns(kind: string): readonly Pattern[] {
    const pattern = create(PatternSchema, {
      ...{ id: 'p1', kind: 'lemon', scope: 'node', subjects: ['c/node-1'], confidence: 0.9 },
      ...{ sentence: 'node-1 failed three times within 28 days', since: timestampFromMs(1_767_225_600_000) },
    });
    return kind === '' || kind === 'lemon' ? [pattern] : [];
  }

  rejected(node: string) {
    this.calls.push({ rejected: node });
    const sample = create(RejectedSampleSchema, {
      ...{ cluster: 'c', node: 'node-1', group: 'dcgm-exporter', metric: 'gpu_temperature_celsius' },
      ...{ labels: { gpu: '0' }, value: 4e9, reason: 'out_of_range', count: 1 },
    });
    return { samples: [sample], totals: { out_of_range: 12 } };
  }

  marks(): readonly NodeMark[] {
    return [...this.#marks.values()];
  }

  async mark({ node, mark, why, by, untilMs }: MarkOrder): Promise<NodeMark> {
    if (node !== 'node-1') throw new FleetError('not_found', `Cannot mark node "${node}": it was not seen`);
    const made = create(NodeMarkSchema, {
      ...{ cluster: 'c', node, mark, why, by },
      ...(untilMs !== undefined && { until: timestampFromMs(untilMs) }),
    });
    this.#marks.set(node, made);
    return made;
  }

  async unmark(node: string, why: string, by: string): Promise<void> {
    this.calls.push({ unmark: node, why, by });
    if (!this.#marks.delete(node))
      throw new FleetError('not_found', `Cannot unmark node "${node}": it has no mark`);
  }

  clear(uuid: string, cause: string, why: string, by: string): GpuHealth {
    this.calls.push({ clear: uuid, cause, why, by });
    if (uuid !== 'GPU-1') throw new FleetError('not_found', `Cannot clear GPU ${uuid}: it was not seen`);
    return create(GpuHealthSchema, { score: 95, state: HealthState.DEGRADED });
  }

  inject(order: InjectAnomalyRequest, by: string): Anomaly {
    const { uuid, node, gpu, metric, strength, seconds } = order;
    this.calls.push({ inject: uuid || `${node}/${gpu}`, metric, strength, seconds, by });
    return create(AnomalySchema, { id: 't1', uuid, node, gpu, test: true, text: 'TEST' });
  }
}
