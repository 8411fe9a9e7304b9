import type { Source } from '#shared/model/block.ts';
import type { Dictionary, Series } from '#shared/model/dictionary.ts';

/*
 * Remote write 1.0 (prometheus.io/docs/specs/prw/remote_write_spec): a request is repeated
 *
 *   TimeSeries { Label { name, value } ..., Sample { double value, int64 timestamp } ... }
 *
 * Labels never change for a dictionary, and a timestamp has six varint bytes from 2004 to 2109: so the bytes of
 * one sample of every series are laid out once, with holes for value and timestamp, and a tick is one copy and
 * two patches a series. What is given up: about 200 bytes of memory a series. See benchmarks `ingest`.
 */

/** Bytes from the start of a series' sample field: tag, length, value tag. */
const SAMPLE_BYTES = 18;
const TIMESTAMP_BYTES = 6;
/** The timestamps, Unix ms, that six varint bytes hold: 2^35 to 2^42 - 1, 1971 to 2109. */
export const MIN_TIMESTAMP_MS = 2 ** 35;
export const MAX_TIMESTAMP_MS = 2 ** 42 - 1;

export interface SeriesTemplate {
  readonly source: Source;
  /** TimeSeries messages of every slot, one after the other. */
  readonly bytes: Buffer;
  /** Where each slot's message begins; one more entry for the end. */
  readonly offsets: Uint32Array;
}

/** Where the value of a message that ends at `end` lies. */
export function valueOffset(end: number): number {
  return end - TIMESTAMP_BYTES - 1 - 8;
}

/** Where the timestamp of a message that ends at `end` lies. */
export function timestampOffset(end: number): number {
  return end - TIMESTAMP_BYTES;
}

/** The six varint bytes of a timestamp between MIN_TIMESTAMP_MS and MAX_TIMESTAMP_MS. */
export function writeTimestamp(out: Uint8Array, timestampMs: number): void {
  let rest = timestampMs;
  for (let i = 0; i < TIMESTAMP_BYTES - 1; i++) {
    out[i] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  out[TIMESTAMP_BYTES - 1] = rest;
}

const templates = new WeakMap<Dictionary, SeriesTemplate>();

/** The template of a dictionary for one source, laid out at first use. */
export function templateOf(dictionary: Dictionary, source: Source): SeriesTemplate {
  const known = templates.get(dictionary);
  if (known?.source === source) return known;
  const offsets = new Uint32Array(dictionary.series.length + 1);
  const parts: Buffer[] = [];
  let at = 0;
  dictionary.series.forEach((series, slot) => {
    const message = timeSeries(labelBytes(series, source));
    parts.push(message);
    at += message.length;
    offsets[slot + 1] = at;
  });
  const template = { source, bytes: Buffer.concat(parts, at), offsets };
  templates.set(dictionary, template);
  return template;
}

/** Every label of a series as it is stored, sorted by name as the specification demands. */
export function storedLabels(series: Series, source: Source): [string, string][] {
  const labels: [string, string][] = [
    ['__name__', series.name],
    ['cluster', source.cluster],
    ['node', source.node],
    ...series.labels.map(([name, value]): [string, string] => [name, value]),
  ];
  // A label of the series wins over an external one of the same name.
  const taken = new Set(labels.map(([name]) => name));
  for (const [name, value] of source.externalLabels) if (!taken.has(name)) labels.push([name, value]);
  return labels.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}

function labelBytes(series: Series, source: Source): Buffer {
  return Buffer.concat(
    storedLabels(series, source).map(([name, value]) => {
      const label = Buffer.concat([field(0x0a, Buffer.from(name)), field(0x12, Buffer.from(value))]);
      return field(0x0a, label);
    }),
  );
}

function timeSeries(labels: Buffer): Buffer {
  // 0x12 Sample, its length, 0x09 value (fixed64), 0x10 timestamp (varint).
  const sample = Buffer.alloc(SAMPLE_BYTES);
  sample[0] = 0x12;
  sample[1] = SAMPLE_BYTES - 2;
  sample[2] = 0x09;
  sample[11] = 0x10;
  return field(0x0a, Buffer.concat([labels, sample]));
}

function field(tag: number, content: Buffer): Buffer {
  const length: number[] = [];
  let rest = content.length;
  while (rest > 0x7f) {
    length.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  return Buffer.concat([Buffer.from([tag, ...length, rest]), content]);
}
