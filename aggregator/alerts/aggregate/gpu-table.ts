import { GONE_MS } from './limits.ts';
import type { NodeTable } from './node-table.ts';
import { grownFloats, grownInts, RowNumbers } from './typed-rows.ts';

/** A GPU that another node reports, and its own no longer for so long, has moved. Our own judgement. */
export const MOVED_MS = 300_000;

/**
 * GPUs by row number, one for each node that reported them: which GPUs a node has. `gpu` is the UUID, or the index
 * where there is none.
 */
export class GpuTable {
  readonly #nodes: NodeTable;
  readonly #rows: RowNumbers;
  readonly #byKey = new Map<string, number>();
  /** By UUID: the row of the node that began to report it last. */
  readonly #newest = new Map<string, number>();
  readonly #uuids: string[] = [];
  #seenMs = new Float64Array(64);
  #nodeRows = new Int32Array(64);
  #perNode = new Int32Array(64);
  /** Rises when a GPU comes, goes or moves. */
  version = 0;

  constructor(limit: number, nodes: NodeTable) {
    this.#nodes = nodes;
    this.#rows = new RowNumbers(limit);
  }

  /** How many GPUs a node has. */
  countOf(nodeRow: number): number {
    return this.#perNode[nodeRow] ?? 0;
  }

  has(nodeRow: number, gpu: string): boolean {
    return this.#byKey.has(`${nodeRow}\0${gpu}`);
  }

  /** Whether another node has it now. False for one that no node has reported yet. */
  movedFrom(nodeRow: number, uuid: string): boolean {
    return !this.has(nodeRow, uuid) && this.#newest.has(uuid);
  }

  /** -1 where there is no room. */
  add(nodeRow: number, gpu: string, uuid: string, nowMs: number): number {
    const key = `${nodeRow}\0${gpu}`;
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    const row = this.#rows.take();
    if (row < 0) return -1;
    this.#seenMs = grownFloats(this.#seenMs, row + 1);
    this.#nodeRows = grownInts(this.#nodeRows, row + 1);
    this.#perNode = grownInts(this.#perNode, nodeRow + 1);
    this.#byKey.set(key, row);
    this.#uuids[row] = uuid;
    if (uuid !== '') this.#newest.set(uuid, row);
    this.#seenMs[row] = nowMs;
    this.#nodeRows[row] = nodeRow;
    this.#perNode[nodeRow]!++;
    this.#nodes.refer(nodeRow);
    this.version++;
    return row;
  }

  /** The source that lists them has spoken. */
  touch(rows: Int32Array, nowMs: number): void {
    for (let i = 0; i < rows.length; i++) this.#seenMs[rows[i]!] = nowMs;
  }

  sweep(nowMs: number): void {
    for (const [key, row] of this.#byKey) {
      const silentMs = nowMs - this.#seenMs[row]!;
      const newest = this.#newest.get(this.#uuids[row]!);
      const moved =
        newest !== undefined &&
        newest !== row &&
        this.#seenMs[newest]! > this.#seenMs[row]! &&
        silentMs > MOVED_MS;
      if (!moved && silentMs <= GONE_MS) continue;
      this.#byKey.delete(key);
      if (newest === row) this.#newest.delete(this.#uuids[row]!);
      this.#perNode[this.#nodeRows[row]!]!--;
      this.#nodes.release(this.#nodeRows[row]!);
      this.#rows.give(row);
      this.version++;
    }
  }
}
