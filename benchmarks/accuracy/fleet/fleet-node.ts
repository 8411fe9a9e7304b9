import {
  createSimulatedCollector,
  type SimulatedCollector,
} from '../../../agent/collect/simulated/collector.ts';
import type { Block, Source } from '../../../shared/model/block.ts';
import type { Clock } from '../../../shared/model/clock.ts';
import type { FleetEvent } from '../../../shared/model/event.ts';
import { GPUS_PER_NODE, INTERVAL_MS, type PlannedNode } from './fleet-plan.ts';

/**
 * Three steps of the physics for each read: work changes within seconds, but reads are half a minute apart. A third of
 * the time that steps of a second take.
 */
const STEP_SECONDS = 10;
/** A read that is stuck is given up at once. */
const GIVEN_UP = AbortSignal.abort();

/** A simulated node, read as the aggregator would get it. */
export class FleetNode {
  readonly plan: PlannedNode;
  readonly source: Source;
  /** By GPU index. */
  readonly uuids: readonly string[];
  readonly #collector: SimulatedCollector;

  constructor(plan: PlannedNode, seed: number, clock: Clock) {
    this.plan = plan;
    this.source = { cluster: 'simulated', node: plan.name, externalLabels: [] };
    this.#collector = createSimulatedCollector({
      node: plan.name,
      gpus: GPUS_PER_NODE,
      model: plan.model,
      load: plan.load,
      seed,
      intervalMs: INTERVAL_MS,
      clock,
      faults: plan.script,
      stepSeconds: STEP_SECONDS,
    });
    this.uuids = this.#collector.machine.boards.map(({ uuid }) => uuid);
  }

  async read(): Promise<{ readonly block: Block; readonly events: readonly FleetEvent[] }> {
    const { dictionary, timestampMs, values, states, events } = await this.#collector.collect(GIVEN_UP);
    return { block: { source: this.source, dictionary, timestampMs, values, states, live: true }, events };
  }
}
