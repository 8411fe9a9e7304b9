import { describeError } from '#shared/errors/fleet-error.ts';
import { type Counter, counter, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';

export interface StageFaultsOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
}

/** One line for each part in so long: what fails with one tick fails with the next. */
const LOG_EVERY_MS = 60_000;

/**
 * Where a fault of this product ends that would otherwise cost a sample its way to alerts and the store, or the process
 * its life: counted each time, logged once a minute. `part` is one of a few, named by the caller.
 */
export class StageFaults {
  readonly #options: StageFaultsOptions;
  readonly #count: Counter<'part'>;
  readonly #loggedAt = new Map<string, number>();

  constructor(options: StageFaultsOptions) {
    this.#options = options;
    this.#count = counter(options.registry, {
      name: 'gpufleet_health_faults_total',
      help: 'Faults inside health that were kept from samples, alerts and the store, by part; each is a bug.',
      labelNames: ['part'],
    });
  }

  note(part: string, error: unknown): void {
    const { clock, logger } = this.#options;
    this.#count.inc({ part });
    const now = clock.monotonic();
    if (now - (this.#loggedAt.get(part) ?? Number.NEGATIVE_INFINITY) < LOG_EVERY_MS) return;
    this.#loggedAt.set(part, now);
    logger.error({ part, cause: describeError(error) }, 'health failed, and goes on');
  }
}
