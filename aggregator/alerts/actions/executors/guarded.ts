import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { aborted } from '#shared/lifecycle/wait.ts';
import type { Executor, StepOutcome } from '../executor.ts';

/** The longest `why` and preview. */
const MAX_WORDS = 500;
const LATE: StepOutcome = { outcome: 'retry', why: 'no answer before the deadline' };

/**
 * An executor that keeps the contract's two promises for all kinds: it never rejects, and it answers at the deadline
 * whatever the work inside does. What it began may then still be done: the next try with the same step id finds it.
 */
export function guarded(inner: Executor): Executor {
  const step = async (signal: AbortSignal, work: () => Promise<StepOutcome>): Promise<StepOutcome> => {
    if (signal.aborted) return LATE;
    const outcome = work().catch((error: unknown) => outcomeOf(error, signal));
    return bounded(await Promise.race([outcome, aborted(signal).then(() => afterGrace(outcome))]));
  };
  return {
    kind: inner.kind,
    async preview(target, context, signal) {
      const unseen = (why: string): string => `${inner.kind}: what is there now cannot be seen: ${why}`;
      const words = inner
        .preview(target, context, signal)
        .catch((error: unknown) => unseen(describeError(error)));
      const late = aborted(signal).then(() => unseen('no answer before the deadline'));
      return (await Promise.race([words, late])).slice(0, MAX_WORDS);
    },
    execute: (target, context, signal) => step(signal, () => inner.execute(target, context, signal)),
    undo: (target, context, undo, signal) => step(signal, () => inner.undo(target, context, undo, signal)),
    [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
  };
}

/** Work that heeds the signal has a moment to say where it stands, which is more than that it is late. */
const GRACE_MS = 250;

async function afterGrace(outcome: Promise<StepOutcome>): Promise<StepOutcome> {
  const late = Promise.withResolvers<StepOutcome>();
  const timer = setTimeout(() => late.resolve(LATE), GRACE_MS);
  try {
    return await Promise.race([outcome, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** What waits and hopes, and what does not. */
function outcomeOf(error: unknown, signal: AbortSignal): StepOutcome {
  if (signal.aborted) return LATE;
  const why = describeError(error);
  const final = error instanceof FleetError && !error.retryable && error.code !== 'resource_exhausted';
  return { outcome: final ? 'failed' : 'retry', why };
}

function bounded(outcome: StepOutcome): StepOutcome {
  return 'why' in outcome ? { ...outcome, why: outcome.why.slice(0, MAX_WORDS) } : outcome;
}
