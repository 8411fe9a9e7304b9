import { createWriteStream, type WriteStream } from 'node:fs';
import { Child } from '../../deploy/local/child.ts';
import { until } from '../support/wait.ts';

export interface ProgramOptions {
  readonly name: string;
  /** The program, with whatever must stand before it. */
  readonly command: readonly [string, ...string[]];
  readonly args: readonly string[];
  /** All output of all its starts. */
  readonly log: string;
  readonly isReady: () => Promise<boolean>;
}

const READY_MS = 60_000;

/** A program that is started again and again, on the same ports and folders. */
export class Program implements AsyncDisposable {
  readonly #options: ProgramOptions;
  readonly #log: WriteStream;
  readonly #deaths: string[] = [];
  #child: Child | undefined;

  constructor(options: ProgramOptions) {
    this.#options = options;
    this.#log = createWriteStream(options.log, { flags: 'a' });
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Each end that was not our doing, with its last words: a crash is a failure whatever the samples say. */
  get deaths(): readonly string[] {
    return this.#deaths;
  }

  /** Starts it and waits until it is ready. `args` are added for this start. */
  async start(...args: readonly string[]): Promise<void> {
    const { name, command, isReady } = this.#options;
    this.#log.write(`--- start at ${new Date().toISOString()}\n`);
    const child = await Child.start({
      name,
      command: command[0],
      args: [...command.slice(1), ...this.#options.args, ...args],
      env: { NODE_ENV: undefined, VITEST: undefined, NODE_OPTIONS: undefined },
      onOutput: (chunk) => this.#log.write(chunk),
    });
    this.#child = child;
    void child.exited.then(({ status, signal }) => {
      if (this.#child === child)
        this.#deaths.push(`${name} ended with ${signal ?? status}: ${child.lastLines(5)}`);
    });
    await until(isReady, {
      timeoutMs: READY_MS,
      what: `${name} is ready`,
      everyMs: 100,
      hopeless: () => (child.exit ? `it ended with ${child.exit.signal ?? child.exit.status}` : undefined),
      detail: () => child.lastLines(10),
    });
  }

  async kill9(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    await child?.kill9();
  }

  pause(): void {
    this.#child?.signal('SIGSTOP');
  }

  resume(): void {
    this.#child?.signal('SIGCONT');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill9();
    this.#log.end();
  }
}
