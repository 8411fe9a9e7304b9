import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { ActionDocument } from './action-document.ts';
import type { Executor } from './executor.ts';

/** Whether machines are touched, or it is only said what would be done. */
export type ActionMode = 'dry_run' | 'live';

/** Times in which something may be done. */
export interface ActionWindow {
  readonly name: string;
  contains(atMs: number): boolean;
}

/** One step of a policy: a kind of executor and its settings, as that executor's schema gave them. */
export interface PolicyStep {
  readonly kind: string;
  readonly settings: unknown;
  /** Takes the node out of service: it counts for the share of its pool. */
  readonly takesOut: boolean;
  /** Its executor knows its own doing by sight: a try without an answer can be undone, with no facts to go by. */
  readonly undoesUnsure: boolean;
}

/** What is done about alerts that match. */
export interface Policy {
  readonly name: string;
  matches(alert: Alert): boolean;
  /** The alert has fired and matched for so long. */
  readonly forMs: number;
  readonly mode: ActionMode;
  readonly approval: 'required' | 'none';
  /** 0 to 1 of the pool's nodes, see `allowedOut`. */
  readonly maxShare: number;
  readonly maxNodes: number;
  /** The same policy acts on the same node once in so long. */
  readonly coolDownMs: number;
  readonly window: ActionWindow | undefined;
  readonly undo: 'on_resolve' | 'by_hand';
  readonly steps: readonly PolicyStep[];
}

export interface ActionSettings {
  readonly mode: ActionMode;
  readonly policies: readonly Policy[];
}

/** A policy with its executors, one for each step. */
export interface OpenPolicy extends Policy {
  readonly executors: readonly Executor[];
}

/** Undefined where the action's policy is gone, or has other steps than when it was made. */
export function policyOf(
  policies: { get(name: string): OpenPolicy | undefined },
  action: ActionDocument,
): OpenPolicy | undefined {
  const policy = policies.get(action.policy);
  const same =
    policy?.steps.length === action.steps.length &&
    policy.steps.every(({ kind }, i) => kind === action.steps[i]!.kind);
  return same ? policy : undefined;
}

/** Both the file and the policy must say `live`. */
export function isLive(fileMode: ActionMode, policy: Pick<Policy, 'mode'>): boolean {
  return fileMode === 'live' && policy.mode === 'live';
}

/**
 * How many nodes of a pool may be out at once: the share, rounded down, but at least one node where the pool has
 * two or more and the share is not 0, and never more than `maxNodes`. Without the "at least one" the default share
 * (5 %) would mean that a pool of fewer than 20 nodes is never acted on, and says nothing: operators of small
 * clusters expect that their one broken node is drained. One node never empties a pool of two; a pool of one is
 * only taken out where the share says so in full (`max_share: 1`). Own judgement.
 */
export function allowedOut(nodes: number, policy: Pick<Policy, 'maxShare' | 'maxNodes'>): number {
  // 0.07 x 100 is 7.000000000000001 and 0.29 x 100 is 28.999999999999996: neither may cost or give a node.
  const share = Math.floor(nodes * policy.maxShare + 1e-9);
  const least = nodes >= 2 && policy.maxShare > 0 ? 1 : 0;
  return Math.min(Math.max(share, least), policy.maxNodes);
}
