import { connect } from 'node:net';
import { join } from 'node:path';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { Child, type ChildExit } from './child.ts';
import { LogFile } from './log-file.ts';
import { until } from './until.ts';

/** One process of the stack, and how to tell that it is ready. */
export interface Part {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Answers with a 2xx when the part is ready; undefined: its start is enough. */
  readonly readyUrls?: readonly string[];
  /** Started and stopped together: a part waits for those of lower stages. */
  readonly stage: number;
}

/** A part that ended by itself. */
export interface UnexpectedEnd {
  readonly part: Part;
  readonly exit: ChildExit;
  readonly lastLines: string;
}

/** Until a part answers. VictoriaMetrics with much data takes its time to open it. */
const READY_TIMEOUT_MS = 60_000;
/** Of one stage. Three stages together stay below the 8 s that Ctrl-C may take. */
const STOP_TIMEOUT_MS = 2_500;
/** Shown of a part that died. */
const LAST_LINES = 15;

/** These win over a configuration file; here the options of npm start decide, not what a shell happens to have. */
const NOT_PASSED_ON = ['EXPORTER_PORT', 'METRICS_PATH', 'COLLECTION_INTERVAL', 'LOG_LEVEL'];

/**
 * Processes that are started in order of their stages and stopped in reverse order, each with a deadline: the
 * agent first, so that what it still sends is stored; the servers last. Dispose is that stop, and idempotent.
 */
export class Stack implements AsyncDisposable {
  readonly #logs: string;
  readonly #running: { part: Part; child: Child; log: LogFile }[] = [];
  #firstEnd: UnexpectedEnd | undefined;
  readonly #ended = Promise.withResolvers<UnexpectedEnd>();
  #stopping: Promise<void> | undefined;

  /** `logs`: the folder for `<name>.log`. */
  constructor(logs: string) {
    this.#logs = logs;
  }

  /** Resolves when a part ends that was not asked to. */
  get ended(): Promise<UnexpectedEnd> {
    return this.#ended.promise;
  }

  /**
   * Starts parts side by side and returns when all are ready.
   * @throws FleetError unavailable when one is not ready in time, or ends; the signal's reason when it aborts.
   */
  async start(parts: readonly Part[], signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const started = await Promise.all(parts.map((part) => this.#spawn(part)));
    await Promise.all(started.map(({ part, child }) => this.#ready(part, child, signal)));
  }

  /** Kills everything at once. */
  kill(): void {
    for (const { child } of this.#running) child.signal('SIGKILL');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping ??= this.#stop();
    await this.#stopping;
  }

  async #spawn(part: Part): Promise<{ part: Part; child: Child }> {
    const log = new LogFile(join(this.#logs, `${part.name}.log`));
    const { name, command, args } = part;
    const env = Object.fromEntries(NOT_PASSED_ON.map((variable) => [variable, undefined]));
    const child = await Child.start({ name, command, args, env, onOutput: (chunk) => log.write(chunk) });
    this.#running.push({ part, child, log });
    void child.exited.then((exit) => {
      if (this.#stopping === undefined) {
        this.#firstEnd ??= { part, exit, lastLines: child.lastLines(LAST_LINES) };
        this.#ended.resolve(this.#firstEnd);
      }
    });
    return { part, child };
  }

  async #ready(part: Part, child: Child, signal: AbortSignal): Promise<void> {
    const urls = part.readyUrls;
    if (urls === undefined) return;
    try {
      await until(async () => (await Promise.all(urls.map(answersWell))).some(Boolean), {
        timeoutMs: READY_TIMEOUT_MS,
        what: `${part.name} is ready`,
        everyMs: 100,
        // Another part that ends is as final: it would be waited for in vain.
        hopeless: () => this.#firstEnd && showEnd(this.#firstEnd),
        detail: () => child.lastLines(LAST_LINES),
        signal,
      });
    } catch (cause) {
      signal.throwIfAborted();
      throw new FleetError('unavailable', `Cannot start ${part.name}`, { cause });
    }
  }

  async #stop(): Promise<void> {
    const stages = Map.groupBy(this.#running, ({ part }) => part.stage);
    for (const stage of [...stages.keys()].sort((a, b) => b - a)) {
      await Promise.all(
        stages.get(stage)!.map(async ({ child, log }) => {
          await child.stop(STOP_TIMEOUT_MS);
          log[Symbol.dispose]();
        }),
      );
    }
  }
}

/** "agent ended (status 1)". */
export function showEnd({ part, exit }: UnexpectedEnd): string {
  return `${part.name} ended (${exit.signal === null ? `status ${exit.status}` : exit.signal})`;
}

async function answersWell(url: string): Promise<boolean> {
  if (url.startsWith('nats:')) return greets(url);
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(2000) });
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}

/** A nats-server that takes clients says "INFO {...}" first. */
async function greets(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  const { promise, resolve: done } = Promise.withResolvers<boolean>();
  const socket = connect({ host: hostname, port: Number(port || 4222) });
  socket.setTimeout(2000, () => socket.destroy());
  socket.once('data', (data) => done(data.toString('latin1').startsWith('INFO ')));
  socket.once('error', () => done(false));
  socket.once('close', () => done(false));
  const answer = await promise;
  socket.destroy();
  return answer;
}
