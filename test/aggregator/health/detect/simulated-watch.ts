import { createSimulatedCollector } from '../../../../agent/collect/simulated/collector.ts';
import type { ScriptedFault } from '../../../../agent/collect/simulated/faults.ts';
import type { LoadPattern } from '../../../../agent/collect/simulated/workload.ts';
import type { Anomaly } from '../../../../aggregator/health/detect/anomaly.ts';
import { DetectionEngine } from '../../../../aggregator/health/detect/detection-engine.ts';
import type { DetectionSettings } from '../../../../aggregator/health/detect/detection-settings.ts';
import { createRegistry } from '../../../../shared/instruments/registry.ts';
import type { Block, Source } from '../../../../shared/model/block.ts';
import { ManualClock } from '../../alerts/block-of.ts';

export const NODE: Source = { cluster: 'c', node: 'n', externalLabels: [] };
export const INTERVAL_MS = 30_000;

export interface WatchOptions {
  readonly hours: number;
  readonly faults?: readonly ScriptedFault[];
  readonly load?: LoadPattern;
  readonly settings?: DetectionSettings;
  /** Changes what the engine is shown; `hour` since the first read. */
  readonly show?: (block: Block, hour: number) => Block;
  /** Events are kept from the engine. */
  readonly silent?: boolean;
}

/** A simulated node of four H100, read every 30 s and shown to an engine; gives every incident that began. */
export async function watchSimulated({
  hours,
  faults = [],
  load = 'jobs',
  settings,
  show,
  silent,
}: WatchOptions) {
  const clock = new ManualClock();
  const registry = createRegistry();
  const engine = new DetectionEngine({ clock, registry, ...(settings && { settings }) });
  const incidents = new Map<string, Anomaly>();
  engine.subscribe((anomaly) => void incidents.set(anomaly.id, anomaly));
  await using simulated = createSimulatedCollector({
    node: 'n',
    gpus: 4,
    seed: 3,
    intervalMs: INTERVAL_MS,
    clock,
    load,
    faults,
  });
  for (let tick = 0; tick < (hours * 3_600_000) / INTERVAL_MS; tick++) {
    const { events, dictionary, timestampMs, values, states } = await simulated.collect(AbortSignal.abort());
    if (!silent) for (const event of events) engine.event(NODE, event);
    const block: Block = { source: NODE, live: true, dictionary, timestampMs, values, states };
    engine.evaluate(show?.(block, (tick * INTERVAL_MS) / 3_600_000) ?? block);
    clock.ms += INTERVAL_MS;
    engine.advance(clock.ms);
  }
  return { engine, clock, registry, incidents: [...incidents.values()] };
}
