import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import { repeat } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { HealthShelf, HealthShelfChange } from './health-shelf.ts';
import type { TransitionEntry } from './transition.ts';
import { TransitionColumns, type TransitionFilter } from './transition-columns.ts';

export interface TransitionLogOptions {
  readonly shelf: HealthShelf;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
  /** Most entries of all GPUs; 1,000,000 by default (about 80 MB on disk, 40 MB in memory). The oldest leave. */
  readonly maxEntries?: number;
  /** Most entries of one GPU; 200 by default. */
  readonly maxEntriesPerGpu?: number;
  /** Older entries leave, in days; 400 by default. */
  readonly maxAgeDays?: number;
  /** How long a disk that refused is left alone; 5 s by default. */
  readonly retryMs?: number;
  /** Most entries that wait for a disk that refuses; 50,000 by default. The newest beyond them are lost, counted. */
  readonly maxWaiting?: number;
}

/** One page, newest first. */
export interface TransitionPage {
  readonly entries: readonly TransitionEntry[];
  /** Given to `list` for the next page; undefined after the last. */
  readonly cursor: string | undefined;
}

const PREFIX = 'transition/';
/** Digits of a number in its key: more than any process can count. */
const DIGITS = 16;
const DEFAULT_PAGE = 100;
const MAX_PAGE = 1_000;
/** Changes of one write: a fleet that starts up writes in pieces. */
const WRITE_BATCH = 2_000;
const DAY_MS = 86_400_000;

/**
 * Every change of a GPU's state with its why, on disk. Taken at once and written behind: an entry may be read before
 * it is on disk, and those of the last moment are lost with a power cut. Where the disk refuses, entries wait and are
 * tried again with the next one, and by `run` every few seconds.
 */
export class TransitionLog {
  readonly #options: TransitionLogOptions;
  readonly #columns = new TransitionColumns();
  /** By number, oldest first; undefined for one that leaves the disk. */
  readonly #waiting = new Map<number, TransitionEntry | undefined>();
  readonly #dropped: Counter<'reason'>;
  readonly #failed: Counter;
  #writing: Promise<void> | undefined;
  #next = 1;

  private constructor(options: TransitionLogOptions) {
    this.#options = options;
    this.#dropped = counter(options.registry, {
      name: 'gpufleet_health_transitions_dropped_total',
      help: 'Changes of health state that left the log or never came in: too many, too old, or the disk refused.',
      labelNames: ['reason'],
    });
    this.#failed = counter(options.registry, {
      name: 'gpufleet_health_transition_write_failures_total',
      help: 'Writes of changes of health state that the disk refused; they are tried again.',
    });
    const size = (): number => this.#columns.size;
    gauge(options.registry, {
      name: 'gpufleet_health_transitions',
      help: 'Changes of health state in the log.',
      collect() {
        this.set(size());
      },
    });
  }

  /** Reads what is on disk: about 12 s of CPU for a million entries, in pieces. */
  static async open(options: TransitionLogOptions): Promise<TransitionLog> {
    const log = new TransitionLog(options);
    for await (const [key, value] of options.shelf.entries(PREFIX)) {
      const number = Number(key.slice(PREFIX.length));
      const entry = value as TransitionEntry;
      log.#columns.add({ ...entry, number });
      log.#next = number + 1;
    }
    log.#trim();
    log.#write();
    return log;
  }

  /** Takes an entry; it can be read at once, and is on disk when `flush` has resolved. */
  add(entry: TransitionEntry): void {
    if (this.#waiting.size >= (this.#options.maxWaiting ?? 50_000)) {
      this.#dropped.inc({ reason: 'disk' });
      this.#write();
      return;
    }
    const number = this.#next++;
    this.#columns.add({ ...entry, number });
    this.#waiting.set(number, entry);
    if (this.#columns.rowsOf(entry.uuid) > (this.#options.maxEntriesPerGpu ?? 200)) {
      this.#drop(this.#columns.dropOldest(entry.uuid), 'gpu_full');
    }
    this.#trim();
    this.#write();
  }

  /** Tries what the disk refused again, every so often until the signal aborts: a quiet fleet adds nothing that would. */
  async run(signal: AbortSignal): Promise<void> {
    await repeat(this.#options.retryMs ?? 5_000, signal, () => this.#write());
  }

  /** Resolves when what was added so far is on disk. Throws `unavailable` where the disk refuses. */
  async flush(): Promise<void> {
    if (this.#writing) await this.#writing;
    this.#write();
    if (this.#writing) await this.#writing;
    if (this.#waiting.size > 0)
      throw new FleetError('unavailable', 'Cannot write the transitions: the disk refuses');
  }

  /**
   * Newest first by when they were taken. `limit` 1 to 1,000, 100 by default. Throws `invalid_input` for a cursor
   * that is none. Entries that leave while pages are turned are not shown.
   */
  async list(filter: TransitionFilter, limit = DEFAULT_PAGE, cursor?: string): Promise<TransitionPage> {
    const before = cursor === undefined ? Number.POSITIVE_INFINITY : numberOf(cursor);
    const most = Math.min(Math.max(1, Math.floor(limit)), MAX_PAGE);
    const numbers = this.#columns.find(filter, before, most + 1);
    const page = numbers.slice(0, most);
    const read = await Promise.all(page.map((number) => this.#read(number)));
    return {
      entries: read.filter((entry) => entry !== undefined),
      cursor: numbers.length > most ? String(page.at(-1)!) : undefined,
    };
  }

  async #read(number: number): Promise<TransitionEntry | undefined> {
    if (this.#waiting.has(number)) return this.#waiting.get(number);
    for await (const [, value] of this.#options.shelf.entries(keyOf(number))) return value as TransitionEntry;
    return undefined;
  }

  /** Lets go of what is too old or too much. */
  #trim(): void {
    const { maxEntries = 1_000_000, maxAgeDays = 400, clock } = this.#options;
    const oldestMs = clock.now() - maxAgeDays * DAY_MS;
    for (;;) {
      const oldest = this.#columns.oldest;
      if (oldest === undefined) return;
      if (oldest.atMs < oldestMs) this.#drop(this.#columns.dropOldest(), 'old');
      else if (this.#columns.size > maxEntries) this.#drop(this.#columns.dropOldest(), 'full');
      else return;
    }
  }

  #drop(number: number | undefined, reason: 'gpu_full' | 'old' | 'full'): void {
    if (number === undefined) return;
    this.#waiting.set(number, undefined);
    this.#dropped.inc({ reason });
  }

  #write(): void {
    if (this.#waiting.size === 0 || this.#writing) return;
    this.#writing = this.#writeAll().then((done) => {
      this.#writing = undefined;
      // Added between the last write and here.
      if (done) this.#write();
    });
  }

  /** False where the disk refused. */
  async #writeAll(): Promise<boolean> {
    // What is added within one turn of the event loop goes in one write.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#waiting.size > 0) {
      const batch: [number, TransitionEntry | undefined][] = [];
      for (const one of this.#waiting) {
        batch.push(one);
        if (batch.length === WRITE_BATCH) break;
      }
      try {
        await this.#options.shelf.write(batch.map(changeOf), false);
      } catch (error) {
        this.#failed.inc();
        this.#options.logger.error(
          { cause: describeError(error), waiting: this.#waiting.size },
          'cannot write changes of health state',
        );
        return false;
      }
      // One that was dropped while it was being written still has to leave the disk.
      for (const [number, entry] of batch)
        if (this.#waiting.get(number) === entry) this.#waiting.delete(number);
    }
    return true;
  }
}

function changeOf([number, entry]: readonly [number, TransitionEntry | undefined]): HealthShelfChange {
  return entry === undefined ? { key: keyOf(number) } : { key: keyOf(number), value: entry };
}

function keyOf(number: number): string {
  return `${PREFIX}${String(number).padStart(DIGITS, '0')}`;
}

function numberOf(cursor: string): number {
  if (!/^[0-9]{1,16}$/.test(cursor))
    throw new FleetError(
      'invalid_input',
      `Cannot list transitions from ${cursor.slice(0, 64)}: no such cursor`,
    );
  return Number(cursor);
}
