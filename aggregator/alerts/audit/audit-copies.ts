import { DiscardPolicy, JetStreamApiCodes, RetentionPolicy, StorageType } from '@nats-io/jetstream';
import { headers, nanos } from '@nats-io/transport-node';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import { hasCode, type NatsSession } from '../bus/nats-link.ts';
import { toSubject } from '../bus/subject.ts';
import type { ControlShelf } from '../control/control-shelf.ts';
import { type AuditEntry, type ChainedEntry, hashOf, shown } from './audit-entry.ts';
import { type AuditFilter, isWanted } from './audit-filter.ts';

export const AUDIT_STREAM = 'GPUFLEET_AUDIT';

interface AuditCopiesOptions {
  readonly shelf: ControlShelf;
  readonly shard: string;
  readonly logger: Logger;
  readonly replicas: number;
  /** Id of the oldest entry that our own log had on disk at the start, or of the first since. */
  readonly firstId: () => string | undefined;
  /** Entries of our own log behind a sequence, in order. */
  readonly after: (seq: number) => Promise<ChainedEntry[]>;
}

const COPIED = 'audit-copied';
/** Entries of other shards in memory; the newest of about 600 bytes each. */
const MAX_OTHERS = 20_000;
const DROP_STEP = 1_000;
const MAX_BYTES = 1024 ** 3;
const MAX_AGE_MS = 400 * 86_400_000;

/** Copies of our entries in JetStream, and what other shards have put there. */
export class AuditCopies {
  readonly #options: AuditCopiesOptions;
  /** By id, the oldest first. */
  #others: AuditEntry[] = [];
  #session: NatsSession | undefined;
  #stopReading: (() => void) | undefined;
  #stream = '';
  #pumping: Promise<void> | undefined;
  #again = false;

  constructor(options: AuditCopiesOptions) {
    this.#options = options;
  }

  /** Makes the stream where it is missing. Entries are in it at least once; a repeat has the same id. */
  async begin(session: NatsSession): Promise<void> {
    const { created, lastSeq } = await ensureAuditStream(
      session,
      this.#options.replicas,
      this.#options.logger,
    );
    this.#stream = created;
    const consumer = await session.js.consumers.get(AUDIT_STREAM, {
      opt_start_seq: Math.max(1, lastSeq - MAX_OTHERS + 1),
    });
    const messages = await consumer.consume();
    this.#stopReading = () => messages.stop();
    void this.#read(messages);
    this.#session = session;
    this.wake();
  }

  end(): void {
    this.#session = undefined;
    this.#stopReading?.();
    this.#stopReading = undefined;
  }

  async settled(): Promise<void> {
    await this.#pumping;
  }

  /** There is something new to copy. */
  wake(): void {
    this.#again = true;
    this.#pumping ??= this.#run();
  }

  newest(filter: AuditFilter, limit: number): AuditEntry[] {
    const found: AuditEntry[] = [];
    for (let i = this.#others.length - 1; i >= 0 && found.length < limit; i--) {
      const entry = this.#others[i]!;
      if (isWanted(entry, filter)) found.push(entry);
    }
    return found;
  }

  async #run(): Promise<void> {
    // A turn later, so that a run never ends before it is known to have begun.
    await Promise.resolve();
    while (this.#again) {
      this.#again = false;
      try {
        await this.#pump();
      } catch (thrown) {
        // Tried again with the next entry or connection.
        this.#options.logger.warn({ why: describeError(thrown) }, 'cannot copy the audit log to NATS');
      }
    }
    this.#pumping = undefined;
  }

  async #pump(): Promise<void> {
    for (;;) {
      const session = this.#session;
      if (session === undefined) return;
      const entries = await this.#options.after(await this.#copied());
      if (entries.length === 0) return;
      for (const entry of entries) await copy(session, entry);
      const copied = { stream: this.#stream, seq: entries.at(-1)!.seq };
      await this.#options.shelf.write([{ key: COPIED, value: copied }], false);
    }
  }

  /** Up to which sequence our entries are in this stream; another stream of the name has none. */
  async #copied(): Promise<number> {
    for await (const [, value] of this.#options.shelf.entries(COPIED)) {
      const { stream, seq } = value as { stream: string; seq: number };
      if (stream === this.#stream) return seq;
    }
    return 0;
  }

  async #read(messages: AsyncIterable<{ json<T>(): T }>): Promise<void> {
    try {
      for await (const message of messages) this.#take(message);
    } catch (thrown) {
      this.#options.logger.warn({ why: describeError(thrown) }, 'cannot read audit entries of other shards');
    }
  }

  /** What is no entry, or not as it was written, is left out. */
  #take(message: { json<T>(): T }): void {
    let entry: ChainedEntry;
    try {
      entry = message.json<ChainedEntry>();
      if (typeof entry.id !== 'string' || hashOf(entry) !== entry.hash) return;
    } catch {
      return;
    }
    // Ours is on disk, unless the disk was lost since.
    const firstId = entry.shard === this.#options.shard ? this.#options.firstId() : undefined;
    if (firstId !== undefined && entry.id >= firstId) return;
    this.#insert(shown(entry));
  }

  #insert(entry: AuditEntry): void {
    let at = this.#others.length;
    while (at > 0 && this.#others[at - 1]!.id > entry.id) at--;
    if (this.#others[at - 1]?.id === entry.id) return;
    this.#others.splice(at, 0, entry);
    if (this.#others.length >= MAX_OTHERS + DROP_STEP) this.#others = this.#others.slice(DROP_STEP);
  }
}

async function copy({ js }: NatsSession, entry: ChainedEntry): Promise<void> {
  const { id, cluster, node, what, shard } = entry;
  const head = headers();
  head.set('Gpufleet-Shard', shard);
  await js.publish(toSubject('gpufleet.audit', cluster, node, what), JSON.stringify(entry), {
    msgID: id,
    headers: head,
  });
}

/** One that exists is left as it is. */
async function ensureAuditStream(
  { jsm }: NatsSession,
  replicas: number,
  logger: Logger,
): Promise<{ created: string; lastSeq: number }> {
  const found = await jsm.streams.info(AUDIT_STREAM).catch((thrown: unknown) => {
    if (hasCode(thrown, JetStreamApiCodes.StreamNotFound)) return undefined;
    throw thrown;
  });
  const info =
    found ??
    (await jsm.streams.add({
      name: AUDIT_STREAM,
      description: 'gpufleet: who did what; messages can neither be deleted nor purged',
      subjects: ['gpufleet.audit.>'],
      storage: StorageType.File,
      retention: RetentionPolicy.Limits,
      discard: DiscardPolicy.Old,
      num_replicas: replicas,
      max_bytes: MAX_BYTES,
      max_age: nanos(MAX_AGE_MS),
      duplicate_window: nanos(120_000),
      deny_delete: true,
      deny_purge: true,
    }));
  if (!info.config.deny_delete || !info.config.deny_purge)
    logger.warn({ stream: AUDIT_STREAM }, 'the audit stream lets messages be deleted: somebody else made it');
  return { created: info.created, lastSeq: info.state.last_seq };
}
