import { counter, type Registry } from '#shared/instruments/registry.ts';
import type { Block, BlockSpan, Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary, Kind } from '#shared/model/dictionary.ts';
import type { RejectedSample, RejectedTick, RejectionReason } from '#shared/model/rejection.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { type Rejection, RejectionTable } from './rejection-table.ts';
import type { ValidationSettings } from './settings.ts';
import { limitsOf, type SlotLimits } from './slot-limits.ts';

export interface ValidationOptions {
  readonly settings: ValidationSettings;
  readonly clock: Clock;
  readonly registry: Registry;
  /** Told of each tick with a rejected sample, in the course of check; must not throw, wait or keep much. */
  readonly onRejected: (tick: RejectedTick) => void;
}

/** Of one tick listed one by one: a source that is wrong in more is wrong altogether. */
const MAX_LISTED = 100;
/** A slot that the agent quarantines has no value: one message an hour says as much as one a tick. */
const REPEAT_AFTER_MS = 3_600_000;

/**
 * Looks at each block before live values, health and alerts do. A sample outside its metric's physical range is
 * marked Quarantined in what they see, counted by reason, listed for people and handed to `onRejected`.
 *
 * The store gets the block as it came. The agent was told that its sample is taken, and the store is the record of
 * what a source said: JetStream may be off or away and is bounded, so it cannot be the only place where a refused
 * value is kept; and a range of ours that is wrong must not cost a sample. What the agent itself refused has no
 * value any more and is stored nowhere.
 */
export class Validation {
  readonly #options: ValidationOptions;
  readonly #table = new RejectionTable();
  readonly #rejected;
  /** When each slot that an agent quarantines was last reported, Unix ms; only of dictionaries that have one. */
  readonly #toldMs = new WeakMap<Dictionary, Float64Array>();

  readonly #totals: Partial<Record<RejectionReason, number>> = {};

  constructor(options: ValidationOptions) {
    this.#options = options;
    this.#rejected = counter(options.registry, {
      name: 'gpufleet_validation_rejected_samples_total',
      help: 'Samples kept out of live values, health and alerts, by reason; all but those that the agent refused are stored.',
      labelNames: ['reason'],
    });
  }

  /** The newest rejections, of one node or of all: at most 20 a node and 1,000 in all. */
  rejected(node?: string): readonly Rejection[] {
    return this.#table.list(node);
  }

  /** Samples rejected since the start, by reason. */
  totals(): Readonly<Partial<Record<RejectionReason, number>>> {
    return this.#totals;
  }

  /**
   * What may be evaluated: the block itself, a copy in which rejected slots are Quarantined, or undefined where the
   * tick's time cannot be true. The block is not changed: its arrays are the state of the stream's decoder.
   */
  check(block: Block): Block | undefined {
    const { settings, clock } = this.#options;
    if (!settings.enabled) return block;
    const now = clock.now();
    if (block.timestampMs > now + settings.future_tolerance)
      return this.#wholeTick(block, 'from_the_future', now + settings.future_tolerance);
    if (block.live && block.timestampMs < now - settings.past_tolerance)
      return this.#wholeTick(block, 'too_old', now - settings.past_tolerance);
    const { dictionary, values, states } = block;
    const limits = limitsOf(dictionary);
    const first = nextFault(limits, values, states, 0, 0);
    if (first < 0) return block;
    const row = new Row(block.source, dictionary, block.timestampMs, block.live);
    const mine = this.#collect(row, limits, values, states, 0, first);
    this.#report(row);
    if (mine.length === 0) return block;
    const copy = states.slice();
    for (const slot of mine) copy[slot] = SlotState.Quarantined;
    return { ...block, states: copy };
  }

  /** Backlog is stored and not evaluated: what is wrong in it is counted and reported, and nothing else changes. */
  checkSpan({ source, dictionary, ticks, timestamps, values, states }: BlockSpan): void {
    const { settings, clock } = this.#options;
    if (!settings.enabled) return;
    const limits = limitsOf(dictionary);
    const slots = dictionary.series.length;
    const latest = clock.now() + settings.future_tolerance;
    for (let tick = 0; tick < ticks; tick++) {
      const base = tick * slots;
      const timestampMs = timestamps[tick]!;
      if (timestampMs > latest) {
        const row = { source, dictionary, timestampMs, live: false };
        this.#wholeTick({ ...row, states: states.subarray(base, base + slots) }, 'from_the_future', latest);
        continue;
      }
      const first = nextFault(limits, values, states, base, 0);
      if (first < 0) continue;
      const row = new Row(source, dictionary, timestampMs, false);
      this.#collect(row, limits, values, states, base, first);
      this.#report(row);
    }
  }

  /** Gathers the row's faults from slot `first` on; returns the slots whose value is rejected here. */
  #collect(
    row: Row,
    limits: SlotLimits,
    values: Float64Array,
    states: Uint8Array,
    base: number,
    first: number,
  ): readonly number[] {
    const mine: number[] = [];
    for (let slot = first; slot >= 0; slot = nextFault(limits, values, states, base, slot + 1)) {
      const series = row.dictionary.series[slot]!;
      const present = states[base + slot] === SlotState.Present;
      const value = present ? values[base + slot]! : undefined;
      const reason = value === undefined ? 'quarantined_by_agent' : reasonFor(value, series.kind);
      if (present) mine.push(slot);
      const sample = { series, value, reason, low: limits.low[slot]!, high: limits.high[slot]!, count: 1 };
      row.add(sample, present || this.#isNews(row, slot));
    }
    return mine;
  }

  #wholeTick(
    { source, dictionary, timestampMs, live, states }: Omit<Block, 'values'>,
    reason: RejectionReason,
    bound: number,
  ): undefined {
    let count = 0;
    for (let slot = 0; slot < states.length; slot++) if (states[slot] === SlotState.Present) count++;
    const future = reason === 'from_the_future';
    const row = new Row(source, dictionary, timestampMs, live);
    const low = future ? 0 : bound;
    const high = future ? bound : Number.MAX_SAFE_INTEGER;
    row.add({ series: undefined, value: undefined, reason, low, high, count }, true);
    this.#report(row);
  }

  #isNews({ dictionary, timestampMs }: Row, slot: number): boolean {
    let told = this.#toldMs.get(dictionary);
    if (!told) {
      told = new Float64Array(dictionary.series.length).fill(Number.NEGATIVE_INFINITY);
      this.#toldMs.set(dictionary, told);
    }
    if (timestampMs - told[slot]! < REPEAT_AFTER_MS) return false;
    told[slot] = timestampMs;
    return true;
  }

  #report(row: Row): void {
    const { source, timestampMs, live, listed, news, omitted } = row;
    const { group } = row.dictionary;
    for (const [reason, count] of row.counts) {
      this.#rejected.inc({ reason }, count);
      this.#totals[reason] = (this.#totals[reason] ?? 0) + count;
    }
    for (const sample of listed) this.#table.note(source, group, sample, timestampMs);
    if (news.length === 0) return;
    this.#options.onRejected({ source, group, timestampMs, live, samples: news, omitted });
  }
}

/** What is rejected of one tick, while it is gathered. */
class Row {
  readonly source: Source;
  readonly dictionary: Dictionary;
  readonly timestampMs: number;
  readonly live: boolean;
  readonly counts = new Map<RejectionReason, number>();
  /** For people. */
  readonly listed: RejectedSample[] = [];
  /** For `onRejected`, and how many are not among them. */
  readonly news: RejectedSample[] = [];
  omitted = 0;

  constructor(source: Source, dictionary: Dictionary, timestampMs: number, live: boolean) {
    this.source = source;
    this.dictionary = dictionary;
    this.timestampMs = timestampMs;
    this.live = live;
  }

  add(sample: RejectedSample, isNews: boolean): void {
    const { reason, count } = sample;
    this.counts.set(reason, (this.counts.get(reason) ?? 0) + count);
    if (this.listed.length < MAX_LISTED) this.listed.push(sample);
    if (!isNews) return;
    if (this.news.length < MAX_LISTED) this.news.push(sample);
    else this.omitted++;
  }
}

/**
 * The next slot from `from` on of the row at `base` whose value may not be evaluated, or that the agent has
 * quarantined; -1 where there is none. 5 to 8 ns a sample (own measurement, all present).
 */
function nextFault(
  { low, high }: SlotLimits,
  values: Float64Array,
  states: Uint8Array,
  base: number,
  from: number,
): number {
  const slots = low.length;
  for (let slot = from; slot < slots; slot++) {
    const state = states[base + slot];
    if (state === SlotState.Present) {
      const value = values[base + slot]!;
      // Written so that NaN fails it.
      if (!(value >= low[slot]! && value <= high[slot]!)) return slot;
    } else if (state === SlotState.Quarantined) return slot;
  }
  return -1;
}

function reasonFor(value: number, kind: Kind): RejectionReason {
  if (Number.isNaN(value)) return 'not_a_number';
  if (!Number.isFinite(value)) return 'not_finite';
  return kind === 'counter' && value < 0 ? 'negative_counter' : 'out_of_range';
}
