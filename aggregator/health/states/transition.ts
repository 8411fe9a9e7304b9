import type { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';

/**
 * What moved the state: the score over or under a line for long enough, a hard cap, silence (or the end of it), a
 * clearing event, the flap guard, an operator's word.
 */
export type TransitionCause = 'score' | 'cap' | 'stale' | 'clear' | 'flap' | 'operator';

/** One change of a GPU's state. */
export interface Transition {
  /** HEALTH_STATE_UNSPECIFIED for the first state of a GPU. Never FLAPPING: that is the flag below. */
  readonly from: HealthState;
  /** The same as `from` where only the flag changed. */
  readonly to: HealthState;
  /** Unix milliseconds. */
  readonly atMs: number;
  /** The guard holds the GPU in `to` (or worse) since it changed too often. */
  readonly flapping: boolean;
  readonly cause: TransitionCause;
  /** One sentence: the rule that applied, with its figures. */
  readonly why: string;
  /** Score at that moment; NaN where there was none. */
  readonly score: number;
  /** Who cleared it; empty where nobody did. */
  readonly by: string;
}

/** Part of a score at a transition. */
export interface TransitionContribution {
  readonly signal: string;
  readonly points: number;
}

/** Whose transition it is. */
export interface TransitionSubject {
  readonly cluster: string;
  readonly node: string;
  /** Index on its node. */
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
}

/** A transition as it is kept and shown. */
export interface TransitionEntry extends TransitionSubject, Omit<Transition, 'score'> {
  /** Undefined where there was none. */
  readonly score: number | undefined;
  /** What cost the most points, most first, at most MAX_TRANSITION_CONTRIBUTIONS. */
  readonly contributions: readonly TransitionContribution[];
  /** Operators had the node drained or in maintenance: it is kept, and nobody is to be woken by it. */
  readonly suppressed: boolean;
}

/** Own judgement: the points are sorted, and beyond the fifth they are crumbs. */
export const MAX_TRANSITION_CONTRIBUTIONS = 5;

/** Puts together what is kept of a transition. `contributions` most points first, as the score gives them. */
export function transitionEntry(
  transition: Transition,
  { cluster, node, gpu, uuid, model }: TransitionSubject,
  contributions: readonly TransitionContribution[],
  suppressed: boolean,
): TransitionEntry {
  const top = contributions
    .slice(0, MAX_TRANSITION_CONTRIBUTIONS)
    .map(({ signal, points }) => ({ signal, points }));
  const score = Number.isNaN(transition.score) ? undefined : transition.score;
  return { cluster, node, gpu, uuid, model, ...transition, score, contributions: top, suppressed };
}
