import { FleetError } from '#shared/errors/fleet-error.ts';
import type { FleetEvent } from '#shared/model/event.ts';

/** What runs nvidia-smi: probe/tool.ts. */
export interface SmiRunner extends AsyncDisposable {
  run(signal: AbortSignal, args: readonly string[]): Promise<Buffer>;
  takeEvents(): FleetEvent[];
}

/**
 * One nvidia-smi for several collectors: never two at once, since two that hang are worse than one. Disposed with
 * the last of its users.
 */
export class SmiSession {
  readonly #runner: SmiRunner;
  #users = 0;
  #last: Promise<unknown> = Promise.resolve();
  /** By UUID, as --query-gpu numbers them; the long report does not. */
  #indices: ReadonlyMap<string, string> = new Map();

  constructor(runner: SmiRunner) {
    this.#runner = runner;
  }

  enter(): void {
    this.#users++;
  }

  async leave(): Promise<void> {
    if (--this.#users === 0) await this.#runner[Symbol.asyncDispose]();
  }

  /** Waits for a run that another collector has begun. Throws as the runner does. */
  async run(signal: AbortSignal, args: readonly string[]): Promise<Buffer> {
    const before = this.#last;
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    this.#last = before.then(() => ended);
    try {
      await untilAborted(before, signal);
      return await this.#runner.run(signal, args);
    } finally {
      end();
    }
  }

  takeEvents(): FleetEvent[] {
    return this.#runner.takeEvents();
  }

  noteIndices(gpus: readonly { readonly uuid: string; readonly index: string }[]): void {
    this.#indices = new Map(gpus.map(({ uuid, index }) => [uuid, index]));
  }

  indexOf(uuid: string): string | undefined {
    return this.#indices.get(uuid);
  }
}

async function untilAborted(promise: Promise<unknown>, signal: AbortSignal): Promise<void> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void =>
    reject(new FleetError('unavailable', 'Cannot run nvidia-smi: an earlier run has not ended'));
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
