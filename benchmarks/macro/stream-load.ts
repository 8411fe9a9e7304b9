import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Client, credentials } from '@grpc/grpc-js';
import {
  HelloSchema,
  Lane,
  RecordSchema,
  type StreamRequest,
  StreamRequestSchema,
  type StreamResponse,
  StreamResponseSchema,
} from '#proto/gpufleet/telemetry/v1alpha1/ingest_pb.ts';
import { dictionaryToWire } from '#shared/wire/dictionary.ts';
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

const PATH = '/gpufleet.telemetry.v1alpha1.IngestService/Stream';
/** Frames in the loop of prepared ones. */
const PREPARED = 300;

process.on('message', (options: LoadOptions) => {
  const { requests, slots } = prepare(options);
  const until = performance.now() + options.seconds * 1000;
  const counters = Array.from({ length: options.streams }, (_, i) => ({
    sent: 0,
    acked: 0,
    node: `node-${i}`,
  }));
  const calls = counters.map((counter) => open(options.port, counter, requests, until));
  Promise.all(calls).then(() => {
    const ticks = counters.reduce((sum, { acked }) => sum + acked, 0);
    process.send?.({ samples: ticks * slots } satisfies LoadResult);
  });
});

/** Requests of one node in a loop: differences need their order, so the loop begins with a keyframe. */
function prepare({ bench }: LoadOptions): { requests: Buffer[]; slots: number } {
  const trace = loadTrace('1s', { ...bench, log: () => {} });
  const encoder = new FrameEncoder(trace.dictionary);
  const states = new Uint8Array(trace.dictionary.series.length);
  const wrap = (message: StreamRequest['message']): Buffer =>
    Buffer.from(toBinary(StreamRequestSchema, create(StreamRequestSchema, { message })));
  const define = create(RecordSchema, {
    run: 0,
    sequence: 0n,
    lane: Lane.LIVE,
    body: { case: 'dictionary', value: dictionaryToWire(trace.dictionary, 1) },
  });
  const requests = [wrap({ case: 'record', value: define })];
  const rows = Math.min(PREPARED, trace.rows.length);
  for (let i = 0; i < rows; i++) {
    const frame = encoder
      .encode({ timestampMs: trace.timestamps[i]!, values: trace.rows[i]!, states }, i === 0)
      .slice();
    const body = { case: 'tick' as const, value: { dictionary: 1, frame } };
    requests.push(
      wrap({
        case: 'record',
        value: create(RecordSchema, {
          run: 0,
          sequence: BigInt(i + 1),
          lane: Lane.LIVE,
          body: body as never,
        }),
      }),
    );
  }
  return { requests, slots: trace.dictionary.series.length };
}

async function open(
  port: number,
  counter: { sent: number; acked: number; node: string },
  requests: readonly Buffer[],
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
  call.write(requests[0]!);
  const loop = requests.length - 1;
  // Acknowledgements are ranges of sequences: one that is under way must not come round again.
  const window = Math.ceil((loop * 2) / 3);
  const pump = (): void => {
    if (performance.now() >= until) {
      if (counter.acked >= counter.sent) call.end();
      return;
    }
    while (counter.sent - counter.acked < window) call.write(requests[1 + (counter.sent++ % loop)]!);
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
