import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { Range } from '#shared/model/range-set.ts';
import { openRecord, RecordKind, sealRecord } from '#shared/wire/record.ts';
import { MAX_SEGMENT_RECORDS, SegmentBuilder } from '#shared/wire/segment.ts';
import type { BatchWriter, Write } from './batch-writer.ts';
import { isRecordKey, parseRecordKey, recordKey } from './keys.ts';
import type { OpenStore } from './level-database.ts';
import { summarise } from './record-summary.ts';
import type { StoredRun } from './stored-run.ts';

/**
 * Records younger than this are left alone: without a backlog each is durable after some 30 s and leaves in its
 * time, and coding it anew would be work for nothing.
 */
export const COMPACT_AFTER_MS = 120_000;
/** The live run's newest records are never touched, whatever the clock says. */
const LEAVE_NEWEST = MAX_SEGMENT_RECORDS;
/** Keys that one step passes over at most. */
const STEP_KEYS = 512;

export interface SegmentCompactorOptions {
  readonly store: OpenStore;
  readonly writer: BatchWriter;
  readonly runs: readonly StoredRun[];
  readonly live: StoredRun;
  readonly dictionaryOf: (hash: bigint) => Dictionary | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Bytes that the records took and the segment does not. */
  readonly onReplaced: (first: Buffer, last: Buffer, bytesBefore: number, bytesAfter: number) => void;
}

/** Turns a backlog of single records into segments, which take about half the bytes, a step at a time. */
export class SegmentCompactor {
  readonly #options: SegmentCompactorOptions;
  /** By run counter: everything below was looked at. */
  readonly #cursors = new Map<number, number>();

  constructor(options: SegmentCompactorOptions) {
    this.#options = options;
  }

  /** Writes at most one segment. False when there is nothing (more) to do now. */
  async step(): Promise<boolean> {
    const { runs } = this.#options;
    for (const counter of this.#cursors.keys()) {
      if (!runs.some((run) => run.counter === counter)) this.#cursors.delete(counter);
    }
    for (const run of runs) {
      const range = this.#next(run);
      if (range && (await this.#compact(run, range))) return true;
    }
    return false;
  }

  /** The next stretch of the run that is not durable and not yet looked at. */
  #next(run: StoredRun): Range | undefined {
    const last = run === this.#options.live ? run.last - LEAVE_NEWEST : run.last;
    const from = Math.max(run.first, this.#cursors.get(run.counter) ?? 0);
    const first = run.durable.firstMissing(from);
    return first > last ? undefined : { first, last: run.durable.missingUntil(first, last) };
  }

  /** Compacts the beginning of the range. False where all of it is too young. */
  async #compact(run: StoredRun, range: Range): Promise<boolean> {
    const { store } = this.#options;
    const stretch = new Stretch(this.#options.dictionaryOf);
    const bounds = { gte: recordKey(run.counter, range.first), lte: recordKey(run.counter, range.last) };
    if (run === this.#options.live && (await this.#isYoungAt(run, range.first + MAX_SEGMENT_RECORDS - 1)))
      return false;
    let cursor = range.first;
    let tooYoung = false;
    let passed = 0;
    for await (const [key, value] of store.db.iterator(bounds)) {
      if (!isRecordKey(key)) continue;
      const { sequence } = parseRecordKey(key);
      tooYoung = run === this.#options.live && this.#isTooYoung(key, value);
      if (tooYoung || (++passed > STEP_KEYS && stretch.count === 0)) break;
      const taken = !isSegment(value) && stretch.take(sequence, key, value);
      if (!taken && stretch.count > 0) break;
      cursor = sequence + 1;
      if (stretch.isFull) break;
    }
    // The end of what is old enough: the segment grows to its full length first.
    if (tooYoung && !stretch.isFull) return false;
    if (stretch.count > 1) await this.#write(run, stretch);
    // Nothing but holes up to the end of the range.
    this.#cursors.set(run.counter, cursor === range.first && stretch.count === 0 ? range.last + 1 : cursor);
    return true;
  }

  /** One read tells that there is not enough yet. */
  async #isYoungAt(run: StoredRun, sequence: number): Promise<boolean> {
    const key = recordKey(run.counter, sequence);
    const value = await this.#options.store.db.get(key);
    return value !== undefined && this.#isTooYoung(key, value);
  }

  #isTooYoung(key: Buffer, value: Uint8Array): boolean {
    const { clock, dictionaryOf } = this.#options;
    const [one] = summarise(key, value, dictionaryOf);
    return one?.timeMs !== undefined && one.timeMs > clock.now() - COMPACT_AFTER_MS;
  }

  async #write(run: StoredRun, stretch: Stretch): Promise<void> {
    const { writer, onReplaced, logger } = this.#options;
    const first = stretch.keys[0]!;
    const segment = sealRecord(first, RecordKind.Segment, stretch.builder.finish());
    const last = stretch.keys.at(-1)!;
    // Few and tiny records do not gain.
    if (segment.length >= stretch.bytes) return;
    // Marks that moved meanwhile do no harm: a segment of durable records is only a segment.
    const gone = stretch.keys.slice(1).map((key): Write => ({ type: 'del', key }));
    writer.add(...gone, { type: 'put', key: first, value: segment });
    await writer.flush('never');
    onReplaced(first, last, stretch.bytes, segment.length);
    logger.debug({ run: run.counter, records: stretch.count, bytes: segment.length }, 'records compacted');
  }
}

/** Contiguous single records that will be one segment. */
class Stretch {
  readonly keys: Buffer[] = [];
  readonly builder: SegmentBuilder;
  bytes = 0;
  #next = -1;

  constructor(dictionaryOf: (hash: bigint) => Dictionary | undefined) {
    this.builder = new SegmentBuilder(dictionaryOf);
  }

  get count(): number {
    return this.keys.length;
  }

  get isFull(): boolean {
    return this.builder.isFull;
  }

  /** False where the record does not follow on, or cannot be read: it is left as it lies. */
  take(sequence: number, key: Buffer, value: Uint8Array): boolean {
    if (this.count > 0 && sequence !== this.#next) return false;
    try {
      const { kind, body } = openRecord(key, value);
      this.builder.add(kind, body);
    } catch {
      return false;
    }
    this.keys.push(key);
    this.bytes += value.length;
    this.#next = sequence + 1;
    return true;
  }
}

/** By its kind alone: a backlog that was compacted before a restart is passed over without being checked. */
function isSegment(value: Uint8Array): boolean {
  return value[1] === RecordKind.Segment;
}
