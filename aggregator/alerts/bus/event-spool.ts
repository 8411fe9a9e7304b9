import { rename } from 'node:fs/promises';
import { Level } from 'level';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { type Counter, counter, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import { isLocked } from './alert-spool.ts';

/** An event as it will be published. */
export interface SpooledEvent {
  readonly subject: string;
  /** The same event has the same id, so that the stream knows a repeat. */
  readonly id: string;
  readonly body: string;
}

export interface EventSpoolOptions {
  readonly logger: Logger;
  readonly registry: Registry;
  /** Most events kept; 100,000 by default (about 100 MB). The oldest go. */
  readonly maxEvents?: number;
}

/** Events dropped in one write when there are too many. */
const TRIM_BATCH = 1_000;
/** Events in memory that are not yet on disk: about 10 MB behind a disk that hangs. */
const MAX_PENDING = 10_000;

/**
 * Events on disk (LevelDB) until they are in the stream, so that one which an agent was told is accepted cannot be
 * lost with this process. Without NATS the newest ones stay here.
 */
export class EventSpool implements AsyncDisposable {
  readonly #level: Level<string, SpooledEvent>;
  readonly #maxEvents: number;
  readonly #dropped: Counter;
  #nextSeq = 1;
  #count = 0;
  #pending: { event: SpooledEvent; done: PromiseWithResolvers<void> }[] = [];
  #writing: Promise<void> | undefined;

  private constructor(level: Level<string, SpooledEvent>, options: EventSpoolOptions) {
    this.#level = level;
    this.#maxEvents = options.maxEvents ?? 100_000;
    this.#dropped = counter(options.registry, {
      name: 'gpufleet_events_dropped_total',
      help: 'Events whose text left the spool before it reached NATS because too many waited.',
    });
  }

  /** A damaged database is moved aside and a new one begun. Throws `unavailable` where another process holds it. */
  static async open(folder: string, options: EventSpoolOptions): Promise<EventSpool> {
    const open = async (): Promise<Level<string, SpooledEvent>> => {
      const level = new Level<string, SpooledEvent>(folder, { valueEncoding: 'json' });
      await level.open();
      return level;
    };
    const level = await open().catch(async (thrown: unknown) => {
      const why = describeError(thrown);
      if (isLocked(thrown))
        throw new FleetError('unavailable', `Cannot open event spool ${folder}: another process uses it`, {
          cause: thrown,
        });
      const aside = `${folder}.damaged-${Date.now()}`;
      await rename(folder, aside);
      options.logger.error({ aside, why }, 'event spool is damaged: moved aside, starting a new one');
      return open();
    });
    const spool = new EventSpool(level, options);
    for await (const key of level.keys()) {
      spool.#count++;
      spool.#nextSeq = Number(key) + 1;
    }
    return spool;
  }

  /** Events that are not in the stream, or the newest ones where there is none. */
  get count(): number {
    return this.#count;
  }

  /**
   * Resolves when the event is on disk; events of one moment share one fsync. Rejects where the disk refuses, and with
   * `unavailable` where it is 10,000 events behind.
   */
  append(event: SpooledEvent): Promise<void> {
    if (this.#pending.length >= MAX_PENDING)
      return Promise.reject(new FleetError('unavailable', 'Cannot keep event: the disk is behind'));
    const done = Promise.withResolvers<void>();
    this.#pending.push({ event, done });
    this.#writing ??= this.#write();
    return done.promise;
  }

  /** The oldest events after a sequence. */
  async after(seq: number, limit: number): Promise<{ seq: number; event: SpooledEvent }[]> {
    const found = await this.#level.iterator({ gt: keyOf(seq), limit }).all();
    return found.map(([key, event]) => ({ seq: Number(key), event }));
  }

  /** It is in the stream. Not synced: an event sent twice is known by its id. */
  async sent(seq: number): Promise<void> {
    await this.#level.del(keyOf(seq));
    this.#count = Math.max(0, this.#count - 1);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing?.catch(() => {});
    await this.#level.close();
  }

  async #write(): Promise<void> {
    while (this.#pending.length > 0) {
      const pending = this.#pending;
      this.#pending = [];
      try {
        await this.#level.batch(
          pending.map(({ event }) => ({ type: 'put' as const, key: keyOf(this.#nextSeq++), value: event })),
          { sync: true },
        );
        this.#count += pending.length;
        for (const { done } of pending) done.resolve();
      } catch (error) {
        for (const { done } of pending) done.reject(error);
      }
      if (this.#count > this.#maxEvents) await this.#trim().catch(() => {});
    }
    // Within the last look at what is pending: what comes after it begins another write.
    this.#writing = undefined;
  }

  async #trim(): Promise<void> {
    const keys = await this.#level.keys({ limit: Math.max(TRIM_BATCH, this.#count - this.#maxEvents) }).all();
    await this.#level.batch(keys.map((key) => ({ type: 'del' as const, key })));
    this.#count -= keys.length;
    this.#dropped.inc(keys.length);
  }
}

/** Keys sort as text. */
function keyOf(seq: number): string {
  return String(seq).padStart(16, '0');
}
