import type { Dictionary, Kind, Series } from '#shared/model/dictionary.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';

/**
 * The source whose every sample is known: a value is a function of (seed, node, group, series, tick number) and
 * of nothing else, and the tick number is itself a series. So whatever the store holds at a timestamp can be
 * checked against the function, without believing anything that the product says.
 */
export interface OracleGroup {
  readonly name: string;
  readonly intervalMs: number;
  /** Of each shape in SHAPES, so many series. */
  readonly copies: number;
}

export const GROUPS: readonly OracleGroup[] = [
  { name: 'fast', intervalMs: 1_000, copies: 10 },
  { name: 'slow', intervalMs: 2_500, copies: 8 },
];

export const CLUSTER = 'oracle';
/** Every sample of ours has a name that begins so. */
export const PREFIX = 'oracle_';
/** The series that carries the tick number: slot 0 of every dictionary. */
export const TICK_SERIES = `${PREFIX}tick`;

/** Ticks of one start of an agent are numbered from here: no number comes twice for a (node, group). */
const TICKS_PER_START = 1_000_000;
/** The set of series changes every so many ticks; the next sets come round again. */
const TICKS_PER_GENERATION = 40;
const GENERATIONS = 3;
/** One in so many ticks of the first group brings an event. */
const TICKS_PER_EVENT = 20;

interface Shape {
  readonly name: string;
  readonly kind: Kind;
  readonly decimals: number;
  /** From two 32-bit hashes (one of the series and tick, one of the series alone) and the tick number. */
  readonly value: (mixed: number, series: number, n: number) => number | undefined;
}

const SHAPES: readonly Shape[] = [
  { name: 'gauge', kind: 'gauge', decimals: 2, value: (mixed) => (mixed % 2_000_001) / 100 - 10_000 },
  // Mostly unchanged: the change bitmap's zero bit must not be taken for absent.
  {
    name: 'steady',
    kind: 'gauge',
    decimals: 0,
    value: (_, series, n) => (series + Math.floor(n / 16)) % 100,
  },
  {
    name: 'counter_total',
    kind: 'counter',
    decimals: 0,
    value: (mixed, _, n) => n * 1_000 + (mixed % 1_000),
  },
  // No scale holds these: they travel as float64.
  { name: 'float', kind: 'gauge', decimals: 3, value: (mixed) => (1 + mixed / 2 ** 32) / 3 },
  { name: 'huge', kind: 'gauge', decimals: 0, value: (mixed) => (1 + mixed / 2 ** 32) * 1e280 },
  { name: 'infinite', kind: 'gauge', decimals: 0, value: (mixed) => INFINITIES[mixed % 3]! },
  {
    name: 'sparse',
    kind: 'gauge',
    decimals: 1,
    value: (mixed) => (mixed % 3 === 0 ? undefined : (mixed % 1_000) / 10),
  },
];
const INFINITIES = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1];

/** Labels that a careless writer would break. */
const AWKWARD = 'a "b" \\ ü {x="1"}';

interface Slot {
  readonly series: Series;
  /** Unique in its group: name and label `slot`. */
  readonly key: string;
  readonly shape: Shape | undefined;
}

export interface OracleDictionary {
  readonly dictionary: Dictionary;
  readonly slots: readonly Slot[];
  /** Slot of a series by its key. */
  readonly slotOf: ReadonlyMap<string, number>;
}

export function tickNumber(start: number, count: number): number {
  return start * TICKS_PER_START + count;
}

/** Ticks of its start before and with this one. */
export function countOf(n: number): number {
  return n % TICKS_PER_START;
}

export function generationOf(n: number): number {
  return Math.floor(countOf(n) / TICKS_PER_GENERATION) % GENERATIONS;
}

export function seriesKey(name: string, slot: string): string {
  return `${name}/${slot}`;
}

const dictionaries = new Map<string, OracleDictionary>();

/** The series of a tick: always the same object for the same series, as a collector must give them. */
export function dictionaryOf(groupName: string, n: number): OracleDictionary {
  const generation = generationOf(n);
  const key = `${groupName}/${generation}`;
  let made = dictionaries.get(key);
  if (!made) {
    const group = GROUPS.find(({ name }) => name === groupName);
    if (!group) throw new Error(`there is no group ${groupName}`);
    made = makeDictionary(group, generation);
    dictionaries.set(key, made);
  }
  return made;
}

/** undefined: the slot is absent in this tick. */
export function sampleAt(
  seed: number,
  node: string,
  groupName: string,
  slot: Slot,
  n: number,
): number | undefined {
  if (!slot.shape) return n;
  const series = hash(`${seed}/${node}/${groupName}/${slot.key}`);
  return slot.shape.value(mix(series, n), series, n);
}

/** All labels that a stored series of ours must have, in any generation; undefined where there is no such series. */
export function labelsOf(
  node: string,
  groupName: string,
  key: string,
): Readonly<Record<string, string>> | undefined {
  if (!GROUPS.some(({ name }) => name === groupName)) return undefined;
  for (let generation = 0; generation < GENERATIONS; generation++) {
    const { slots, slotOf } = dictionaryOf(groupName, generation * TICKS_PER_GENERATION);
    const series = slots[slotOf.get(key) ?? -1]?.series;
    if (series)
      return { __name__: series.name, cluster: CLUSTER, node, ...Object.fromEntries(series.labels) };
  }
  return undefined;
}

/** The id of the event that this tick brings, or undefined. */
export function eventOf(node: string, groupName: string, n: number): string | undefined {
  const brings = groupName === GROUPS[0]!.name && countOf(n) % TICKS_PER_EVENT === TICKS_PER_EVENT - 1;
  return brings ? `${node}/${n}` : undefined;
}

/** Series of the tick before that this one no longer has: they get stale markers at this tick's timestamp. */
export function endedSeries(groupName: string, n: number): readonly string[] {
  if (countOf(n) <= 1 || generationOf(n) === generationOf(n - 1)) return [];
  const now = dictionaryOf(groupName, n).slotOf;
  return dictionaryOf(groupName, n - 1)
    .slots.map(({ key }) => key)
    .filter((key) => !now.has(key));
}

function makeDictionary(group: OracleGroup, generation: number): OracleDictionary {
  const slots: Slot[] = [slotFor(group, TICK_SERIES, '0', undefined)];
  for (const shape of SHAPES) {
    for (let copy = 0; copy < group.copies; copy++) {
      slots.push(slotFor(group, PREFIX + shape.name, String(copy), shape));
    }
  }
  for (let copy = 0; copy < group.copies; copy++) {
    slots.push(slotFor(group, `${PREFIX}passing`, `${generation}-${copy}`, SHAPES[0]!));
  }
  return {
    dictionary: createDictionary(
      group.name,
      group.intervalMs,
      slots.map(({ series }) => series),
    ),
    slots,
    slotOf: new Map(slots.map(({ key }, index) => [key, index])),
  };
}

function slotFor(group: OracleGroup, name: string, slot: string, shape: Shape | undefined): Slot {
  return {
    key: seriesKey(name, slot),
    shape,
    series: {
      name,
      labels: [
        ['awkward', AWKWARD],
        ['group', group.name],
        ['slot', slot],
      ],
      kind: shape?.kind ?? 'counter',
      decimals: shape?.decimals ?? 0,
      help: 'A value that the oracle can compute.',
      unit: '',
    },
  };
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (const char of text) value = Math.imul(value ^ char.charCodeAt(0), 0x01000193) >>> 0;
  return value;
}

/** The finalizer of MurmurHash3: neighbouring ticks get unrelated values. */
function mix(series: number, n: number): number {
  let value = (series ^ Math.imul(n, 0x9e3779b1)) >>> 0;
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b) >>> 0;
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35) >>> 0;
  return (value ^ (value >>> 16)) >>> 0;
}

/** Of one node, all groups together; absent slots count as samples here. */
export const SAMPLES_PER_SECOND = GROUPS.reduce(
  (sum, { name, intervalMs }) => sum + dictionaryOf(name, 1).slots.length / (intervalMs / 1_000),
  0,
);
