import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Client, credentials } from '@grpc/grpc-js';
import {
  HelloSchema,
  Lane,
  RecordSchema,
  StreamRequestSchema,
  type StreamResponse,
  StreamResponseSchema,
  TickSchema,
  type Record as WireRecord,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { createDictionary, dictionaryToWire } from '#shared/wire/dictionary.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import type { BenchOptions } from '../bench-case.ts';
import { loadTrace } from '../trace.ts';

/*
 * The load of the ingest case, a process of its own: streams that send frames which were encoded beforehand, as
 * fast as their acknowledgements come. Its CPU is not counted.
 */
export interface LoadOptions {
  readonly port: number;
  readonly streams: number;
  readonly seconds: number;
  readonly bench: Omit<BenchOptions, 'log'>;
}

export interface LoadResult {
  /** Samples acknowledged. */
  readonly samples: number;
}

const PATH = '/gpufleet.telemetry.v1.IngestService/Stream';
/** Frames in the loop of prepared ones. */
const PREPARED = 300;

process.on('message', (options: LoadOptions) => {
  const load = prepare(options);
  const until = performance.now() + options.seconds * 1000;
  const counters = Array.from({ length: options.streams }, (_, i) => ({
    sent: 0,
    acked: 0,
    node: `node-${i}`,
  }));
  const calls = counters.map((counter) => open(options.port, counter, load, until));
  Promise.all(calls).then(() => {
    const ticks = counters.reduce((sum, { acked }) => sum + acked, 0);
    process.send?.({ samples: ticks * load.slots } satisfies LoadResult);
  });
});

interface Load {
  readonly slots: number;
  /** The dictionary of one node: its GPUs are its own, or the aggregator would score them once for all nodes. */
  define(node: string): Buffer;
  /** The nth request of a stream: time goes on from round to round, or old ticks would be passed over. */
  request(n: number): Buffer;
  /** Requests until the loop begins again, with a keyframe. */
  readonly loop: number;
}

function prepare({ bench }: LoadOptions): Load {
  const trace = loadTrace('1s', { ...bench, log: () => {} });
  const { dictionary, rows, timestamps } = trace;
  const loop = Math.min(PREPARED, rows.length);
  const states = new Uint8Array(dictionary.series.length);
  const tick = (i: number, shiftMs: number) => ({
    timestampMs: timestamps[i]! + shiftMs,
    values: rows[i]!,
    states,
  });
  const encoder = new FrameEncoder(dictionary);
  const requests = Array.from({ length: loop }, (_, i) => tickRequest(i, encoder.encode(tick(i, 0))));
  const keys = new FrameEncoder(dictionary);
  const roundMs = timestamps[loop - 1]! - timestamps[0]! + dictionary.intervalMs;
  return {
    slots: dictionary.series.length,
    loop,
    define: (node) => dictionaryRequest(ownGpus(dictionary, node)),
    request: (n) =>
      n % loop === 0
        ? tickRequest(0, keys.encode(tick(0, Math.floor(n / loop) * roundMs), true))
        : requests[n % loop]!,
  };
}

function ownGpus({ group, intervalMs, series }: Dictionary, node: string): Dictionary {
  const labelled = series.map((one) => ({
    ...one,
    labels: one.labels.map(([name, value]) => [name, name === 'uuid' ? `${value}-${node}` : value] as const),
  }));
  return createDictionary(group, intervalMs, labelled);
}

function dictionaryRequest(dictionary: Dictionary): Buffer {
  return recordRequest(0, { case: 'dictionary', value: dictionaryToWire(dictionary, 1) });
}

/** Sequences come round with the loop: what is in flight is always less than one round. */
function tickRequest(i: number, frame: Uint8Array): Buffer {
  return recordRequest(i + 1, {
    case: 'tick',
    value: create(TickSchema, { dictionary: 1, frame: frame.slice() }),
  });
}

function recordRequest(sequence: number, body: WireRecord['body']): Buffer {
  const value = create(RecordSchema, { run: 0, sequence: BigInt(sequence), lane: Lane.LIVE, body });
  return Buffer.from(
    toBinary(StreamRequestSchema, create(StreamRequestSchema, { message: { case: 'record', value } })),
  );
}

async function open(
  port: number,
  counter: { sent: number; acked: number; node: string },
  load: Load,
  until: number,
): Promise<void> {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    'grpc.enable_retries': 0,
    'grpc-node.flow_control_window': 2 ** 20,
    'grpc.use_local_subchannel_pool': 1,
  });
  const call = client.makeBidiStreamRequest(
    PATH,
    (bytes: Buffer) => bytes,
    (bytes: Buffer): StreamResponse => fromBinary(StreamResponseSchema, bytes),
  );
  const hello = create(HelloSchema, {
    protocolVersion: 1,
    cluster: 'bench',
    node: counter.node,
    machineId: counter.node,
    runs: [{ id: new Uint8Array(16) }],
  });
  call.write(
    Buffer.from(
      toBinary(
        StreamRequestSchema,
        create(StreamRequestSchema, { message: { case: 'hello', value: hello } }),
      ),
    ),
  );
  call.write(load.define(counter.node));
  // Acknowledgements are ranges of sequences: one that is under way must not come round again.
  const window = Math.ceil((load.loop * 2) / 3);
  const pump = (): void => {
    if (performance.now() >= until) {
      if (counter.acked >= counter.sent) call.end();
      return;
    }
    while (counter.sent - counter.acked < window) call.write(load.request(counter.sent++));
  };
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  call.on('data', ({ message }: StreamResponse) => {
    if (message.case === 'ack')
      for (const { first, last } of message.value.accepted) counter.acked += Number(last - first) + 1;
    pump();
  });
  call.on('end', resolve);
  call.on('error', reject);
  const timer = setInterval(pump, 50);
  await promise.finally(() => {
    clearInterval(timer);
    client.close();
  });
}
