import { createHash } from 'node:crypto';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { HostPaths } from '../source-kind.ts';

/** What the kernel kept of one crash. */
export interface CrashDump {
  /** The same for the same dump, also after it was moved: over its last characters. */
  readonly id: string;
  /** Unix ms: when the firmware or the file system says it was written. */
  readonly wallMs: number;
  /** In the order they were logged. */
  readonly lines: readonly DumpLine[];
}

export interface DumpLine {
  /** Microseconds since that boot; of the line before where it has none. */
  readonly usec: number;
  readonly text: string;
}

/** Of files, the last by name first; a crash on EFI firmware may be in a dozen parts of 1 KiB. */
export const MAX_FILES = 64;
/** Kept by the kernel: 64 KiB by default (kmsg_bytes); a merged file of systemd-pstore is larger. */
export const MAX_FILE_BYTES = 256 * 1024;
const MAX_FOLDERS = 32;
/** Parts of one crash are written within seconds. */
const SAME_CRASH_MS = 60_000;
const IDENTITY_CHARACTERS = 400;

const HEADER = /^(?:Panic|Oops|Emergency|Shutdown|Restart|Halt|Poweroff|Unknown)#\d+ Part(\d+)$/;
const LINE = /^(?:<\d{1,3}>)?\[\s*(\d{1,10})\.(\d{6})\](?:\[\s*[TC]\d+\])? ?(.*)$/;
/** Compressed records that this kernel could not unpack end in .enc.z. */
const DUMP = /^dmesg[-.](?!.*\.enc\.z$)/;

interface Part {
  readonly folder: string;
  readonly number: number;
  readonly mtimeMs: number;
  readonly text: string;
}

/** Of `<sys>/fs/pstore` and of where systemd-pstore moves it at boot; none where there is nothing, or no permission. */
export async function readCrashDumps({ sys, root }: HostPaths, signal: AbortSignal): Promise<CrashDump[]> {
  const parts: Part[] = [];
  for (const folder of await foldersOf([join(sys, 'fs/pstore'), join(root, 'var/lib/systemd/pstore')])) {
    const names = (await namesIn(folder)).filter((name) => DUMP.test(name));
    // systemd-pstore joins the parts that lie beside it.
    const joined = names.includes('dmesg.txt') ? ['dmesg.txt'] : names.sort().reverse();
    for (const name of joined) {
      if (signal.aborted || parts.length >= MAX_FILES) break;
      const part = await readPart(folder, name);
      if (part !== undefined) parts.push(part);
    }
  }
  const dumps = new Map(
    groups(parts)
      .map((group) => toDump(group))
      .map((dump) => [dump.id, dump]),
  );
  return [...dumps.values()].sort((a, b) => a.wallMs - b.wallMs);
}

/** Exported for tests: the text of one file. */
export function dumpLines(text: string): DumpLine[] {
  let usec = 0;
  const lines: DumpLine[] = [];
  for (const raw of text.split('\n')) {
    const line = raw.trimEnd();
    if (line === '' || HEADER.test(line)) continue;
    const [, seconds, micros, said] = LINE.exec(line) ?? [];
    if (seconds !== undefined) usec = Number(seconds) * 1e6 + Number(micros);
    lines.push({ usec, text: said ?? line });
  }
  return lines;
}

function toDump(parts: readonly Part[]): CrashDump {
  // Part 1 is the end of the log.
  const ordered = [...parts].sort((a, b) => b.number - a.number);
  const lines = ordered.flatMap(({ text }) => dumpLines(text));
  const end = lines
    .map(({ text }) => text)
    .join('\n')
    .slice(-IDENTITY_CHARACTERS);
  const last = lines.at(-1)?.usec ?? 0;
  const id = createHash('sha256').update(`${last}\n${end}`).digest('hex').slice(0, 16);
  return { id, wallMs: Math.max(...parts.map(({ mtimeMs }) => mtimeMs)), lines };
}

function groups(parts: readonly Part[]): Part[][] {
  const found: Part[][] = [];
  for (const part of [...parts].sort((a, b) => a.mtimeMs - b.mtimeMs)) {
    const group = found.find(
      ([first, ...others]) =>
        first!.folder === part.folder &&
        part.mtimeMs - first!.mtimeMs <= SAME_CRASH_MS &&
        ![first!, ...others].some(({ number }) => number === part.number),
    );
    if (group === undefined) found.push([part]);
    else group.push(part);
  }
  return found;
}

async function foldersOf(roots: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const root of roots) {
    found.push(root);
    for (const entry of await entriesOf(root)) if (entry.isDirectory()) found.push(join(root, entry.name));
  }
  return found.slice(0, MAX_FOLDERS);
}

async function namesIn(folder: string): Promise<string[]> {
  return (await entriesOf(folder)).filter((entry) => entry.isFile()).map(({ name }) => name);
}

async function entriesOf(folder: string) {
  try {
    return await readdir(folder, { withFileTypes: true });
  } catch {
    return [];
  }
}

async function readPart(folder: string, name: string): Promise<Part | undefined> {
  try {
    await using file = await open(join(folder, name), 'r');
    const { mtimeMs, size } = await file.stat();
    // The end is what matters.
    const position = Math.max(0, size - MAX_FILE_BYTES);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_FILE_BYTES), 0, MAX_FILE_BYTES, position);
    const text = buffer.toString('utf8', 0, bytesRead);
    return { folder, mtimeMs, text, number: Number(HEADER.exec(text.split('\n', 1)[0] ?? '')?.[1] ?? 0) };
  } catch {
    return undefined;
  }
}
