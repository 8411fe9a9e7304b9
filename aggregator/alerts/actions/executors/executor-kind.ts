import type * as v from 'valibot';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Executor } from '../executor.ts';

/** What this product says of a node, as far as `mark` needs it. */
export interface NodeMark {
  readonly state: 'degraded' | 'drained' | 'maintenance';
  /** Who set it. */
  readonly by: string;
  readonly why: string;
}

/** The marks of nodes. `set` and `clear` resolve when it is on disk, and throw FleetErrors. */
export interface NodeMarks {
  get(cluster: string, node: string): NodeMark | undefined;
  set(cluster: string, node: string, mark: NodeMark): Promise<unknown>;
  clear(cluster: string, node: string): Promise<unknown>;
}

/** What became of a command at the node's agent. */
export interface CommandAnswer {
  readonly outcome: /** It ended with exit status 0. */
    | 'succeeded'
    /** It ended otherwise. */
    | 'failed'
    /** It took too long and was ended. */
    | 'timed_out'
    /** The agent ended while it ran: how it went is not known, and it does not run again. */
    | 'interrupted'
    /** It has begun and runs on: ask again with the same id. */
    | 'running'
    /** Not now: another command runs, or the agent cannot write down that it ran. */
    | 'busy'
    /** Never: not on the agent's list, a stream without mutual TLS, an agent that knows no commands. */
    | 'refused'
    /** The agent is not connected here, or did not answer. */
    | 'away';
  /** Exit status, where it has one. */
  readonly status?: number;
  /** What it printed, at most 8 KiB; or why not. */
  readonly output: string;
}

export interface CommandOrder {
  /** The step's: an agent runs each once. */
  readonly id: string;
  readonly name: string;
  readonly args: Readonly<Record<string, string>>;
}

/** What executors use of the aggregator. */
export interface ExecutorDeps {
  readonly marks: NodeMarks;
  readonly agents: {
    /** Whether the node's agent is connected to this aggregator, of several; true where it is not said. */
    connected?(cluster: string, node: string): boolean;
    /** Never rejects. */
    command(cluster: string, node: string, order: CommandOrder, signal: AbortSignal): Promise<CommandAnswer>;
  };
  readonly clock: Clock;
  readonly logger: Logger;
}

/** One kind of step, by the key that names it in the policy file. */
export interface ExecutorKind {
  /** Of the value of that key. */
  readonly schema: v.GenericSchema;
  /** A node that it was done to is out of service: it counts for the share of a pool. */
  readonly takesOut: boolean;
  /** Its executor knows its own doing by sight: a try without an answer can be undone, with no facts to go by. */
  readonly undoesUnsure: boolean;
  /** `settings` is what `schema` gave. Throws `invalid_config` for a file that cannot be used. */
  open(settings: unknown, deps: ExecutorDeps): Promise<Executor>;
}

/** One kind, with its settings' type kept to itself. */
export function executorKind<Schema extends v.GenericSchema>(
  schema: Schema,
  { takesOut, undoesUnsure }: Pick<ExecutorKind, 'takesOut' | 'undoesUnsure'>,
  open: (settings: v.InferOutput<Schema>, deps: ExecutorDeps) => Promise<Executor> | Executor,
): ExecutorKind {
  return {
    schema,
    takesOut,
    undoesUnsure,
    open: async (settings, deps) => await open(settings as v.InferOutput<Schema>, deps),
  };
}
