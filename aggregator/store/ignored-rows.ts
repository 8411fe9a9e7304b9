import { describeError } from '#shared/errors/fleet-error.ts';
import { counter, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Loss } from '#shared/model/loss.ts';
import type { StoreFacts } from './store-watch.ts';

/** Rows that are not in the store although it took them; cluster and node are empty: it does not say whose. */
export interface StoreLoss extends Loss {
  readonly cluster: '';
  readonly node: '';
  readonly reason: 'store_ignored';
}

export interface IgnoredRowsOptions {
  readonly clock: Clock;
  readonly onLoss: (loss: StoreLoss) => Promise<void> | void;
  readonly logger: Logger;
  readonly registry: Registry;
}

/**
 * Rows that the store answered 2xx for and dropped. Admission keeps away what it would drop (too old, too far
 * ahead, not a number), so none of ours is expected among them: a rise is a loss. Whose it was the store does not
 * say, and another writer's row counts too: the loss has no node and is an estimate.
 */
export class IgnoredRows {
  readonly #options: IgnoredRowsOptions;
  readonly #total;
  #epoch: bigint | undefined;
  #accounted: ReadonlyMap<string, number> = new Map();
  /** Wall clock of the last look. */
  #since = 0;
  #busy = false;

  constructor(options: IgnoredRowsOptions) {
    this.#options = options;
    this.#total = counter(options.registry, {
      name: 'gpufleet_store_ignored_rows_total',
      help: 'Rows that the store answered 2xx for and dropped while this process watched, by its reason.',
      labelNames: ['reason'],
    });
  }

  async observe({ epoch, ignored }: StoreFacts): Promise<void> {
    const now = this.#options.clock.now();
    if (this.#busy) return;
    if (this.#epoch !== epoch) {
      // What was dropped before the first look is nothing that this process can account for.
      this.#accounted = this.#epoch === undefined ? ignored : new Map();
      this.#epoch = epoch;
    }
    const rises = [...ignored]
      .map(([reason, rows]) => [reason, rows - (this.#accounted.get(reason) ?? 0)] as const)
      .filter(([, rows]) => rows > 0);
    if (rises.length > 0) {
      this.#busy = true;
      const done = await this.#report(rises, this.#since || now, now);
      this.#busy = false;
      // Where it could not be written down, it is reported at the next look, together with what came since.
      if (!done) return;
      this.#accounted = ignored;
    }
    this.#since = now;
  }

  async #report(
    rises: readonly (readonly [string, number])[],
    fromMs: number,
    toMs: number,
  ): Promise<boolean> {
    const { logger, onLoss } = this.#options;
    const words = rises.map(([reason, rows]) => `${rows} ${reason}`).join(', ');
    try {
      await onLoss({
        cluster: '',
        node: '',
        fromMs,
        toMs,
        samples: rises.reduce((sum, [, rows]) => sum + rows, 0),
        reason: 'store_ignored',
        detail: `the store took rows and dropped them: ${words}; the times are those of its doing so, not of the samples`,
        estimated: true,
      });
    } catch (error) {
      logger.error({ cause: describeError(error) }, 'cannot record rows that the store ignored');
      return false;
    }
    for (const [reason, rows] of rises) this.#total.inc({ reason }, rows);
    return true;
  }
}
