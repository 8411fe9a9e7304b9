import type { Source } from '#shared/model/block.ts';
import type { Labels } from '#shared/model/dictionary.ts';
import type { RejectedSample, RejectionReason } from '#shared/model/rejection.ts';

/** One series' rejections for one reason, as people see them. */
export interface Rejection {
  readonly cluster: string;
  readonly node: string;
  readonly group: string;
  /** Empty where whole ticks were rejected for their time. */
  readonly metric: string;
  readonly labels: Labels;
  readonly reason: RejectionReason;
  /** The newest; undefined where the agent did not send it, and for whole ticks. */
  readonly value: number | undefined;
  readonly low: number;
  readonly high: number;
  /** Samples. */
  readonly count: number;
  /** Unix ms of the first and the newest tick. */
  readonly firstMs: number;
  readonly lastMs: number;
}

type Entry = { -readonly [Key in keyof Rejection]: Rejection[Key] };

export interface RejectionTableLimits {
  /** Of all nodes together; 1,000 by default: about 300 kB. */
  readonly entries?: number;
  /** Of one node; 20 by default, so that a node with broken sensors does not push out the others. */
  readonly perNode?: number;
}

/**
 * The newest rejections. A series that is rejected at every tick is one entry that counts. Over a limit the entry
 * goes that was met longest ago: the node's own, or of the node that was quiet longest.
 */
export class RejectionTable {
  readonly #entries: number;
  readonly #perNode: number;
  /** By node, the one met longest ago first; its entries likewise. */
  readonly #nodes = new Map<string, Entry[]>();
  #count = 0;

  constructor({ entries = 1_000, perNode = 20 }: RejectionTableLimits = {}) {
    this.#entries = entries;
    this.#perNode = perNode;
  }

  note(source: Source, group: string, sample: RejectedSample, timestampMs: number): void {
    const key = `${source.cluster}\n${source.node}`;
    const entries = this.#nodes.get(key) ?? [];
    this.#nodes.delete(key);
    this.#nodes.set(key, entries);
    const at = entries.findIndex((entry) => isOf(entry, group, sample));
    if (at >= 0) {
      const [entry] = entries.splice(at, 1);
      entries.push(again(entry!, sample, timestampMs));
      return;
    }
    entries.push(entryOf(source, group, sample, timestampMs));
    this.#count++;
    if (entries.length > this.#perNode) this.#drop(key, entries);
    else if (this.#count > this.#entries) this.#drop(...this.#quietest());
  }

  /** The newest first; of one node (in every cluster that has one of the name), or of all. */
  list(node?: string): readonly Rejection[] {
    const found: Rejection[] = [];
    for (const entries of this.#nodes.values()) {
      for (const entry of entries) if (node === undefined || entry.node === node) found.push({ ...entry });
    }
    return found.sort((a, b) => b.lastMs - a.lastMs);
  }

  #quietest(): [string, Entry[]] {
    for (const pair of this.#nodes) return pair;
    throw new Error('a table that is over its limit is not empty');
  }

  #drop(key: string, entries: Entry[]): void {
    entries.shift();
    this.#count--;
    if (entries.length === 0) this.#nodes.delete(key);
  }
}

function isOf(entry: Entry, group: string, { series, reason }: RejectedSample): boolean {
  return (
    entry.reason === reason &&
    entry.group === group &&
    entry.metric === (series?.name ?? '') &&
    sameLabels(entry.labels, series?.labels ?? [])
  );
}

function sameLabels(a: Labels, b: Labels): boolean {
  // A dictionary keeps its lists; the next stream of the node brings new ones of the same content.
  if (a === b) return true;
  return a.length === b.length && a.every(([name, value], i) => b[i]![0] === name && b[i]![1] === value);
}

function again(entry: Entry, { value, count }: RejectedSample, timestampMs: number): Entry {
  entry.count += count;
  if (timestampMs >= entry.lastMs) {
    entry.lastMs = timestampMs;
    entry.value = value;
  }
  entry.firstMs = Math.min(entry.firstMs, timestampMs);
  return entry;
}

function entryOf(source: Source, group: string, sample: RejectedSample, timestampMs: number): Entry {
  const { series, reason, value, low, high, count } = sample;
  return {
    cluster: source.cluster,
    node: source.node,
    group,
    metric: series?.name ?? '',
    labels: series?.labels ?? [],
    ...{ reason, value, low, high, count },
    firstMs: timestampMs,
    lastMs: timestampMs,
  };
}
