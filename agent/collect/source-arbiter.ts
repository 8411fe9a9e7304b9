import type { Dictionary, Series } from '#shared/model/dictionary.ts';
import { countPresent, SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import type { Collector, Reading } from './collector.ts';

/** A source that gave no value of its own for so many of its intervals, and at least so long, is not waited for. */
const SILENT_INTERVALS = 3;
const SILENT_MS = 15_000;

interface Claimant {
  /** The newest of this name: a new configuration may give it another interval. */
  collector: Pick<Collector, 'name' | 'rank' | 'intervalMs'>;
  dictionary: Dictionary;
  /** By slot. */
  keys: readonly string[];
  /** How many of them tell how the read itself went: they are there although nothing was read. */
  own: number;
  /** As of the last change of `refused`; a copy, for the collector's own array is in pieces while it reads. */
  states: Uint8Array;
  /** Which slots the device or the rights do not give: others may. Compared by content, in a number. */
  refused: number;
  /** Monotonic ms of the last read that gave values. */
  heardAt: number;
  silent: boolean;
  filter: Filter | undefined;
  /** The claims' version that `filter` is of. */
  filteredAt: number;
}

/** What is left of a dictionary: slot i of the filtered one is slots[i] of the source's. */
interface Filter {
  readonly dictionary: Dictionary;
  readonly slots: Int32Array;
  readonly values: Float64Array;
  readonly states: Uint8Array;
}

/**
 * One source for each series. Where two collectors give the same one, that with the lower rank is heard; between
 * equal ranks the one that came first. What others give of it is left out of their readings and counted as
 * `outranked`. A source gives way while it is silent (stuck, gone), and for the fields that it cannot read: a node
 * whose NVML hangs goes on with what its exporter knows.
 *
 * The same series: name and labels; of a GPU, whatever its index and model are called (uuid decides); of an info
 * series, whatever it says. Costs nothing where no series comes twice.
 */
export class SourceArbiter {
  readonly #now: () => number;
  readonly #claimants = new Map<string, Claimant>();
  #version = 0;
  #winners = new Map<string, Claimant>();
  #winnersAt = -1;

  /** `monotonic` in ms. */
  constructor(monotonic: () => number) {
    this.#now = monotonic;
  }

  /** The reading without the series that another source gives; the same object where it keeps all of them. */
  admit(collector: Claimant['collector'], reading: Reading): Reading {
    const now = this.#now();
    const claimant = this.#note(collector, reading, now);
    this.#hush(now);
    if (this.#claimants.size === 1) return reading;
    if (claimant.filteredAt !== this.#version) {
      claimant.filter = this.#filterFor(claimant);
      claimant.filteredAt = this.#version;
    }
    const { filter } = claimant;
    return filter ? filtered(reading, filter) : reading;
  }

  /** The collector is gone: others may speak for what was its. */
  forget(name: string): void {
    if (this.#claimants.delete(name)) this.#version++;
  }

  #note(collector: Claimant['collector'], { dictionary, states }: Reading, now: number): Claimant {
    let claimant = this.#claimants.get(collector.name);
    if (!claimant) {
      claimant = {
        collector,
        dictionary,
        keys: dictionary.series.map(keyOf),
        own: dictionary.series.filter(isOwn).length,
        states: states.slice(),
        refused: refusedSlots(states),
        heardAt: now,
        silent: false,
        filter: undefined,
        filteredAt: -1,
      };
      this.#claimants.set(collector.name, claimant);
      this.#version++;
    }
    if (claimant.collector !== collector) {
      claimant.collector = collector;
      this.#version++;
    }
    if (claimant.dictionary !== dictionary) {
      claimant.dictionary = dictionary;
      claimant.states = states.slice();
      claimant.keys = dictionary.series.map(keyOf);
      claimant.own = dictionary.series.filter(isOwn).length;
      this.#version++;
    }
    const refused = refusedSlots(states);
    if (refused !== claimant.refused) {
      claimant.refused = refused;
      claimant.states = states.slice();
      this.#version++;
    }
    if (countPresent(states) > claimant.own) {
      claimant.heardAt = now;
      if (claimant.silent) this.#version++;
      claimant.silent = false;
    }
    return claimant;
  }

  /** Sources that are not heard any more give way. */
  #hush(now: number): void {
    for (const claimant of this.#claimants.values()) {
      if (claimant.silent) continue;
      const limit = Math.max(SILENT_MS, SILENT_INTERVALS * claimant.collector.intervalMs);
      if (now - claimant.heardAt <= limit) continue;
      claimant.silent = true;
      this.#version++;
    }
  }

  #filterFor(claimant: Claimant): Filter | undefined {
    if (this.#winnersAt !== this.#version) {
      this.#winners = this.#chooseWinners();
      this.#winnersAt = this.#version;
    }
    const { dictionary, keys } = claimant;
    const slots = keys.flatMap((key, slot) => {
      const winner = this.#winners.get(key);
      return winner === undefined || winner === claimant ? [slot] : [];
    });
    if (slots.length === keys.length) return undefined;
    const series = slots.map((slot) => dictionary.series[slot]!);
    return {
      dictionary: createDictionary(dictionary.group, dictionary.intervalMs, series),
      slots: Int32Array.from(slots),
      values: new Float64Array(slots.length),
      states: new Uint8Array(slots.length),
    };
  }

  /** Of the series that more than one source has. */
  #chooseWinners(): Map<string, Claimant> {
    const first = new Map<string, Claimant>();
    const contested = new Map<string, Claimant>();
    const ranked = [...this.#claimants.values()].sort(
      (a, b) => Number(a.silent) - Number(b.silent) || a.collector.rank - b.collector.rank,
    );
    // Who can give it before who cannot; a field that nobody can give stays with the best.
    for (const able of [true, false]) {
      for (const claimant of ranked) {
        const { states } = claimant;
        claimant.keys.forEach((key, slot) => {
          if (isRefused(states[slot]!) === able) return;
          const before = first.get(key);
          if (before === undefined) first.set(key, claimant);
          else if (before !== claimant) contested.set(key, before);
        });
      }
    }
    return contested;
  }
}

function isOwn({ name, labels }: Series): boolean {
  return (name === 'up' || name.startsWith('scrape_')) && labels.some(([label]) => label === 'source');
}

function isRefused(state: number): boolean {
  return state === SlotState.NotSupported || state === SlotState.NoPermission;
}

/** FNV-1a over the numbers of the slots that are refused. */
function refusedSlots(states: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let slot = 0; slot < states.length; slot++)
    if (isRefused(states[slot]!)) hash = Math.imul(hash ^ slot, 0x01000193) >>> 0;
  return hash;
}

function filtered(reading: Reading, { dictionary, slots, values, states }: Filter): Reading {
  for (let i = 0; i < slots.length; i++) {
    values[i] = reading.values[slots[i]!]!;
    states[i] = reading.states[slots[i]!]!;
  }
  const outranked = countPresent(reading.states) - countPresent(states);
  const rejected = new Map(reading.rejected);
  if (outranked > 0) rejected.set('outranked', (rejected.get('outranked') ?? 0) + outranked);
  return { ...reading, dictionary, values, states, rejected };
}

/** What makes two series the same to a reader of the store. */
function keyOf({ name, labels, kind }: Series): string {
  const uuid = labels.find(([label]) => label === 'uuid')?.[1];
  if (uuid === undefined) return JSON.stringify([name, labels]);
  // Facts about a GPU differ in detail from source to source: two of them would break every join.
  if (kind === 'info') return JSON.stringify([name, uuid, labels.find(([label]) => label === 'source')]);
  return JSON.stringify([name, labels.filter(([label]) => label !== 'gpu' && label !== 'model')]);
}
