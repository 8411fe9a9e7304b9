import { readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import { openRecord, RecordKind } from '#shared/wire/record.ts';
import { segmentLength } from '#shared/wire/segment.ts';
import type { Write } from './batch-writer.ts';
import {
  ALL_DICTIONARIES,
  ALL_FACTS,
  ALL_RECORDS,
  ALL_RUNS,
  isRecordKey,
  isRunBefore,
  parseRecordKey,
  recordKey,
  runKey,
} from './keys.ts';
import { type Database, openLevel, repairLevel } from './level-database.ts';
import { decodeRun, encodeRun, type StoredRun } from './stored-run.ts';
import { damagedTables, readTable } from './table-file.ts';

const BATCH_BYTES = 512 * 1024;

export interface Salvaged {
  /** Values that were copied, and values that were there and could not be read. */
  records: number;
  damaged: number;
}

/**
 * Copies what a damaged database still has, and the store does not, into a new one, under the same run counters
 * and sequences, so that it is delivered as if nothing had been. What is missing between is a hole, which reading
 * reports sequence by sequence. Repairs the damaged one in place first. Throws where that cannot be opened at all.
 */
export async function salvage(aside: string, target: Database, logger: Logger): Promise<Salvaged> {
  const damaged = await damagedTables(aside, 'all');
  // Out of LevelDB's sight: it would end the process over them.
  for (const name of damaged) await rename(join(aside, name), join(aside, `${name}.damaged`));
  await repairLevel(aside);
  const source = await openLevel(aside);
  try {
    const runs = await readRuns(source, logger);
    const copy = new Copy(target);
    for (const range of [ALL_DICTIONARIES, ALL_FACTS]) {
      for await (const [key, value] of source.iterator(range)) await copy.put(key, value);
    }
    const salvaged: Salvaged = { records: 0, damaged: 0 };
    let covered = { run: 0, last: 0 };
    for (const run of runs.values()) {
      // What the store has already stays in the damaged one: a replay must not ask for it here.
      run.first = run.durable.firstMissing(run.first);
      await copy.put(runKey(run.counter), encodeRun(run));
    }
    for await (const [key, value] of source.iterator(ALL_RECORDS)) {
      if (!isRecordKey(key)) continue;
      const { run: counter, sequence } = parseRecordKey(key);
      const last = lastOf(key, value);
      if (last === undefined) {
        salvaged.damaged++;
        continue;
      }
      // A repair may bring back the records that a segment replaced.
      if (covered.run === counter && last <= covered.last) continue;
      if (last > sequence) covered = { run: counter, last };
      if (runs.get(counter)?.durable.gaps(sequence, last).length === 0) continue;
      await copy.put(recordKey(counter, sequence), value);
      salvaged.records++;
    }
    await copy.flush();
    for (const name of damaged) {
      const entries = readTable(await readFile(join(aside, `${name}.damaged`)));
      salvaged.records += await copyMissing(entries, runs, target);
    }
    return salvaged;
  } finally {
    await source.close();
  }
}

/**
 * What the sound blocks of a damaged table hold and nothing else has. A value from there may be an older one: a mark
 * of a run that is behind costs a repeat, and a record that was put in a segment since is passed over.
 */
async function copyMissing(
  entries: readonly [Buffer, Buffer][],
  runs: ReadonlyMap<number, StoredRun>,
  target: Database,
): Promise<number> {
  // What left the ring is in there too, undeleted.
  const oldest = runs.size === 0 ? 0 : Math.min(...runs.keys());
  const copy = new Copy(target);
  let records = 0;
  for (const [key, value] of entries) {
    const there = await target.get(key);
    // A segment is later than the record that lay in its place.
    const isNewer = isSegment(value) && there !== undefined && !isSegment(there);
    if ((there !== undefined && !isNewer) || isRunBefore(key, oldest)) continue;
    if (isRecordKey(key)) {
      const { run, sequence } = parseRecordKey(key);
      const last = lastOf(key, value);
      if (run < oldest || sequence < (runs.get(run)?.first ?? 0)) continue;
      if (last !== undefined && (await isCovered(target, run, sequence, last))) continue;
      if (last === undefined || runs.get(run)?.durable.gaps(sequence, last).length === 0) continue;
      records++;
    }
    await copy.put(key, value);
    // The next one looks for what this one covers.
    if (isSegment(value)) await copy.flush();
  }
  await copy.flush();
  return records;
}

const isSegment = (value: Uint8Array): boolean => value[1] === RecordKind.Segment;

/**
 * The record is in a segment already. Where a segment comes over single records of its range, these go: it would
 * not be found behind them.
 */
async function isCovered(target: Database, run: number, sequence: number, last: number): Promise<boolean> {
  const before = { gte: recordKey(run, 0), lt: recordKey(run, sequence), reverse: true, limit: 1 };
  for (const [key, value] of await target.iterator(before).all()) {
    const end = lastOf(key, value);
    if (end !== undefined && end >= last) return true;
  }
  if (last > sequence) await target.clear({ gt: recordKey(run, sequence), lte: recordKey(run, last) });
  return false;
}

async function readRuns(source: Database, logger: Logger): Promise<Map<number, StoredRun>> {
  const runs = new Map<number, StoredRun>();
  for await (const [key, value] of source.iterator(ALL_RUNS)) {
    try {
      const run = decodeRun(key.readUInt32BE(1), value);
      runs.set(run.counter, run);
    } catch (error) {
      logger.warn({ cause: describeError(error) }, 'a run of the damaged buffer cannot be read');
    }
  }
  return runs;
}

/** The last sequence of a value that passes its checksum. */
function lastOf(key: Uint8Array, value: Uint8Array): number | undefined {
  const { sequence } = parseRecordKey(key);
  try {
    const { kind, body } = openRecord(key, value);
    return kind === RecordKind.Segment ? sequence + segmentLength(body) - 1 : sequence;
  } catch {
    return undefined;
  }
}

/** Puts in batches, the last one fsynced. */
class Copy {
  readonly #target: Database;
  #batch: Write[] = [];
  #bytes = 0;

  constructor(target: Database) {
    this.#target = target;
  }

  async put(key: Buffer, value: Uint8Array): Promise<void> {
    this.#batch.push({ type: 'put', key, value });
    this.#bytes += key.length + value.length;
    if (this.#bytes >= BATCH_BYTES) await this.flush();
  }

  async flush(): Promise<void> {
    const batch = this.#batch;
    this.#batch = [];
    this.#bytes = 0;
    await this.#target.batch(batch as never, { sync: true });
  }
}
