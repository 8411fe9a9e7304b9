/** Both ends included. */
export interface Range {
  readonly first: number;
  readonly last: number;
}

/**
 * A set of integers kept as sorted, disjoint, non-adjacent ranges: what is mostly contiguous costs almost
 * nothing. Every operation is a binary search and a splice.
 */
export class RangeSet {
  readonly #ranges: { first: number; last: number }[] = [];

  get ranges(): readonly Range[] {
    return this.#ranges;
  }

  get size(): number {
    let size = 0;
    for (const { first, last } of this.#ranges) size += last - first + 1;
    return size;
  }

  has(value: number): boolean {
    const at = this.#firstEndingAtOrAfter(value);
    const range = this.#ranges[at];
    return range !== undefined && range.first <= value;
  }

  add(first: number, last = first): void {
    if (last < first) return;
    // Ranges that overlap or touch [first, last] are merged into one.
    const from = this.#firstEndingAtOrAfter(first - 1);
    let to = from;
    let low = first;
    let high = last;
    while (to < this.#ranges.length && this.#ranges[to]!.first <= last + 1) {
      low = Math.min(low, this.#ranges[to]!.first);
      high = Math.max(high, this.#ranges[to]!.last);
      to++;
    }
    this.#ranges.splice(from, to - from, { first: low, last: high });
  }

  delete(first: number, last = first): void {
    if (last < first) return;
    const from = this.#firstEndingAtOrAfter(first);
    let to = from;
    const rest: { first: number; last: number }[] = [];
    while (to < this.#ranges.length && this.#ranges[to]!.first <= last) {
      const range = this.#ranges[to]!;
      if (range.first < first) rest.push({ first: range.first, last: first - 1 });
      if (range.last > last) rest.push({ first: last + 1, last: range.last });
      to++;
    }
    this.#ranges.splice(from, to - from, ...rest);
  }

  clear(): void {
    this.#ranges.length = 0;
  }

  /** The lowest number from `from` on that is not in the set. */
  firstMissing(from: number): number {
    const range = this.#ranges[this.#firstEndingAtOrAfter(from)];
    return range !== undefined && range.first <= from ? range.last + 1 : from;
  }

  /** The end of the run of missing numbers that begins at `from`, at most `limit`. */
  missingUntil(from: number, limit: number): number {
    const range = this.#ranges[this.#firstEndingAtOrAfter(from)];
    return range === undefined ? limit : Math.min(limit, range.first - 1);
  }

  /** What of [first, last] is not in the set. */
  gaps(first: number, last: number): Range[] {
    const gaps: Range[] = [];
    let at = this.firstMissing(first);
    while (at <= last) {
      const end = this.missingUntil(at, last);
      gaps.push({ first: at, last: end });
      at = this.firstMissing(end + 1);
    }
    return gaps;
  }

  #firstEndingAtOrAfter(value: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ranges[middle]!.last < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
