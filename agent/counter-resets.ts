import type { Tick } from '#shared/model/block.ts';
import { type Dictionary, labelOf, type Series } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';

/** Events of one tick: more GPUs than a node has would be a broken source. Further ones are only counted. */
const MAX_EVENTS = 64;
/** A source whose counters fall again and again is said once in this time for each GPU; all are counted. */
const QUIET_MS = 60_000;
/** Names in an event: enough to see which device or driver it was. */
const MAX_NAMED = 8;

interface Watched {
  dictionary: Dictionary;
  /** Slots of counters. */
  counters: Int32Array;
  /** The newest value of each slot; NaN where there was none. */
  values: Float64Array;
}

export interface Resets {
  /** Counters that fell in this tick. */
  readonly count: number;
  /** One for each GPU whose counters fell, not more often than once a minute. */
  readonly events: readonly FleetEvent[];
}

const NONE: Resets = { count: 0, events: [] };

/**
 * Sees counters that fall: the driver was loaded again, the device reset, the process that counts restarted. The
 * samples stay as they were read, readers of counters know how to take a reset; the event says that there was one,
 * where an increase over the gap would otherwise be read as health. A counter that was absent in between is compared
 * with its last value.
 */
export class CounterResets {
  readonly #byGroup = new Map<string, Watched>();
  readonly #saidAt = new Map<string, number>();

  observe({ dictionary, values, states, timestampMs }: Tick): Resets {
    const watched = this.#watchedOf(dictionary);
    const { counters, values: before } = watched;
    const fallen: number[] = [];
    for (let i = 0; i < counters.length; i++) {
      const slot = counters[i]!;
      if (states[slot] === SlotState.Present && values[slot]! < before[slot]!) fallen.push(slot);
    }
    const resets = fallen.length === 0 ? NONE : this.#resets(watched, fallen, values, timestampMs);
    for (let i = 0; i < counters.length; i++) {
      const slot = counters[i]!;
      if (states[slot] === SlotState.Present) before[slot] = values[slot]!;
    }
    return resets;
  }

  #resets(watched: Watched, fallen: readonly number[], values: Float64Array, timestampMs: number): Resets {
    const { dictionary } = watched;
    const byGpu = Map.groupBy(
      fallen.filter((slot) => labelOf(dictionary.series[slot]!.labels, 'gpu') !== undefined),
      (slot) => labelOf(dictionary.series[slot]!.labels, 'gpu')!,
    );
    const events: FleetEvent[] = [];
    for (const [gpu, slots] of byGpu) {
      if (events.length === MAX_EVENTS) break;
      const key = `${dictionary.group} ${gpu}`;
      const said = this.#saidAt.get(key);
      // A wall clock that was set back does not silence it.
      if (said !== undefined && timestampMs >= said && timestampMs - said < QUIET_MS) continue;
      if (this.#saidAt.size >= MAX_EVENTS * 16) this.#saidAt.clear();
      this.#saidAt.set(key, timestampMs);
      events.push(eventOf(watched, gpu, slots, values, timestampMs));
    }
    return { count: fallen.length, events };
  }

  #watchedOf(dictionary: Dictionary): Watched {
    const before = this.#byGroup.get(dictionary.group);
    if (before?.dictionary === dictionary) return before;
    const values = new Float64Array(dictionary.series.length).fill(Number.NaN);
    const counters = Int32Array.from(
      dictionary.series.flatMap(({ kind }, slot) => (kind === 'counter' ? [slot] : [])),
    );
    if (before) carryOver(before, dictionary, values);
    const watched = { dictionary, counters, values };
    this.#byGroup.set(dictionary.group, watched);
    return watched;
  }
}

function carryOver(before: Watched, after: Dictionary, values: Float64Array): void {
  const known = new Map(before.dictionary.series.map((series, slot) => [keyOf(series), slot]));
  after.series.forEach((series, slot) => {
    const old = known.get(keyOf(series));
    if (old !== undefined) values[slot] = before.values[old]!;
  });
}

function eventOf(
  { dictionary, values: before }: Watched,
  gpu: string,
  slots: readonly number[],
  values: Float64Array,
  timestampMs: number,
): FleetEvent {
  const [first] = slots as [number];
  const series = dictionary.series[first]!;
  const names = [...new Set(slots.map((slot) => dictionary.series[slot]!.name))].slice(0, MAX_NAMED);
  const more = slots.length > 1 ? ` and ${slots.length - 1} more` : '';
  return {
    type: 'counter_reset',
    timestampMs,
    gpu,
    gpuUuid: labelOf(series.labels, 'uuid') ?? '',
    text: `Counters of GPU ${gpu} fell: ${series.name} from ${before[first]} to ${values[first]}${more}; the driver was loaded again, or the device was reset`,
    attributes: { source: dictionary.group, counters: String(slots.length), names: names.join(',') },
  };
}

function keyOf({ name, labels }: Series): string {
  return JSON.stringify([name, labels]);
}
