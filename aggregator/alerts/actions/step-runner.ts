import { describeError } from '#shared/errors/fleet-error.ts';
import type { ActionDocument } from './action-document.ts';
import type { ActionContext, Executor, Facts, StepOutcome } from './executor.ts';

/** One try of a step; a step that takes longer says `waiting`. Own judgement. */
const TRY_MS = 60_000;
/** Facts larger than this are not kept. */
const MAX_FACTS_BYTES = 8 * 1024;

/** Runs one step of an action, within its deadline and for as long as the lease is ours. Nothing here rejects. */
export class StepRunner {
  readonly #tryMs: number;

  constructor(tryMs: number = TRY_MS) {
    this.#tryMs = tryMs;
  }

  async preview(
    executor: Executor,
    action: ActionDocument,
    index: number,
    lease: AbortSignal,
  ): Promise<string> {
    const words = await this.#within(lease, (signal) =>
      executor.preview(action.target, contextOf(action, index), signal),
    );
    return typeof words === 'string' ? words : `${executor.kind}: ${words.why}`;
  }

  async execute(
    executor: Executor,
    action: ActionDocument,
    index: number,
    lease: AbortSignal,
  ): Promise<StepOutcome> {
    const outcome = await this.#within(lease, (signal) =>
      executor.execute(action.target, contextOf(action, index), signal),
    );
    return trimmed(outcome);
  }

  /** Without facts where the try had no answer: the executor then looks for what is ours. */
  async undo(
    executor: Executor,
    action: ActionDocument,
    index: number,
    lease: AbortSignal,
  ): Promise<StepOutcome> {
    const facts = action.steps[index]!.undo ?? {};
    const outcome = await this.#within(lease, (signal) =>
      executor.undo(action.target, contextOf(action, index), facts, signal),
    );
    return trimmed(outcome);
  }

  async #within<T>(
    lease: AbortSignal,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T | Extract<StepOutcome, { outcome: 'retry' }>> {
    const stop = new AbortController();
    const late = Promise.withResolvers<Extract<StepOutcome, { outcome: 'retry' }>>();
    const give = (why: string): void => {
      stop.abort();
      late.resolve({ outcome: 'retry', why });
    };
    const onLost = (): void => give('another aggregator goes on with it');
    const timer = setTimeout(() => give(`no answer within ${this.#tryMs / 1000} s`), this.#tryMs);
    lease.addEventListener('abort', onLost);
    try {
      if (lease.aborted) return { outcome: 'retry', why: 'another aggregator goes on with it' };
      return await Promise.race([work(stop.signal), late.promise]);
    } catch (thrown) {
      // Executors do not reject; one that does must not take the others' actions down.
      return { outcome: 'retry', why: describeError(thrown) };
    } finally {
      clearTimeout(timer);
      lease.removeEventListener('abort', onLost);
    }
  }
}

function contextOf(action: ActionDocument, index: number): ActionContext {
  return {
    stepId: `${action.id}-${index}`,
    actionId: action.id,
    policy: action.policy,
    alertId: action.alert.id,
    rule: action.alert.rule,
    severity: action.alert.severity,
    reason: action.reason,
  };
}

/** Keeps a document within what the store takes: `undo` facts that are too large are none. */
function trimmed(outcome: StepOutcome): StepOutcome {
  if (outcome.outcome !== 'done' && outcome.outcome !== 'already') return outcome;
  const before = kept(outcome.before) ?? CUT;
  if (outcome.outcome === 'already') return { outcome: 'already', before };
  // Without its facts an undo still looks for what is ours, as after a try without an answer.
  const undo = outcome.undo === undefined ? undefined : (kept(outcome.undo) ?? {});
  const after = kept(outcome.after) ?? CUT;
  return { outcome: 'done', before, after, ...(undo === undefined ? {} : { undo }) };
}

const CUT: Facts = { cut: `more than ${MAX_FACTS_BYTES} bytes` };

function kept(facts: Facts): Facts | undefined {
  return Buffer.byteLength(JSON.stringify(facts)) <= MAX_FACTS_BYTES ? facts : undefined;
}
