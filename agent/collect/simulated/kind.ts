import type { SourceKind } from '../source-kind.ts';
import { createSimulatedCollector } from './collector.ts';
import type { SimulatedSettings } from './settings.ts';

export const kind: SourceKind<SimulatedSettings> = {
  async detect({ gpus, model }) {
    return { found: true, what: `a simulated node with ${gpus} x ${model}` };
  },
  create(settings, { node, intervalMs, clock }) {
    const { gpus, model, seed, faults, fault_rate } = settings;
    return [
      createSimulatedCollector({
        node,
        gpus,
        model,
        seed,
        intervalMs,
        clock,
        faults,
        faultRate: fault_rate,
      }),
    ];
  },
};
