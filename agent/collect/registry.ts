import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Collector } from './collector.ts';
import type { CollectorSettings } from './collector-settings.ts';
import { createDcgmExporterCollector } from './nvidia/dcgm-exporter.ts';
import { createSimulatedCollector } from './simulated/simulated.ts';

/** Small facts that a collector keeps across restarts of the agent. */
export interface Facts {
  get(name: string): string | undefined;
  set(name: string, value: string): void;
}

interface Surroundings {
  readonly settings: CollectorSettings;
  /** Where a collector does not set its own. */
  readonly intervalMs: number;
  readonly node: string;
  readonly facts: Facts;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The one list of collectors: what is configured is made, in this order. */
export function createCollectors({
  settings,
  intervalMs,
  node,
  facts,
  clock,
  logger,
}: Surroundings): Collector[] {
  const made: Collector[] = [];
  if (settings.dcgm_exporter) {
    const { url, naming, interval: own, timeout, max_body_bytes } = settings.dcgm_exporter;
    made.push(
      createDcgmExporterCollector({
        url,
        naming,
        intervalMs: own ?? intervalMs,
        timeoutMs: timeout,
        maxBodyBytes: max_body_bytes,
        clock,
        logger,
        lastXids: {
          get: (uuid) => numberOf(facts.get(`xid/${uuid}`)),
          set: (uuid, code) => facts.set(`xid/${uuid}`, String(code)),
        },
      }),
    );
  }
  if (settings.simulated) {
    const { gpus, model, seed, faults, fault_rate } = settings.simulated;
    made.push(
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
    );
  }
  return made;
}

function numberOf(text: string | undefined): number | undefined {
  const number = Number(text);
  return text === undefined || !Number.isFinite(number) ? undefined : number;
}
