import { type ActionDocument, hasBegun } from './action-document.ts';
import type { NodeTurns, Wait } from './node-turns.ts';
import type { OpenPolicy } from './policy.ts';
import type { PolicyBook } from './policy-book.ts';
import type { PoolShares } from './pool-shares.ts';

/** How often a window, or the file's mode, is asked again. */
const LOOK_AGAIN_MS = 60_000;

interface GatesOptions {
  readonly policies: Pick<PolicyBook, 'isLive'>;
  readonly shares: PoolShares;
  readonly turns: NodeTurns;
}

/**
 * What an action waits for before its first step, as last known here. Whoever passes still has to take the turn and
 * the place in the share by compare-and-set; asking here first keeps thousands that wait from writing.
 */
export class ActionGates {
  readonly #options: GatesOptions;

  constructor(options: GatesOptions) {
    this.#options = options;
  }

  /** Before anybody is asked for approval: undefined where nothing is in the way. */
  early(action: ActionDocument, policy: OpenPolicy, nowMs: number): Wait | undefined {
    const { matchesSinceMs } = action.alert;
    if (matchesSinceMs === 0)
      return {
        why: 'the alert fires, but does not match the policy any more',
        untilMs: nowMs + LOOK_AGAIN_MS,
      };
    const readyMs = matchesSinceMs + policy.forMs;
    if (readyMs > nowMs)
      return { why: `the alert must fire for ${policy.forMs / 1000} s first`, untilMs: readyMs };
    return this.#options.turns.blocked(action, policy, nowMs);
  }

  /** Once it may be done: the window, and room in the pool. */
  late(action: ActionDocument, policy: OpenPolicy, nowMs: number): Wait | undefined {
    if (policy.window !== undefined && !policy.window.contains(nowMs))
      return { why: `waits for the window ${policy.window.name}`, untilMs: 0 };
    if (!takesOut(policy)) return undefined;
    const why = this.#options.shares.blocked(action, policy);
    return why === undefined ? undefined : { why, untilMs: 0 };
  }

  /** Why an action that has begun may not go on. */
  halted(policy: OpenPolicy): Wait | undefined {
    return this.live(policy)
      ? undefined
      : { why: `halted: actions.yaml says dry_run for policy ${policy.name} now`, untilMs: 0 };
  }

  /** As the file says now: it may have changed since the policy was looked up. */
  live(policy: OpenPolicy): boolean {
    return this.#options.policies.isLive(policy.name);
  }

  /** Why a pending action would come no further now; undefined where it is worth the writes to try. */
  waits(action: ActionDocument, policy: OpenPolicy, nowMs: number): Wait | undefined {
    if (hasBegun(action)) return this.halted(policy) ?? this.#unheld(action, policy);
    const early = this.early(action, policy, nowMs);
    if (early !== undefined) return early;
    const goesOn = this.live(policy) && (policy.approval === 'none' || action.decidedBy !== '');
    return goesOn ? this.late(action, policy, nowMs) : undefined;
  }

  #unheld(action: ActionDocument, policy: OpenPolicy): Wait | undefined {
    const { shares } = this.#options;
    if (!takesOut(policy) || shares.holds(action)) return undefined;
    const why = shares.blocked(action, policy);
    return why === undefined ? undefined : { why, untilMs: 0 };
  }
}

export function takesOut(policy: OpenPolicy): boolean {
  return policy.steps.some((step) => step.takesOut);
}
