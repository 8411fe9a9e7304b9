import { createHash } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  DictionarySchema,
  type Dictionary as WireDictionary,
  Kind as WireKind,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Dictionary, Kind, Labels, Series } from '#shared/model/dictionary.ts';
import { Interned } from './intern.ts';

/** Most series that one dictionary may hold: ten times the default limit of a whole node. */
export const MAX_DICTIONARY_SERIES = 100_000;
export const MAX_LABELS = 24;
export const MAX_LABEL_BYTES = 1024;
/**
 * Most bytes of all labels of a dictionary as each series carries them, LABEL_OVERHEAD a label added. On the wire a
 * label is an index of two bytes, but every series is laid out in full for the store: without this 4 MiB of indices
 * could ask for more than a gigabyte. 3 KiB for each of 10,000 series, the default limit of a node.
 */
export const MAX_DICTIONARY_LABEL_BYTES = 32 * 2 ** 20;
/** What a label takes beside its text, in memory and in a request. */
const LABEL_OVERHEAD = 32;
/** Most bytes of a dictionary in its message: a stream takes 4 MiB. */
export const MAX_DICTIONARY_BYTES = 3 * 2 ** 20;
const MAX_GROUP_LENGTH = 256;
/** Powers of ten that float64 holds exactly are 0 to 22; sums of both signs stay inside. */
export const MAX_DECIMALS = 15;

const interned = new Interned();

const KIND_TO_WIRE: Record<Kind, WireKind> = {
  gauge: WireKind.GAUGE,
  counter: WireKind.COUNTER,
  info: WireKind.INFO,
};

/** Builds a dictionary and its content hash. Throws `invalid_input` where a series breaks a limit. */
export function createDictionary(group: string, intervalMs: number, series: readonly Series[]): Dictionary {
  const wire = toWire(group, intervalMs, series);
  return { hash: hashOf(wire), group, intervalMs, series };
}

/** The message for a stream, with the stream's own small id. */
export function dictionaryToWire(dictionary: Dictionary, id: number): WireDictionary {
  const wire = toWire(dictionary.group, dictionary.intervalMs, dictionary.series);
  wire.hash = dictionary.hash;
  wire.id = id;
  return wire;
}

/**
 * Reads a dictionary that came over the wire or from disk. Throws `invalid_input` with the slot where an index
 * is out of range, a limit is broken, a name is not a Prometheus name, or the hash does not match the content.
 */
export function dictionaryFromWire(wire: WireDictionary): Dictionary {
  const fail = (what: string): never => {
    throw new FleetError(
      'invalid_input',
      `Cannot read dictionary of group "${wire.group.slice(0, 100)}": ${what}`,
    );
  };
  if (wire.series.length > MAX_DICTIONARY_SERIES) {
    fail(`${wire.series.length} series, at most ${MAX_DICTIONARY_SERIES} are allowed`);
  }
  if (wire.symbols[0] !== '') fail('symbols[0] is not empty');
  if (wire.group.length > MAX_GROUP_LENGTH) fail(`its group has ${wire.group.length} characters`);
  const symbols = wire.symbols.map((text) => interned.of(text));
  const symbol = (index: number, slot: number): string =>
    symbols[index] ?? (fail(`slot ${slot} names symbol ${index} of ${wire.symbols.length}`) as never);

  const series: Series[] = new Array(wire.series.length);
  const lists = new Map<string, Labels>();
  let labelBytes = 0;
  for (let slot = 0; slot < wire.series.length; slot++) {
    const entry = wire.series[slot]!;
    if (entry.labels.length % 2 !== 0) fail(`slot ${slot} has an odd number of label references`);
    if (entry.labels.length > 2 * MAX_LABELS) fail(`slot ${slot} has more than ${MAX_LABELS} labels`);
    if (Math.abs(entry.decimals) > MAX_DECIMALS) fail(`slot ${slot} has ${entry.decimals} decimals`);
    // The fifty series of a GPU have the same labels: they share one list.
    const key = entry.labels.join();
    let labels = lists.get(key);
    if (!labels) {
      const list: [string, string][] = [];
      for (let i = 0; i < entry.labels.length; i += 2)
        list.push([symbol(entry.labels[i]!, slot), symbol(entry.labels[i + 1]!, slot)]);
      labels = list;
      lists.set(key, labels);
    }
    const one: Series = {
      name: symbol(entry.name, slot),
      labels,
      kind: kindFromWire(entry.kind),
      decimals: entry.decimals,
      help: symbol(entry.help, slot),
      unit: symbol(entry.unit, slot),
    };
    const fault = seriesFault(one);
    if (fault) fail(`slot ${slot}: ${fault}`);
    for (const [name, value] of labels) labelBytes += name.length + value.length + LABEL_OVERHEAD;
    if (labelBytes > MAX_DICTIONARY_LABEL_BYTES)
      fail(`its labels take more than ${MAX_DICTIONARY_LABEL_BYTES / 2 ** 20} MiB at slot ${slot}`);
    series[slot] = one;
  }
  const expected = hashOf(toWire(wire.group, wire.intervalMs, series));
  if (wire.hash !== expected) fail('its hash does not match its content');
  return { hash: wire.hash, group: wire.group, intervalMs: wire.intervalMs, series };
}

/** The bytes for disk. Throws `resource_exhausted` for one that no stream would take. */
export function encodeDictionary(dictionary: Dictionary): Uint8Array {
  const bytes = toBinary(DictionarySchema, dictionaryToWire(dictionary, 0));
  if (bytes.length > MAX_DICTIONARY_BYTES)
    throw new FleetError(
      'resource_exhausted',
      `Cannot record group "${dictionary.group}": the names and labels of its ${dictionary.series.length} series take ${bytes.length} bytes, ${MAX_DICTIONARY_BYTES} are allowed; leave out series or shorten labels`,
    );
  return bytes;
}

export function decodeDictionary(bytes: Uint8Array): Dictionary {
  return dictionaryFromWire(fromBinary(DictionarySchema, bytes));
}

const METRIC_NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

/** Why a series may not enter a dictionary, or undefined. */
export function seriesFault(series: Series): string | undefined {
  if (!METRIC_NAME.test(series.name)) return `"${series.name.slice(0, 100)}" is not a metric name`;
  if (series.name.length > MAX_LABEL_BYTES) return `its name is longer than ${MAX_LABEL_BYTES} bytes`;
  return labelsFault(series.labels);
}

/** Why a label set is not allowed, or undefined. Node and cluster are the aggregator's to set. */
export function labelsFault(labels: Labels): string | undefined {
  if (labels.length > MAX_LABELS) return `${labels.length} labels, at most ${MAX_LABELS} are allowed`;
  let previous = '';
  for (const [name, value] of labels) {
    if (!LABEL_NAME.test(name) || name.startsWith('__')) return `"${name.slice(0, 100)}" is not a label name`;
    if (name === 'node' || name === 'cluster') return `label "${name}" is set by the aggregator`;
    if (name <= previous) return `label "${name}" is out of order or twice`;
    if (value === '') return `label "${name}" is empty`;
    if (name.length > MAX_LABEL_BYTES || Buffer.byteLength(value) > MAX_LABEL_BYTES) {
      return `label "${name.slice(0, 100)}" is longer than ${MAX_LABEL_BYTES} bytes`;
    }
    previous = name;
  }
  return undefined;
}

function toWire(group: string, intervalMs: number, series: readonly Series[]): WireDictionary {
  const index = new Map<string, number>([['', 0]]);
  const symbols = [''];
  const intern = (text: string): number => {
    let at = index.get(text);
    if (at === undefined) {
      at = symbols.length;
      symbols.push(text);
      index.set(text, at);
    }
    return at;
  };
  const wire = create(DictionarySchema, { group, intervalMs });
  wire.symbols = symbols;
  wire.series = series.map((one) => ({
    $typeName: 'gpufleet.telemetry.v1.Series' as const,
    name: intern(one.name),
    labels: one.labels.flatMap(([name, value]) => [intern(name), intern(value)]),
    kind: KIND_TO_WIRE[one.kind],
    decimals: one.decimals,
    help: intern(one.help),
    unit: intern(one.unit),
  }));
  return wire;
}

function hashOf(wire: WireDictionary): bigint {
  const bytes = toBinary(DictionarySchema, { ...wire, id: 0, hash: 0n });
  return createHash('sha256').update(bytes).digest().readBigUInt64LE(0);
}

function kindFromWire(kind: WireKind): Kind {
  switch (kind) {
    case WireKind.COUNTER:
      return 'counter';
    case WireKind.INFO:
      return 'info';
    default:
      return 'gauge';
  }
}
