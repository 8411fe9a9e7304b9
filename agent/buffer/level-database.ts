import type { ClassicLevel } from 'classic-level';
import { Level } from 'level';

/** LevelDB with binary keys; the type is of `level`'s build for Node, which can also compact and measure. */
export type Database = ClassicLevel<Buffer, Uint8Array>;

/** Opens or creates the database at `path`. A small cache suits what is written all day and rarely read. */
export async function openLevel(path: string): Promise<Database> {
  const db = new Level<Buffer, Uint8Array>(path, {
    keyEncoding: 'buffer',
    valueEncoding: 'view',
    cacheSize: 2 * 1024 * 1024,
    writeBufferSize: 2 * 1024 * 1024,
  }) as unknown as Database;
  await db.open();
  return db;
}

/** LevelDB's lock is held by another process. */
export function isLocked(error: unknown): boolean {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if ((at as { code?: unknown }).code === 'LEVEL_LOCKED') return true;
  }
  return false;
}
