import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { AgentConfig } from '../config.ts';
import type { Collector } from './collector.ts';
import { createDcgmExporterCollector } from './nvidia/dcgm-exporter.ts';
import { createSimulatedCollector } from './simulated/simulated.ts';

/** Small facts that a collector keeps across restarts of the agent. */
export interface Facts {
  get(name: string): string | undefined;
  set(name: string, value: string): void;
}

interface Surroundings {
  readonly config: AgentConfig;
  readonly node: string;
  readonly facts: Facts;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The one list of collectors: what is configured is made, in this order. */
export function createCollectors({ config, node, facts, clock, logger }: Surroundings): Collector[] {
  const { collectors, collection_interval: interval } = config;
  const made: Collector[] = [];
  if (collectors.dcgm_exporter) {
    const { url, naming, interval: own, timeout, max_body_bytes } = collectors.dcgm_exporter;
    made.push(
      createDcgmExporterCollector({
        url,
        naming,
        intervalMs: own ?? interval,
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
  if (collectors.simulated) {
    const { gpus, model, seed, faults, fault_rate } = collectors.simulated;
    made.push(
      createSimulatedCollector({
        node,
        gpus,
        model,
        seed,
        intervalMs: interval,
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
