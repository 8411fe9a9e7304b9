import { type ChildProcess, spawn } from 'node:child_process';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { CommandEnd } from './command-memory.ts';

export interface ChildRunOptions {
  readonly argv: readonly string[];
  readonly timeoutMs: number;
  /** Who it runs as; the agent's user where undefined. */
  readonly ids: { readonly uid: number; readonly gid: number } | undefined;
  /** Ends it before its time. */
  readonly signal: AbortSignal;
}

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Of both output streams together; what comes after it is read and dropped. */
const MAX_OUTPUT_BYTES = 8_192;
/** From SIGTERM to SIGKILL, and from there until it is given up: a process in a driver may never end. */
const KILL_AFTER_MS = 5_000;
const GIVE_UP_AFTER_MS = 5_000;

/** A command under way. */
export interface ChildRun {
  /** How it went, at the latest a moment after it was killed. Never rejects. */
  readonly end: Promise<CommandEnd>;
  /** Its process is gone: later than `end` where it did not heed SIGKILL. */
  readonly gone: Promise<void>;
}

/**
 * Runs a program without a shell, with nothing in its environment but PATH, in a process group of its own. At the
 * time limit, or the signal, the group gets SIGTERM, and SIGKILL 5 s later.
 */
export function runChild({ argv, timeoutMs, ids, signal }: ChildRunOptions): ChildRun {
  const [command, ...args] = argv;
  const { promise: end, resolve } = Promise.withResolvers<CommandEnd>();
  const { promise: gone, resolve: left } = Promise.withResolvers<void>();
  const output = new BoundedOutput();
  let cut: 'timed_out' | 'interrupted' | undefined;
  let child: ChildProcess;
  try {
    child = spawn(command!, args, {
      cwd: '/',
      env: { PATH },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
      ...ids,
    });
  } catch (error) {
    left();
    resolve({ outcome: 'failed', status: -1, output: describeError(error) });
    return { end, gone };
  }
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => output.add(chunk));
  const timers: NodeJS.Timeout[] = [];
  const stop = (why: 'timed_out' | 'interrupted'): void => {
    if (cut !== undefined) return;
    cut = why;
    killGroup(child, 'SIGTERM');
    timers.push(setTimeout(() => killGroup(child, 'SIGKILL'), KILL_AFTER_MS));
    timers.push(setTimeout(() => finish(null), KILL_AFTER_MS + GIVE_UP_AFTER_MS));
  };
  const interrupt = (): void => stop('interrupted');
  const finish = (status: number | null): void => {
    for (const timer of timers) clearTimeout(timer);
    signal.removeEventListener('abort', interrupt);
    child.stdout?.destroy();
    child.stderr?.destroy();
    resolve({
      outcome: cut ?? (status === 0 ? 'succeeded' : 'failed'),
      status: status ?? -1,
      output: output.text,
    });
  };
  timers.push(setTimeout(() => stop('timed_out'), timeoutMs));
  signal.addEventListener('abort', interrupt, { once: true });
  if (signal.aborted) interrupt();
  child.once('error', (error) => {
    output.add(Buffer.from(describeError(error)));
    finish(null);
    if (child.pid === undefined) left();
  });
  child.once('exit', (status) => {
    left();
    // Children of it that did not heed SIGTERM. Only then: a group that is empty may soon be somebody else's.
    if (cut !== undefined) killGroup(child, 'SIGKILL');
    // Both pipes have a moment to be read to their end.
    child.once('close', () => finish(status));
    timers.push(setTimeout(() => finish(status), 1_000));
  });
  return { end, gone };
}

function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // It has ended, or is another user's by now (sudo): then its own time limit has to do.
  }
}

class BoundedOutput {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  get text(): string {
    return Buffer.concat(this.#chunks).toString();
  }

  add(chunk: Buffer): void {
    const part = chunk.subarray(0, MAX_OUTPUT_BYTES - this.#bytes);
    this.#bytes += part.length;
    if (part.length > 0) this.#chunks.push(part);
  }
}
