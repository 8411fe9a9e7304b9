import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { NatsSession } from '../bus/nats-link.ts';
import type { ControlShelf } from '../control/control-shelf.ts';
import { AuditCopies } from './audit-copies.ts';
import { AuditDisk, type AuditHead } from './audit-disk.ts';
import { type AuditEntry, type AuditFact, type ChainedEntry, chain, shown } from './audit-entry.ts';
import { type AuditFilter, isWanted, MAX_PAGE } from './audit-filter.ts';
import { type Anchor, type AuditFault, TRIM, verifyChain } from './verify-chain.ts';

export interface AuditLogOptions {
  /** On disk; not closed by the log. Keys begin with `audit`. */
  readonly shelf: ControlShelf;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
  readonly shard: string;
  /** 1,000,000 by default, about 0.6 GB; the oldest go, a thousand at a time, and an entry says so. */
  readonly maxEntries?: number;
  /** Copies of the stream in a NATS cluster, where it has to be made; 1 by default. */
  readonly replicas?: number;
}

/** A year and some, so that a yearly review finds its year. Own judgement. */
const MAX_AGE_MS = 400 * 86_400_000;
const TRIM_STEP = 1_000;
const MAX_WAITING = 10_000;

interface Waiting {
  readonly fact: AuditFact;
  readonly done: PromiseWithResolvers<AuditEntry>;
}

/**
 * Who did what and why: only ever added to. Each entry carries the hash of the one before it in its shard's log, so
 * that a change of the database is noticed (at the start, and by `verify`), and where NATS is there, a copy lies in a
 * stream that lets nobody delete a message.
 */
export class AuditLog implements AsyncDisposable {
  readonly #options: AuditLogOptions;
  readonly #disk: AuditDisk;
  readonly #copies: AuditCopies;
  readonly #stop = new AbortController();
  readonly #written: Counter;
  #head: AuditHead;
  /** The oldest sequence that is kept. */
  #first: number;
  #firstId: string | undefined;
  /** The sequence at which it was last looked whether some may go. */
  #trimmedAt = Number.NEGATIVE_INFINITY;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | undefined;
  #verifying: Promise<unknown> = Promise.resolve();
  #broken = false;

  private constructor(options: AuditLogOptions, disk: AuditDisk, head: AuditHead, first?: ChainedEntry) {
    this.#options = options;
    this.#disk = disk;
    this.#head = head;
    this.#first = first?.seq ?? head.seq + 1;
    this.#firstId = first?.id;
    this.#copies = new AuditCopies({
      ...options,
      replicas: options.replicas ?? 1,
      firstId: () => this.#firstId,
      after: (seq) => disk.after(Math.max(seq, this.#first - 1), this.#head.seq),
    });
    this.#written = counter(options.registry, {
      name: 'gpufleet_audit_entries_total',
      help: 'Entries written to the audit log by this aggregator.',
    });
    const isBroken = (): boolean => this.#broken;
    gauge(options.registry, {
      name: 'gpufleet_audit_chain_broken',
      help: '1 where the audit log on disk is not as it was written, 0 where it is.',
      collect() {
        this.set(isBroken() ? 1 : 0);
      },
    });
  }

  /** Checks the chain behind the caller's back: `verify` says what came out. */
  static async open(options: AuditLogOptions): Promise<AuditLog> {
    const disk = new AuditDisk(options.shelf);
    const { head, first } = await disk.open();
    const log = new AuditLog(options, disk, head, first);
    log.verify().catch((thrown: unknown) => {
      options.logger.error({ why: describeError(thrown) }, 'cannot read the audit log');
    });
    return log;
  }

  /**
   * Resolves when the entry is on disk. Texts are cut at 1,000 characters, `before` and `after` over 16 KiB are
   * replaced by their size. Throws `unavailable` where the disk refuses: what is not in the log should not be done.
   */
  async write(fact: AuditFact): Promise<AuditEntry> {
    if (this.#stop.signal.aborted) throw new FleetError('unavailable', 'Cannot audit: the log is closed');
    if (this.#waiting.length >= MAX_WAITING)
      throw new FleetError('resource_exhausted', 'Cannot audit: too many entries wait for the disk');
    const done = Promise.withResolvers<AuditEntry>();
    this.#waiting.push({ fact, done });
    this.#writing ??= this.#run();
    return done.promise;
  }

  /** Newest first, of all shards as far as they are known here: the newest 20,000 of the others, while NATS was there. */
  async list(filter: AuditFilter = {}): Promise<AuditEntry[]> {
    const limit = Math.min(filter.limit ?? MAX_PAGE, MAX_PAGE);
    const found = new Map<string, AuditEntry>();
    for (const entry of this.#copies.newest(filter, limit)) found.set(entry.id, entry);
    for (const entry of await this.#own(filter, limit)) found.set(entry.id, entry);
    return [...found.values()].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, limit);
  }

  /** Where the log on disk first differs from what was written; undefined where it does not. */
  async verify(): Promise<AuditFault | undefined> {
    const check = this.#verifying
      .catch(() => {})
      .then(() => verifyChain(this.#disk, this.#first, this.#head, this.#stop.signal));
    this.#verifying = check.catch(() => {});
    const fault = await check;
    this.#broken = fault !== undefined;
    if (fault !== undefined)
      this.#options.logger.error({ ...fault, shard: this.#options.shard }, 'the audit log was tampered with');
    return fault;
  }

  /** Copies go to NATS from here on, and those of other shards come. */
  async begin(session: NatsSession): Promise<void> {
    await this.#copies.begin(session);
  }

  end(): void {
    this.#copies.end();
  }

  /** What was given is written. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing;
    this.#stop.abort();
    this.end();
    await this.#copies.settled();
    await this.#verifying;
  }

  async #own(filter: AuditFilter, limit: number): Promise<AuditEntry[]> {
    const { before, fromMs } = filter;
    const found: AuditEntry[] = [];
    const end = this.#head.seq + 1;
    const from = before === undefined ? end : await this.#disk.seek(before, this.#first, end);
    const lowest = fromMs === undefined ? '' : String(Math.max(0, Math.trunc(fromMs))).padStart(13, '0');
    for await (const entry of this.#disk.backwards(from - 1, this.#first)) {
      // An id is never older than its entry.
      if (entry.id < lowest || found.length >= limit) break;
      if (isWanted(entry, filter)) found.push(shown(entry));
    }
    return found;
  }

  async #run(): Promise<void> {
    // A turn later: what one caller starts together shares an fsync.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const waiting = this.#waiting;
      this.#waiting = [];
      await this.#append(waiting);
      this.#copies.wake();
      await this.#trim();
    }
    // At once: who is told by the last write and writes again must start a new run.
    this.#writing = undefined;
  }

  async #append(waiting: readonly Waiting[]): Promise<void> {
    let head = this.#head;
    const entries: ChainedEntry[] = [];
    const taken: Waiting[] = [];
    for (const one of waiting) {
      try {
        const entry = this.#next(one.fact, head);
        head = headOf(entry);
        entries.push(entry);
        taken.push(one);
      } catch (thrown) {
        one.done.reject(thrown);
      }
    }
    try {
      await this.#disk.append(entries, head);
    } catch (cause) {
      for (const { done } of taken)
        done.reject(new FleetError('unavailable', 'Cannot audit: the disk refuses', { cause }));
      return;
    }
    this.#head = head;
    this.#firstId ??= entries[0]?.id;
    this.#written.inc(entries.length);
    for (const [index, { done }] of taken.entries()) done.resolve(shown(entries[index]!));
  }

  #next(fact: AuditFact, head: AuditHead): ChainedEntry {
    const { shard } = this.#options;
    const idMs = Math.max(head.idMs, Math.trunc(fact.atMs));
    return chain(fact, { shard, seq: head.seq + 1, idMs, previous: head.hash });
  }

  /** Once in a thousand entries. */
  async #trim(): Promise<void> {
    if (this.#head.seq - this.#trimmedAt < TRIM_STEP) return;
    this.#trimmedAt = this.#head.seq;
    try {
      await this.#verifying;
      while (await this.#letGo());
    } catch (thrown) {
      this.#options.logger.error({ why: describeError(thrown) }, 'cannot trim the audit log');
    }
  }

  /** Lets some of the oldest entries go where there are too many or they are too old, and writes down that it did. */
  async #letGo(): Promise<boolean> {
    const many = this.#head.seq - this.#first + 1 - (this.#options.maxEntries ?? 1_000_000);
    const nowMs = this.#options.clock.now();
    const some = await this.#disk.after(this.#first - 1, this.#head.seq);
    // One too many is left: the entry that says it went would be one too many again.
    const upTo = many > 1 ? this.#first + many : this.#first;
    const last = some.findLast(({ seq, atMs }) => seq < upTo || nowMs - atMs > MAX_AGE_MS);
    if (last === undefined || last.seq >= this.#head.seq) return false;
    const after: Anchor = { up_to_seq: last.seq, hash: last.hash };
    const anchor = this.#next(
      {
        ...{ atMs: nowMs, who: 'gpufleet', what: TRIM, why: 'too many or too old', result: 'done' },
        ...{ cluster: '', node: '', gpu: '', subject: '', after },
      },
      this.#head,
    );
    await this.#disk.replace(this.#first, last.seq, anchor, headOf(anchor));
    this.#head = headOf(anchor);
    this.#first = last.seq + 1;
    return true;
  }
}

function headOf({ seq, hash, id }: ChainedEntry): AuditHead {
  return { seq, hash, idMs: Number(id.slice(0, 13)) };
}
