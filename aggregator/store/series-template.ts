import type { Source } from '#shared/model/block.ts';
import type { Dictionary, Series } from '#shared/model/dictionary.ts';

/*
 * Remote write 1.0 (prometheus.io/docs/specs/prw/remote_write_spec): a request is repeated
 *
 *   TimeSeries { Label { name, value } ..., Sample { double value, int64 timestamp } ... }
 *
 * Labels never change for a dictionary, and a timestamp has six varint bytes from 2004 to 2109: so the message of
 * each series with one sample is laid out once, with holes for value and timestamp:
 *
 *   0a LEN | 0a .. label .. 0a .. label .. | 12 10 09 | value, 8 bytes | 10 | timestamp, 6 bytes
 *   header   labels                          \------- a sample: 18 bytes -------/
 *
 * What is given up: about 200 bytes of memory a series.
 */

/** A sample field: tag, length, value tag, value, timestamp tag, timestamp. */
export const SAMPLE_BYTES = 18;
/** What of a sample comes before its value. */
export const SAMPLE_HEAD_BYTES = 3;
export const TIMESTAMP_BYTES = 6;
/** The timestamps, Unix ms, that six varint bytes hold: 2^35 to 2^42 - 1, 1971 to 2109. */
export const MIN_TIMESTAMP_MS = 2 ** 35;
export const MAX_TIMESTAMP_MS = 2 ** 42 - 1;

export interface SeriesTemplate {
  /** The message of every slot with one sample, one after the other. */
  readonly bytes: Buffer;
  /** Where each slot's message begins; one more entry for the end. */
  readonly offsets: Uint32Array;
  /** Bytes before each slot's labels. */
  readonly headers: Uint8Array;
  /** Where in its labels the value of __name__ begins (its length byte), and where it ends. */
  readonly nameFrom: Uint32Array;
  readonly nameTo: Uint32Array;
}

/** Writes the six varint bytes of a timestamp between MIN_TIMESTAMP_MS and MAX_TIMESTAMP_MS. */
export function writeTimestamp(out: Uint8Array, at: number, timestampMs: number): void {
  let rest = timestampMs;
  for (let i = 0; i < TIMESTAMP_BYTES - 1; i++) {
    out[at + i] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  out[at + TIMESTAMP_BYTES - 1] = rest;
}

export function layOut(dictionary: Dictionary, source: Source): SeriesTemplate {
  const count = dictionary.series.length;
  const offsets = new Uint32Array(count + 1);
  const headers = new Uint8Array(count);
  const nameFrom = new Uint32Array(count);
  const nameTo = new Uint32Array(count);
  const parts: Buffer[] = [];
  let at = 0;
  dictionary.series.forEach((series, slot) => {
    const labels = storedLabels(series, source).map(([name, value]) => {
      const coded = field(
        0x0a,
        Buffer.concat([field(0x0a, Buffer.from(name)), field(0x12, Buffer.from(value))]),
      );
      return { name, value, coded };
    });
    let length = 0;
    for (const { name, value, coded } of labels) {
      length += coded.length;
      if (name !== '__name__') continue;
      nameTo[slot] = length;
      nameFrom[slot] = length - Buffer.byteLength(value) - varintLength(Buffer.byteLength(value));
    }
    const message = timeSeries(Buffer.concat(labels.map(({ coded }) => coded)));
    headers[slot] = message.length - length - SAMPLE_BYTES;
    parts.push(message);
    at += message.length;
    offsets[slot + 1] = at;
  });
  return { bytes: Buffer.concat(parts, at), offsets, headers, nameFrom, nameTo };
}

/** Every label of a series as it is stored, sorted by name as the specification demands. */
export function storedLabels(series: Series, source: Source): [string, string][] {
  const labels: [string, string][] = [
    ['__name__', series.name],
    ['cluster', source.cluster],
    // What the aggregator says of a pool or the fleet has no node.
    ...(source.node === '' ? [] : [['node', source.node] satisfies [string, string]]),
    ...series.labels.map(([name, value]): [string, string] => [name, value]),
  ];
  // A label of the series wins over an external one of the same name.
  const taken = new Set(labels.map(([name]) => name));
  for (const [name, value] of source.externalLabels) if (!taken.has(name)) labels.push([name, value]);
  return labels.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}

export function varintLength(value: number): number {
  return value < 2 ** 7 ? 1 : value < 2 ** 14 ? 2 : value < 2 ** 21 ? 3 : value < 2 ** 28 ? 4 : 5;
}

/** Writes a varint below 2^31 and returns the end. */
export function writeVarint(out: Uint8Array, at: number, value: number): number {
  let end = at;
  let rest = value;
  for (; rest > 0x7f; rest >>>= 7) out[end++] = (rest & 0x7f) | 0x80;
  out[end++] = rest;
  return end;
}

/** One TimeSeries of labels that are coded already, with one sample to fill in. */
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
  const head = Buffer.alloc(6);
  head[0] = tag;
  return Buffer.concat([head.subarray(0, writeVarint(head, 1, content.length)), content]);
}

/** A write request of one series with one sample, uncompressed. */
export function singleSample(
  labels: readonly (readonly [string, string])[],
  value: number,
  timestampMs: number,
): Buffer {
  const sorted = [...labels].sort(([a], [b]) => (a < b ? -1 : 1));
  const message = timeSeries(
    Buffer.concat(
      sorted.map(([name, text]) =>
        field(0x0a, Buffer.concat([field(0x0a, Buffer.from(name)), field(0x12, Buffer.from(text))])),
      ),
    ),
  );
  message.writeDoubleLE(value, message.length - TIMESTAMP_BYTES - 1 - 8);
  writeTimestamp(message, message.length - TIMESTAMP_BYTES, timestampMs);
  return message;
}
