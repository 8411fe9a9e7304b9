import type { Dictionary, Series } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { TextBudget } from './text-budget.ts';

/**
 * A series that a source no longer lists keeps its slot, absent, for this many scrapes, and then leaves the
 * dictionary: an exporter that restarts shows an empty page once or twice, and a new dictionary and stale markers
 * cost more than absent slots.
 */
export const KEPT_SCRAPES = 3;

/**
 * The slots of one group. `values` and `states` are as long as the dictionary and replaced only together with
 * it; the dictionary is replaced at once when a series is new, or when one has been gone for KEPT_SCRAPES.
 */
export class SeriesTable {
  readonly #group: string;
  readonly #intervalMs: number;
  readonly #limit: number;
  #slotOf = new Map<string, number>();
  /** Scrapes in a row that did not list the slot. */
  #gone: Uint8Array = new Uint8Array(0);
  #waiting = false;
  dictionary: Dictionary;
  values = new Float64Array(0);
  states = new Uint8Array(0);

  /** `limit` is the most slots it gives, those of series that are gone included. */
  constructor(group: string, intervalMs: number, limit: number) {
    this.#group = group;
    this.#intervalMs = intervalMs;
    this.#limit = limit;
    this.dictionary = createDictionary(group, intervalMs, []);
  }

  /** Some slots are not listed: assign must be called at each scrape, even with the same series. */
  get waiting(): boolean {
    return this.#waiting;
  }

  /**
   * The slot of each series that the source lists at this scrape, in order; -1 for those over the limit. The same
   * series twice has one slot. Who comes first is served first.
   */
  assign(listed: readonly Series[]): Int32Array {
    const keys = listed.map(keyOf);
    const listedKeys = new Set(keys);
    let expired = false;
    this.#waiting = false;
    for (const [key, slot] of this.#slotOf) {
      this.#gone[slot] = listedKeys.has(key) ? 0 : this.#gone[slot]! + 1;
      if (this.#gone[slot] > 0) this.#waiting = true;
      if (this.#gone[slot] >= KEPT_SCRAPES) expired = true;
    }
    if (expired || this.#lacks(listed, keys)) this.#rebuild(listed, keys);
    return Int32Array.from(keys, (key) => this.#slotOf.get(key) ?? -1);
  }

  /** A series that has no slot though there is room, or whose metadata changed. */
  #lacks(listed: readonly Series[], keys: readonly string[]): boolean {
    const room = this.#waiting || this.#slotOf.size < this.#limit;
    return keys.some((key, i) => {
      const slot = this.#slotOf.get(key);
      return slot === undefined ? room : metadataDiffers(this.dictionary.series[slot]!, listed[i]!);
    });
  }

  /**
   * Those listed first, so that what is gone does not keep out what is there; and of what is gone only as much as one
   * dictionary message takes beside them, where a page has other series at each scrape.
   */
  #rebuild(listed: readonly Series[], keys: readonly string[]): void {
    const series: Series[] = [];
    const slotOf = new Map<string, number>();
    const gone: number[] = [];
    const budget = new TextBudget();
    const add = (key: string, one: Series, scrapes: number): void => {
      if (slotOf.has(key) || series.length >= this.#limit) return;
      slotOf.set(key, series.length);
      series.push(one);
      gone.push(scrapes);
    };
    listed.forEach((one, i) => {
      budget.takes(one);
      add(keys[i]!, one, 0);
    });
    for (const [key, slot] of this.#slotOf) {
      const scrapes = this.#gone[slot]!;
      const one = this.dictionary.series[slot]!;
      if (scrapes > 0 && scrapes < KEPT_SCRAPES && budget.takes(one)) add(key, one, scrapes);
    }
    this.#slotOf = slotOf;
    this.#gone = Uint8Array.from(gone);
    this.#waiting = gone.some((scrapes) => scrapes > 0);
    this.dictionary = createDictionary(this.#group, this.#intervalMs, series);
    this.values = new Float64Array(series.length);
    this.states = new Uint8Array(series.length).fill(SlotState.Absent);
  }
}

function keyOf({ name, labels }: Series): string {
  return JSON.stringify([name, labels]);
}

/** Not the decimals: they are a guess from the first value, and any guess codes every value. */
function metadataDiffers(a: Series, b: Series): boolean {
  return a.kind !== b.kind || a.help !== b.help || a.unit !== b.unit;
}
