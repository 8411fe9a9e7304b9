import { execFile } from 'node:child_process';
import { closeSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { mkdir, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const exec = promisify(execFile);

/** Room for a LevelDB of a few thousand ticks, and quickly filled. */
const DISK_BYTES = 24 * 2 ** 20;

/** A small disk of its own at `path`, where mounts are ours to make (a mount namespace); else a plain folder. */
export async function makeDisk(path: string, mountable: boolean): Promise<void> {
  await mkdir(path, { recursive: true });
  if (mountable) await exec('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'oracle', path]);
}

/** Until the disk takes nothing more. */
export function fillDisk(path: string): void {
  const file = openSync(join(path, 'junk'), 'w');
  try {
    for (let step = 64 * 1024; step >= 1; step = Math.floor(step / 4)) {
      try {
        for (;;) writeSync(file, Buffer.alloc(step, 0x55));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      }
    }
  } finally {
    closeSync(file);
  }
}

export function freeDisk(path: string): void {
  rmSync(join(path, 'junk'), { force: true });
}

/**
 * Inverts eight bytes of a database file, mostly of the one written last, where the records are that nobody else
 * has. `part` (0 to 1) says which file and where; returns what was hit.
 */
export async function flipBytes(path: string, part: number): Promise<string> {
  const names = await readdir(path, { recursive: true });
  const files = names
    .filter((name) => /\.(ldb|log)$/.test(name) && !name.includes('aside'))
    .map((name) => ({ name, stat: statSync(join(path, name)) }))
    .map(({ name, stat }) => ({ name, size: stat.size, mtimeMs: stat.mtimeMs }))
    .filter(({ size }) => size > 64)
    .sort((a, b) => a.mtimeMs - b.mtimeMs);
  const hit = part < 0.2 ? files[0] : files.at(-1);
  if (!hit) return 'nothing: there is no database file';
  const offset = Math.floor((hit.size - 8) * part);
  const handle = await open(join(path, hit.name), 'r+');
  try {
    const bytes = Buffer.alloc(8);
    await handle.read(bytes, 0, 8, offset);
    await handle.write(
      bytes.map((byte) => byte ^ 0xff),
      0,
      8,
      offset,
    );
  } finally {
    await handle.close();
  }
  return `${hit.name} at ${offset} of ${hit.size}`;
}
