import type { Block } from '#shared/model/block.ts';
import type { Labels } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import type { LabelMatch } from '../rules/rules.ts';
import type { NodeTable } from './node-table.ts';
import { grownFloats, grownInts, RowNumbers } from './typed-rows.ts';

/** Who a series belongs to and what tells it from others of the same GPU. */
export interface SeriesIdentity {
  readonly nodeRow: number;
  /** UUID, or the index where there is none; empty for a series of the node. */
  readonly gpu: string;
  /** Labels that the rule leaves free, as in an alert's key. */
  readonly key: string;
  readonly labels: Labels;
}

/** The last value of each series of one metric with certain labels, in columns. Times are monotonic ms. */
export class SeriesTable {
  readonly metric: string;
  readonly match: LabelMatch;
  readonly #nodes: NodeTable;
  readonly #rows: RowNumbers;
  readonly #byKey = new Map<string, number>();
  readonly #identities: (SeriesIdentity | undefined)[] = [];
  /** Unit of the series, from the first one. */
  unit = '';
  values = new Float64Array(64);
  /** When it last had a value. */
  seenMs = new Float64Array(64);
  /** When a tick of a dictionary that has it came last, with or without a value. */
  touchedMs = new Float64Array(64);
  intervalMs = new Float64Array(64);
  /** The node's row; -1 where this row is free. */
  nodeRows = new Int32Array(64);

  constructor(metric: string, match: LabelMatch, limit: number, nodes: NodeTable) {
    this.metric = metric;
    this.match = match;
    this.#nodes = nodes;
    this.#rows = new RowNumbers(limit);
  }

  /** One more than the highest row. */
  get size(): number {
    return this.#rows.size;
  }

  get used(): number {
    return this.#rows.used;
  }

  identityOf(row: number): SeriesIdentity {
    return this.#identities[row]!;
  }

  /** -1 where it is not known. */
  find(nodeRow: number, gpu: string, key: string): number {
    return this.#byKey.get(keyOf(nodeRow, gpu, key)) ?? -1;
  }

  /** Not seen yet: the first value says so. -1 where there is no room. */
  add(identity: SeriesIdentity, intervalMs: number, nowMs: number): number {
    const key = keyOf(identity.nodeRow, identity.gpu, identity.key);
    let row = this.#byKey.get(key) ?? -1;
    if (row < 0) {
      row = this.#rows.take();
      if (row < 0) return -1;
      this.#grow(row + 1);
      this.#byKey.set(key, row);
      this.#nodes.refer(identity.nodeRow);
      this.nodeRows[row] = identity.nodeRow;
      this.seenMs[row] = Number.NaN;
      this.values[row] = Number.NaN;
    }
    this.#identities[row] = identity;
    this.touchedMs[row] = nowMs;
    this.intervalMs[row] = intervalMs;
    return row;
  }

  /** The hot path: the slots of one tick into their rows. */
  take(slots: Int32Array, rows: Int32Array, { states, values }: Block, nowMs: number): void {
    for (let i = 0; i < slots.length; i++) {
      const row = rows[i]!;
      this.touchedMs[row] = nowMs;
      if (states[slots[i]!] !== SlotState.Present) continue;
      this.values[row] = values[slots[i]!]!;
      this.seenMs[row] = nowMs;
    }
  }

  delete(row: number): void {
    const { nodeRow, gpu, key } = this.#identities[row]!;
    this.#byKey.delete(keyOf(nodeRow, gpu, key));
    this.#identities[row] = undefined;
    this.nodeRows[row] = -1;
    this.#nodes.release(nodeRow);
    this.#rows.give(row);
  }

  /** Gives all its nodes back: nothing reads it any more. */
  clear(): void {
    for (let row = 0; row < this.size; row++) if (this.nodeRows[row]! >= 0) this.delete(row);
  }

  #grow(rows: number): void {
    this.values = grownFloats(this.values, rows);
    this.seenMs = grownFloats(this.seenMs, rows);
    this.touchedMs = grownFloats(this.touchedMs, rows);
    this.intervalMs = grownFloats(this.intervalMs, rows);
    this.nodeRows = grownInts(this.nodeRows, rows);
  }
}

function keyOf(nodeRow: number, gpu: string, key: string): string {
  return `${nodeRow}\0${gpu}\0${key}`;
}
