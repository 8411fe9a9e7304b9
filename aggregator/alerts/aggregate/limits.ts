/** Bounds of what RuleWatch keeps; all our own judgement. What is beyond them is counted and not looked at. */
export interface WatchLimits {
  /** Nodes; about 200 B each. Four fleets of 12,500 nodes. */
  readonly nodes: number;
  /** GPUs for each node that reported them; about 250 B each. */
  readonly gpus: number;
  /** Series of one metric and its labels, so of one rule; about 400 B each: 200 MB where one is full. */
  readonly series: number;
  /** Groups of one kind. A fleet of 12,500 nodes has as many groups by node. */
  readonly groups: number;
}

export const DEFAULT_LIMITS: WatchLimits = {
  nodes: 50_000,
  gpus: 500_000,
  series: 500_000,
  groups: 50_000,
};

/** A node, GPU or series that was not heard of for so long has gone. Our own judgement: a reboot is over long before. */
export const GONE_MS = 3_600_000;

/**
 * A series that its dictionary no longer has, of a GPU that is still there, is expected for so long; then it was
 * taken away for good. Our own judgement.
 */
export const GIVEN_UP_MS = 24 * 3_600_000;
