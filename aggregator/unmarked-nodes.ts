import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import type { Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { type GpuScore, type HealthEngine, healthStateName } from './health/health-engine.ts';
import type { OperatorStates } from './health/states/operator-state.ts';

export interface UnmarkedNodesOptions {
  readonly operators: OperatorStates;
  readonly health: HealthEngine;
  readonly clock: Clock;
}

const ILL: readonly HealthState[] = [HealthState.DEGRADED, HealthState.CRITICAL, HealthState.FLAPPING];

/**
 * Nodes whose mark (drained, maintenance) is over: what happened to a GPU meanwhile woke nobody, and where it is still
 * so, somebody is to know now. Marks that end while the aggregator is down are not seen to end.
 */
export class UnmarkedNodes {
  readonly #options: UnmarkedNodesOptions;
  /** Those that were marked so at the last look; as many as there are marks. */
  #marked: ReadonlySet<string> = new Set();

  constructor(options: UnmarkedNodesOptions) {
    this.#options = options;
  }

  /** One event for each GPU that is not well on a node that is marked no more. To be called about once a second. */
  *look(): Iterable<readonly [Source, FleetEvent]> {
    const { operators, health, clock } = this.#options;
    const before = this.#marked;
    this.#marked = new Set(
      operators
        .list()
        .filter((node) => operators.suppresses(node))
        .map(keyOf),
    );
    const over = new Set([...before].filter((key) => !this.#marked.has(key)));
    if (over.size === 0) return;
    for (const gpu of health.scores())
      if (over.has(keyOf(gpu.source)) && ILL.includes(gpu.state))
        yield [gpu.source, stillEvent(gpu, clock.now())];
  }
}

/** `health_state` without a `from`: nothing changed but that it is told. */
function stillEvent({ gpu, uuid, state, score }: GpuScore, timestampMs: number): FleetEvent {
  const to = healthStateName(state);
  const text = `GPU ${gpu} is ${to}, as it was while its node was marked`;
  const attributes = { to, cause: 'unmarked', score: score.toFixed(1) };
  return { type: 'health_state', timestampMs, gpu, gpuUuid: uuid, text, attributes };
}

function keyOf({ cluster, node }: Pick<Source, 'cluster' | 'node'>): string {
  return `${cluster}\n${node}`;
}
