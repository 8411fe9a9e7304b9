import { type ActionDocument, hasBegun, isUnsure, type StepRecord } from './action-document.ts';
import { policyName } from './action-writer.ts';

/** The actions as last known here. */
interface Actions {
  values(): Iterable<ActionDocument>;
}

/**
 * Another action that still wants what a step of ours did to the node: ours is not taken back before it. Of two
 * policies on one node the second found its step done (`already`), or added to it, and would lose it by our undo.
 * Where the undo is the policy's own, not a person's, so does an action of the same policy whose alert fires and
 * which has only waited for ours: another GPU of the node is as broken. Undefined where there is none.
 */
export function keeperOf(ours: ActionDocument, index: number, actions: Actions): ActionDocument | undefined {
  const { kind } = ours.steps[index]!;
  for (const other of actions.values()) {
    if (!isBeside(other, ours)) continue;
    if (waitsBehind(other, ours)) return other;
    if (other.steps.some((one) => one.kind === kind && keeps(other, one, ours))) return other;
  }
  return undefined;
}

/**
 * Another action that takes back such a step on the node just now: what is found there is not going to last.
 * Undefined where there is none, or where that undo waits for a third.
 */
export function takerBackOf(
  ours: ActionDocument,
  index: number,
  actions: Actions,
): ActionDocument | undefined {
  const { kind } = ours.steps[index]!;
  for (const other of actions.values()) {
    if (other.state !== 'undoing' || !isBeside(other, ours)) continue;
    const step = other.steps.findIndex((one) => one.kind === kind && mayBeUndone(one));
    if (step >= 0 && keeperOf(other, step, actions) === undefined) return other;
  }
  return undefined;
}

function isBeside({ id, target }: ActionDocument, ours: ActionDocument): boolean {
  return id !== ours.id && target.node === ours.target.node && target.cluster === ours.target.cluster;
}

function waitsBehind(other: ActionDocument, ours: ActionDocument): boolean {
  const { state, policy, alert } = other;
  if (state !== 'pending' || policy !== ours.policy || hasBegun(other)) return false;
  return ours.undoBy === policyName(ours) && alert.matchesSinceMs > 0 && alert.resolvedAtMs === 0;
}

function keeps(other: ActionDocument, one: StepRecord, ours: ActionDocument): boolean {
  // Somebody put the node back meanwhile, and that was said.
  if (one.takesOut && !other.holds) return false;
  if (one.state === 'already') return WANTS.has(other.state);
  // What two did is taken back in the opposite order: of the same two, never both wait.
  return one.state === 'done' && one.undo !== undefined && isLater(other, ours);
}

/** One that failed half way wants nothing that it has not done itself: people are told. */
const WANTS: ReadonlySet<ActionDocument['state']> = new Set(['pending', 'running', 'done']);

function mayBeUndone(one: StepRecord): boolean {
  return (one.state === 'done' && one.undo !== undefined) || isUnsure(one);
}

function isLater(a: ActionDocument, b: ActionDocument): boolean {
  return a.actedAtMs === b.actedAtMs ? a.id > b.id : a.actedAtMs > b.actedAtMs;
}
