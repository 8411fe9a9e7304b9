import { metricNamed } from '#shared/catalogue/metrics.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Series } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { canonicalSeries } from './canonical-series.ts';
import type { Reading, RejectReason } from './collector.ts';
import { SeriesTable } from './series-table.ts';

export interface ReadingTableOptions {
  /** The collector's name. */
  readonly source: string;
  readonly intervalMs: number;
  readonly clock: Clock;
  /** Most series of this source; those over it are refused and counted. */
  readonly seriesLimit?: number;
  /** Labels of the own series, beside `source`. */
  readonly labels?: Readonly<Record<string, string>>;
}

/** Four times what a node of 16 GPUs has with every field and profiling on; a page beyond it is a fault or an attack. */
const DEFAULT_SERIES_LIMIT = 10_000;
const OWN = ['up', 'scrape_duration_seconds', 'scrape_samples_scraped'];
const NOTHING: readonly FleetEvent[] = [];

/**
 * What a collector fills at each read: slots, states, and the three series that tell how the read itself went
 * (`up`, `scrape_duration_seconds`, `scrape_samples_scraped`, with label `source`).
 *
 *     plan(series)            when the set of series changes, and before the first read that has any
 *     begin()                 at the begin of each read: everything is absent
 *     put(i, value) / miss(i, state)     i: index into the planned series
 *     finish(events) or failed(state)    the reading, valid until the next begin
 *
 * No object is made per sample: indices are resolved when the plan is.
 */
export class ReadingTable {
  readonly #clock: Clock;
  readonly #table: SeriesTable;
  readonly #own: readonly Series[];
  #planned: readonly Series[];
  #min = new Float64Array(0);
  #max = new Float64Array(0);
  /** Of the planned series, then of the own ones. */
  #slots: Int32Array;
  #rejected = new Map<RejectReason, number>();
  #samples = 0;
  #timestampMs = 0;
  #beganAt = 0;

  constructor(options: ReadingTableOptions) {
    const { source, intervalMs, clock, seriesLimit = DEFAULT_SERIES_LIMIT, labels } = options;
    this.#clock = clock;
    this.#table = new SeriesTable(source, intervalMs, seriesLimit + OWN.length);
    this.#own = OWN.map((name) => canonicalSeries(name, { ...labels, source }));
    this.#planned = [];
    this.#slots = this.#table.assign(this.#own);
  }

  /** How many series are planned. */
  get size(): number {
    return this.#planned.length;
  }

  /** The series of the reads from now on; the same array object as last time is no change. */
  plan(series: readonly Series[]): void {
    if (series === this.#planned) return;
    this.#planned = series;
    this.#min = Float64Array.from(series, ({ name }) => metricNamed(name)?.min ?? Number.NEGATIVE_INFINITY);
    this.#max = Float64Array.from(series, ({ name }) => metricNamed(name)?.max ?? Number.POSITIVE_INFINITY);
    this.#assign();
  }

  begin(): void {
    if (this.#table.waiting) this.#assign();
    this.#table.states.fill(SlotState.Absent);
    this.#rejected = new Map();
    this.#samples = 0;
    this.#timestampMs = this.#clock.now();
    this.#beganAt = this.#clock.monotonic();
  }

  /** A value in the series' own unit. NaN, and what is outside the catalogue's range, is quarantined and counted. */
  put(index: number, value: number): void {
    const slot = this.#free(index);
    if (slot < 0) return;
    this.#samples++;
    const { states, values } = this.#table;
    if (Number.isNaN(value)) {
      states[slot] = SlotState.Quarantined;
      this.reject('not_a_number');
    } else if (value < this.#min[index]! || value > this.#max[index]!) {
      states[slot] = SlotState.Quarantined;
      this.reject('out_of_range');
    } else {
      states[slot] = SlotState.Present;
      // Turns -0, which nobody means, into 0.
      values[slot] = value + 0;
    }
  }

  /** Why there is no value. */
  miss(index: number, state: Exclude<SlotState, typeof SlotState.Present>): void {
    const slot = this.#free(index);
    if (slot >= 0) this.#table.states[slot] = state;
    if (state === SlotState.Blank) this.reject('blank');
  }

  reject(reason: RejectReason, count = 1): void {
    if (count > 0) this.#rejected.set(reason, (this.#rejected.get(reason) ?? 0) + count);
  }

  finish(events: readonly FleetEvent[] = NOTHING): Reading {
    return this.#reading(1, events);
  }

  /**
   * The source could not be read: everything is in `state` and `up` is 0, so that the failure is on record and no
   * series ends. Also before the first success. `problem` says why, for people.
   */
  failed(
    state: Exclude<SlotState, typeof SlotState.Present>,
    events: readonly FleetEvent[] = NOTHING,
    problem = 'it could not be read',
  ): Reading {
    this.#table.states.fill(state);
    this.#samples = 0;
    return { ...this.#reading(0, events), problem };
  }

  #reading(up: number, events: readonly FleetEvent[]): Reading {
    const { dictionary, values, states } = this.#table;
    const tookS = Math.round((this.#clock.monotonic() - this.#beganAt) * 1000) / 1e6;
    const first = this.#planned.length;
    for (const [i, value] of [up, tookS, this.#samples].entries()) {
      const slot = this.#slots[first + i]!;
      values[slot] = value;
      states[slot] = SlotState.Present;
    }
    return { dictionary, timestampMs: this.#timestampMs, values, states, events, rejected: this.#rejected };
  }

  /** The slot, where nothing was said about it in this read; else -1, counted. */
  #free(index: number): number {
    const slot = this.#slots[index]!;
    if (slot < 0) this.reject('series_limit');
    else if (this.#table.states[slot] === SlotState.Absent) return slot;
    else this.reject('duplicate');
    return -1;
  }

  #assign(): void {
    // The own series first: a flood of others does not take their slots.
    const slots = this.#table.assign([...this.#own, ...this.#planned]);
    const own = this.#own.length;
    this.#slots = Int32Array.from([...slots.subarray(own), ...slots.subarray(0, own)]);
  }
}
