import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Tick } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Loss } from '#shared/model/loss.ts';
import { RUN_ID_BYTES, runName } from '#shared/model/run.ts';
import { countPresent } from '#shared/model/slot-state.ts';
import { encodeDictionary } from '#shared/wire/dictionary.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import { encodeEvent, encodeLoss, hashBytes, RecordKind, sealRecord } from '#shared/wire/record.ts';
import { type AppendedFacts, BatchWriter, type FsyncPolicy, type Write } from './batch-writer.ts';
import { bufferMetrics } from './buffer-metrics.ts';
import { type Departed, DepartedLog, type RecordRange } from './departed-log.ts';
import type { DictionaryShelf } from './dictionary-shelf.ts';
import { DiskRecovery } from './disk-recovery.ts';
import { factKey, recordKey, runKey } from './keys.ts';
import { type OpenStore, openLevel, writeBufferBytes } from './level-database.ts';
import { MAX_FACTS, type OpenedStore, type OpenStoreOptions, openStore, replaceStore } from './open-store.ts';
import { RecentTimes } from './recent-times.ts';
import { RecordReader, type StoredRecord } from './record-reader.ts';
import { ReserveFile } from './reserve-file.ts';
import { RingTrimmer, type RingTrimmerOptions } from './ring-trimmer.ts';
import { SegmentCompactor } from './segment-compactor.ts';
import { asideReason, writeBufferFacts } from './set-aside.ts';
import { encodeRun, MAX_CLOCK_STEPS, newRun, type StoredRun } from './stored-run.ts';
import { MAX_TAIL_RUNS, TailFile, type TailRun, tailPath } from './tail-file.ts';
import { lossOfRanges, UnbufferedLedger } from './unbuffered-ledger.ts';

export interface RecordBufferOptions {
  /** Holds `buffer/` (LevelDB), `buffer.json`, `buffer.tail` and `buffer.reserve`; made if missing. */
  readonly directory: string;
  readonly machineId: string;
  /** Records older than this are trimmed. */
  readonly maxAgeMs: number;
  /**
   * High-water mark of what lies on disk; trimming goes down to nine tenths of it. Between two trims the folder
   * may grow by what is recorded, and by the write buffer (a sixteenth of this, 64 KiB to 2 MiB) four times: two
   * logs and the reserve of two.
   */
  readonly maxBytes: number;
  /** `tick` where not set. */
  readonly fsync?: FsyncPolicy | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
}

/** How often `buffer.tail` is written at most. */
const TAIL_EVERY_MS = 1_000;
/** A tick that is earlier than one before it by more than this is after a step of the clock. */
const CLOCK_STEP_MS = 1_000;
/** Segments that one call of `compact` writes at most: some 5 ms of work each for 400 series. */
const SEGMENTS_PER_CALL = 16;

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
  /** Sequence of the newest loss record, 0 without one. */
  lossesThrough = 0;
  readonly dictionaries: DictionaryShelf;
  readonly #store: OpenStore;
  readonly #options: RecordBufferOptions;
  readonly #encoders = new Map<Dictionary, FrameEncoder>();
  readonly #facts: Map<string, string>;
  readonly #writer: BatchWriter;
  readonly #reader: RecordReader;
  readonly #trimmer: RingTrimmer;
  readonly #compactor: SegmentCompactor;
  readonly #recovery: DiskRecovery;
  readonly #reserve: ReserveFile;
  readonly #tail: TailFile;
  readonly #unbuffered = new UnbufferedLedger();
  #fateOf: RingTrimmerOptions['fateOf'] = () => undefined;
  readonly #metrics;
  #written = 0;
  readonly #recentTimes = new RecentTimes();
  readonly #departed: DepartedLog;
  /** Since the clock last stepped back. */
  #newestMs = 0;
  #tailAt = Number.NEGATIVE_INFINITY;
  /** For the tail file. */
  #pending: { pendingFromMs: number; pendingSamples: number } | undefined;
  /** Trimming and compaction, one after the other. */
  #tidying: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;

  private constructor(options: RecordBufferOptions, opened: OpenedStore, tail: TailFile) {
    const { clock, logger } = options;
    this.#options = options;
    this.#store = { db: opened.db };
    this.live = newRun(randomBytes(RUN_ID_BYTES), opened.lastCounter + 1);
    this.runs = [...opened.runs, this.live];
    this.dictionaries = opened.dictionaries;
    this.#facts = opened.facts;
    this.#departed = new DepartedLog(this);
    this.#tail = tail;
    this.#reserve = reserveOf(options);
    this.#recovery = new DiskRecovery({
      reserve: this.#reserve,
      clock,
      logger,
      reopen: () => this.#reopen(),
      replace: (why) => this.#replace(why),
    });
    this.#writer = new BatchWriter({
      store: this.#store,
      fsync: options.fsync ?? 'tick',
      clock,
      syncMark: () => this.#mark(this.live),
      ready: () => this.#recovery.ready(),
      written: (batch) => this.#onWritten(batch),
      failed: (batch, error) => this.#onFailed(batch, error),
    });
    const dictionaryOf = (hash: bigint) => this.dictionaries.get(hash);
    const isUnbuffered = (run: number, sequence: number): boolean =>
      run === this.live.counter && this.#unbuffered.has(sequence);
    this.#reader = new RecordReader(this.#store, dictionaryOf, isUnbuffered);
    const shared = { store: this.#store, writer: this.#writer, runs: this.runs, live: this.live };
    this.#trimmer = new RingTrimmer({
      ...options,
      ...shared,
      dictionaryOf,
      forgetDictionaries: (run, sequence) => this.dictionaries.forget(run, sequence),
      addLoss: (loss) => this.#addLoss(loss, false),
      isUnbuffered,
      fateOf: (run, sequence) => this.#fateOf(run, sequence),
      departed: this.#departed,
      giveUpUnbuffered: (run, last) => {
        if (run === this.live.counter) this.#unbuffered.settle(0, last, 'lost');
        this.#writeTail();
      },
    });
    this.#compactor = new SegmentCompactor({
      ...options,
      ...shared,
      dictionaryOf,
      onReplaced: (first, last, before, after) => {
        this.#trimmer.wrote(after);
        this.#trimmer.addGarbage(first, last, before);
        this.#metrics.compacted.inc(before - after);
      },
    });
    this.#metrics = bufferMetrics(options.registry, this);
  }

  /**
   * Opens the buffer and begins a new run. A database that is damaged is moved aside, and what can be read of it
   * is copied into a new one and delivered from there; one of a newer format or of another machine is moved aside
   * as it is. What is lost by that is recorded and logged. Throws `unavailable` where the folder cannot be written
   * or another agent holds it.
   */
  static async open(options: RecordBufferOptions): Promise<RecordBuffer> {
    const { directory, logger } = options;
    await mkdir(directory, { recursive: true });
    const opened = await openStore(storeOptions(options)).catch(async (error: unknown) => {
      // A full disk: what is kept for that may be enough.
      await reserveOf(options).release();
      if (error instanceof FleetError && error.code === 'unavailable' && isFull(error)) {
        return openStore(storeOptions(options));
      }
      throw error;
    });
    const losses = [...opened.losses];
    for (const run of opened.runs) {
      if (run.unbuffered.length === 0) continue;
      losses.push(lossOfRanges(run.unbuffered));
      // Neither on disk nor in memory: nobody shall look for them.
      for (const { first, last } of run.unbuffered) run.durable.add(first, last);
      run.unbuffered = [];
    }
    const buffer = new RecordBuffer(options, opened, await TailFile.open(tailPath(directory)));
    await buffer.#begin(losses);
    const backlog = opened.runs.reduce((sum, run) => sum + Math.max(0, run.last - run.first + 1), 0);
    logger.info({ run: buffer.live.counter, records: backlog, bytes: buffer.bytes }, 'buffer opened');
    return buffer;
  }

  /** Bytes on disk when last measured, and what was written since: what the ring is bounded by. */
  get bytes(): number {
    return this.#trimmer.bytes;
  }

  /** The ring's size. */
  get maxBytes(): number {
    return this.#options.maxBytes;
  }

  /** False after a write failed and until one succeeds: samples go on from memory, unbuffered. */
  get writable(): boolean {
    return !this.#recovery.isFailed;
  }

  /** Records that could not be written, and of which it is not known yet whether the store got them. */
  get unbuffered(): number {
    return this.#unbuffered.size;
  }

  /**
   * Appends one tick, and its dictionary first where this run has not used it. The sequence is given at once,
   * so that the tick can be sent while it is being written; `stored` resolves when it is on disk and rejects
   * with `unavailable` when it cannot be written: then it never will be, and is `unbuffered`.
   */
  appendTick(tick: Tick): Appended {
    const { dictionary } = tick;
    let encoder = this.#encoders.get(dictionary);
    let dictionarySequence: number | undefined;
    if (!encoder) {
      encoder = new FrameEncoder(dictionary);
      encoder.encode(tick, true);
      const bytes = encodeDictionary(dictionary);
      this.#retire(dictionary.group);
      this.#encoders.set(dictionary, encoder);
      this.#writer.add(this.dictionaries.open(dictionary, bytes, this.live.counter));
      dictionarySequence = this.#add(RecordKind.Dictionary, { samples: 0 }, bytes).sequence;
    }
    const frame = encoder.encode(tick, true);
    const samples = countPresent(tick.states);
    const facts = { samples, timeMs: tick.timestampMs };
    const added = this.#add(RecordKind.Tick, facts, hashBytes(dictionary.hash), frame);
    this.#noteTime(added.sequence, tick.timestampMs);
    const appended = { ...added, samples, stored: this.#writer.flush('record') };
    return dictionarySequence === undefined ? appended : { ...appended, dictionarySequence };
  }

  appendEvent(event: FleetEvent): Appended {
    const facts = { samples: 0, timeMs: event.timestampMs };
    const added = this.#add(RecordKind.Event, facts, encodeEvent(event));
    return { ...added, samples: 0, stored: this.#writer.flush('record') };
  }

  /**
   * Resolves when the loss is on disk; it goes the way of every record. While the disk takes nothing it is kept
   * in memory, and this resolves all the same.
   */
  async appendLoss(loss: Loss): Promise<void> {
    this.#addLoss(loss, true);
    await this.#writer.flush('always').catch((error: unknown) => {
      this.#options.logger.warn({ cause: describeError(error) }, 'a loss record waits for the disk');
    });
  }

  /**
   * Records from `first` on in sequence, at most `last` and about `maxBytes` (a segment is never split for that:
   * up to 64 KiB more). A missing sequence and a record that fails its checksum are entries with `ok: false`, one
   * for each sequence; so is one that was never on disk, marked `unbuffered`.
   *
   * In each result the first tick of each dictionary is a keyframe. A later one of the same dictionary is a
   * keyframe, or a difference from the one before it of that dictionary in the same result.
   *
   * What was appended before the call and is still being written is waited for: a tick is sent meanwhile, and an answer
   * to it may come first.
   */
  async read(run: StoredRun, first: number, last: number, maxBytes: number): Promise<StoredRecord[]> {
    if (run === this.live) await this.#writer.settled;
    return this.#reader.read(run, first, last, maxBytes);
  }

  /** Unix ms of the record, or of the nearest later one that has a time; undefined where none has. A few reads. */
  async timeOf(run: StoredRun, sequence: number): Promise<number | undefined> {
    const recent = run === this.live ? this.#recentTimes.from(Math.max(sequence, run.first)) : undefined;
    return recent ?? this.#reader.timeOf(run, sequence);
  }

  /**
   * The lowest sequence of the run whose time is at or after `timeMs`; undefined where all are before it. Some 40
   * reads, and as many again for each step back of the clock, before which times are looked for first.
   */
  firstAtOrAfter(run: StoredRun, timeMs: number): Promise<number | undefined> {
    return this.#reader.firstAtOrAfter(run, timeMs);
  }

  /** About how many samples first..last hold, from the average of the run. */
  samplesIn(run: StoredRun, first: number, last: number): number {
    const { records, samples } = run.appended;
    return records === 0 ? 0 : Math.round((Math.max(0, last - first + 1) * samples) / records);
  }

  /**
   * The fate of records that were never on disk: `stored` once they are durable in the store; `lost` when nobody
   * can send them any more (a read gave them back as `unbuffered`). Lost ones become a loss record of the reason
   * `unbuffered`, with their exact count, as soon as the disk can be written; no other loss must be written for
   * them. May be called for any range: what was on disk is not touched.
   */
  settleUnbuffered(
    run: Pick<StoredRun, 'counter'>,
    first: number,
    last: number,
    fate: 'stored' | 'lost',
  ): void {
    if (run.counter !== this.live.counter || this.#unbuffered.size === 0) return;
    this.#unbuffered.settle(first, last, fate);
    if (this.writable) this.#appendWaitingLosses();
  }

  /**
   * Who can say where records stand that are not known to be durable: those that leave the ring then are told
   * apart from those that nobody ever got.
   */
  askFate(fateOf: RingTrimmerOptions['fateOf']): void {
    this.#fateOf = fateOf;
  }

  /**
   * What those of the ranges held that left the ring when the store had them for good, by estimate; undefined where
   * none did. Each is said once: the store was set back, and they cannot be sent again.
   */
  takeDeparted(ranges: readonly RecordRange[]): Departed | undefined {
    return this.#departed.take(ranges);
  }

  /** Writes the durable marks; without fsync: a mark that is lost costs a repeat, never a sample. */
  async saveMarks(run: StoredRun): Promise<void> {
    await this.#estimatePending();
    // The tail is written with the mark, once.
    this.#tailAt = Number.NEGATIVE_INFINITY;
    this.#writer.add(this.#mark(run));
    await this.#writer.flush('never');
  }

  /** A small fact that outlives the run, or undefined. */
  fact(name: string): string | undefined {
    return this.#facts.get(name);
  }

  /** Written with the next flush. At most MAX_FACTS are kept; a new one over that is not. */
  saveFact(name: string, value: string): void {
    if (this.#facts.get(name) === value || (this.#facts.size >= MAX_FACTS && !this.#facts.has(name))) return;
    this.#facts.set(name, value);
    this.#writer.add({ type: 'put', key: factKey(name), value: Buffer.from(value) });
    this.#writer.flush('record').catch(() => {});
  }

  /** Trims by age and size, in steps, until both hold; call it every few seconds. */
  trim(): Promise<void> {
    return this.#tidy(async () => {
      if (!this.writable) return;
      await this.#trimmer.trim();
    });
  }

  /**
   * Compacts some of the backlog, if there is any; call it every few seconds. Resolves to true when there is
   * more to do now.
   */
  compact(): Promise<boolean> {
    return this.#tidy(async () => {
      for (let i = 0; i < SEGMENTS_PER_CALL; i++) {
        if (!this.writable) return false;
        if (await this.#compactor.step()) continue;
        await this.#trimmer.collect();
        return false;
      }
      return true;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= (async () => {
      await this.#tidying.catch(() => {});
      await this.#writer.drain();
      this.live.cleanEnd = true;
      this.#appendWaitingLosses();
      this.#writer.add(...this.runs.map((run) => this.#mark(run)));
      await this.#writer.drain();
      this.#writeTail();
      await this.#tail[Symbol.asyncDispose]();
      await this.#store.db.close();
    })();
    await this.#closed;
  }

  /** The first batch of the new run. */
  async #begin(losses: readonly Loss[]): Promise<void> {
    const { directory, machineId, logger } = this.#options;
    this.#writer.add(...this.runs.map((run) => this.#mark(run)));
    for (const loss of losses) this.#addLoss(loss, true);
    try {
      await this.#writer.flush('always');
      await writeBufferFacts(directory, machineId);
    } catch (error) {
      await this.#store.db.close();
      throw new FleetError('unavailable', `Cannot begin a run in ${directory}`, { cause: error });
    }
    await this.#reserve.keep().catch((error: unknown) => {
      logger.warn({ cause: describeError(error) }, 'the disk has no room for the reserve');
    });
    await this.#trimmer.measure();
  }

  /** A group has one dictionary in use: the one before it ends here. */
  #retire(group: string): void {
    for (const dictionary of this.#encoders.keys()) {
      if (dictionary.group !== group) continue;
      this.#encoders.delete(dictionary);
      const entry = this.dictionaries.close(dictionary, this.live.last);
      if (entry) this.#writer.add(entry);
    }
  }

  #addLoss(loss: Loss, again: boolean): void {
    this.#options.logger.error({ ...loss }, 'samples lost');
    this.#metrics.lost.inc({ reason: loss.reason }, loss.samples);
    const facts = again ? { samples: 0, loss } : { samples: 0 };
    this.lossesThrough = this.#add(RecordKind.Loss, facts, encodeLoss(loss)).sequence;
  }

  /** Gives the record its sequence, and it to the next batch. */
  #add(
    kind: RecordKind,
    facts: Omit<AppendedFacts, 'sequence'>,
    ...body: Uint8Array[]
  ): { sequence: number; bytes: number } {
    const sequence = ++this.live.last;
    this.live.appended.records++;
    this.live.appended.samples += facts.samples;
    const key = recordKey(this.live.counter, sequence);
    const value = sealRecord(key, kind, ...body);
    this.#writer.add({ type: 'put', key, value, record: { sequence, ...facts } });
    this.#recentTimes.note(sequence, facts.timeMs);
    this.#trimmer.wrote(value.length);
    return { sequence, bytes: value.length };
  }

  /** Groups read their sources at slightly different moments: that is no step. */
  #noteTime(sequence: number, timestampMs: number): void {
    const { clockSteps } = this.live;
    if (timestampMs < this.#newestMs - CLOCK_STEP_MS && clockSteps.length < MAX_CLOCK_STEPS) {
      clockSteps.push(sequence);
      this.#newestMs = timestampMs;
      this.#writer.add(this.#mark(this.live));
    }
    this.#newestMs = Math.max(this.#newestMs, timestampMs);
  }

  #mark(run: StoredRun): Write {
    const current = run === this.live ? { ...run, unbuffered: this.#unbuffered.ranges() } : run;
    return { type: 'put', key: runKey(run.counter), value: encodeRun(current) };
  }

  #onWritten(batch: readonly Write[]): void {
    for (const write of batch) {
      if (write.type === 'put' && write.record) this.#written = write.record.sequence;
    }
    const now = this.#options.clock.monotonic();
    if (now - this.#tailAt >= TAIL_EVERY_MS) {
      this.#tailAt = now;
      this.#writeTail();
    }
  }

  #onFailed(batch: readonly Write[], error: unknown): void {
    const { logger } = this.#options;
    this.#metrics.writeFailures.inc();
    if (!this.#recovery.isFailed) {
      const cause = describeError(error);
      logger.error({ cause }, 'buffer cannot be written: samples go on from memory, unbuffered');
    }
    this.#recovery.failed(error);
    for (const write of batch) {
      if (write.type === 'put' && write.record) this.#unbuffered.add(write.record);
    }
  }

  async #reopen(): Promise<void> {
    const { directory, machineId } = this.#options;
    await this.#store.db.close();
    // Without this LevelDB would begin an empty database where someone took the files away.
    const reason = await asideReason(directory, machineId);
    if (reason) return this.#replace(reason.why);
    this.#store.db = await openLevel(join(directory, 'buffer'), writeBufferBytes(this.#options.maxBytes));
    await this.#restored();
  }

  async #replace(why: string): Promise<void> {
    await this.#store.db.close();
    const opened = await replaceStore({ why, ours: true, salvage: true }, storeOptions(this.#options));
    this.#store.db = opened.db;
    const facts = [...this.#facts].map(
      ([name, value]): Write => ({ type: 'put', key: factKey(name), value: Buffer.from(value) }),
    );
    await this.#store.db.batch([...this.dictionaries.all(), ...facts] as never, { sync: true });
    await writeBufferFacts(this.#options.directory, this.#options.machineId);
    for (const loss of opened.losses) this.#unbuffered.addLoss(loss);
    await this.#restored();
  }

  /** The disk works again: memory knows more than the disk does. */
  async #restored(): Promise<void> {
    const marks = [...this.dictionaries.all(), ...this.runs.map((run) => this.#mark(run))];
    await this.#store.db.batch(marks as never, { sync: true });
    this.#options.logger.info('buffer is writable again');
    setImmediate(() => {
      if (this.#closed) return;
      this.#appendWaitingLosses();
      if (!this.#recovery.isTight) return;
      this.#tidy(() => this.#trimmer.makeRoom()).catch((error: unknown) => {
        this.#options.logger.warn({ cause: describeError(error) }, 'cannot make room on the disk');
      });
    });
  }

  #appendWaitingLosses(): void {
    const losses = this.#unbuffered.takeLosses();
    if (losses.length === 0) return;
    for (const loss of losses) this.#addLoss(loss, true);
    this.#writer.add(this.#mark(this.live));
    this.#writer.flush('always').catch(() => {});
  }

  #tidy<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#tidying.catch(() => {}).then(work);
    this.#tidying = done;
    return done;
  }

  /** What losing the whole buffer would cost now. */
  async #estimatePending(): Promise<void> {
    let pendingSamples = 0;
    let pendingFromMs: number | undefined;
    for (const run of this.runs) {
      for (const { first, last } of run.durable.gaps(run.first, run.last)) {
        pendingSamples += this.samplesIn(run, first, last);
        pendingFromMs ??= await this.timeOf(run, first).catch(() => undefined);
      }
    }
    this.#pending = pendingFromMs === undefined ? undefined : { pendingFromMs, pendingSamples };
  }

  #writeTail(): void {
    const wanted = this.runs.map((run): TailRun => {
      const last = run === this.live ? this.#written : run.last;
      return [runName(run.id), run.counter, run.durable.firstMissing(run.first), last];
    });
    this.#tail.write({
      run: runName(this.live.id),
      counter: this.live.counter,
      last: this.#written,
      clean: this.live.cleanEnd,
      ...this.#pending,
      runs: wanted.filter(([, , first, last]) => first <= last).slice(-MAX_TAIL_RUNS),
    });
  }
}

export interface Appended {
  readonly sequence: number;
  /** Of the record on disk: what a lane's window counts. */
  readonly bytes: number;
  /** Slots that hold a value. */
  readonly samples: number;
  readonly stored: Promise<void>;
  /** Set where the tick's dictionary was recorded just before it. */
  readonly dictionarySequence?: number;
}

const storeOptions = (options: RecordBufferOptions): OpenStoreOptions => ({
  ...options,
  writeBufferBytes: writeBufferBytes(options.maxBytes),
});

/** Two write buffers: coming up again writes the log's records into a table, and begins a new log. */
const reserveOf = ({ directory, maxBytes }: RecordBufferOptions): ReserveFile =>
  new ReserveFile(join(directory, 'buffer.reserve'), 2 * writeBufferBytes(maxBytes));

const isFull = (error: unknown): boolean => /No space left|quota/i.test(describeError(error));
