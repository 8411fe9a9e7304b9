import { type Alert, AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { Rule } from './rules/rules.ts';

/** What the engine keeps of one alert. The message is replaced at each change, never written to. */
export interface TrackedAlert {
  readonly rule: Rule;
  alert: Alert;
  /** The message before a pending began, put back where the pending ends without firing. */
  beforePending: Alert | undefined;
  /** For each level of a threshold rule: sample time since when it holds, NaN where it does not. */
  readonly since: Float64Array;
  /** For each level: it has held for its `for`, and has not cleared. */
  readonly active: boolean[];
  /** Time of the newest sample or event seen. */
  seenMs: number;
  /** When it was seen, by the aggregator's clock. */
  heardMs: number;
  intervalMs: number;
  /** When an event alert ends, by the aggregator's clock; infinite for threshold rules. */
  expiresMs: number;
}

/**
 * The alerts, at most `limit` and at most `nodeLimit` of one node, so that a node gone mad does not take the room
 * of others. The resolved ones go first, oldest first; an active one is never dropped.
 */
export class AlertTable {
  readonly #limit: number;
  readonly #nodeLimit: number;
  readonly #alerts = new Map<string, TrackedAlert>();
  readonly #perNode = new Map<string, number>();
  /** Ids of those that may be dropped, in the order in which they resolved. */
  readonly #resolved = new Set<string>();

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

  /** False where there is no room but that of active alerts. */
  add(tracked: TrackedAlert): boolean {
    const node = nodeOf(tracked.alert);
    if ((this.#perNode.get(node) ?? 0) >= this.#nodeLimit && !this.#dropOldest(node)) return false;
    if (this.#alerts.size >= this.#limit && !this.#dropOldest(undefined)) return false;
    this.#alerts.set(tracked.alert.id, tracked);
    this.#perNode.set(node, (this.#perNode.get(node) ?? 0) + 1);
    this.settle(tracked);
    return true;
  }

  /** To be called after each change of the alert's state. A suppressed alert is kept: dropped, it would fire. */
  settle(tracked: TrackedAlert): void {
    const { id, state, suppressed } = tracked.alert;
    this.#resolved.delete(id);
    if (state === AlertState.RESOLVED && !suppressed) this.#resolved.add(id);
  }

  delete(id: string): void {
    const tracked = this.#alerts.get(id);
    if (tracked === undefined) return;
    this.#alerts.delete(id);
    this.#resolved.delete(id);
    const node = nodeOf(tracked.alert);
    const left = (this.#perNode.get(node) ?? 1) - 1;
    if (left > 0) this.#perNode.set(node, left);
    else this.#perNode.delete(node);
  }

  #dropOldest(node: string | undefined): boolean {
    for (const id of this.#resolved) {
      if (node !== undefined && nodeOf(this.#alerts.get(id)!.alert) !== node) continue;
      this.delete(id);
      return true;
    }
    return false;
  }
}

function nodeOf(alert: Alert): string {
  return `${alert.cluster}\0${alert.node}`;
}
