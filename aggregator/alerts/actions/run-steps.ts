import type { ActionChange } from './action-change.ts';
import { type ActionDocument, isUnsure } from './action-document.ts';
import { type ActionGates, takesOut } from './action-gates.ts';
import type { ActionMetrics } from './action-metrics.ts';
import type { ActionTable } from './action-table.ts';
import {
  type ActionWriter,
  LeaseLost,
  line,
  type Move,
  policyName,
  RESOLVED,
  sameWords,
} from './action-writer.ts';
import type { StepOutcome } from './executor.ts';
import { keeperOf, takerBackOf } from './node-keepers.ts';
import type { OpenPolicy } from './policy.ts';
import type { PoolShares } from './pool-shares.ts';
import { retryMs } from './retry-wait.ts';
import type { StepRunner } from './step-runner.ts';

/** What an executor that waits may ask for. */
const MIN_WAIT_MS = 100;
const MAX_WAIT_MS = 10 * 60_000;

/** How often an undo that waits for another action on the node, or for the file's mode, is tried again. */
const KEPT_AGAIN_MS = 30_000;

interface RunStepsOptions {
  readonly table: Pick<ActionTable, 'values'>;
  readonly writer: ActionWriter;
  readonly gates: ActionGates;
  readonly shares: PoolShares;
  readonly runner: StepRunner;
  readonly metrics: ActionMetrics;
  /** 0 (included) to 1 (excluded). */
  readonly random: () => number;
}

/** The steps, forth and back. */
export class RunSteps {
  readonly #options: RunStepsOptions;

  constructor(options: RunStepsOptions) {
    this.#options = options;
  }

  /** After the first try of the first step. */
  async goOn(action: ActionDocument, policy: OpenPolicy, lease: AbortSignal): Promise<Move> {
    const { writer, gates, shares } = this.#options;
    if (action.alert.resolvedAtMs > 0) {
      const turn = turnOf(action, policy);
      if (turn !== 'on') return turn === 'back' ? writer.turnBack(action) : writer.cancel(action, RESOLVED);
    }
    const halted = gates.halted(policy);
    if (halted !== undefined) return writer.wait(action, halted);
    const index = action.steps.findIndex(({ state }) => state === 'waiting' || state === 'running');
    if (index < 0) return this.#finish(action, policy);
    if (takesOut(policy) && !shares.holds(action)) {
      // Somebody put the node back meanwhile: what follows takes it out anew.
      if (!action.holds) await writer.write(action.id, { holds: true });
      const why = await shares.reserve(action, policy);
      if (why !== undefined) return writer.wait(action, { why, untilMs: 0 });
    }
    return this.begin(action, policy, index, lease);
  }

  /** Says that a step is tried, and tries it. */
  async begin(action: ActionDocument, policy: OpenPolicy, index: number, lease: AbortSignal): Promise<Move> {
    const { writer, gates, runner } = this.#options;
    const halted = gates.halted(policy);
    if (halted !== undefined) return writer.wait(action, halted);
    const { kind } = policy.steps[index]!;
    const first = action.actedAtMs === 0;
    const begun = await writer.write(action.id, {
      state: 'running',
      ...(first ? { why: `${kind} is under way`, actedAtMs: writer.nowMs } : {}),
      step: { index, state: 'running', attempts: action.steps[index]!.attempts + 1 },
      ...(first ? { audit: [line(action, 'action.begin', action.reason, 'running')] } : {}),
    });
    await writer.flush(begun);
    const outcome = await runner.execute(policy.executors[index]!, begun, index, lease);
    if (lease.aborted) throw new LeaseLost();
    return this.#outcome(begun, index, outcome);
  }

  async undo(action: ActionDocument, policy: OpenPolicy, lease: AbortSignal): Promise<Move> {
    const { writer, runner } = this.#options;
    const index = lastToUndo(action, policy);
    if (index < 0) return this.#undone(action);
    const why = this.#keptBy(action, policy, index);
    if (why !== undefined)
      return this.#later(
        action,
        index,
        { outcome: 'waiting', why, afterMs: KEPT_AGAIN_MS },
        'action.undo_step',
      );
    const outcome = await runner.undo(policy.executors[index]!, action, index, lease);
    if (lease.aborted) throw new LeaseLost();
    const { kind } = policy.steps[index]!;
    if (outcome.outcome === 'done' || outcome.outcome === 'already') {
      const detail = outcome.outcome === 'done' ? 'undone' : 'it was no longer as we left it';
      const after = outcome.outcome === 'done' ? outcome.after : undefined;
      return writer.change(action, {
        why: `${kind}: ${detail}`,
        tries: 0,
        step: { index, state: 'undone', detail },
        audit: [
          {
            ...line(action, 'action.undo_step', `${kind}: ${detail}`, outcome.outcome, outcome.before, after),
            who: action.undoBy,
          },
        ],
      });
    }
    if (outcome.outcome !== 'failed') return this.#later(action, index, outcome, 'action.undo_step');
    await writer.write(action.id, this.#said(action, index, outcome.why, 'action.undo_step', 'failed'));
    return writer.fail(action, `cannot undo ${kind}: ${outcome.why}`);
  }

  /** Why a step may not be taken back now. */
  #keptBy(action: ActionDocument, policy: OpenPolicy, index: number): string | undefined {
    const { gates, table } = this.#options;
    const keeper = keeperOf(action, index, table);
    if (keeper !== undefined) return `action ${keeper.id} of policy ${keeper.policy} still needs the node so`;
    // What a person asked for is done also after an emergency stop: it is how to get out of one.
    return action.undoBy === policyName(action) ? gates.halted(policy)?.why : undefined;
  }

  async #outcome(action: ActionDocument, index: number, outcome: StepOutcome): Promise<Move> {
    const { writer, table } = this.#options;
    const { kind } = action.steps[index]!;
    switch (outcome.outcome) {
      case 'done': {
        const { before, after, undo } = outcome;
        return writer.change(action, {
          why: `${kind} is done`,
          tries: 0,
          step: { index, state: 'done', detail: '', ...(undo === undefined ? {} : { undo }) },
          audit: [line(action, 'action.step', `${kind} is done`, 'done', before, after)],
        });
      }
      case 'already': {
        const taker = takerBackOf(action, index, table);
        if (taker !== undefined) {
          const why = `action ${taker.id} of policy ${taker.policy} takes it back just now`;
          return this.#later(action, index, { outcome: 'retry', why }, 'action.step');
        }
        const detail = 'it was so already, and not by us';
        return writer.change(action, {
          why: `${kind}: ${detail}`,
          tries: 0,
          step: { index, state: 'already', detail },
          audit: [line(action, 'action.step', `${kind}: ${detail}`, 'already', outcome.before)],
        });
      }
      case 'failed':
        await writer.write(action.id, {
          ...this.#said(action, index, outcome.why, 'action.step', 'failed'),
          step: { index, state: 'failed', detail: outcome.why },
        });
        return writer.fail(action, `${kind}: ${outcome.why}`);
      default:
        return this.#later(action, index, outcome, 'action.step');
    }
  }

  /** Not finished, or the other side is away: in the open with the reason, and looked at again. */
  async #later(
    action: ActionDocument,
    index: number,
    outcome: Extract<StepOutcome, { outcome: 'waiting' | 'retry' }>,
    what: string,
  ): Promise<Move> {
    const { writer, random, metrics } = this.#options;
    const said = this.#said(action, index, outcome.why, what, outcome.outcome);
    if (outcome.outcome === 'waiting') {
      const waitMs = Math.min(Math.max(outcome.afterMs, MIN_WAIT_MS), MAX_WAIT_MS);
      await writer.write(action.id, { ...said, tries: 0, nextAtMs: writer.nowMs + waitMs });
    } else {
      metrics.retried(action.steps[index]!.kind);
      await writer.write(action.id, {
        ...said,
        state: action.state === 'undoing' ? 'undoing' : 'pending',
        tries: action.tries + 1,
        nextAtMs: writer.nowMs + retryMs(action.tries, random),
      });
    }
    return 'rest';
  }

  /** The words of the other side; audited where they are others than before. */
  #said(action: ActionDocument, index: number, detail: string, what: string, result: string): ActionChange {
    const { kind, detail: last } = action.steps[index]!;
    const why = `${kind}: ${detail}`;
    const who = what === 'action.undo_step' ? { who: action.undoBy } : {};
    const news = result === 'failed' || !sameWords(last, detail);
    return {
      why,
      step: { index, detail },
      ...(news ? { audit: [{ ...line(action, what, why, result), ...who }] } : {}),
    };
  }

  #finish(action: ActionDocument, policy: OpenPolicy): Promise<Move> {
    const { writer } = this.#options;
    return writer.change(action, {
      state: 'done',
      why: policy.undo === 'on_resolve' ? 'until the alert resolves' : 'until it is undone by hand',
      nextAtMs: writer.nowMs,
      audit: [line(action, 'action.done', action.reason, 'done')],
    });
  }

  #undone(action: ActionDocument): Promise<Move> {
    const left = action.steps.filter(({ state }) => state === 'done').map(({ kind }) => kind);
    const why = left.length === 0 ? 'undone' : `undone, but for what cannot be: ${left.join(', ')}`;
    return this.#options.writer.change(action, {
      state: 'undone',
      why,
      nextAtMs: this.#options.writer.nowMs,
      audit: [{ ...line(action, 'action.undone', why, 'done'), who: action.undoBy }],
    });
  }
}

/**
 * The last step that did something and can take it back, or may have: a try that had no answer is looked for by
 * executors that know their own doing by sight. -1 where there is none.
 */
export function lastToUndo(action: ActionDocument, policy: OpenPolicy): number {
  return action.steps.findLastIndex(
    (one, i) =>
      (one.state === 'done' && one.undo !== undefined) || (isUnsure(one) && policy.steps[i]!.undoesUnsure),
  );
}

/**
 * The alert resolved on the way. What has done nothing is cancelled; what has is undone where the policy says so or
 * a try has no answer yet, and else goes on to its end: `by_hand` means that people look at the node first.
 */
function turnOf(action: ActionDocument, policy: OpenPolicy): 'on' | 'back' | 'cancel' {
  const done = action.steps.some(({ state }) => state === 'done');
  if (done && policy.undo === 'by_hand') return 'on';
  return done || lastToUndo(action, policy) >= 0 ? 'back' : 'cancel';
}
