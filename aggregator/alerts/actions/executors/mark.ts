import * as v from 'valibot';
import type { ActionContext, ActionTarget, Executor, Facts, StepOutcome } from '../executor.ts';
import { type ExecutorDeps, executorKind, type NodeMark } from './executor-kind.ts';
import { guarded } from './guarded.ts';

const STATES = ['degraded', 'drained', 'maintenance'] as const;
type State = (typeof STATES)[number];

/** Before the policy's name in `by`, so that a mark of ours is told from a person's. */
const BY = 'policy ';

const schema = v.picklist(STATES, `must be one of ${STATES.join(', ')}`);

/**
 * Marks the node within this product: degraded, drained, maintenance. It says what people see and who is woken; no
 * scheduler hears of it, so it does not count for a pool's share.
 */
export const markKind = executorKind(schema, { takesOut: false, undoesUnsure: true }, (state, deps) =>
  guarded(new MarkExecutor(state, deps)),
);

class MarkExecutor implements Executor {
  readonly kind = 'mark';
  readonly #state: State;
  readonly #deps: ExecutorDeps;

  constructor(state: State, deps: ExecutorDeps) {
    this.#state = state;
    this.#deps = deps;
  }

  async preview({ cluster, node }: ActionTarget, context: ActionContext): Promise<string> {
    const now = this.#deps.marks.get(cluster, node);
    if (now && !isWeakerOfOurs(now, this.#state) && !isOf(now, context))
      return `would leave node ${node} as it is: ${describe(now)}`;
    return `would mark node ${node} ${this.#state}; now it is ${describe(now)}`;
  }

  async execute({ cluster, node }: ActionTarget, context: ActionContext): Promise<StepOutcome> {
    const { marks } = this.#deps;
    const before = marks.get(cluster, node);
    const mark: NodeMark = {
      state: this.#state,
      by: `${BY}${context.policy}`.slice(0, 256),
      why: whyOf(context),
    };
    if (before && isOf(before, context))
      return { outcome: 'done', before: {}, after: facts(before), undo: { mark: mark.why } };
    if (before && !isWeakerOfOurs(before, this.#state)) return { outcome: 'already', before: facts(before) };
    await marks.set(cluster, node, mark);
    return {
      outcome: 'done',
      before: facts(before),
      after: facts(mark),
      undo: { mark: mark.why, ...(before && { previous: facts(before) }) },
    };
  }

  async undo({ cluster, node }: ActionTarget, context: ActionContext, undo: Facts): Promise<StepOutcome> {
    const { marks } = this.#deps;
    const now = marks.get(cluster, node);
    if (!now || !isOf(now, context)) return { outcome: 'already', before: facts(now) };
    const previous = markOf(undo.previous);
    if (previous) await marks.set(cluster, node, previous);
    else await marks.clear(cluster, node);
    return { outcome: 'done', before: facts(now), after: facts(previous) };
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

function whyOf({ stepId, reason }: ActionContext): string {
  return `gpufleet ${stepId}: ${reason}`;
}

function isOf(mark: NodeMark, { stepId }: ActionContext): boolean {
  return mark.by.startsWith(BY) && mark.why.startsWith(`gpufleet ${stepId}:`);
}

/** A person's mark stands whatever it says; another policy's gives way to a stronger one. */
function isWeakerOfOurs(mark: NodeMark, state: State): boolean {
  return mark.by.startsWith(BY) && STATES.indexOf(mark.state) < STATES.indexOf(state);
}

function facts(mark: NodeMark | undefined): Facts {
  return mark ? { state: mark.state, by: mark.by, why: mark.why } : {};
}

function markOf(value: unknown): NodeMark | undefined {
  const result = v.safeParse(v.object({ state: schema, by: v.string(), why: v.string() }), value);
  return result.success ? result.output : undefined;
}

function describe(mark: NodeMark | undefined): string {
  return mark ? `${mark.state} by ${mark.by} (${mark.why})` : 'without a mark';
}
