import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** A held lock; dispose releases it (idempotent). */
export interface LockFile extends Disposable {
  readonly path: string;
}

/** Somebody else holds it. */
export interface LockHolder {
  readonly pid: number;
}

/**
 * Takes the lock at `path`, a file that holds "<pid> <start time of that process>". A lock whose process is gone
 * (or whose pid now belongs to another process) is taken over. Returns the holder where a living process has it.
 */
export function tryLockFile(path: string): LockFile | LockHolder {
  mkdirSync(dirname(path), { recursive: true });
  const mine = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}`;
  const content = `${process.pid} ${processStartTime(process.pid)}\n`;
  writeFileSync(mine, content);
  try {
    // Each turn either takes it, finds a living holder, or has moved one dead holder out of the way.
    for (;;) {
      try {
        // A link appears with its content or not at all; creating and then writing would show an empty lock.
        linkSync(mine, path);
        return heldLock(path, content);
      } catch (error) {
        if (errorCode(error) !== 'EEXIST') throw error;
      }
      const found = readIfThere(path);
      if (found === undefined) continue;
      const holder = parseLock(found);
      if (holder !== undefined) return holder;
      removeStale(path, found, `${mine}.stale`);
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

/** As tryLockFile, but waits for the holder, at most `timeoutMs`; `onWait` is told once whom it waits for. */
export async function lockFile(
  path: string,
  options: { timeoutMs: number; onWait: (holder: LockHolder) => void },
): Promise<LockFile> {
  const deadline = performance.now() + options.timeoutMs;
  for (let told = false; ; told = true) {
    const result = tryLockFile(path);
    if ('path' in result) return result;
    if (!told) options.onWait(result);
    if (performance.now() > deadline) {
      throw new Error(
        `Cannot lock ${path}: process ${result.pid} has held it for ${options.timeoutMs / 1000} s`,
      );
    }
    await sleep(100);
  }
}

function heldLock(path: string, content: string): LockFile {
  return {
    path,
    [Symbol.dispose]() {
      if (readIfThere(path) === content) rmSync(path, { force: true });
    },
  };
}

/** The holder, if it still runs. */
function parseLock(content: string): LockHolder | undefined {
  const [pidText, started] = content.trim().split(' ');
  const pid = Number(pidText);
  if (!Number.isInteger(pid) || pid <= 0) return undefined;
  const now = processStartTime(pid);
  return now !== '' && now === started ? { pid } : undefined;
}

/** Moves a dead lock away; if another process was faster and its live lock was moved instead, puts that back. */
function removeStale(path: string, judged: string, aside: string): void {
  try {
    renameSync(path, aside);
    if (readFileSync(aside, 'utf8') !== judged) linkSync(aside, path);
  } catch (error) {
    if (!['ENOENT', 'EEXIST'].includes(errorCode(error) ?? '')) throw error;
  } finally {
    rmSync(aside, { force: true });
  }
}

/** Start time in clock ticks since boot (proc(5), stat field 22), which tells a re-used pid; '' if not running. */
function processStartTime(pid: number): string {
  const stat = readIfThere(`/proc/${pid}/stat`);
  // The second field is the command name in parentheses and may hold spaces itself.
  if (stat !== undefined) return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  if (process.platform === 'linux') return '';
  try {
    process.kill(pid, 0);
    return 'running';
  } catch {
    return '';
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes(errorCode(error) ?? '')) return undefined;
    throw error;
  }
}

function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}
