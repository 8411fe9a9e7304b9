import { describeError } from '#shared/errors/fleet-error.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { openRecord, RecordKind, splitTick } from '#shared/wire/record.ts';
import { openSegment, openSegmentFrom, segmentLength } from '#shared/wire/segment.ts';
import { isRecordKey, parseRecordKey, recordKey } from './keys.ts';
import type { Database, OpenStore } from './level-database.ts';
import { summarise } from './record-summary.ts';
import type { StoredRun } from './stored-run.ts';

/** A record as read back: what cannot be read is said, never skipped. */
export type StoredRecord =
  | { readonly sequence: number; readonly ok: true; readonly kind: RecordKind; readonly body: Uint8Array }
  | {
      readonly sequence: number;
      readonly ok: false;
      readonly why: string;
      /**
       * It was never on disk, and the buffer ledgers it by itself: the reader settles it as lost
       * (`settleUnbuffered`) and writes no loss of its own.
       */
      readonly unbuffered?: true;
    };

type Snapshot = ReturnType<Database['snapshot']>;
type DictionaryOf = (hash: bigint) => Dictionary | undefined;

/** What a sequence that cannot be read counts towards the bytes of a read: a hole of millions is read in parts. */
const MISSING_ENTRY_BYTES = 64;
/** Sequences that are looked for one by one before they are called missing. */
const LOOK_AGAIN = 256;
/** Values looked at to find one with a time: dictionaries and losses have none. */
const TIME_PROBE = 64;
/** Records before the one found that may have a later time. */
const LOOK_BACK = 16;
const MISSING = 'it is missing';

/** Reads records by sequence, whether they lie alone or in a segment. */
export class RecordReader {
  readonly #store: OpenStore;
  readonly #dictionaryOf: DictionaryOf;
  /** The live run's records that were never on disk. */
  readonly #isUnbuffered: (run: number, sequence: number) => boolean;

  constructor(
    store: OpenStore,
    dictionaryOf: DictionaryOf,
    isUnbuffered: (run: number, sequence: number) => boolean,
  ) {
    this.#store = store;
    this.#dictionaryOf = dictionaryOf;
    this.#isUnbuffered = isUnbuffered;
  }

  /** See `RecordBuffer.read`. */
  async read(run: StoredRun, first: number, last: number, maxBytes: number): Promise<StoredRecord[]> {
    const { db } = this.#store;
    // Compaction may put a segment in the place of records between two steps of this: one view of the whole.
    await using snapshot = db.snapshot();
    const records: StoredRecord[] = [];
    const result = { records, expected: first, bytes: 0, maxBytes, why: MISSING };
    const from = (await this.#segmentOver(db, run, first, snapshot)) ?? first;
    const range = { gte: recordKey(run.counter, from), lte: recordKey(run.counter, last), snapshot };
    for await (const [key, value] of db.iterator(range)) {
      if (!isRecordKey(key)) continue;
      const { sequence } = parseRecordKey(key);
      await this.#missing(db, run, sequence - 1, result, snapshot);
      if (result.bytes >= maxBytes) return records;
      this.#take(key, value, last, result);
      if (result.bytes >= maxBytes) return records;
    }
    await this.#missing(db, run, last, result, snapshot);
    return records;
  }

  /** See `RecordBuffer.timeOf`. */
  async timeOf(run: StoredRun, sequence: number): Promise<number | undefined> {
    const { db } = this.#store;
    await using snapshot = db.snapshot();
    const from = (await this.#segmentOver(db, run, sequence, snapshot)) ?? sequence;
    const range = { gte: recordKey(run.counter, from), lt: recordKey(run.counter + 1, 0), snapshot };
    for await (const [key, value] of db.iterator({ ...range, limit: TIME_PROBE })) {
      if (!isRecordKey(key)) continue;
      for (const one of summarise(key, value, this.#dictionaryOf)) {
        if (one.sequence >= sequence && one.timeMs !== undefined) return one.timeMs;
      }
    }
    return undefined;
  }

  /** See `RecordBuffer.firstAtOrAfter`. */
  async firstAtOrAfter(run: StoredRun, timeMs: number): Promise<number | undefined> {
    const pieces = [run.first, ...run.clockSteps.filter((step) => step > run.first && step <= run.last)];
    for (const [i, first] of pieces.entries()) {
      const last = (pieces[i + 1] ?? run.last + 1) - 1;
      const found = await this.#search(run, first, last, timeMs);
      // Groups and events of one moment are not quite in order.
      for (let at = Math.max(first, (found ?? last + 1) - LOOK_BACK); at < (found ?? last + 1); at++) {
        const time = await this.timeOf(run, at);
        if (time !== undefined && time >= timeMs) return at;
      }
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** The lowest sequence of first..last at `timeMs` or later, if times rise with the sequence. */
  async #search(run: StoredRun, first: number, last: number, timeMs: number): Promise<number | undefined> {
    let low = first;
    let high = last + 1;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const time = await this.timeOf(run, middle);
      if (time !== undefined && time < timeMs) low = middle + 1;
      else high = middle;
    }
    return low > last || (await this.timeOf(run, low)) === undefined ? undefined : low;
  }

  /** The first sequence of the segment that began before `sequence` and covers it. */
  async #segmentOver(
    db: Database,
    run: StoredRun,
    sequence: number,
    snapshot: Snapshot,
  ): Promise<number | undefined> {
    const range = { gte: recordKey(run.counter, 0), lt: recordKey(run.counter, sequence), snapshot };
    for await (const [key, value] of db.iterator({ ...range, reverse: true, limit: 1 })) {
      if (!isRecordKey(key) || value[1] !== RecordKind.Segment) return undefined;
      // A damaged one is read from its beginning too: that its records are lost is then said of each.
      return parseRecordKey(key).sequence;
    }
    return undefined;
  }

  #take(key: Uint8Array, value: Uint8Array, last: number, result: Reading): void {
    const { records } = result;
    const { sequence } = parseRecordKey(key);
    try {
      const { kind, body } = openRecord(key, value);
      const count = kind === RecordKind.Segment ? segmentLength(body) : 1;
      const skip = Math.max(0, result.expected - sequence);
      // Wholly before what is asked for, or a record that a repair brought back although a segment has it.
      if (skip >= count) return;
      const entries = kind === RecordKind.Segment ? this.#open(body, skip) : [{ kind, body }];
      for (const entry of entries) {
        if (result.expected > last) break;
        records.push(this.#readable(result.expected, entry));
        result.expected++;
      }
      result.bytes += value.length;
      result.why = MISSING;
    } catch (error) {
      const why = describeError(error);
      const isSegment = value[1] === RecordKind.Segment;
      result.why = isSegment ? `its segment cannot be read: ${why}` : MISSING;
      if (sequence < result.expected) return;
      records.push({ sequence, ok: false, why });
      result.expected = sequence + 1;
      result.bytes += value.length;
    }
  }

  #readable(sequence: number, entry: { kind: RecordKind; body: Uint8Array }): StoredRecord {
    if (entry.kind === RecordKind.Tick && !this.#dictionaryOf(splitTick(entry.body).hash)) {
      return { sequence, ok: false, why: 'its dictionary is gone' };
    }
    return { sequence, ok: true, ...entry };
  }

  #open(body: Uint8Array, skip: number) {
    return skip === 0 ? openSegment(body) : openSegmentFrom(body, skip, this.#dictionaryOf);
  }

  /** Says of each sequence up to `through` why it is not there. */
  async #missing(
    db: Database,
    run: StoredRun,
    through: number,
    result: Reading,
    snapshot: Snapshot,
  ): Promise<void> {
    let lookedAgain = 0;
    while (result.expected <= through && result.bytes < result.maxBytes) {
      const sequence = result.expected;
      if (this.#isUnbuffered(run.counter, sequence)) {
        const why = 'the disk took nothing when it was recorded';
        result.records.push({ sequence, ok: false, why, unbuffered: true });
      } else {
        // An iterator steps over a block that it cannot read; the next table may still have the record.
        const key = recordKey(run.counter, sequence);
        const again =
          lookedAgain++ < LOOK_AGAIN && result.why === MISSING
            ? await db.get(key, { snapshot }).catch(() => undefined)
            : undefined;
        if (again) {
          this.#take(key, again, through, result);
          continue;
        }
        result.records.push({ sequence, ok: false, why: result.why });
      }
      result.expected++;
      result.bytes += MISSING_ENTRY_BYTES;
    }
  }
}

interface Reading {
  readonly records: StoredRecord[];
  readonly maxBytes: number;
  /** The next sequence to say something about. */
  expected: number;
  bytes: number;
  /** Why a sequence that is not there is not. */
  why: string;
}
