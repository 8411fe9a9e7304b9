import type { Series } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import type { ReadingTable } from '../reading-table.ts';

/** What one part of a source read: values and states in the order of its series. Reused from read to read. */
export class SampleSet {
  #series: readonly Series[] = [];
  #values = new Float64Array(0);
  #states = new Uint8Array(0);
  #malformed = 0;
  #refused = 0;

  get series(): readonly Series[] {
    return this.#series;
  }

  /** Other series from now on; everything is absent. */
  plan(series: readonly Series[]): void {
    this.#series = series;
    this.#values = new Float64Array(series.length);
    this.#states = new Uint8Array(series.length);
    this.clear();
  }

  /** At the begin of each read: everything is absent. */
  clear(): void {
    this.#states.fill(SlotState.Absent);
    this.#malformed = 0;
    this.#refused = 0;
  }

  /** What the file said at this place: NaN for something that is no number, which is counted and left absent. */
  put(index: number, value: number): void {
    if (Number.isNaN(value)) {
      this.#malformed++;
      return;
    }
    this.#values[index] = value;
    this.#states[index] = SlotState.Present;
  }

  /** Why there is no value. */
  miss(index: number, state: Exclude<SlotState, typeof SlotState.Present>): void {
    this.#states[index] = state;
  }

  /** The same with FileReader's negative number. */
  missFrom(index: number, read: number): void {
    this.#states[index] = -read;
  }

  /** Everything, such as where the one file of a part cannot be read. `state` may be FileReader's negative number. */
  missAll(state: number): void {
    this.#states.fill(Math.abs(state));
  }

  /** A line or word that could not be read. */
  malformed(): void {
    this.#malformed++;
  }

  /** Series that are left out because there are too many. */
  refuse(series: number): void {
    this.#refused += series;
  }

  /** What was put, if anything. */
  valueAt(index: number): number | undefined {
    return this.#states[index] === SlotState.Present ? this.#values[index] : undefined;
  }

  /** Into the reading, where this part's series begin at `first`. Gives how many values there were. */
  copyTo(table: ReadingTable, first: number): number {
    let present = 0;
    for (let i = 0; i < this.#states.length; i++) {
      const state = this.#states[i] as SlotState;
      if (state === SlotState.Present) {
        table.put(first + i, this.#values[i]!);
        present++;
      } else if (state !== SlotState.Absent) {
        table.miss(first + i, state);
      }
    }
    table.reject('malformed', this.#malformed);
    table.reject('series_limit', this.#refused);
    return present;
  }
}
