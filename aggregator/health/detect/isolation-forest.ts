/** Uniform in [0, 1); seeded by the caller. */
export type Random = () => number;

export interface IsolationForestOptions {
  /** 100 trees of 256 rows: Liu, Ting and Zhou (ICDM 2008), section 4.1: scores have settled by then. */
  readonly trees?: number;
  readonly sampleRows?: number;
  readonly random: Random;
}

const TREES = 100;
const SAMPLE_ROWS = 256;
const LEAF = -1;
const EULER = 0.5772156649;

/**
 * How few cuts at random set a row apart from the others: score 2^(-depth / expected depth), near 1 for one that few
 * others are like, below 0.5 for the common ones (Liu, Ting and Zhou, ICDM 2008). 100 trees of 256 rows are 820 kB at
 * most, and a row costs about ten microseconds. NaN goes to the left: give rows without it.
 */
export class IsolationForest {
  readonly #trees: number;
  readonly #sampleRows: number;
  readonly #random: Random;
  readonly #maxDepth: number;
  /** By node: column of the cut, or LEAF; where it cuts, or the depth of a leaf; the right child (the left is the next). */
  readonly #column: Int16Array;
  readonly #cut: Float64Array;
  readonly #right: Int32Array;
  readonly #roots: Int32Array;
  #nodes = 0;
  #expectedDepth = 1;
  #sample: Uint32Array = new Uint32Array(0);
  #columns = 0;

  constructor(options: IsolationForestOptions) {
    this.#trees = options.trees ?? TREES;
    this.#sampleRows = options.sampleRows ?? SAMPLE_ROWS;
    this.#random = options.random;
    this.#maxDepth = Math.ceil(Math.log2(this.#sampleRows));
    const most = this.#trees * (2 * this.#sampleRows - 1);
    this.#column = new Int16Array(most);
    this.#cut = new Float64Array(most);
    this.#right = new Int32Array(most);
    this.#roots = new Int32Array(this.#trees);
  }

  get fitted(): boolean {
    return this.#columns > 0;
  }

  /** Row-major. Forgets what it was fitted to before; nothing of fewer than two rows. */
  fit(rows: Float64Array, columns: number): void {
    const count = Math.floor(rows.length / columns);
    this.#nodes = 0;
    this.#columns = count < 2 ? 0 : columns;
    if (count < 2) return;
    const size = Math.min(count, this.#sampleRows);
    this.#expectedDepth = averageDepth(size);
    const order = Uint32Array.from({ length: count }, (_, i) => i);
    for (let tree = 0; tree < this.#trees; tree++) {
      this.#sample = this.#draw(order, size);
      this.#roots[tree] = this.#nodes;
      this.#grow(rows, 0, size, 0);
    }
  }

  /** 0 to 1; NaN before `fit`. `first`: where the row begins in `rows`. */
  score(rows: Float64Array, first = 0): number {
    if (!this.fitted) return Number.NaN;
    let depths = 0;
    for (let tree = 0; tree < this.#trees; tree++) {
      let node = this.#roots[tree]!;
      for (let column = this.#column[node]!; column !== LEAF; column = this.#column[node]!)
        node = rows[first + column]! >= this.#cut[node]! ? this.#right[node]! : node + 1;
      depths += this.#cut[node]!;
    }
    return 2 ** (-depths / this.#trees / this.#expectedDepth);
  }

  /** The first `size` places of a shuffle. */
  #draw(order: Uint32Array, size: number): Uint32Array {
    for (let i = 0; i < size; i++) {
      const j = i + Math.floor(this.#random() * (order.length - i));
      const kept = order[i]!;
      order[i] = order[j]!;
      order[j] = kept;
    }
    return order.slice(0, size);
  }

  /** A node over the sample's rows from `from` to before `to`. */
  #grow(rows: Float64Array, from: number, to: number, depth: number): void {
    const node = this.#nodes++;
    const column = to - from < 2 || depth >= this.#maxDepth ? LEAF : this.#columnToCut(rows, from, to);
    this.#column[node] = column;
    if (column === LEAF) {
      this.#cut[node] = depth + averageDepth(to - from);
      return;
    }
    const middle = this.#partition(rows, column, from, to, node);
    this.#grow(rows, from, middle, depth + 1);
    this.#right[node] = this.#nodes;
    this.#grow(rows, middle, to, depth + 1);
  }

  /** One at random of those that have two different values; LEAF where none has. */
  #columnToCut(rows: Float64Array, from: number, to: number): number {
    const columns = this.#columns;
    const begin = Math.floor(this.#random() * columns);
    for (let i = 0; i < columns; i++) {
      const column = (begin + i) % columns;
      const first = rows[this.#sample[from]! * columns + column]!;
      for (let row = from + 1; row < to; row++)
        if (rows[this.#sample[row]! * columns + column]! !== first) return column;
    }
    return LEAF;
  }

  /** Chooses the cut and sorts the rows by it; gives the first that is not below. Both sides have rows. */
  #partition(rows: Float64Array, column: number, from: number, to: number, node: number): number {
    const sample = this.#sample;
    const columns = this.#columns;
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (let row = from; row < to; row++) {
      const value = rows[sample[row]! * columns + column]!;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    // Above the lowest and at most the highest: rounding may bring it back to the lowest.
    const drawn = low + (1 - this.#random()) * (high - low);
    const cut = drawn > low ? drawn : high;
    this.#cut[node] = cut;
    let below = from;
    for (let row = from; row < to; row++) {
      const index = sample[row]!;
      if (rows[index * columns + column]! >= cut) continue;
      sample[row] = sample[below]!;
      sample[below++] = index;
    }
    return below;
  }
}

/** Mean depth of an unsuccessful search in a binary tree of so many rows. */
function averageDepth(rows: number): number {
  if (rows <= 1) return 0;
  if (rows === 2) return 1;
  return 2 * (Math.log(rows - 1) + EULER) - (2 * (rows - 1)) / rows;
}
