/** The same numbers in an array of at least `rows`; doubles, so that growing row by row costs little. */
export function grownFloats(array: Float64Array<ArrayBuffer>, rows: number): Float64Array<ArrayBuffer> {
  if (rows <= array.length) return array;
  const next = new Float64Array(Math.max(rows, 2 * array.length));
  next.set(array);
  return next;
}

export function grownInts(array: Int32Array<ArrayBuffer>, rows: number): Int32Array<ArrayBuffer> {
  if (rows <= array.length) return array;
  const next = new Int32Array(Math.max(rows, 2 * array.length));
  next.set(array);
  return next;
}

/** Row numbers: those given back first, then new ones, below the limit. */
export class RowNumbers {
  readonly #limit: number;
  readonly #free: number[] = [];
  #size = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** One more than the highest number ever given. */
  get size(): number {
    return this.#size;
  }

  get used(): number {
    return this.#size - this.#free.length;
  }

  /** -1 where all are given. */
  take(): number {
    const row = this.#free.pop();
    if (row !== undefined) return row;
    return this.#size < this.#limit ? this.#size++ : -1;
  }

  give(row: number): void {
    this.#free.push(row);
  }
}
