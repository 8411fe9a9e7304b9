import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { ControlStore } from '../control/control-store.ts';

export interface LeaderLeaseOptions {
  readonly control: Pick<ControlStore, 'get' | 'put' | 'delete' | 'state'>;
  /** Names us; no two aggregators have the same, nor two lives of one. */
  readonly owner: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

const KEY = 'lease/notifier';
/** How often the holder says that it is there. */
const RENEW_MS = 3_000;
/** After so long without a change the holder is taken for gone; on the watcher's clock, whatever the others' say. */
const LEASE_MS = 15_000;
/**
 * The holder gives up by itself so long after the beginning of the last renewal that came through: 5 s before
 * anybody else may take over, in which what is under way is broken off.
 */
const GIVE_UP_MS = 10_000;

/** Who notifies for the cluster: one of those that see the same control store. Driven by `tick`. */
export class LeaderLease {
  readonly #options: LeaderLeaseOptions;
  /** The revision that was last seen, and when it was first seen, on our monotonic clock. */
  #seen = { revision: -1, atMs: 0 };
  /** When the last renewal that came through began; undefined where we do not hold it. */
  #heldMs: number | undefined;
  #revision = 0;
  #count = 0;
  #askedMs = Number.NEGATIVE_INFINITY;
  #under: Promise<void> | undefined;

  constructor(options: LeaderLeaseOptions) {
    this.#options = options;
  }

  get held(): boolean {
    return this.#heldMs !== undefined && this.#options.clock.monotonic() < this.#heldMs + GIVE_UP_MS;
  }

  /** To be called about once a second or more often. */
  tick(): void {
    if (!this.held) this.#heldMs = undefined;
    if (this.#under !== undefined) return;
    const { control, clock } = this.#options;
    const nowMs = clock.monotonic();
    const entry = control.get(KEY);
    const revision = entry?.revision ?? 0;
    if (revision !== this.#seen.revision) this.#seen = { revision, atMs: nowMs };
    if (this.held && revision > this.#revision) {
      // A renewal that was written and whose answer was lost is one all the same.
      if (isOwn(entry?.value, this.#options.owner)) this.#revision = revision;
      else this.drop();
    }
    const due = this.held
      ? nowMs >= this.#askedMs + RENEW_MS
      : revision === 0 || isFree(entry?.value) || nowMs >= this.#seen.atMs + LEASE_MS;
    if (!due || control.state === 'away') return;
    this.#askedMs = nowMs;
    const under = this.#write(this.held ? this.#revision : revision, nowMs).finally(() => {
      if (this.#under === under) this.#under = undefined;
    });
    this.#under = under;
  }

  /** Somebody else wrote what only the holder may write, or the books could not be read: it is taken anew. */
  drop(): void {
    this.#heldMs = undefined;
  }

  /** Lets the next one take over at once. */
  async release(): Promise<void> {
    await this.#under;
    if (!this.held) return;
    this.#heldMs = undefined;
    const { control, owner } = this.#options;
    await control.put(KEY, { owner, count: this.#count, free: true }, this.#revision).catch(() => undefined);
  }

  async #write(expected: number, startMs: number): Promise<void> {
    const { control, owner, logger } = this.#options;
    const value = { owner, count: ++this.#count };
    try {
      const revision = await control.put(KEY, value, expected);
      if (revision === undefined) {
        if (this.#heldMs !== undefined) logger.warn('another aggregator notifies now');
        this.#heldMs = undefined;
        return;
      }
      this.#revision = revision;
      this.#heldMs = startMs;
    } catch (thrown) {
      // Whether it was written is not known: held only as long as the last renewal lasts.
      logger.debug({ why: describeError(thrown) }, 'cannot renew the lease of the notifier');
    }
  }
}

function isOwn(value: unknown, owner: string): boolean {
  return (value as { owner?: unknown } | undefined)?.owner === owner;
}

function isFree(value: unknown): boolean {
  return (value as { free?: unknown } | undefined)?.free === true;
}
