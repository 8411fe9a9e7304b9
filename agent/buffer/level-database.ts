import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ClassicLevel } from 'classic-level';
import { Level } from 'level';

/** LevelDB with binary keys; the type is of `level`'s build for Node, which can also compact and measure. */
export type Database = ClassicLevel<Buffer, Uint8Array>;

/** Holds the database that is open now: it is replaced when a failed disk works again. */
export interface OpenStore {
  db: Database;
}

export const WRITE_BUFFER_BYTES = 2 * 1024 * 1024;

/** LevelDB's memtable, and so the size of its log, for a ring of this size: a small ring must fit its bound. */
export function writeBufferBytes(maxBytes: number): number {
  return Math.max(64 * 1024, Math.min(WRITE_BUFFER_BYTES, Math.floor(maxBytes / 16)));
}

/** Opens or creates the database at `path`. A small cache suits what is written all day and rarely read. */
export async function openLevel(path: string, writeBufferSize = WRITE_BUFFER_BYTES): Promise<Database> {
  const db = new Level<Buffer, Uint8Array>(path, {
    keyEncoding: 'buffer',
    valueEncoding: 'view',
    cacheSize: 2 * 1024 * 1024,
    writeBufferSize,
  }) as unknown as Database;
  await db.open();
  return db;
}

/**
 * Makes a damaged database readable: rebuilds its manifest from the tables and logs that are there, and moves
 * what cannot be used into a folder `lost`. In place.
 */
export const repairLevel = (path: string): Promise<void> => ClassicLevel.repair(path);

/** LevelDB's lock is held by another process. */
export const isLocked = (error: unknown): boolean => hasCode(error, ['LEVEL_LOCKED']);

/**
 * The files are there and make no sense. LevelDB calls a missing file an input/output error, as it does a full
 * disk: the words tell them apart.
 */
export function isDamage(error: unknown): boolean {
  if (hasCode(error, ['LEVEL_CORRUPTION'])) return true;
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if (/No such file|not exist|Corruption/.test(at.message)) return true;
  }
  return false;
}

function hasCode(error: unknown, codes: readonly string[]): boolean {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if (codes.includes(String((at as { code?: unknown }).code))) return true;
  }
  return false;
}

const FIRST_KEY = Buffer.of(0);
const AFTER_KEYS = Buffer.of(0xff);

/** Bytes on disk: the tables, as LevelDB counts them, and every other file of the folder, as it lies. */
export async function databaseBytes(db: Database): Promise<number> {
  let sum = await db.approximateSize(FIRST_KEY, AFTER_KEYS);
  for (const name of await readdir(db.location)) {
    if (name.endsWith('.ldb')) continue;
    // A log that went meanwhile takes no room.
    sum += await stat(join(db.location, name)).then(
      (file) => (file.isFile() ? file.size : 0),
      () => 0,
    );
  }
  return sum;
}
