import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Tick } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Loss } from '#shared/model/loss.ts';
import { RangeSet } from '#shared/model/range-set.ts';
import { RUN_ID_BYTES } from '#shared/model/run.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { encodeDictionary } from '#shared/wire/dictionary.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import {
  decodeEventWire,
  decodeLossWire,
  encodeEvent,
  encodeLoss,
  hashBytes,
  lossFromWire,
  openRecord,
  RecordKind,
  sealRecord,
  splitTick,
} from '#shared/wire/record.ts';
import { DictionaryShelf } from './dictionary-shelf.ts';
import {
  ALL_FACTS,
  ALL_RECORDS,
  ALL_RUNS,
  factKey,
  parseFactKey,
  parseRecordKey,
  recordKey,
  runKey,
} from './keys.ts';
import { type Database, isLocked, openLevel } from './level-database.ts';
import { LostCount } from './lost-count.ts';
import { setAside, setAsideReason, writeBufferFacts } from './set-aside.ts';
import { decodeRun, encodeRun, type StoredRun } from './stored-run.ts';

export interface RecordBufferOptions {
  /** Holds `buffer/` (LevelDB) and `buffer.json`; made if missing. */
  readonly directory: string;
  readonly machineId: string;
  /** Records older than this are trimmed. */
  readonly maxAgeMs: number;
  /** High-water mark of the records' bytes; trimming goes down to nine tenths of it. */
  readonly maxBytes: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
}

/** A record as read back: what cannot be read is said, never skipped. */
export type StoredRecord =
  | { readonly sequence: number; readonly ok: true; readonly kind: RecordKind; readonly body: Uint8Array }
  | { readonly sequence: number; readonly ok: false; readonly why: string };

/** A few facts for each GPU that the node ever had. */
const MAX_FACTS = 1000;
/** Records looked at in one step of trimming, so that a tick never waits long behind it. */
const TRIM_STEP = 2000;
/** LevelDB frees the space of deleted records only when compacted (measured: 125 MB stayed 127 MB). */
const COMPACT_AFTER_BYTES = 64 * 1024 * 1024;

/**
 * The agent's store and forward: a ring of records on disk. A record is durable before its append resolves
 * (fsync), and appends of one moment share one fsync. Nothing is deleted by an acknowledgement: the ring ages
 * out, so it is also the black box and the source of replays; trimming a record that is not yet in the store is
 * itself a record, of kind loss.
 *
 * One owner, one process (LevelDB's lock). Close it after the last append has settled.
 */
export class RecordBuffer implements AsyncDisposable {
  /** Every run on disk by counter, the live one last. */
  readonly runs: StoredRun[];
  readonly live: StoredRun;
  readonly dictionaries: DictionaryShelf;
  readonly #db: Database;
  readonly #options: RecordBufferOptions;
  readonly #encoders = new Map<Dictionary, FrameEncoder>();
  readonly #facts: Map<string, string>;
  #pending: { key: Buffer; value: Uint8Array }[] = [];
  #lastFlush: Promise<void> = Promise.resolve();
  #nextFlush: Promise<void> | undefined;
  #bytes: number;
  #trimmedBytes = 0;
  #trimming: Promise<void> | undefined;
  #writable = true;
  #closed: Promise<void> | undefined;
  readonly #metrics;

  private constructor(
    options: RecordBufferOptions,
    db: Database,
    runs: StoredRun[],
    dictionaries: DictionaryShelf,
    facts: Map<string, string>,
    bytes: number,
  ) {
    this.#options = options;
    this.#db = db;
    this.runs = runs;
    this.live = runs.at(-1)!;
    this.dictionaries = dictionaries;
    this.#facts = facts;
    this.#bytes = bytes;
    this.#metrics = bufferMetrics(options.registry, this);
  }

  /**
   * Opens the buffer and begins a new run. A database that is damaged, of a foreign format or of another
   * machine is moved aside beside it and a new one begun; the loss is recorded and logged. Throws `unavailable`
   * where the folder cannot be written or another agent holds it.
   */
  static async open(options: RecordBufferOptions): Promise<RecordBuffer> {
    const { directory, logger } = options;
    await mkdir(directory, { recursive: true });
    const path = join(directory, 'buffer');
    const reason = await setAsideReason(directory, options.machineId);
    let loss = reason === undefined ? undefined : await setAside(path, reason, options.clock.now());
    let opened: Awaited<ReturnType<typeof openDatabase>>;
    try {
      opened = await openDatabase(path);
    } catch (error) {
      if (isLocked(error)) {
        throw new FleetError('unavailable', `Cannot open buffer ${path}: another agent has it open`, {
          cause: error,
        });
      }
      loss = await setAside(path, describeError(error), options.clock.now());
      opened = await openDatabase(path);
    }
    const previous = opened.runs.at(-1);
    const live: StoredRun = {
      id: randomBytes(RUN_ID_BYTES),
      counter: (previous?.counter ?? 0) + 1,
      first: 1,
      last: 0,
      cleanEnd: false,
      durable: new RangeSet(),
    };
    await opened.db.put(runKey(live.counter), encodeRun(live), { sync: true });
    await writeBufferFacts(directory, options.machineId);
    const buffer = new RecordBuffer(
      options,
      opened.db,
      [...opened.runs, live],
      opened.dictionaries,
      opened.facts,
      opened.bytes,
    );
    if (loss) await buffer.appendLoss(loss);
    const backlog = opened.runs.reduce((sum, run) => sum + Math.max(0, run.last - run.first + 1), 0);
    logger.info({ run: live.counter, records: backlog, bytes: opened.bytes }, 'buffer opened');
    return buffer;
  }

  /** Bytes of all records, by their own lengths: what the ring is bounded by. */
  get bytes(): number {
    return this.#bytes;
  }

  /** False after a write failed and until one succeeds: samples go on from memory, unbuffered. */
  get writable(): boolean {
    return this.#writable;
  }

  /**
   * Appends one tick, and its dictionary first where this run has not used it. The sequence is given at once,
   * so that the tick can be sent while it is being written; `stored` resolves when it is on disk and rejects
   * with `unavailable` when it cannot be written.
   */
  appendTick(tick: Tick): Appended {
    const { dictionary } = tick;
    let encoder = this.#encoders.get(dictionary);
    let dictionarySequence: number | undefined;
    if (!encoder) {
      const bytes = encodeDictionary(dictionary);
      this.#retire(dictionary.group);
      encoder = new FrameEncoder(dictionary);
      this.#encoders.set(dictionary, encoder);
      this.#pending.push(this.dictionaries.open(dictionary, bytes, this.live.counter));
      dictionarySequence = this.#append(sealRecord(RecordKind.Dictionary, bytes)).sequence;
    }
    const frame = encoder.encode(tick, true);
    const appended = this.#append(sealRecord(RecordKind.Tick, hashBytes(dictionary.hash), frame));
    return dictionarySequence === undefined ? appended : { ...appended, dictionarySequence };
  }

  appendEvent(event: FleetEvent): Appended {
    return this.#append(sealRecord(RecordKind.Event, encodeEvent(event)));
  }

  /** Resolves when the loss is on disk; it goes the way of every record. */
  async appendLoss(loss: Loss): Promise<void> {
    this.#options.logger.error({ ...loss }, 'samples lost');
    this.#metrics.lost.inc({ reason: loss.reason }, loss.samples);
    await this.#append(sealRecord(RecordKind.Loss, encodeLoss(loss))).stored;
  }

  /**
   * Records from `first` on in sequence, at most `last` and about `maxBytes`. A missing sequence and a record
   * that fails its checksum are entries with `ok: false`.
   */
  async read(run: StoredRun, first: number, last: number, maxBytes: number): Promise<StoredRecord[]> {
    const records: StoredRecord[] = [];
    let bytes = 0;
    let expected = first;
    const range = { gte: recordKey(run.counter, first), lte: recordKey(run.counter, last) };
    for await (const [key, value] of this.#db.iterator(range)) {
      const { sequence } = parseRecordKey(key);
      for (; expected < sequence; expected++)
        records.push({ sequence: expected, ok: false, why: 'it is missing' });
      expected = sequence + 1;
      try {
        records.push({ sequence, ok: true, ...openRecord(value) });
      } catch (error) {
        records.push({ sequence, ok: false, why: describeError(error) });
      }
      bytes += value.length;
      if (bytes >= maxBytes) return records;
    }
    for (; expected <= last; expected++)
      records.push({ sequence: expected, ok: false, why: 'it is missing' });
    return records;
  }

  /** Writes the durable marks; without fsync: a mark that is lost costs a repeat, never a sample. */
  async saveMarks(run: StoredRun): Promise<void> {
    await this.#db.put(runKey(run.counter), encodeRun(run));
  }

  /** A small fact that outlives the run, or undefined. */
  fact(name: string): string | undefined {
    return this.#facts.get(name);
  }

  /** Written with the next flush. At most MAX_FACTS are kept; a new one over that is not. */
  saveFact(name: string, value: string): void {
    if (this.#facts.get(name) === value || (this.#facts.size >= MAX_FACTS && !this.#facts.has(name))) return;
    this.#facts.set(name, value);
    this.#pending.push({ key: factKey(name), value: Buffer.from(value) });
    this.#flush().catch(() => {});
  }

  /** Trims by age and size, one step; call it now and then. Does nothing while a trim is running. */
  async trim(): Promise<void> {
    this.#trimming ??= this.#trim().finally(() => {
      this.#trimming = undefined;
    });
    await this.#trimming;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= (async () => {
      await this.#trimming?.catch(() => {});
      await this.#flush().catch(() => {});
      this.live.cleanEnd = true;
      await Promise.allSettled(
        this.runs.map((run) => this.#db.put(runKey(run.counter), encodeRun(run), { sync: true })),
      );
      await this.#db.close();
    })();
    await this.#closed;
  }

  /** A group has one dictionary in use: the one before it ends here. */
  #retire(group: string): void {
    for (const dictionary of this.#encoders.keys()) {
      if (dictionary.group !== group) continue;
      this.#encoders.delete(dictionary);
      const entry = this.dictionaries.close(dictionary, this.live.last);
      if (entry) this.#pending.push(entry);
    }
  }

  #append(record: Buffer): Appended {
    const sequence = ++this.live.last;
    this.#pending.push({ key: recordKey(this.live.counter, sequence), value: record });
    this.#bytes += record.length;
    return { sequence, bytes: record.length, stored: this.#flush() };
  }

  /** One batch and one fsync for all that was appended since the last began: callers of one moment share it. */
  #flush(): Promise<void> {
    this.#nextFlush ??= this.#lastFlush
      .catch(() => {})
      .then(() => {
        this.#nextFlush = undefined;
        this.#lastFlush = this.#writePending();
        return this.#lastFlush;
      });
    return this.#nextFlush;
  }

  async #writePending(): Promise<void> {
    const batch = this.#pending;
    if (batch.length === 0) return;
    this.#pending = [];
    try {
      await this.#db.batch(
        batch.map(({ key, value }) => ({ type: 'put' as const, key, value })),
        { sync: true },
      );
    } catch (error) {
      this.#setWritable(false, error);
      throw new FleetError('unavailable', 'Cannot write to the buffer', { cause: error });
    }
    this.#setWritable(true);
  }

  #setWritable(writable: boolean, cause?: unknown): void {
    if (!writable) this.#metrics.writeFailures.inc();
    if (writable === this.#writable) return;
    this.#writable = writable;
    if (writable) this.#options.logger.info('buffer is writable again');
    else
      this.#options.logger.error(
        { cause: describeError(cause) },
        'buffer cannot be written: samples go on from memory, unbuffered',
      );
  }

  async #trim(): Promise<void> {
    const { clock, maxAgeMs, maxBytes, logger } = this.#options;
    const oldest = clock.now() - maxAgeMs;
    const overBytes = this.#bytes > maxBytes ? this.#bytes - Math.floor(maxBytes * 0.9) : 0;
    const lost = new LostCount('trimmed');
    let freed = 0;
    let waiting = 0;
    const waitingLost: Parameters<LostCount['add']>[] = [];
    let through: { run: number; sequence: number } | undefined;
    for await (const [key, value] of this.#db.iterator({ ...ALL_RECORDS, limit: TRIM_STEP })) {
      const at = parseRecordKey(key);
      const run = this.runs.find((one) => one.counter === at.run);
      if (!run || (run === this.live && at.sequence >= this.live.last)) break;
      const { fromMs, timeMs, samples } = this.#describe(value);
      const needed = freed < overBytes || (timeMs !== undefined && timeMs < oldest);
      // A record without a time of its own goes with the next one that has one.
      if (!needed && timeMs !== undefined) break;
      if (!run.durable.has(at.sequence)) waitingLost.push([fromMs ?? timeMs, samples, timeMs]);
      waiting += value.length;
      if (!needed) continue;
      freed += waiting;
      waiting = 0;
      for (const args of waitingLost.splice(0)) lost.add(...args);
      through = at;
    }
    if (!through) return;
    if (lost.records > 0) {
      await this.appendLoss(
        lost.toLoss(`${lost.records} records left the ring before the store had them for good`),
      );
    }
    await this.#db.clear({ gte: ALL_RECORDS.gte, lte: recordKey(through.run, through.sequence) });
    this.#bytes = Math.max(0, this.#bytes - freed);
    this.#forget(through);
    await this.dictionaries.forget(through.run, through.sequence);
    this.#trimmedBytes += freed;
    if (this.#trimmedBytes >= COMPACT_AFTER_BYTES) {
      this.#trimmedBytes = 0;
      await this.#db.compactRange(ALL_RECORDS.gte, recordKey(through.run, through.sequence));
    }
    logger.debug({ bytes: freed, run: through.run, sequence: through.sequence }, 'buffer trimmed');
  }

  /** Runs whose records are all gone leave the table. */
  #forget(through: { run: number; sequence: number }): void {
    for (const run of this.runs) {
      if (run.counter < through.run) run.first = run.last + 1;
      else if (run.counter === through.run) run.first = through.sequence + 1;
    }
    while (this.runs.length > 1 && this.runs[0]!.first > this.runs[0]!.last) {
      const gone = this.runs.shift()!;
      this.#db.del(runKey(gone.counter)).catch(() => {});
    }
  }

  /** Time and number of samples of a record; undefined time where it has none of its own. */
  #describe(value: Uint8Array): { fromMs?: number; timeMs: number | undefined; samples: number } {
    try {
      const { kind, body } = openRecord(value);
      if (kind === RecordKind.Event) return { timeMs: Number(decodeEventWire(body).timeUnixMs), samples: 0 };
      if (kind === RecordKind.Loss) {
        const { fromMs, toMs, samples } = lossFromWire(decodeLossWire(body));
        return { fromMs, timeMs: toMs, samples };
      }
      if (kind === RecordKind.Tick) {
        const { hash, frame } = splitTick(body);
        const dictionary = this.dictionaries.get(hash);
        if (dictionary) {
          const decoder = new FrameDecoder(dictionary);
          return { timeMs: decoder.decode(frame), samples: countPresent(decoder.states) };
        }
      }
    } catch (error) {
      this.#options.logger.debug(
        { cause: describeError(error) },
        'a record that leaves the ring cannot be read',
      );
    }
    return { timeMs: undefined, samples: 0 };
  }
}

export interface Appended {
  readonly sequence: number;
  /** Of the record on disk: what a lane's window counts. */
  readonly bytes: number;
  readonly stored: Promise<void>;
  /** Set where the tick's dictionary was recorded just before it. */
  readonly dictionarySequence?: number;
}

export function countPresent(states: Uint8Array): number {
  let count = 0;
  for (const state of states) if (state === SlotState.Present) count++;
  return count;
}

async function openDatabase(path: string) {
  const db = await openLevel(path);
  try {
    const runs: StoredRun[] = [];
    for await (const [key, value] of db.iterator(ALL_RUNS)) runs.push(decodeRun(key.readUInt32BE(1), value));
    for (const run of runs) await findEnds(db, run);
    const dictionaries = await DictionaryShelf.load(db);
    const facts = new Map<string, string>();
    for await (const [key, value] of db.iterator({ ...ALL_FACTS, limit: MAX_FACTS })) {
      facts.set(parseFactKey(key), Buffer.from(value).toString());
    }
    const bytes = await db.approximateSize(ALL_RECORDS.gte, ALL_RECORDS.lt);
    return { db, runs, dictionaries, facts, bytes };
  } catch (error) {
    await db.close().catch(() => {});
    throw error;
  }
}

async function findEnds(db: Database, run: StoredRun): Promise<void> {
  const range = { gte: recordKey(run.counter, 0), lt: recordKey(run.counter + 1, 0) };
  const [first] = await db.keys({ ...range, limit: 1 }).all();
  const [last] = await db.keys({ ...range, limit: 1, reverse: true }).all();
  if (!first || !last) return;
  run.first = parseRecordKey(first).sequence;
  run.last = parseRecordKey(last).sequence;
}

function bufferMetrics(registry: Registry, buffer: RecordBuffer) {
  gauge(registry, {
    name: 'gpufleet_agent_buffer_bytes',
    help: 'Bytes of the records in the buffer.',
    collect() {
      this.set(buffer.bytes);
    },
  });
  gauge(registry, {
    name: 'gpufleet_agent_buffer_writable',
    help: '1 while the buffer can be written, 0 while samples go on from memory alone.',
    collect() {
      this.set(buffer.writable ? 1 : 0);
    },
  });
  return {
    lost: counter(registry, {
      name: 'gpufleet_agent_lost_samples_total',
      help: 'Samples that will never reach the store, by reason; each is also a loss record.',
      labelNames: ['reason'],
    }),
    writeFailures: counter(registry, {
      name: 'gpufleet_agent_buffer_write_failures_total',
      help: 'Batches that could not be written to the buffer.',
    }),
  };
}
