import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';
import type { ActionContext, ActionTarget, Executor, Facts, StepOutcome } from '../executor.ts';
import { executorKind } from './executor-kind.ts';
import { guarded } from './guarded.ts';
import { nameThere, nodeNames, nodeOfUndo } from './node-names.ts';
import { Scontrol } from './scontrol.ts';
import type { SlurmNode } from './slurm-node.ts';

const schema = v.pipe(
  v.strictObject({
    /** The one thing that it does. */
    drain: v.optional(v.literal(true, 'must be true'), true),
    /** A path, or a name to be found on PATH. */
    command: v.optional(
      v.pipe(v.string('must be a path'), v.regex(/^[^\s-]\S*$/, 'must be a path')),
      'scontrol',
    ),
    /** Of scontrol, beside PATH: SLURM_CONF, and LD_LIBRARY_PATH where it is needed. */
    environment: v.optional(
      v.pipe(
        v.record(
          v.pipe(v.string(), v.regex(/^[A-Z_][A-Z0-9_]{0,63}$/, 'is not the name of a variable')),
          v.string(),
        ),
        v.check((all) => Object.keys(all).length <= 16, 'must be at most 16 variables'),
      ),
      {},
    ),
    /** Of one call of scontrol. Without slurmctld it gives up by itself after about 10 s. */
    timeout: v.optional(duration(1_000, 300_000), '20s'),
    node_names: nodeNames,
  }),
  v.readonly(),
);

type Settings = v.InferOutput<typeof schema>;

/** Longer reasons are cut: people read them in a column of sinfo. */
const MAX_REASON = 256;

/**
 * Drains the node in Slurm: no job begins on it, those that run go on. The reason says whose drain it is: one of ours
 * is `done`, another's is left alone, and only while it is ours is the node resumed.
 */
export const slurmKind = executorKind(schema, { takesOut: true, undoesUnsure: true }, (settings) =>
  guarded(new SlurmExecutor(settings)),
);

class SlurmExecutor implements Executor {
  readonly kind = 'slurm';
  readonly #scontrol: Scontrol;
  readonly #names: Settings['node_names'];

  constructor({ command, environment, timeout, node_names }: Settings) {
    this.#scontrol = new Scontrol({ command, environment, timeoutMs: timeout });
    this.#names = node_names;
  }

  async preview(target: ActionTarget, context: ActionContext, signal: AbortSignal): Promise<string> {
    const name = nameThere(this.#names, target.node);
    if (name === undefined) return noName(target).why;
    const found = await this.#scontrol.show(name, signal);
    if ('outcome' in found)
      return `would drain ${name} in Slurm; what it is now cannot be seen: ${found.why}`;
    if (isDraining(found) && !isOf(found, context))
      return `would leave ${name} as it is: Slurm has it as ${found.states.join('+')} (${found.reason})`;
    return `would drain ${name} in Slurm with the reason "${reasonOf(context)}"; now it is ${found.states.join('+')}`;
  }

  async execute(target: ActionTarget, context: ActionContext, signal: AbortSignal): Promise<StepOutcome> {
    const name = nameThere(this.#names, target.node);
    if (name === undefined) return noName(target);
    const before = await this.#scontrol.show(name, signal);
    if ('outcome' in before) return before;
    const reason = reasonOf(context);
    if (isDraining(before))
      return isOf(before, context)
        ? { outcome: 'done', before: {}, after: facts(before), undo: { node: name, reason } }
        : { outcome: 'already', before: facts(before) };
    const fault = await this.#scontrol.update(name, ['State=DRAIN', `Reason=${reason}`], signal);
    if (fault) return fault;
    const after = await this.#scontrol.show(name, signal);
    if ('outcome' in after) return after;
    if (!isDraining(after) || !isOf(after, context))
      return {
        outcome: 'retry',
        why: `Slurm took the drain of ${name} and has it as ${after.states.join('+')}`,
      };
    return { outcome: 'done', before: facts(before), after: facts(after), undo: { node: name, reason } };
  }

  async undo(
    target: ActionTarget,
    context: ActionContext,
    undo: Facts,
    signal: AbortSignal,
  ): Promise<StepOutcome> {
    const name = nodeOfUndo(undo) ?? nameThere(this.#names, target.node);
    if (name === undefined) return noName(target);
    const before = await this.#scontrol.show(name, signal);
    if ('outcome' in before) return before;
    if (!isDraining(before) || !isOf(before, context)) return { outcome: 'already', before: facts(before) };
    // Slurm 22.05 refuses to resume such a node, and takes its drain and reason away all the same (seen).
    if (before.states.includes('UNKNOWN'))
      return { outcome: 'retry', why: `${name} has not registered since slurmctld began` };
    // RESUME would also give work to a node that is down, whoever or whatever took it down.
    const state = before.states.includes('DOWN') ? 'UNDRAIN' : 'RESUME';
    const fault = await this.#scontrol.update(name, [`State=${state}`], signal);
    if (fault) return fault;
    const after = await this.#scontrol.show(name, signal);
    return { outcome: 'done', before: facts(before), after: 'outcome' in after ? {} : facts(after) };
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

function noName({ node }: ActionTarget): Extract<StepOutcome, { outcome: 'failed' }> {
  return { outcome: 'failed', why: `node ${node} has no name in Slurm: see node_names` };
}

/** DRAIN is the flag that draining and drained nodes have alike; a node that is down may have it too. */
function isDraining({ states }: SlurmNode): boolean {
  return states.some((state) => state === 'DRAIN' || state === 'DRAINED' || state === 'DRAINING');
}

function isOf({ reason }: SlurmNode, { stepId }: ActionContext): boolean {
  return reason.startsWith(`gpufleet ${stepId}:`);
}

/** One line, and no bracket: scontrol puts who and when in brackets behind it. */
function reasonOf({ stepId, reason }: ActionContext): string {
  return `gpufleet ${stepId}: ${reason}`
    .replace(/[^\x20-\x7e]/g, ' ')
    .replace(/[[\]]/g, ' ')
    .slice(0, MAX_REASON)
    .trim();
}

function facts({ states, reason, by }: SlurmNode): Facts {
  return { state: states.join('+'), ...(reason !== '' && { reason: reason.slice(0, 1_000), by }) };
}
