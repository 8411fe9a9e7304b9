import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Collector } from '../collector.ts';
import type { SourceKind, Surroundings } from '../source-kind.ts';
import { createSimulatedCollector, type SimulatedCollector } from './collector.ts';
import { DcgmPage } from './dcgm-page.ts';
import { servePage } from './page-server.ts';
import type { SimulatedSettings } from './settings.ts';
import { createTrainingCollector } from './training-collector.ts';

export const kind: SourceKind<SimulatedSettings> = {
  async detect({ gpus, model }) {
    return { found: true, what: `a simulated node with ${gpus} x ${model}` };
  },
  create(settings, surroundings) {
    const { gpus, model, seed, faults, fault_rate, load, training } = settings;
    const { node, intervalMs, clock } = surroundings;
    const collector = createSimulatedCollector({
      node,
      gpus,
      model,
      seed,
      intervalMs,
      clock,
      faults,
      faultRate: fault_rate,
      load,
    });
    serve(collector, settings, surroundings);
    const collectors: Collector[] = [collector];
    // After the GPUs: both are read at the same moment, and the GPUs' read moves the node's time.
    if (training) collectors.push(createTrainingCollector({ machine: collector.machine, intervalMs, clock }));
    return collectors;
  },
};

/** Where an address is set. Throws `invalid_config` for boards that dcgm-exporter does not read. */
function serve(
  collector: SimulatedCollector,
  { serve: address, model }: SimulatedSettings,
  { node, logger }: Surroundings,
): void {
  if (!address) return;
  if (collector.machine.profile.vendor !== 'nvidia') {
    throw new FleetError('invalid_config', `Cannot serve ${model} as dcgm-exporter does: it reads NVIDIA's`);
  }
  const page = new DcgmPage(collector);
  collector.use(servePage(address, node, async () => page.render(), logger));
}
