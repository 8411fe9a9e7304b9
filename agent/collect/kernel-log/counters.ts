import type { Series } from '#shared/model/dictionary.ts';
import { canonicalSeries } from '../canonical-series.ts';

/** More than (GPU, code) pairs that a node sees; over it a line is in its event only, and counted as refused. */
export const MAX_COUNTERS = 1024;

/** Counters that appear as things happen. */
export class Counters {
  readonly #index = new Map<string, number>();
  #series: Series[] = [];
  readonly #values: number[] = [];
  #refused = 0;

  /** The same array object as long as no counter is new. */
  get series(): readonly Series[] {
    return this.#series;
  }

  get values(): readonly number[] {
    return this.#values;
  }

  /** Lines since the last call that were not counted for want of room. */
  takeRefused(): number {
    const count = this.#refused;
    this.#refused = 0;
    return count;
  }

  add(name: string, labels: Readonly<Record<string, string | undefined>>, by = 1): void {
    const key = JSON.stringify([name, labels]);
    let index = this.#index.get(key);
    if (index === undefined) {
      if (this.#index.size >= MAX_COUNTERS) {
        this.#refused += by;
        return;
      }
      index = this.#values.push(0) - 1;
      this.#index.set(key, index);
      this.#series = [...this.#series, canonicalSeries(name, labels)];
    }
    this.#values[index]! += by;
  }
}
