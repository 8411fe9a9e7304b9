import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Where a process waits, as far as the kernel says; '' for what it does not. */
export interface WaitState {
  /** D: uninterruptible, in the kernel; R, S, Z and others as in proc(5). */
  readonly state: string;
  /** The kernel function in which it sleeps. */
  readonly channel: string;
  /** The thread that says so; '' for the process itself. */
  readonly thread: string;
}

/** A driver's tool has a handful: enough to find the one that hangs. */
const MAX_THREADS = 64;
const UNKNOWN: WaitState = { state: '', channel: '', thread: '' };

/**
 * Reads a process and its threads, and gives the one that is stuck in the kernel, else the process itself. Reads
 * only `stat` and `wchan`: `cmdline`, `environ` and `maps` take a lock that a stuck process may hold.
 */
export async function readWaitState(proc: string, pid: number): Promise<WaitState> {
  const folder = join(proc, String(pid));
  const own = await readOne(folder, '');
  if (own.state === 'D') return own;
  const threads = await readdir(join(folder, 'task')).catch(() => []);
  for (const thread of threads.slice(0, MAX_THREADS)) {
    const one = await readOne(join(folder, 'task', thread), thread);
    if (one.state === 'D') return one;
  }
  return own;
}

async function readOne(folder: string, thread: string): Promise<WaitState> {
  const stat = await readText(join(folder, 'stat'));
  if (stat === undefined) return UNKNOWN;
  const wchan = await readText(join(folder, 'wchan'));
  return { state: processState(stat), channel: wchan === '0' ? '' : (wchan ?? ''), thread };
}

/**
 * The third field; the second is a name in parentheses that may have blanks and parentheses itself:
 *
 *     4711 (nvidia-smi) D 1 4711 4711 0 -1 4194560 ...
 */
function processState(stat: string): string {
  return /^ ([A-Za-z]) /.exec(stat.slice(stat.lastIndexOf(')') + 1))?.[1] ?? '';
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'latin1')).trim();
  } catch {
    return undefined;
  }
}
