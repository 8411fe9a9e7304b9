import { TIMESTAMP_BYTES } from './series-template.ts';

/*
 * Reads write requests that we have written ourselves: the labels and samples of what a store refused. Nothing
 * here is on the way of a sample that goes well.
 */

export interface DecodedSeries {
  readonly labels: readonly (readonly [name: string, value: string])[];
  readonly samples: readonly { readonly timestampMs: number; readonly value: number }[];
}

/** Where each TimeSeries of a request begins; one more entry for the end. */
export function seriesStarts(request: Buffer): number[] {
  const starts = [0];
  for (let at = 0; at < request.length; ) {
    const { value: length, end } = readVarint(request, at + 1);
    at = end + length;
    starts.push(at);
  }
  return starts;
}

/** One TimeSeries as it lies in a request, with its tag. */
export function decodeSeries(message: Buffer): DecodedSeries {
  const labels: [string, string][] = [];
  const samples: { timestampMs: number; value: number }[] = [];
  for (const field of fieldsOf(message.subarray(readVarint(message, 1).end))) {
    if (field.tag === 0x0a) {
      const [name, value] = fieldsOf(field.content).map(({ content }) => content.toString());
      labels.push([name ?? '', value ?? '']);
    } else if (field.tag === 0x12) {
      samples.push({
        value: field.content.readDoubleLE(1),
        timestampMs: readVarint(field.content, field.content.length - TIMESTAMP_BYTES).value,
      });
    }
  }
  return { labels, samples };
}

/** As people write it: `name{label="value",...}`, at most 2,000 characters. */
export function showSeries({ labels }: DecodedSeries): string {
  const name = labels.find(([label]) => label === '__name__')?.[1] ?? '';
  const rest = labels.filter(([label]) => label !== '__name__');
  return `${name}{${rest.map(([label, value]) => `${label}=${JSON.stringify(value)}`).join(',')}}`.slice(
    0,
    2000,
  );
}

function fieldsOf(bytes: Buffer): { tag: number; content: Buffer }[] {
  const fields: { tag: number; content: Buffer }[] = [];
  for (let at = 0; at < bytes.length; ) {
    const { value: length, end } = readVarint(bytes, at + 1);
    fields.push({ tag: bytes[at]!, content: bytes.subarray(end, end + length) });
    at = end + length;
  }
  return fields;
}

function readVarint(bytes: Buffer, from: number): { value: number; end: number } {
  let value = 0;
  let at = from;
  for (let scale = 1; at < bytes.length; scale *= 128) {
    const byte = bytes[at++]!;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) break;
  }
  return { value, end: at };
}
