import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Loss } from '#shared/model/loss.ts';
import { RUN_ID_BYTES, runName } from '#shared/model/run.ts';
import { openRecord, RecordKind } from '#shared/wire/record.ts';
import { segmentLength } from '#shared/wire/segment.ts';
import { DictionaryShelf } from './dictionary-shelf.ts';
import {
  ALL_FACTS,
  ALL_RECORDS,
  ALL_RUNS,
  isRecordKey,
  parseFactKey,
  parseRecordKey,
  recordKey,
} from './keys.ts';
import { type Database, isDamage, isLocked, openLevel } from './level-database.ts';
import { summarise } from './record-summary.ts';
import { type Salvaged, salvage } from './salvage.ts';
import { type AsideReason, asideReason, setAside } from './set-aside.ts';
import { decodeRun, newRun, type StoredRun } from './stored-run.ts';
import { type Tail, TailFile, type TailRun, tailPath } from './tail-file.ts';

/** 720 of what was accepted when, 144 of what left the ring, and a few for each GPU that the node ever had. */
export const MAX_FACTS = 1_200;
/** Records looked at to find one that is whole at either end of a run. */
const ENDS_LOOKED_AT = 16;

export interface OpenStoreOptions {
  readonly directory: string;
  readonly machineId: string;
  readonly writeBufferBytes: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface OpenedStore {
  readonly db: Database;
  readonly runs: StoredRun[];
  readonly dictionaries: DictionaryShelf;
  readonly facts: Map<string, string>;
  /** Highest run counter that was ever given out, as far as is known. */
  readonly lastCounter: number;
  /** To be appended: what is lost and cannot be said by holes in a run. */
  readonly losses: readonly Loss[];
}

/**
 * Opens or creates the database. One that is damaged is set aside and salvaged into a new one; one that is of a
 * newer format or of another machine is set aside as it is. Throws `unavailable` where another process holds it
 * or the disk refuses.
 */
export async function openStore(options: OpenStoreOptions): Promise<OpenedStore> {
  const { directory, machineId } = options;
  const path = join(directory, 'buffer');
  let reason = await asideReason(directory, machineId);
  if (!reason) {
    try {
      return { ...(await load(path, options, 'newest')), losses: [] };
    } catch (error) {
      if (isLocked(error)) {
        const message = `Cannot open buffer ${path}: another agent has it open`;
        throw new FleetError('unavailable', message, { cause: error });
      }
      // A full or read-only disk is no damage: nothing may be moved for it.
      if (!isDamage(error) && !(error instanceof FleetError && error.code === 'data_loss')) {
        throw new FleetError('unavailable', `Cannot open buffer ${path}`, { cause: error });
      }
      reason = { why: describeError(error), ours: true, salvage: true };
    }
  }
  return replaceStore(reason, options);
}

/** Sets the database aside for what is wrong with it, and opens a new one with what could be saved. */
export async function replaceStore(reason: AsideReason, options: OpenStoreOptions): Promise<OpenedStore> {
  const { directory, clock, logger, writeBufferBytes } = options;
  const path = join(directory, 'buffer');
  const aside = await setAside(path, clock.now(), logger);
  logger.error({ aside, why: reason.why }, 'buffer set aside');
  const db = await openLevel(path, writeBufferBytes);
  let salvaged: Salvaged | undefined;
  let outcome = '';
  try {
    if (aside !== undefined && reason.salvage) {
      salvaged = await salvage(aside, db, logger);
      outcome = `; ${salvaged.records} values salvaged, ${salvaged.damaged} damaged`;
    }
  } catch (error) {
    outcome = `, and cannot be salvaged: ${describeError(error)}`;
  } finally {
    await db.close();
  }
  const opened = await load(path, options, salvaged ? 'all' : 'none');
  const detail = `Buffer set aside${aside === undefined ? '' : ` as ${aside}`}: ${reason.why}${outcome}`;
  logger.error({ detail }, 'a new buffer was begun');
  const tail = await TailFile.read(tailPath(directory));
  // How far every run went is known: what is missing is read back as missing.
  if (salvaged && tail) return { ...opened, losses: [] };
  return { ...opened, losses: [unknownLoss(reason.ours, detail, tail, clock.now())] };
}

/** A loss of which neither size nor time is known for sure. */
function unknownLoss(ours: boolean, detail: string, tail: Tail | undefined, nowMs: number): Loss {
  return {
    fromMs: ours ? Math.min(tail?.pendingFromMs ?? 0, nowMs) : nowMs,
    toMs: nowMs,
    samples: ours ? (tail?.pendingSamples ?? 0) : 0,
    reason: 'corrupt',
    estimated: true,
    detail: detail.slice(0, 1000),
  };
}

/**
 * `recover`: which runs that the tail file names and the database forgot are to be missing record by record. In a
 * sound database an old one was trimmed since the tail was written; the newest never is.
 */
async function load(
  path: string,
  options: OpenStoreOptions,
  recover: 'none' | 'newest' | 'all',
): Promise<Omit<OpenedStore, 'losses'>> {
  const { directory, writeBufferBytes, logger } = options;
  const tail = await TailFile.read(tailPath(directory));
  const db = await openLevel(path, writeBufferBytes);
  try {
    const runs: StoredRun[] = [];
    for await (const [key, value] of db.iterator(ALL_RUNS)) runs.push(decodeRun(key.readUInt32BE(1), value));
    const named = recover === 'none' ? [] : (tail?.runs ?? []);
    const wanted = recover === 'newest' ? named.filter(([id]) => id === tail?.run) : named;
    runs.push(...forgottenRuns(runs, wanted, logger));
    runs.push(...(await findOrphans(db, runs, logger)));
    runs.sort((a, b) => a.counter - b.counter);
    const dictionaries = await DictionaryShelf.load(db);
    for (const run of runs) await findEnds(db, run, tail, dictionaries, logger);
    const facts = new Map<string, string>();
    for await (const [key, value] of db.iterator({ ...ALL_FACTS, limit: MAX_FACTS })) {
      facts.set(parseFactKey(key), Buffer.from(value).toString());
    }
    const lastCounter = Math.max(0, tail?.counter ?? 0, ...runs.map((run) => run.counter));
    return { db, runs, dictionaries, facts, lastCounter };
  } catch (error) {
    await db.close().catch(() => {});
    throw error;
  }
}

function forgottenRuns(runs: readonly StoredRun[], wanted: readonly TailRun[], logger: Logger): StoredRun[] {
  const forgotten = wanted.filter(([, counter]) => !runs.some((run) => run.counter === counter));
  return forgotten.map(([id, counter, first, last]) => {
    logger.error({ run: counter, first, last }, 'the buffer has forgotten a run: its marks are gone');
    return { ...newRun(Buffer.from(id, 'hex'), counter), first, last };
  });
}

/** Records whose run's own entry was lost: they go on under a new id. */
async function findOrphans(db: Database, runs: readonly StoredRun[], logger: Logger): Promise<StoredRun[]> {
  const orphans: StoredRun[] = [];
  let from: Buffer = ALL_RECORDS.gte;
  while (true) {
    const some = await db.iterator({ gte: from, lt: ALL_RECORDS.lt, limit: ENDS_LOOKED_AT }).all();
    const first = some.find(([key]) => isRecordKey(key));
    if (!first) return orphans;
    const { run: counter } = parseRecordKey(first[0]);
    from = recordKey(counter + 1, 0);
    if (runs.some((run) => run.counter === counter)) continue;
    const readable = some.find(([key, value]) => isRecordKey(key) && endOf(key, value) !== undefined);
    if (!readable || parseRecordKey(readable[0]).run !== counter) continue;
    logger.error({ run: counter }, 'a run has lost its entry: its records are delivered under a new id');
    orphans.push({
      ...newRun(randomBytes(RUN_ID_BYTES), counter),
      first: parseRecordKey(readable[0]).sequence,
    });
  }
}

/** The records say what is there; marks and tail say what was: the difference is read back as missing. */
async function findEnds(
  db: Database,
  run: StoredRun,
  tail: Tail | undefined,
  dictionaries: DictionaryShelf,
  logger: Logger,
): Promise<void> {
  const range = { gte: recordKey(run.counter, 0), lt: recordKey(run.counter + 1, 0), limit: ENDS_LOOKED_AT };
  if (run.first === 0) {
    // Of format 1, which did not keep it.
    const [key] = await db.keys({ ...range, limit: 1 }).all();
    run.first = key && isRecordKey(key) ? parseRecordKey(key).sequence : 1;
  }
  const newest = await db.iterator({ ...range, reverse: true }).all();
  // A key that was flipped must not make the run longer: its record does not pass its checksum.
  const found = Math.max(0, ...newest.map(([key, value]) => endOf(key, value) ?? 0));
  const told = tail?.run === runName(run.id) ? tail.last : 0;
  const last = Math.max(found, run.last, told);
  if (found > 0 && last > found) {
    logger.error({ run: run.counter, from: found + 1, to: last }, 'the end of a run is missing');
  }
  run.last = Math.max(last, run.first - 1);
  if (run.appended.records > 0) return;
  for (const [key, value] of newest) {
    for (const { samples } of summarise(key, value, (hash) => dictionaries.get(hash))) {
      run.appended.records++;
      run.appended.samples += samples ?? 0;
    }
  }
}

/** The last sequence under a key; undefined where the record is damaged. */
function endOf(key: Buffer, value: Uint8Array): number | undefined {
  if (!isRecordKey(key)) return undefined;
  const { sequence } = parseRecordKey(key);
  try {
    const { kind, body } = openRecord(key, value);
    return kind === RecordKind.Segment ? sequence + segmentLength(body) - 1 : sequence;
  } catch {
    return undefined;
  }
}
