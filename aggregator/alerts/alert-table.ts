import { AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { OldestFirst } from './oldest-first.ts';
import { severityName } from './summary.ts';
import type { TrackedAlert } from './tracked-alert.ts';

/** What one node has in the table. */
interface NodeShare {
  count: number;
  /** Ids of those that may be dropped, in the order in which they resolved; made with the first. */
  resolved: OldestFirst | undefined;
}

/**
 * The alerts, at most `limit` and at most `nodeLimit` of one node, so that a node gone mad does not take the room
 * of others; those of groups of nodes have no limit of their own. The resolved ones go first, oldest first; an active
 * one is never dropped. Nothing here takes longer for a fuller table.
 */
export class AlertTable {
  readonly #limit: number;
  readonly #nodeLimit: number;
  readonly #alerts = new Map<string, TrackedAlert>();
  readonly #nodes = new Map<string, NodeShare>();
  /** Of all nodes, in the order in which they resolved. */
  readonly #resolved = new OldestFirst();
  readonly #firing = { info: 0, warning: 0, critical: 0, none: 0 };

  constructor(limit: number, nodeLimit: number) {
    this.#limit = limit;
    this.#nodeLimit = nodeLimit;
  }

  get size(): number {
    return this.#alerts.size;
  }

  get(id: string): TrackedAlert | undefined {
    return this.#alerts.get(id);
  }

  values(): Iterable<TrackedAlert> {
    return this.#alerts.values();
  }

  /** Whether there is an alert of that node, whatever its state; see `nodeNameOf`. */
  hasNode(name: string): boolean {
    return this.#nodes.has(name);
  }

  /** How many fire with that severity. */
  firing(severity: 'info' | 'warning' | 'critical'): number {
    return this.#firing[severity];
  }

  /** False where there is no room but that of active alerts. */
  add(tracked: TrackedAlert): boolean {
    const { id, node } = tracked.alert;
    const name = nodeNameOf(tracked.alert);
    const full = node !== '' && (this.#nodes.get(name)?.count ?? 0) >= this.#nodeLimit;
    if (full && !this.#dropOldest(this.#nodes.get(name)?.resolved)) return false;
    if (this.#alerts.size >= this.#limit && !this.#dropOldest(this.#resolved)) return false;
    this.#alerts.set(id, tracked);
    const share = this.#nodes.get(name);
    if (share === undefined) this.#nodes.set(name, { count: 1, resolved: undefined });
    else share.count++;
    this.settle(tracked);
    return true;
  }

  /** To be called after each change of the alert's state. A suppressed alert is kept: dropped, it would fire. */
  settle(tracked: TrackedAlert): void {
    const { id, state, suppressed, severity } = tracked.alert;
    this.#count(tracked, state === AlertState.FIRING ? severity : Severity.UNSPECIFIED);
    const resolved = state === AlertState.RESOLVED && !suppressed;
    if (!resolved && !this.#resolved.has(id)) return;
    const share = this.#nodes.get(nodeNameOf(tracked.alert))!;
    if (resolved) {
      this.#resolved.add(id);
      share.resolved ??= new OldestFirst();
      share.resolved.add(id);
    } else {
      this.#resolved.delete(id);
      share.resolved?.delete(id);
    }
  }

  delete(id: string): void {
    const tracked = this.#alerts.get(id);
    if (tracked === undefined) return;
    this.#count(tracked, Severity.UNSPECIFIED);
    this.#alerts.delete(id);
    this.#resolved.delete(id);
    const name = nodeNameOf(tracked.alert);
    const share = this.#nodes.get(name)!;
    share.resolved?.delete(id);
    share.count--;
    if (share.count === 0) this.#nodes.delete(name);
  }

  #count(tracked: TrackedAlert, as: Severity): void {
    if (tracked.countedAs === as) return;
    this.#firing[severityName(tracked.countedAs)]--;
    this.#firing[severityName(as)]++;
    tracked.countedAs = as;
  }

  #dropOldest(resolved: OldestFirst | undefined): boolean {
    const oldest = resolved?.take();
    if (oldest === undefined) return false;
    this.delete(oldest);
    return true;
  }
}

/** What the table knows a node by. */
export function nodeNameOf({ cluster, node }: { readonly cluster: string; readonly node: string }): string {
  return `${cluster}\0${node}`;
}
