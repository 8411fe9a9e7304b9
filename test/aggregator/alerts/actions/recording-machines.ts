import { setTimeout as sleep } from 'node:timers/promises';
import * as v from 'valibot';
import type {
  ActionContext,
  ActionTarget,
  Executor,
  StepOutcome,
} from '../../../../aggregator/alerts/actions/executor.ts';
import type { ExecutorKind } from '../../../../aggregator/alerts/actions/executors/executor-kind.ts';

/** A scheduler that remembers: which nodes are out and by whose step, and how often each step came. */
export class RecordingMachines {
  /** Node to the step that drained it. */
  readonly out = new Map<string, string>();
  /** Step to how often it was executed; and how often it changed something. */
  readonly tries = new Map<string, number>();
  readonly effects = new Map<string, number>();
  readonly calls: string[] = [];
  /** Looked at whenever a node has just gone out. */
  onOut: () => void = () => {};
  /** Asked first, per call; undefined to go on. */
  answer: (kind: string, verb: 'execute' | 'undo', target: ActionTarget) => StepOutcome | undefined = () =>
    undefined;
  /** Before and after what a call does. */
  pause: () => Promise<void> = () => sleep(0);

  /** The same machines, as a process sees them that may die. */
  seenBy(pause: () => Promise<void>): RecordingMachines {
    const seen: RecordingMachines = Object.create(this);
    Object.defineProperty(seen, 'pause', { value: pause });
    return seen;
  }

  /** `drain` takes nodes out, `note` does not and cannot be undone. */
  get kinds(): Readonly<Record<string, ExecutorKind>> {
    const kind = (name: string, takesOut: boolean): ExecutorKind => ({
      schema: v.literal(true),
      takesOut,
      undoesUnsure: takesOut,
      open: async () => this.executor(name, takesOut),
    });
    return { drain: kind('drain', true), note: kind('note', false) };
  }

  protected executor(kind: string, takesOut: boolean): Executor {
    return {
      kind,
      preview: async ({ node }) => `would ${kind} ${node}`,
      execute: (target, context) => this.execute(kind, takesOut, target, context),
      undo: (target, context) => this.undo(kind, target, context),
      async [Symbol.asyncDispose]() {},
    };
  }

  protected async execute(
    kind: string,
    takesOut: boolean,
    target: ActionTarget,
    { stepId }: ActionContext,
  ): Promise<StepOutcome> {
    const { node } = target;
    this.calls.push(`${kind} ${node}`);
    await this.pause();
    const answer = this.answer(kind, 'execute', target);
    if (answer !== undefined) return answer;
    this.tries.set(stepId, (this.tries.get(stepId) ?? 0) + 1);
    if (!takesOut) {
      this.effects.set(stepId, 1);
      return { outcome: 'done', before: {}, after: {} };
    }
    const by = this.out.get(node);
    if (by !== undefined && by !== stepId) return { outcome: 'already', before: { by } };
    if (by === undefined) {
      this.out.set(node, stepId);
      this.effects.set(stepId, (this.effects.get(stepId) ?? 0) + 1);
      this.onOut();
    }
    await this.pause();
    return { outcome: 'done', before: { state: 'idle' }, after: { state: 'drained' }, undo: { node } };
  }

  protected async undo(kind: string, target: ActionTarget, { stepId }: ActionContext): Promise<StepOutcome> {
    this.calls.push(`undo ${kind} ${target.node}`);
    await this.pause();
    const answer = this.answer(kind, 'undo', target);
    if (answer !== undefined) return answer;
    if (this.out.get(target.node) !== stepId) return { outcome: 'already', before: {} };
    this.out.delete(target.node);
    await this.pause();
    return { outcome: 'done', before: { state: 'drained' }, after: { state: 'idle' } };
  }
}
