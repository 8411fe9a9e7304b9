import { compress } from 'snappy';
import { Pool } from 'undici';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { storedLabels } from '../../aggregator/store/series-template.ts';
import { benchSource, dictionaryOf } from './bench-nodes.ts';

/*
 * Remote write requests that are complete before the clock starts: what the store takes when its client costs
 * next to nothing. The label sets are those that the aggregator would write for the same nodes.
 */
export interface PrebuiltOptions {
  readonly nodes: readonly string[];
  /** Of one node; each node gets GPUs of its own. */
  readonly dictionary: Dictionary;
  /** Values, one row for each tick, taken round and round. */
  readonly rows: readonly Float64Array[];
  readonly startMs: number;
  readonly intervalMs: number;
  readonly ticks: number;
  /** Samples that one series has in a request: 1 as live, more as backlog. */
  readonly samplesPerSeries: number;
}

export interface PrebuiltRequest {
  readonly body: Buffer;
  readonly samples: number;
}

/** As the writers of remote write do it; VictoriaMetrics gains nothing from more. */
const SAMPLES_PER_REQUEST = 10_000;
const SAMPLE_BYTES = 18;
/** Requests that are compressed at once: one for each core of a small machine. */
const COMPRESSED_AT_ONCE = 2;

/** In order of time: all series of the first ticks, then those of the next. */
export async function prebuildRequests(options: PrebuiltOptions): Promise<PrebuiltRequest[]> {
  const { dictionary, nodes, ticks, samplesPerSeries } = options;
  const labels = nodes.flatMap((node) => labelsOf(node, dictionary));
  const slots = dictionary.series.length;
  const perRequest = Math.max(1, Math.floor(SAMPLES_PER_REQUEST / samplesPerSeries));
  const requests: PrebuiltRequest[] = [];
  const compressing: Promise<void>[] = [];
  for (let tick = 0; tick < ticks; tick += samplesPerSeries) {
    const depth = Math.min(samplesPerSeries, ticks - tick);
    for (let from = 0; from < labels.length; from += perRequest) {
      const to = Math.min(labels.length, from + perRequest);
      const raw = encode(options, labels, slots, from, to, tick, depth);
      const at = requests.length;
      requests.push({ body: raw, samples: (to - from) * depth });
      compressing.push(
        compress(raw).then((body) => {
          requests[at] = { ...requests[at]!, body };
        }),
      );
      if (compressing.length >= COMPRESSED_AT_ONCE) await Promise.all(compressing.splice(0));
    }
  }
  await Promise.all(compressing);
  return requests;
}

/** The coded labels of each series of a node. */
function labelsOf(node: string, dictionary: Dictionary): Buffer[] {
  const source = benchSource(node);
  return dictionaryOf(node, dictionary).series.map((series) =>
    Buffer.concat(
      storedLabels(series, source).map(([name, value]) =>
        field(0x0a, Buffer.concat([field(0x0a, Buffer.from(name)), field(0x12, Buffer.from(value))])),
      ),
    ),
  );
}

function encode(
  { rows, startMs, intervalMs }: PrebuiltOptions,
  labels: readonly Buffer[],
  slots: number,
  from: number,
  to: number,
  tick: number,
  depth: number,
): Buffer {
  const most = labels.slice(from, to).reduce((sum, { length }) => sum + length + 6 + depth * SAMPLE_BYTES, 0);
  const out = Buffer.allocUnsafe(most);
  let at = 0;
  for (let series = from; series < to; series++) {
    const label = labels[series]!;
    out[at++] = 0x0a;
    at = writeVarint(out, at, label.length + depth * SAMPLE_BYTES);
    at += label.copy(out, at);
    for (let i = tick; i < tick + depth; i++) {
      // Sample: 0x09 value (fixed64), 0x10 timestamp (varint of six bytes).
      out[at] = 0x12;
      out[at + 1] = SAMPLE_BYTES - 2;
      out[at + 2] = 0x09;
      out.writeDoubleLE(rows[i % rows.length]![series % slots]!, at + 3);
      out[at + 11] = 0x10;
      writeVarint(out, at + 12, startMs + i * intervalMs);
      at += SAMPLE_BYTES;
    }
  }
  return out.subarray(0, at);
}

function writeVarint(out: Buffer, at: number, value: number): number {
  let rest = value;
  let end = at;
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) out[end++] = (rest % 128) | 0x80;
  out[end++] = rest;
  return end;
}

function field(tag: number, content: Buffer): Buffer {
  const head = Buffer.alloc(6);
  head[0] = tag;
  return Buffer.concat([head.subarray(0, writeVarint(head, 1, content.length)), content]);
}

const HEADERS = {
  'content-type': 'application/x-protobuf',
  'content-encoding': 'snappy',
  'x-prometheus-remote-write-version': '0.1.0',
  'user-agent': 'gpufleet-bench',
};
const IN_FLIGHT = 4;

export interface SendOptions {
  /** Base URL; /api/v1/write is added. */
  readonly url: string;
  readonly requests: readonly PrebuiltRequest[];
  /** Asked before each request; false ends it. */
  readonly goOn?: (sentSamples: number) => boolean | Promise<boolean>;
}

/** Sends them, four in flight; each must be answered with 2xx. */
export async function sendRequests({
  url,
  requests,
  goOn = () => true,
}: SendOptions): Promise<{ samples: number; seconds: number }> {
  const pool = new Pool(url, { connections: IN_FLIGHT });
  const began = performance.now();
  let next = 0;
  let samples = 0;
  const sender = async (): Promise<void> => {
    while (next < requests.length && (await goOn(samples))) {
      const request = requests[next++];
      if (request === undefined) return;
      const { statusCode, body } = await pool.request({
        path: '/api/v1/write',
        method: 'POST',
        headers: HEADERS,
        body: request.body,
      });
      await body.dump();
      if (statusCode < 200 || statusCode > 299)
        throw new Error(`${url} answers ${statusCode} to a prebuilt request`);
      samples += request.samples;
    }
  };
  try {
    await Promise.all(Array.from({ length: IN_FLIGHT }, sender));
    return { samples, seconds: (performance.now() - began) / 1000 };
  } finally {
    await pool.destroy();
  }
}
