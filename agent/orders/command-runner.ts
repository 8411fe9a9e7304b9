import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { type ChildRun, runChild } from './child-run.ts';
import { type CommandEnd, CommandMemory } from './command-memory.ts';
import { filledIn } from './placeholders.ts';
import type { CommandSettings } from './settings.ts';
import { userIds } from './user-ids.ts';

/** What an aggregator asks for. */
export interface CommandAsk {
  readonly id: string;
  readonly name: string;
  /** Values of placeholders; empty where the alert has none. */
  readonly values: Readonly<Record<string, string>>;
}

/** What it is told: see CommandOutcome in ingest.proto. */
export interface CommandReply {
  readonly outcome: CommandEnd['outcome'] | 'running' | 'refused' | 'busy';
  readonly status: number;
  readonly output: string;
}

export interface CommandRunnerOptions {
  readonly commands: Readonly<Record<string, CommandSettings>>;
  /** This agent's own name: an aggregator does not fill it in. */
  readonly node: string;
  /** Which commands have run is written here. */
  readonly file: string;
  /** /etc/passwd */
  readonly passwd: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** For the record: each command that has ended. */
  readonly onEvent: (event: FleetEvent) => void;
}

/** Of an id, in bytes of ASCII. */
const ID = /^[\x21-\x7e]{1,128}$/;
/** Of the output, in the event. */
const MAX_EVENT_OUTPUT = 2_000;

/**
 * Runs commands of this agent's own list for an aggregator: one at a time, each id once for ever. Who may ask is the
 * uplink's to judge.
 */
export class CommandRunner implements AsyncDisposable {
  readonly #options: CommandRunnerOptions;
  readonly #stop = new AbortController();
  #memory: Promise<CommandMemory> | undefined;
  /** What runs now, until its process is gone. */
  #running: { readonly id: string; readonly end: Promise<CommandReply> } | undefined;

  constructor(options: CommandRunnerOptions) {
    this.#options = options;
  }

  get names(): string[] {
    return Object.keys(this.#options.commands);
  }

  /**
   * Resolves with how it went, or at once with why it does not run. `onRunning` is called first where it runs, also
   * where an earlier ask began it. Never rejects.
   */
  async run(ask: CommandAsk, onRunning: () => void): Promise<CommandReply> {
    const { commands, logger } = this.#options;
    if (!ID.test(ask.id)) return refused('its id is not one');
    const settings = Object.hasOwn(commands, ask.name) ? commands[ask.name] : undefined;
    if (!settings) return refused(`${ask.name.slice(0, 64)} is not on this agent's list`);
    if (this.#running?.id === ask.id) {
      onRunning();
      return await this.#running.end;
    }
    if (this.#running || this.#stop.signal.aborted) return busy('another command runs');
    const { promise, resolve } = Promise.withResolvers<CommandReply>();
    this.#running = { id: ask.id, end: promise };
    let reply: CommandReply;
    try {
      reply = await this.#once(ask, settings, onRunning);
    } catch (error) {
      this.#running = undefined;
      reply = busy(describeError(error));
    }
    if (reply.outcome === 'refused' || reply.outcome === 'busy')
      logger.warn({ id: ask.id, command: ask.name, cause: reply.output }, 'a command is not run');
    resolve(reply);
    return reply;
  }

  /** What runs is ended: it must not go on without anybody who knows how it went. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running?.end;
  }

  async #once(ask: CommandAsk, settings: CommandSettings, onRunning: () => void): Promise<CommandReply> {
    const { node, file, passwd, logger } = this.#options;
    this.#memory ??= CommandMemory.open(file);
    const memory = await this.#memory.catch((error: unknown) => {
      this.#memory = undefined;
      throw error;
    });
    const known = memory.get(ask.id);
    if (known) {
      this.#running = undefined;
      return known.name === ask.name && known.end ? known.end : refused('its id was that of another command');
    }
    const filled = filledIn(settings.argv, { ...ask.values, node });
    const ids = settings.user === undefined ? undefined : await userIds(passwd, settings.user);
    const why =
      'why' in filled
        ? filled.why
        : settings.user !== undefined && ids === undefined
          ? `there is no user ${settings.user} in ${passwd}`
          : undefined;
    if ('why' in filled || why !== undefined) {
      this.#running = undefined;
      return refused(why ?? '');
    }
    await memory.begin(ask.id, ask.name);
    logger.warn({ id: ask.id, command: ask.name, argv: filled.argv }, 'runs a command for the aggregator');
    onRunning();
    return await this.#toItsEnd(ask, filled.argv, settings, ids, memory);
  }

  async #toItsEnd(
    ask: CommandAsk,
    argv: readonly string[],
    { timeout: timeoutMs }: CommandSettings,
    ids: { readonly uid: number; readonly gid: number } | undefined,
    memory: CommandMemory,
  ): Promise<CommandReply> {
    const { clock, logger } = this.#options;
    const began = clock.monotonic();
    const child: ChildRun = runChild({ argv, timeoutMs, ids, signal: this.#stop.signal });
    const end = await child.end;
    await memory.end(ask.id, ask.name, end).catch((error: unknown) => {
      logger.error({ id: ask.id, cause: describeError(error) }, 'cannot write down how a command went');
    });
    // One that heeds no signal holds the place: another beside it could do harm.
    void child.gone.then(() => {
      this.#running = undefined;
    });
    this.#options.onEvent(this.#event(ask, end, clock.monotonic() - began));
    return end;
  }

  #event({ id, name, values }: CommandAsk, { outcome, status, output }: CommandEnd, ms: number): FleetEvent {
    const how = outcome === 'succeeded' || outcome === 'failed' ? `ended with status ${status}` : outcome;
    const said = output.trim().slice(-MAX_EVENT_OUTPUT).toWellFormed();
    return {
      type: 'command_run',
      timestampMs: this.#options.clock.now(),
      gpu: values.gpu ?? '',
      gpuUuid: values.gpu_uuid ?? '',
      text: `The command ${name} ${how}, for step ${id}${said === '' ? '' : `: ${said}`}`,
      attributes: { command: name, id, outcome, status: String(status), duration_ms: String(Math.round(ms)) },
    };
  }
}

function refused(why: string): CommandReply {
  return { outcome: 'refused', status: -1, output: why };
}

function busy(why: string): CommandReply {
  return { outcome: 'busy', status: -1, output: why };
}
