import { open, readdir, readFile, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';

export interface ProcessEntry {
  readonly pid: number;
  readonly ppid: number;
  /** At most 15 bytes, whatever the process calls itself. */
  readonly comm: string;
  /** Ticks since boot: with the pid, a process' identity. */
  readonly started: string;
}

/** More than a busy node has; the others are not seen. */
const MAX_PROCESSES = 16_384;
/** A process is looked at again at every sixth scan, by turns: reading /proc/<pid>/stat of all is what a scan costs. */
const TURNS = 6;
/** Of an environment or command line; the kernel's own limit is a quarter of the stack, 2 MiB. */
const MAX_TEXT_BYTES = 128 * 1024;
const KTHREADD = 2;

/**
 * The processes of the host, from /proc. Kernel threads are left out.
 *
 * `stat`, `fd` and `cgroup` are read of any process; `environ` and `cmdline` only of one that is not in the kernel
 * for good (state D), because reading those waits for the process' memory map, for as long as a driver that hangs
 * holds it, and would take one of this process' few file threads with it.
 */
export class ProcessTable {
  readonly #proc: string;
  readonly #known = new Map<number, ProcessEntry>();
  #scan = 0;

  constructor(proc: string) {
    this.#proc = proc;
  }

  async read(signal: AbortSignal): Promise<ReadonlyMap<number, ProcessEntry>> {
    const pids = (await readdir(this.#proc)).filter((name) => /^\d+$/.test(name)).map(Number);
    const there = new Set(pids.slice(0, MAX_PROCESSES));
    this.#scan++;
    for (const pid of this.#known.keys()) if (!there.has(pid)) this.#known.delete(pid);
    for (const pid of there) {
      if (this.#known.has(pid) && (pid + this.#scan) % TURNS !== 0) continue;
      signal.throwIfAborted();
      const entry = await this.#entry(pid);
      if (entry) this.#known.set(pid, entry);
      else this.#known.delete(pid);
    }
    return new Map([...this.#known].filter(([pid, { ppid }]) => pid !== KTHREADD && ppid !== KTHREADD));
  }

  /** Undefined where it is gone or may not be read. */
  async environ(pid: number): Promise<ReadonlyMap<string, string> | undefined> {
    const text = await this.#quietText(pid, 'environ');
    if (text === undefined) return undefined;
    const pairs = text.split('\0').map((pair) => {
      const at = pair.indexOf('=');
      return [pair.slice(0, at), pair.slice(at + 1)] as const;
    });
    return new Map(pairs.filter(([name]) => name !== ''));
  }

  async commandLine(pid: number): Promise<string | undefined> {
    return (await this.#quietText(pid, 'cmdline'))?.replaceAll('\0', ' ').trim();
  }

  /** The path in the unified hierarchy, else in the first one that has one; `/` where there is none. */
  async cgroup(pid: number): Promise<string> {
    const text = (await this.#text(pid, 'cgroup')) ?? '';
    const paths = text.split('\n').map((line) => /^(\d+):[^:]*:(\/.*)$/.exec(line));
    const unified = paths.find((found) => found?.[1] === '0' && found[2] !== '/');
    return unified?.[2] ?? paths.find((found) => found !== null && found[2] !== '/')?.[2] ?? '/';
  }

  async uid(pid: number): Promise<number | undefined> {
    return (await stat(join(this.#proc, String(pid))).catch(() => undefined))?.uid;
  }

  /** What its files are, at most `limit`; undefined where that may not be read. */
  async files(pid: number, limit: number): Promise<readonly string[] | undefined> {
    const folder = join(this.#proc, String(pid), 'fd');
    const numbers = await readdir(folder).catch(() => undefined);
    if (numbers === undefined) return undefined;
    return Promise.all(numbers.slice(0, limit).map((n) => readlink(join(folder, n)).catch(() => '')));
  }

  async #quietText(pid: number, file: string): Promise<string | undefined> {
    const line = await readFile(join(this.#proc, String(pid), 'stat'), 'latin1').catch(() => '');
    const state = line.slice(line.lastIndexOf(')') + 2)[0];
    return state === undefined || state === 'D' || state === 'Z' ? undefined : this.#text(pid, file);
  }

  async #text(pid: number, file: string): Promise<string | undefined> {
    try {
      await using handle = await open(join(this.#proc, String(pid), file));
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(MAX_TEXT_BYTES), 0, MAX_TEXT_BYTES, 0);
      return buffer.toString('utf8', 0, bytesRead);
    } catch {
      return undefined;
    }
  }

  /** `4242 (python3 (x)) S 4200 4242 ...`: the name may hold anything, also brackets and spaces. */
  async #entry(pid: number): Promise<ProcessEntry | undefined> {
    const line = await readFile(join(this.#proc, String(pid), 'stat'), 'utf8').catch(() => '');
    const end = line.lastIndexOf(')');
    const [, ppid, ...rest] = line.slice(end + 2).split(' ');
    if (end < 0 || !/^\d+$/.test(ppid ?? '')) return undefined;
    return { pid, ppid: Number(ppid), comm: line.slice(line.indexOf('(') + 1, end), started: rest[17] ?? '' };
  }
}

/** Who descends from which of these, they themselves included. */
export function descendants(
  processes: ReadonlyMap<number, ProcessEntry>,
  roots: ReadonlySet<number>,
): ReadonlyMap<number, number> {
  const rootOf = new Map<number, number | undefined>();
  for (const pid of processes.keys()) {
    const path: number[] = [];
    let at: number | undefined = pid;
    // Marked as without root before it is known: a circle, which /proc read bit by bit can show, ends.
    while (at !== undefined && !rootOf.has(at) && !roots.has(at)) {
      rootOf.set(at, undefined);
      path.push(at);
      at = processes.get(at)?.ppid;
    }
    const root = at === undefined ? undefined : roots.has(at) ? at : rootOf.get(at);
    for (const one of path) rootOf.set(one, root);
  }
  for (const root of roots) rootOf.set(root, root);
  return new Map([...rootOf].filter((pair): pair is [number, number] => pair[1] !== undefined));
}
