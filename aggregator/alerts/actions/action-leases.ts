import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { changed } from './action-change.ts';
import type { ActionDocument } from './action-document.ts';
import type { ActionTable } from './action-table.ts';

/** A lease that nobody was seen to renew for so long is anybody's. */
const LEASE_MS = 30_000;
const RENEW_EVERY_MS = 10_000;
/** Whoever could not renew for so long stops: well before another may begin. */
const GIVE_UP_MS = 20_000;

interface Held {
  readonly stop: AbortController;
  renewedMs: number;
  renewing: boolean;
}

/**
 * The leases of the actions that this instance drives: renewed for as long as they are held, and lost where that
 * fails. Time is our own monotonic clock throughout: no two machines' clocks are compared.
 */
export class ActionLeases implements Disposable {
  /** The name of this instance. A restarted aggregator is another: its former leases run out. */
  readonly owner: string;
  readonly #table: ActionTable;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #held = new Map<string, Held>();
  readonly #timer: NodeJS.Timeout;

  constructor(owner: string, table: ActionTable, clock: Clock, logger: Logger) {
    this.owner = owner;
    this.#table = table;
    this.#clock = clock;
    this.#logger = logger;
    this.#timer = setInterval(() => this.renew(), 1_000).unref();
  }

  /** Whether the action is for us to take: ours, nobody's, or left by its owner. */
  isFree(action: ActionDocument): boolean {
    return (
      action.owner === '' || action.owner === this.owner || this.#table.unrenewedMs(action.id) >= LEASE_MS
    );
  }

  /** Takes the lease; undefined where another has it. Throws `unavailable`. */
  async take(id: string): Promise<ActionDocument | undefined> {
    const askedMs = this.#clock.monotonic();
    const taken = await this.#table.change(id, (action) =>
      this.isFree(action)
        ? changed(action, { owner: this.owner, beat: action.beat + 1 }, this.#clock.now())
        : undefined,
    );
    if (taken !== undefined) {
      const held = this.#held.get(id);
      // From before the write: others count from when they saw it, which is later.
      if (held !== undefined) held.renewedMs = askedMs;
      else this.#held.set(id, { stop: new AbortController(), renewedMs: askedMs, renewing: false });
    }
    return taken;
  }

  /** Aborts when the lease is lost or dropped. */
  signal(id: string): AbortSignal {
    return this.#held.get(id)?.stop.signal ?? AbortSignal.abort();
  }

  /** Gives a lease back, for another to go on at once. Throws `unavailable`. */
  async release(id: string): Promise<void> {
    this.drop(id);
    await this.#table.change(id, (action) =>
      action.owner === this.owner ? { ...action, owner: '' } : undefined,
    );
  }

  /** Forgets it here; what the store says is the caller's. */
  drop(id: string): void {
    this.#held.get(id)?.stop.abort();
    this.#held.delete(id);
  }

  get held(): string[] {
    return [...this.#held.keys()];
  }

  /** Renews what is due and gives up what could not be renewed. */
  renew(): void {
    const nowMs = this.#clock.monotonic();
    for (const [id, held] of this.#held) {
      if (nowMs - held.renewedMs >= GIVE_UP_MS) this.drop(id);
      else if (nowMs - held.renewedMs >= RENEW_EVERY_MS && !held.renewing) void this.#renew(id, held);
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const id of this.held) this.drop(id);
  }

  async #renew(id: string, held: Held): Promise<void> {
    held.renewing = true;
    const askedMs = this.#clock.monotonic();
    try {
      const renewed = await this.#table.change(id, (action) =>
        action.owner === this.owner ? { ...action, beat: action.beat + 1 } : undefined,
      );
      if (renewed === undefined) this.drop(id);
      else held.renewedMs = askedMs;
    } catch (thrown) {
      this.#logger.warn({ action: id, why: describeError(thrown) }, 'cannot renew the lease of an action');
    } finally {
      held.renewing = false;
    }
  }
}
