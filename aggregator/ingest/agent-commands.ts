import { create } from '@bufbuild/protobuf';
import {
  CommandOutcome,
  type CommandRequest,
  CommandRequestSchema,
  type CommandResult,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';

/** A command of the agent's own list, to be run once under this id. */
export interface CommandOrder {
  /** At most 128 characters. */
  readonly id: string;
  readonly name: string;
  readonly args: Readonly<Record<string, string>>;
}

/** What became of it. */
export interface CommandAnswer {
  /** `away`: the agent is not connected here, or did not answer. The others as ingest.proto says. */
  readonly outcome:
    | 'succeeded'
    | 'failed'
    | 'timed_out'
    | 'interrupted'
    | 'running'
    | 'busy'
    | 'refused'
    | 'away';
  /** Exit status, where it has one. */
  readonly status?: number;
  /** What it printed, at most 8 KiB; or why not. */
  readonly output: string;
}

const OUTCOMES = {
  [CommandOutcome.RUNNING]: 'running',
  [CommandOutcome.SUCCEEDED]: 'succeeded',
  [CommandOutcome.FAILED]: 'failed',
  [CommandOutcome.TIMED_OUT]: 'timed_out',
  [CommandOutcome.INTERRUPTED]: 'interrupted',
  [CommandOutcome.REFUSED]: 'refused',
  [CommandOutcome.BUSY]: 'busy',
} as const satisfies Partial<Record<CommandOutcome, CommandAnswer['outcome']>>;

const MAX_OUTPUT = 8_192;
/** An agent runs one at a time; more than these wait nowhere. */
const MAX_WAITING = 16;

interface Waiting {
  readonly settle: (answer: CommandAnswer) => void;
  /** The agent has said that it runs. */
  begun: boolean;
}

/** The commands that one agent was asked to run, on one stream. */
export class AgentCommands {
  readonly #send: (request: CommandRequest) => void;
  readonly #names: ReadonlySet<string>;
  readonly #waiting = new Map<string, Waiting>();

  /** `names` are those of its Hello, none where the stream is no mutual TLS. */
  constructor(names: readonly string[], send: (request: CommandRequest) => void) {
    this.#names = new Set(names);
    this.#send = send;
  }

  /** Never rejects: at the signal it says where the command stands. */
  async ask(order: CommandOrder, signal: AbortSignal): Promise<CommandAnswer> {
    const { id, name, args } = order;
    if (id === '' || id.length > 128) return refused('its id is empty or longer than 128 characters');
    if (!this.#names.has(name))
      return refused(`its agent names no command ${name}: see commands in its configuration`);
    if (signal.aborted) return away('no time left');
    if (this.#waiting.has(id) || this.#waiting.size >= MAX_WAITING)
      return { outcome: 'busy', output: 'it is asked already, or too many are' };
    const { promise, resolve } = Promise.withResolvers<CommandAnswer>();
    const waiting: Waiting = { settle: resolve, begun: false };
    this.#waiting.set(id, waiting);
    const late = (): void =>
      resolve(waiting.begun ? { outcome: 'running', output: '' } : away('no answer before the deadline'));
    signal.addEventListener('abort', late, { once: true });
    try {
      this.#send(create(CommandRequestSchema, { id, name, arguments: { ...args } }));
      return await promise;
    } finally {
      signal.removeEventListener('abort', late);
      this.#waiting.delete(id);
    }
  }

  /** A result that nobody waits for is nobody's: whoever wants it asks again. */
  answer({ id, outcome, status, output }: CommandResult): void {
    const waiting = this.#waiting.get(id);
    const known = outcome in OUTCOMES ? OUTCOMES[outcome as keyof typeof OUTCOMES] : undefined;
    if (!waiting || known === undefined) return;
    if (known === 'running') {
      waiting.begun = true;
      return;
    }
    waiting.settle({ outcome: known, ...(status >= 0 && { status }), output: output.slice(0, MAX_OUTPUT) });
  }

  /** The stream is over: what runs goes on, and is asked about on the next. */
  close(): void {
    for (const { settle, begun } of this.#waiting.values())
      settle(begun ? { outcome: 'running', output: '' } : away('its stream ended'));
  }
}

export function refused(why: string): CommandAnswer {
  return { outcome: 'refused', output: why };
}

export function away(why: string): CommandAnswer {
  return { outcome: 'away', output: why };
}
