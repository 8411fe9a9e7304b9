import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import { FleetError } from '#shared/errors/fleet-error.ts';

export interface ChildExit {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface ChildOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Both output streams, as they come. */
  readonly onOutput?: (chunk: Buffer) => void;
}

/** Kept of a child's newest output, characters: enough for a stack trace and what led to it. */
export const OUTPUT_LIMIT = 64 * 1024;

/** util-linux; without it a child outlives a parent that was killed with -9. */
const SETPRIV = '/usr/bin/setpriv';

/**
 * A child process in a process group of its own, so that a terminal's Ctrl-C reaches its owner alone, which then
 * stops its children in order. Dispose stops it: SIGTERM, and SIGKILL to the whole group after `stopTimeoutMs`.
 */
export class Child implements AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  readonly exited: Promise<ChildExit>;
  exit: ChildExit | undefined;
  #output = '';

  private constructor(name: string, process: ChildProcess, onOutput: ((chunk: Buffer) => void) | undefined) {
    this.name = name;
    this.pid = process.pid!;
    for (const stream of [process.stdout!, process.stderr!]) {
      const decoder = new StringDecoder('utf8');
      stream.on('data', (chunk: Buffer) => {
        this.#output = (this.#output + decoder.write(chunk)).slice(-OUTPUT_LIMIT);
        onOutput?.(chunk);
      });
    }
    this.exited = new Promise((resolve) => {
      // 'close' comes after the last output; a grandchild that keeps the pipe open must not hold it back for ever.
      process.once('exit', (status, signal) => {
        this.exit = { status, signal };
        const late = setTimeout(() => resolve({ status, signal }), 500);
        process.once('close', () => {
          clearTimeout(late);
          resolve({ status, signal });
        });
      });
    });
  }

  /** @throws FleetError unavailable where the command cannot be run at all. */
  static async start(options: ChildOptions): Promise<Child> {
    // The kernel tells the child when we die, even by kill -9: nothing is left behind.
    const [command, args] = existsSync(SETPRIV)
      ? [SETPRIV, ['--pdeathsig', 'TERM', '--', options.command, ...options.args]]
      : [options.command, [...options.args]];
    const child = spawn(command, args, {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', (cause) =>
        reject(new FleetError('unavailable', `Cannot start ${options.name} (${options.command})`, { cause })),
      );
    });
    return new Child(options.name, child, options.onOutput);
  }

  /** The newest output, at most OUTPUT_LIMIT characters. */
  get output(): string {
    return this.#output;
  }

  lastLines(count: number): string {
    return this.#output.trimEnd().split('\n').slice(-count).join('\n');
  }

  /** To the whole group; nothing happens where it is gone. */
  signal(signal: NodeJS.Signals): void {
    try {
      process.kill(-this.pid, signal);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
    }
  }

  /** kill -9, as a power cut would. */
  async kill9(): Promise<ChildExit> {
    this.signal('SIGKILL');
    return this.exited;
  }

  /** SIGTERM; SIGKILL once `timeoutMs` are over. Whatever it has started in its group goes with it. */
  async stop(timeoutMs: number): Promise<ChildExit> {
    if (this.exit === undefined) {
      this.signal('SIGTERM');
      const timer = setTimeout(() => this.signal('SIGKILL'), timeoutMs);
      await this.exited;
      clearTimeout(timer);
    }
    this.signal('SIGKILL');
    return this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop(5000);
  }
}
