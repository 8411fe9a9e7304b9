import { type ChildProcess, fork } from 'node:child_process';

/** Answers come within this, or the program hangs. */
const ANSWER_TIMEOUT_MS = 120_000;

interface Reply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

/**
 * A part of a benchmark that runs in a process of its own, so that its CPU is counted apart. It gets
 * `{id, body}` over IPC and answers `{id, result}` or `{id, error}`; it ends when the channel does.
 */
export class Program implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #exited: Promise<void>;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #next = 0;

  /** `prefix`: a command before node's own, such as one that enters a network namespace. */
  constructor(file: URL, prefix: readonly string[] = []) {
    this.#name = file.pathname.split('/').at(-1)!;
    const [command, ...before] = [...prefix, process.execPath];
    this.#child = fork(file, {
      execPath: command!,
      execArgv: before,
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      env: { ...process.env, NODE_ENV: undefined, VITEST: undefined, NODE_OPTIONS: undefined },
    });
    this.#exited = new Promise((resolve) => {
      this.#child.once('exit', (status, signal) => {
        this.#fail(new Error(`${this.#name} ended with ${signal ?? status}`));
        resolve();
      });
      this.#child.once('error', (error) => {
        this.#fail(error);
        resolve();
      });
    });
    this.#child.on('message', ({ id, result, error }: Reply) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(result);
      else waiting?.reject(new Error(`${this.#name}: ${error}`));
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  async ask<T>(body: unknown, timeoutMs = ANSWER_TIMEOUT_MS): Promise<T> {
    const id = this.#next++;
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.set(id, waiting);
    const timer = setTimeout(
      () => waiting.reject(new Error(`${this.#name} does not answer within ${timeoutMs / 1000} s`)),
      timeoutMs,
    );
    this.#child.send({ id, body });
    try {
      return (await waiting.promise) as T;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(id);
    }
  }

  async kill9(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill9();
  }

  #fail(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

/** The other end: answers each request with what `handle` gives. */
export function serve<Request>(handle: (body: Request) => Promise<unknown>): void {
  process.on('disconnect', () => process.exit(0));
  process.on('message', ({ id, body }: { id: number; body: Request }) => {
    handle(body).then(
      (result) => process.send?.({ id, result }),
      (error: unknown) => process.send?.({ id, error: String(error) }),
    );
  });
}
