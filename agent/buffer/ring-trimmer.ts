import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { Loss } from '#shared/model/loss.ts';
import type { BatchWriter, Write } from './batch-writer.ts';
import type { DepartedLog } from './departed-log.ts';
import { ALL_RECORDS, isRecordKey, parseRecordKey, runKey } from './keys.ts';
import { databaseBytes, type OpenStore, writeBufferBytes } from './level-database.ts';
import { LostCount } from './lost-count.ts';
import { type RecordSummary, summarise } from './record-summary.ts';
import { encodeRun, type StoredRun } from './stored-run.ts';

/** Keys looked at in one step, so that a tick never waits long behind it. */
const TRIM_STEP = 2_000;
/** Steps of one trim: more than any agent records between two. */
const MAX_STEPS = 100;
/** Trimming by size goes down to this share of the limit, so that it is not needed again at once. */
const LOW_WATER = 0.9;
/** LevelDB frees the space of deleted records only when compacted (measured: 125 MB stayed 127 MB). */
const COLLECT_AFTER_BYTES = 1024 * 1024;

/**
 * How often the ring is looked at although neither its age nor its bytes can have run out: files that others wrote
 * or deleted. A look costs 1 ms where the caches are cold (measured).
 */
const LOOK_EVERY_MS = 60_000;

export interface RingTrimmerOptions {
  readonly store: OpenStore;
  readonly writer: BatchWriter;
  /** Every run on disk, the live one last; runs that are all gone are taken out. */
  readonly runs: StoredRun[];
  readonly live: StoredRun;
  readonly dictionaryOf: (hash: bigint) => Dictionary | undefined;
  /** Drops the dictionaries that only records up to there used. */
  readonly forgetDictionaries: (run: number, sequence: number) => Write[];
  /** Adds a loss record to the writer's next batch; it is not appended again should that fail. */
  readonly addLoss: (loss: Loss) => void;
  /** Sequences of the live run that were never on disk. */
  readonly isUnbuffered: (run: number, sequence: number) => boolean;
  /** Where a record stands that is not known to be durable; undefined for one that nobody got. */
  readonly fateOf: (run: number, sequence: number) => Fate | undefined;
  /** Told what leaves the ring although it is in the store for good. */
  readonly departed: DepartedLog;
  /** The ring has passed them by. */
  readonly giveUpUnbuffered: (run: number, last: number) => void;
  readonly maxAgeMs: number;
  readonly maxBytes: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Sent and not answered, or accepted and not known to be durable. */
export type Fate = 'in_flight' | 'accepted';

/** Keeps the ring within its age and its bytes, as they lie on the disk. */
export class RingTrimmer {
  readonly #options: RingTrimmerOptions;
  /** Deleted, and not yet given back by LevelDB. What an earlier process left is not known: at first it is all. */
  #garbage = 1;
  #garbageFrom: Buffer | undefined = ALL_RECORDS.gte;
  #garbageTo: Buffer | undefined = ALL_RECORDS.lt;
  /** Sequences of the live run from here on are not looked at. */
  #through = 0;
  #measured = 0;
  #written = 0;
  #lookedAt = Number.NEGATIVE_INFINITY;
  /** Time of the oldest record; before all times while it is not known. */
  #oldestMs = Number.NEGATIVE_INFINITY;

  constructor(options: RingTrimmerOptions) {
    this.#options = options;
  }

  /** As last measured, and what was written since. */
  get bytes(): number {
    return this.#measured + this.#written;
  }

  /** So many bytes were written. */
  wrote(bytes: number): void {
    this.#written += bytes;
  }

  async measure(): Promise<number> {
    const written = this.#written;
    this.#measured = await databaseBytes(this.#options.store.db);
    this.#written -= written;
    return this.#measured;
  }

  /** Trims by age and size until both hold, or for MAX_STEPS. Where a step fails, nothing of it is gone. */
  async trim(): Promise<void> {
    const now = this.#options.clock.monotonic();
    if (!this.#mayBeOver() && now - this.#lookedAt < LOOK_EVERY_MS) return this.collect();
    this.#lookedAt = now;
    // What is recorded meanwhile stays, the losses of these steps first of all: they have to be sent.
    this.#through = this.#options.live.last;
    for (let step = 0; step < MAX_STEPS; step++) {
      let over = await this.#over();
      if (over > 0 && this.#garbage > 0) {
        await this.#collect();
        over = await this.#over();
      }
      const { freed, more } = await this.#step(over, Number.POSITIVE_INFINITY);
      if (!more && (over === 0 || freed === 0)) break;
    }
    await this.collect();
  }

  /** Gives deleted space back to the disk where enough has come together. */
  async collect(): Promise<void> {
    if (this.#garbage >= Math.min(COLLECT_AFTER_BYTES, this.#options.maxBytes / 10)) await this.#collect();
  }

  /** Makes room on a full disk: drops the oldest tenth of the ring as far as the store has it for good. */
  async makeRoom(): Promise<void> {
    const wanted = (await this.measure()) * (1 - LOW_WATER);
    this.#through = this.#options.live.last;
    for (let step = 0, left = wanted; step < MAX_STEPS && left > 0; step++) {
      const { freed } = await this.#step(left, 0);
      if (freed === 0) break;
      left -= freed;
    }
    if (this.#garbage > 0) await this.#collect();
  }

  /** Something in first..last was deleted by someone else. */
  addGarbage(first: Buffer, last: Buffer, bytes: number): void {
    this.#garbage += bytes;
    if (!this.#garbageFrom || first.compare(this.#garbageFrom) < 0) this.#garbageFrom = first;
    if (!this.#garbageTo || last.compare(this.#garbageTo) > 0) this.#garbageTo = last;
  }

  /** By the oldest record's time; by the bytes with room for a log that was begun since they were measured. */
  #mayBeOver(): boolean {
    const { clock, maxAgeMs, maxBytes } = this.#options;
    return clock.now() - maxAgeMs > this.#oldestMs || this.bytes > maxBytes - writeBufferBytes(maxBytes);
  }

  async #over(): Promise<number> {
    const { maxBytes } = this.#options;
    const bytes = await this.measure();
    return bytes > maxBytes ? bytes - Math.floor(maxBytes * LOW_WATER) : 0;
  }

  async #collect(): Promise<void> {
    const [from, to] = [this.#garbageFrom, this.#garbageTo];
    this.#garbage = 0;
    this.#garbageFrom = undefined;
    this.#garbageTo = undefined;
    if (from && to) await this.#options.store.db.compactRange(from, to);
    await this.measure();
  }

  /** Drops the oldest records: `overBytes` of them, and those over their age; at most `maxLost` undurable ones. */
  async #step(overBytes: number, maxLost: number): Promise<{ freed: number; more: boolean }> {
    const { store, clock, maxAgeMs } = this.#options;
    const oldest = clock.now() - maxAgeMs;
    const cut = new Cut(this.#options, this.#through);
    let keys = 0;
    let more = true;
    this.#oldestMs = Number.NEGATIVE_INFINITY;
    for await (const [key, value] of store.db.iterator({ ...ALL_RECORDS, limit: TRIM_STEP })) {
      keys++;
      if (!isRecordKey(key)) continue;
      if (!cut.look(key, value)) {
        more = false;
        break;
      }
      const needed = cut.freed < overBytes || (cut.newestMs !== undefined && cut.newestMs < oldest);
      // A record without a time of its own goes with the next one that has one.
      if ((!needed && cut.newestMs !== undefined) || cut.lostRecords > maxLost) {
        if (!needed && cut.newestMs !== undefined) this.#oldestMs = cut.newestMs;
        more = false;
        break;
      }
      if (needed) cut.take();
    }
    if (cut.taken === undefined) return { freed: 0, more: false };
    await this.#remove(cut);
    return { freed: cut.freed, more: more && keys === TRIM_STEP };
  }

  /** One batch: the losses, the deletions and the runs' new beginnings are on disk together or not at all. */
  async #remove(cut: Cut): Promise<void> {
    const { writer, addLoss, runs, live, forgetDictionaries, giveUpUnbuffered, departed, logger } =
      this.#options;
    const { run, last, keys } = cut.taken!;
    for (const loss of cut.losses()) addLoss(loss);
    writer.add(...keys.map((key): Write => ({ type: 'del', key })));
    const after = runs.filter((one) => one.counter <= run);
    for (const one of after) {
      const isGone = one !== live && (one.counter < run || one.last <= last);
      const first = one.counter < run ? one.last + 1 : last + 1;
      if (isGone) writer.add({ type: 'del', key: runKey(one.counter) });
      else writer.add({ type: 'put', key: runKey(one.counter), value: encodeRun({ ...one, first }) });
    }
    writer.add(...forgetDictionaries(run, last));
    await writer.flush('always');
    // Not before: where the batch fails they are still there, and leave once more.
    for (const [counter, record] of cut.departed) departed.add(counter, record);
    departed.save();
    for (const one of after) one.first = one.counter < run ? one.last + 1 : last + 1;
    while (runs.length > 1 && runs[0]!.first > runs[0]!.last) runs.shift();
    giveUpUnbuffered(run, last);
    this.addGarbage(keys[0]!, keys.at(-1)!, cut.freed);
    logger.debug({ bytes: cut.freed, run, sequence: last }, 'buffer trimmed');
  }
}

/** What one step looks at, and how much of that it takes. Losses are counted as the records come by. */
class Cut {
  /** Time of the newest record under the key that was looked at last; undefined where none has one. */
  newestMs: number | undefined;
  freed = 0;
  taken: { run: number; last: number; keys: Buffer[] } | undefined;
  /** Of what is taken: records that the store has for good, by run. */
  readonly departed: (readonly [run: number, DurableRecord])[] = [];
  readonly #options: RingTrimmerOptions;
  readonly #trimmed = new LostCount('trimmed');
  readonly #undecided = new LostCount('trimmed');
  readonly #estimates = new LostCount('trimmed');
  readonly #damaged = new LostCount('corrupt');
  /** Looked at, and not taken yet. */
  #waiting: Waiting | undefined;
  readonly #through: number;
  #lastRun: StoredRun | undefined;
  #expected = 0;

  constructor(options: RingTrimmerOptions, through: number) {
    this.#options = options;
    this.#through = through;
  }

  /** Records that are lost if all that was looked at goes. */
  get lostRecords(): number {
    return (
      this.#trimmed.records +
      this.#undecided.records +
      this.#estimates.records +
      this.#damaged.records +
      (this.#waiting?.lost.length ?? 0)
    );
  }

  /** False where the record must stay: it is of the newest ones. */
  look(key: Buffer, value: Uint8Array): boolean {
    const { runs, live, dictionaryOf } = this.#options;
    const { run: counter, sequence } = parseRecordKey(key);
    const waiting = this.#waiting ?? { keys: [], bytes: 0, lost: [], departed: [], run: counter, last: 0 };
    this.#waiting = waiting;
    const summaries = summarise(key, value, dictionaryOf);
    const last = summaries.at(-1)!.sequence;
    const run = runs.find((one) => one.counter === counter);
    if (run === live && last >= this.#through) return false;
    this.newestMs = undefined;
    if (run) {
      this.#skipTo(run, sequence, waiting.lost);
      for (const one of summaries) {
        if (one.timeMs !== undefined) this.newestMs = Math.max(this.newestMs ?? 0, one.timeMs);
        if (one.sequence < this.#expected) continue;
        const { sequence, timeMs, samples } = one;
        if (!run.durable.has(sequence)) waiting.lost.push({ run, count: 1, ...one });
        else if (timeMs !== undefined && samples)
          waiting.departed.push([counter, { sequence, timeMs, samples }]);
      }
      this.#expected = Math.max(this.#expected, last + 1);
      waiting.last = this.#expected - 1;
    } else {
      // Nobody knows the run: it can never be sent.
      for (const one of summaries) waiting.lost.push({ run, count: 1, ...one });
      waiting.last = last;
    }
    waiting.run = counter;
    waiting.keys.push(key);
    waiting.bytes += value.length;
    return true;
  }

  /** All that was looked at goes. */
  take(): void {
    const { keys, bytes, lost, departed, run, last } = this.#waiting!;
    this.#waiting = undefined;
    this.freed += bytes;
    this.taken = { run, last, keys: [...(this.taken?.keys ?? []), ...keys] };
    for (const one of lost) this.#count(one);
    this.departed.push(...departed);
  }

  losses(): Loss[] {
    const losses: Loss[] = [];
    const [trimmed, undecided, damaged] = [this.#trimmed, this.#undecided, this.#damaged];
    const estimates = this.#estimates;
    if (trimmed.records > 0) {
      losses.push(
        trimmed.toLoss(`${trimmed.records} records left the ring before the store had them for good`),
      );
    }
    if (undecided.records > 0) {
      const detail = `${undecided.records} records left the ring while the store had them and not yet for good: lost only if it loses them`;
      losses.push(undecided.toLoss(detail, true));
    }
    if (estimates.records > 0) {
      const detail = `${estimates.records} estimates of losses left the ring before they were sent`;
      losses.push(estimates.toLoss(detail, true));
    }
    if (damaged.records > 0) {
      const detail = `${damaged.records} records that left the ring were damaged or missing`;
      losses.push(damaged.toLoss(detail, true));
    }
    return losses;
  }

  /** Sequences before `sequence` that are nowhere, of this run and of the ends of those before it. */
  #skipTo(run: StoredRun, sequence: number, lost: Lost[]): void {
    const { runs, isUnbuffered } = this.#options;
    if (this.#lastRun !== run) {
      for (const before of runs) {
        if (before.counter >= run.counter) break;
        const from = before === this.#lastRun ? this.#expected : before.first;
        if (this.#lastRun && before.counter < this.#lastRun.counter) continue;
        lost.push(...holes(before, from, before.last, isUnbuffered));
      }
      this.#lastRun = run;
      this.#expected = run.first;
    }
    lost.push(...holes(run, this.#expected, sequence - 1, isUnbuffered));
  }

  #count(one: Lost): void {
    if (one.ok) {
      const { run, sequence, isLoss, estimated } = one;
      const fate = run && sequence !== undefined ? this.#options.fateOf(run.counter, sequence) : undefined;
      // An accepted loss record is in the ledger, whatever becomes of the store.
      if (isLoss && fate === 'accepted') return;
      const undecided = fate && !isLoss ? this.#undecided : this.#trimmed;
      (estimated ? this.#estimates : undecided).add(one.fromMs, one.samples ?? 0, one.toMs);
      return;
    }
    const { records, samples } = one.run?.appended ?? { records: 0, samples: 0 };
    const guess = records > 0 ? Math.round((samples / records) * one.count) : 0;
    this.#damaged.add(one.fromMs, one.samples ?? guess, one.toMs, one.count);
  }
}

type DurableRecord = Parameters<DepartedLog['add']>[1];

/** Looked at, and perhaps taken. */
interface Waiting {
  readonly keys: Buffer[];
  readonly lost: Lost[];
  readonly departed: (readonly [run: number, DurableRecord])[];
  bytes: number;
  run: number;
  last: number;
}

/** Records of one stretch that are lost; `samples` and times as far as they are known. */
interface Lost extends Omit<RecordSummary, 'sequence' | 'timeMs'> {
  readonly sequence?: number;
  readonly run: StoredRun | undefined;
  readonly count: number;
}

/** What of from..to the store does not have, the ring does not have, and nobody else answers for. */
function holes(
  run: StoredRun,
  from: number,
  to: number,
  isUnbuffered: (run: number, sequence: number) => boolean,
): Lost[] {
  return run.durable.gaps(from, to).flatMap(({ first, last }) => {
    let count = 0;
    for (let sequence = first; sequence <= last; sequence++) {
      if (!isUnbuffered(run.counter, sequence)) count++;
    }
    return count === 0 ? [] : [{ run, count, ok: false, samples: undefined }];
  });
}
