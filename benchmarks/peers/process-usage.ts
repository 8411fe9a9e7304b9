import { readFileSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** The kernel's clock tick for user space, on every Linux. */
const TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4096;

/** CPU of a process since its start, user and system, ended children not counted, in seconds. */
export function cpuSeconds(pid: number): number {
  const fields = statFields(pid);
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Resident memory now, bytes. */
export function residentBytes(pid: number): number {
  return Number(statFields(pid)[21]) * PAGE_BYTES;
}

/** Fields of /proc/<pid>/stat from the third on: what is before may hold spaces. */
function statFields(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** Bytes that the files below a folder take on the disk. */
export async function diskBytes(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    // Logs and segments come and go meanwhile.
    const found = await stat(join(entry.parentPath, entry.name)).catch(() => undefined);
    bytes += (found?.blocks ?? 0) * 512;
  }
  return bytes;
}
