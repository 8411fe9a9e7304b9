import * as v from 'valibot';
import type { ActionContext, ActionTarget, Executor, StepOutcome } from '../executor.ts';
import { type CommandAnswer, type CommandOrder, type ExecutorDeps, executorKind } from './executor-kind.ts';
import { guarded } from './guarded.ts';

const schema = v.strictObject({
  /** On the agent's own list, which alone says what runs. */
  name: v.pipe(
    v.string('must be the name of a command'),
    v.regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'must be lower-case letters, digits, - and _, at most 63'),
  ),
});

/** A command that runs, or waits for another, is asked about again after this; own judgement. */
const ASK_AGAIN_MS = 5_000;

/** Has the node's agent run a command of its allow-list. Such a command may take GPUs away: it counts for the share. */
export const commandKind = executorKind(schema, { takesOut: true, undoesUnsure: false }, ({ name }, deps) =>
  guarded(new CommandExecutor(name, deps)),
);

class CommandExecutor implements Executor {
  readonly kind = 'command';
  readonly #name: string;
  readonly #agents: ExecutorDeps['agents'];

  constructor(name: string, { agents }: ExecutorDeps) {
    this.#name = name;
    this.#agents = agents;
  }

  async preview({ node, gpu }: ActionTarget): Promise<string> {
    const where = gpu === '' ? `node ${node}` : `node ${node}, GPU ${gpu}`;
    return `would have the agent of ${where} run its command ${this.#name}`;
  }

  async execute(target: ActionTarget, context: ActionContext, signal: AbortSignal): Promise<StepOutcome> {
    const order: CommandOrder = {
      id: context.stepId,
      name: this.#name,
      args: { gpu: target.gpu, gpu_uuid: target.gpuUuid },
    };
    return outcomeOf(this.#name, await this.#agents.command(target.cluster, target.node, order, signal));
  }

  async undo(): Promise<StepOutcome> {
    return { outcome: 'failed', why: `what ${this.#name} did cannot be taken back` };
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

function outcomeOf(name: string, { outcome, status, output }: CommandAnswer): StepOutcome {
  const words = output.replaceAll(/\s+/g, ' ').trim().slice(-300);
  switch (outcome) {
    case 'succeeded':
      return { outcome: 'done', before: {}, after: { status: status ?? 0, output: output.slice(0, 4_096) } };
    case 'failed': {
      const how = status === undefined ? 'was ended' : `ended with status ${status}`;
      return { outcome: 'failed', why: `${name} ${how}: ${words}` };
    }
    case 'timed_out':
      return { outcome: 'failed', why: `${name} took too long and was ended: ${words}` };
    case 'interrupted':
      return { outcome: 'failed', why: `the agent ended while ${name} ran; how it went is not known` };
    case 'refused':
      return { outcome: 'failed', why: `the agent does not run ${name}: ${words}` };
    case 'running':
      return { outcome: 'waiting', why: `${name} runs`, afterMs: ASK_AGAIN_MS };
    case 'busy':
      return { outcome: 'waiting', why: `${name} has not begun: ${words}`, afterMs: ASK_AGAIN_MS };
    case 'away':
      return { outcome: 'retry', why: `the agent cannot be asked: ${words}` };
  }
}
