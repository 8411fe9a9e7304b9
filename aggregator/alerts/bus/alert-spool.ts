import { rename } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { Level } from 'level';
import { type Alert, AlertSchema, AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { type Counter, counter, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';

/** One transition on disk. */
export interface SpoolEntry {
  /** Counts the transitions of this spool from 1. */
  readonly seq: number;
  readonly atMs: number;
  readonly alert: Alert;
}

/** The newest message that the stream has acknowledged: tells a stream that went back from one that did not. */
export interface StreamTail {
  readonly created: string;
  readonly seq: number;
  readonly messageId: string;
}

export interface AlertSpoolOptions {
  readonly logger: Logger;
  readonly registry: Registry;
  /** How long transitions are kept for a stream that lost its end; 24 h by default. */
  readonly retentionMs?: number;
  /** Most transitions kept; 500,000 by default (about 250 MB of disk): two storms of 100,000 GPUs there and back. */
  readonly maxEntries?: number;
  /**
   * Most last states kept; 250,000 by default, as many as the engine keeps. Only resolved ones are dropped, which are
   * looked for about once an hour.
   */
  readonly maxStates?: number;
}

const DAY_MS = 86_400_000;
/** How long the last state of a resolved alert is kept. */
const RESOLVED_RETENTION_MS = 7 * DAY_MS;
/** Records deleted, or put back in line, in one write. */
const TRIM_BATCH = 1000;
/** To find states that may go all are read, at 10 µs each: so seldom. A limit may be passed by a twentieth meanwhile. */
const TRIM_STATES_EVERY_MS = 3_600_000;
const TRIM_STATES_SHARE = 0.05;

/**
 * Alert transitions on disk (LevelDB): `news` holds the transitions in order, `todo` the sequences of those that are
 * not yet in the stream, `state` the last state of each alert. Transitions are synced to disk before `append`
 * returns; marks of what was sent are not, as a transition sent twice is recognised and one lost is not.
 *
 * LevelDB reads a flipped byte back as it is, so every record carries a CRC; a damaged one is counted and skipped.
 */
export interface AlertSpool extends AsyncDisposable {
  /** Writes transitions, in order. With `queue` they also wait for `sent`. Throws where the disk refuses. */
  append(alerts: readonly Alert[], nowMs: number, queue: boolean): Promise<SpoolEntry[]>;
  /** The transitions are in the stream; `tail` is the newest of them. */
  sent(seqs: readonly number[], tail: StreamTail | undefined): Promise<void>;
  /** What waits, in order, after a sequence. */
  waiting(afterSeq: number, limit: number): Promise<SpoolEntry[]>;
  /** How many transitions wait. */
  readonly waitingCount: number;
  /** All transitions kept, in order, sent ones included. */
  entries(): AsyncIterable<SpoolEntry>;
  /** Makes transitions wait again. */
  requeue(seqs: readonly number[]): Promise<void>;
  tail(): Promise<StreamTail | undefined>;
  /** The last state of each alert. */
  states(): AsyncIterable<Alert>;
  /** Drops what is older than the retention or over the limits. To be called about once a minute. */
  trim(nowMs: number): Promise<void>;
}

/**
 * Opens the spool in a folder. A damaged database is moved aside and a new one begun: the last states are also in
 * the stream. Throws `unavailable` where another process holds it.
 */
export async function openAlertSpool(folder: string, options: AlertSpoolOptions): Promise<AlertSpool> {
  let level = new Level<string, Uint8Array>(folder, { valueEncoding: 'view' });
  try {
    await level.open();
  } catch (thrown) {
    const why = describeError(thrown);
    if (isLocked(thrown)) {
      throw new FleetError('unavailable', `Cannot open alert spool ${folder}: another process uses it`, {
        cause: thrown,
      });
    }
    const aside = `${folder}.damaged-${Date.now()}`;
    await rename(folder, aside).catch((cause: unknown) => {
      throw new FleetError('unavailable', `Cannot open alert spool ${folder}: ${why}`, { cause });
    });
    options.logger.error({ aside, why }, 'alert spool is damaged: moved aside, starting a new one');
    level = new Level<string, Uint8Array>(folder, { valueEncoding: 'view' });
    await level.open();
  }
  return createAlertSpool(level, options);
}

/** A spool in an open database, which it closes when disposed. */
async function createAlertSpool(
  level: Level<string, Uint8Array>,
  options: AlertSpoolOptions,
): Promise<AlertSpool> {
  const spool = new LevelSpool(level, options);
  await spool.load();
  return spool;
}

class LevelSpool implements AlertSpool {
  readonly #level: Level<string, Uint8Array>;
  readonly #news;
  readonly #todo;
  readonly #state;
  readonly #meta;
  readonly #retentionMs: number;
  readonly #maxEntries: number;
  readonly #maxStates: number;
  readonly #dropped: Counter<'reason'>;
  #nextSeq = 1;
  #count = 0;
  #waitingCount = 0;
  /** Ends with the last trim that was asked for: two at once would count twice what they drop. */
  #trimming: Promise<void> = Promise.resolve();
  #statesTrimmedMs = Number.NEGATIVE_INFINITY;
  /** States written since then. */
  #statesWritten = 0;

  constructor(level: Level<string, Uint8Array>, options: AlertSpoolOptions) {
    this.#level = level;
    const encoding = { valueEncoding: 'view' } as const;
    this.#news = level.sublevel<string, Uint8Array>('news', encoding);
    this.#todo = level.sublevel<string, Uint8Array>('todo', encoding);
    this.#state = level.sublevel<string, Uint8Array>('state', encoding);
    this.#meta = level.sublevel<string, StreamTail>('meta', { valueEncoding: 'json' });
    this.#retentionMs = options.retentionMs ?? DAY_MS;
    this.#maxEntries = options.maxEntries ?? 500_000;
    this.#maxStates = options.maxStates ?? 250_000;
    this.#dropped = counter(options.registry, {
      name: 'gpufleet_alert_spool_dropped_total',
      help: 'Transitions and states dropped from the spool: damaged, or dropped before they were in the stream.',
      labelNames: ['reason'],
    });
  }

  get waitingCount(): number {
    return this.#waitingCount;
  }

  async load(): Promise<void> {
    for await (const key of this.#news.keys()) {
      this.#count++;
      this.#nextSeq = Number(key) + 1;
    }
    for await (const _ of this.#todo.keys()) this.#waitingCount++;
  }

  async append(alerts: readonly Alert[], nowMs: number, queue: boolean): Promise<SpoolEntry[]> {
    const batch = this.#level.batch();
    const entries = alerts.map((alert) => {
      const entry: SpoolEntry = { seq: this.#nextSeq++, atMs: nowMs, alert };
      const record = encode(entry);
      if (queue) {
        batch.put(keyOf(entry.seq), record, { sublevel: this.#news });
        batch.put(keyOf(entry.seq), NOTHING, { sublevel: this.#todo });
      }
      batch.put(alert.id, record, { sublevel: this.#state });
      return entry;
    });
    await batch.write({ sync: true });
    if (queue) {
      this.#count += entries.length;
      this.#waitingCount += entries.length;
    }
    this.#statesWritten += entries.length;
    // These are on disk: that older ones stay there too is for the next trim to say.
    if (this.#count > this.#maxEntries) await this.#trimNews(nowMs).catch(() => {});
    return entries;
  }

  async sent(seqs: readonly number[], tail: StreamTail | undefined): Promise<void> {
    const batch = this.#level.batch();
    for (const seq of seqs) batch.del(keyOf(seq), { sublevel: this.#todo });
    if (tail) batch.put('tail', tail, { sublevel: this.#meta });
    await batch.write();
    this.#waitingCount = Math.max(0, this.#waitingCount - seqs.length);
  }

  async waiting(afterSeq: number, limit: number): Promise<SpoolEntry[]> {
    const keys = await this.#todo.keys({ gt: keyOf(afterSeq), limit }).all();
    const records = await this.#news.getMany(keys);
    const entries: SpoolEntry[] = [];
    const unreadable: number[] = [];
    for (const [index, key] of keys.entries()) {
      const entry = this.#decode(Number(key), records[index]);
      if (entry) entries.push(entry);
      else unreadable.push(Number(key));
    }
    if (unreadable.length > 0) await this.sent(unreadable, undefined);
    return entries;
  }

  async *entries(): AsyncIterable<SpoolEntry> {
    for await (const [key, record] of this.#news.iterator()) {
      const entry = this.#decode(Number(key), record);
      if (entry) yield entry;
    }
  }

  async requeue(seqs: readonly number[]): Promise<void> {
    for (let from = 0; from < seqs.length; from += TRIM_BATCH) {
      const batch = this.#level.batch();
      for (const seq of seqs.slice(from, from + TRIM_BATCH)) {
        batch.put(keyOf(seq), NOTHING, { sublevel: this.#todo });
      }
      await batch.write({ sync: true });
    }
    this.#waitingCount = 0;
    for await (const _ of this.#todo.keys()) this.#waitingCount++;
  }

  tail(): Promise<StreamTail | undefined> {
    return this.#meta.get('tail');
  }

  async *states(): AsyncIterable<Alert> {
    for await (const record of this.#state.values()) {
      const entry = this.#decode(0, record);
      if (entry) yield entry.alert;
    }
  }

  async trim(nowMs: number): Promise<void> {
    await this.#trimNews(nowMs);
    const due = nowMs - this.#statesTrimmedMs >= TRIM_STATES_EVERY_MS;
    if (!due && this.#statesWritten < this.#maxStates * TRIM_STATES_SHARE) return;
    this.#statesTrimmedMs = nowMs;
    this.#statesWritten = 0;
    await this.#trimStates(nowMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#level.close();
  }

  #trimNews(nowMs: number): Promise<void> {
    const trimmed = this.#trimming.then(() => this.#dropNews(nowMs));
    this.#trimming = trimmed.catch(() => {});
    return trimmed;
  }

  async #dropNews(nowMs: number): Promise<void> {
    // One percent more than needed, so that a full spool is not trimmed at each write.
    let excess = this.#count > this.#maxEntries ? this.#count - Math.floor(this.#maxEntries * 0.99) : 0;
    for (;;) {
      const batch = this.#level.batch();
      const keys: string[] = [];
      for await (const [key, record] of this.#news.iterator({ limit: TRIM_BATCH })) {
        const old = nowMs - writtenAt(record) > this.#retentionMs;
        if (excess <= 0 && !old) break;
        excess--;
        keys.push(key);
        batch.del(key, { sublevel: this.#news });
      }
      const waited = await this.#todo.getMany(keys);
      for (const [index, key] of keys.entries()) {
        if (waited[index] === undefined) continue;
        batch.del(key, { sublevel: this.#todo });
        this.#waitingCount--;
        this.#dropped.inc({ reason: 'unsent' });
      }
      await batch.write();
      this.#count -= keys.length;
      if (keys.length < TRIM_BATCH) return;
    }
  }

  async #trimStates(nowMs: number): Promise<void> {
    const resolved: { id: string; updatedMs: number }[] = [];
    let count = 0;
    for await (const [id, record] of this.#state.iterator()) {
      count++;
      const alert = this.#decode(0, record)?.alert;
      if (alert === undefined) resolved.push({ id, updatedMs: Number.NEGATIVE_INFINITY });
      else if (alert.state === AlertState.RESOLVED && !alert.suppressed) {
        resolved.push({ id, updatedMs: alert.updatedAt ? timestampMs(alert.updatedAt) : 0 });
      }
    }
    resolved.sort((a, b) => a.updatedMs - b.updatedMs);
    let batch = this.#level.batch();
    for (const { id, updatedMs } of resolved) {
      if (count <= this.#maxStates && nowMs - updatedMs <= RESOLVED_RETENTION_MS) break;
      batch.del(id, { sublevel: this.#state });
      count--;
      if (batch.length < TRIM_BATCH) continue;
      await batch.write();
      batch = this.#level.batch();
    }
    await batch.write();
  }

  #decode(seq: number, record: Uint8Array | undefined): SpoolEntry | undefined {
    if (record === undefined) return undefined;
    try {
      return decode(seq, record);
    } catch {
      this.#dropped.inc({ reason: 'damaged' });
      return undefined;
    }
  }
}

const NOTHING = new Uint8Array(0);
const HEADER_BYTES = 12;

/** Keys sort as text: 16 digits hold more transitions than a process can make. */
function keyOf(seq: number): string {
  return String(seq).padStart(16, '0');
}

/** CRC-32 (4 bytes, little-endian) of the rest, the time (float64), the message. */
function encode(entry: SpoolEntry): Uint8Array {
  const message = toBinary(AlertSchema, entry.alert);
  const record = Buffer.allocUnsafe(HEADER_BYTES + message.length);
  record.writeDoubleLE(entry.atMs, 4);
  record.set(message, HEADER_BYTES);
  record.writeUInt32LE(crc32(record.subarray(4)), 0);
  return record;
}

function decode(seq: number, record: Uint8Array): SpoolEntry {
  const buffer = Buffer.from(record.buffer, record.byteOffset, record.byteLength);
  if (buffer.length < HEADER_BYTES || buffer.readUInt32LE(0) !== crc32(buffer.subarray(4))) {
    throw new FleetError('data_loss', `Cannot read transition ${seq}: its checksum does not match`);
  }
  return { seq, atMs: buffer.readDoubleLE(4), alert: fromBinary(AlertSchema, buffer.subarray(HEADER_BYTES)) };
}

/** Zero where the record is too short: it is then the first to go. */
function writtenAt(record: Uint8Array): number {
  if (record.byteLength < HEADER_BYTES) return 0;
  return Buffer.from(record.buffer, record.byteOffset, record.byteLength).readDoubleLE(4);
}

/** LevelDB's lock is held by another process. */
export function isLocked(thrown: unknown): boolean {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if ((error as { code?: unknown }).code === 'LEVEL_LOCKED') return true;
  }
  return false;
}
