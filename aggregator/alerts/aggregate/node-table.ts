import { GONE_MS } from './limits.ts';
import { grownFloats, grownInts, RowNumbers } from './typed-rows.ts';

/** Nodes by row number. Times are monotonic ms. A row lives while something refers to it, or its node is heard of. */
export class NodeTable {
  readonly #rows: RowNumbers;
  readonly #byKey = new Map<string, number>();
  readonly #clusters: string[] = [];
  readonly #nodes: string[] = [];
  #references = new Int32Array(64);
  /** When a live block came last. */
  seenMs = new Float64Array(64);
  /** Since when it is connected; NaN while it is not. */
  connectedMs = new Float64Array(64);

  constructor(limit: number) {
    this.#rows = new RowNumbers(limit);
  }

  get used(): number {
    return this.#rows.used;
  }

  /** Undefined where the row is free. */
  clusterOf(row: number): string {
    return this.#clusters[row]!;
  }

  nodeOf(row: number): string {
    return this.#nodes[row]!;
  }

  /** -1 where it is not known. */
  find(cluster: string, node: string): number {
    return this.#byKey.get(`${cluster}\0${node}`) ?? -1;
  }

  /** -1 where there is no room. */
  add(cluster: string, node: string, nowMs: number): number {
    const key = `${cluster}\0${node}`;
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    const row = this.#rows.take();
    if (row < 0) return -1;
    this.seenMs = grownFloats(this.seenMs, row + 1);
    this.connectedMs = grownFloats(this.connectedMs, row + 1);
    this.#references = grownInts(this.#references, row + 1);
    this.#byKey.set(key, row);
    this.#clusters[row] = cluster;
    this.#nodes[row] = node;
    this.seenMs[row] = nowMs;
    this.connectedMs[row] = Number.NaN;
    this.#references[row] = 0;
    return row;
  }

  refer(row: number): void {
    this.#references[row]!++;
  }

  release(row: number): void {
    this.#references[row]!--;
  }

  /** Rows in use. */
  rows(): Iterable<number> {
    return this.#byKey.values();
  }

  /** Asks of each node whether it is connected. */
  poll(connected: (cluster: string, node: string) => boolean, nowMs: number): void {
    for (const row of this.#byKey.values()) {
      if (!connected(this.#clusters[row]!, this.#nodes[row]!)) this.connectedMs[row] = Number.NaN;
      else if (Number.isNaN(this.connectedMs[row]!)) this.connectedMs[row] = nowMs;
    }
  }

  /** Drops what nothing refers to and was not heard of for GONE_MS. */
  sweep(nowMs: number): void {
    for (const [key, row] of this.#byKey) {
      if (this.#references[row]! > 0 || nowMs - this.seenMs[row]! <= GONE_MS) continue;
      this.#byKey.delete(key);
      this.#rows.give(row);
    }
  }
}
