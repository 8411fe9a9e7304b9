import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Client, type ClientDuplexStream, credentials } from '@grpc/grpc-js';
import {
  type Ack,
  HelloSchema,
  Lane,
  RecordSchema,
  type StreamRequest,
  StreamRequestSchema,
  type StreamResponse,
  StreamResponseSchema,
  TickSchema,
  type Record as WireRecord,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { dictionaryToWire } from '#shared/wire/dictionary.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import type { BenchOptions } from '../bench-case.ts';
import { loadTrace, type Trace } from '../trace.ts';
import { BENCH_CLUSTER, dictionaryOf } from './bench-nodes.ts';
import { serve } from './program.ts';

/*
 * The load of the e2e case, a process of its own: live one-tick frames of many nodes, as fast as the store has
 * taken those before. All nodes send the same values, so each frame is coded once.
 */
export interface LiveFramesOptions {
  readonly port: number;
  readonly nodes: readonly string[];
  readonly startMs: number;
  /** Samples that are under way at once, over all streams. */
  readonly windowSamples: number;
  readonly bench: Omit<BenchOptions, 'log'>;
}

export type LiveFramesRequest =
  | { readonly kind: 'start'; readonly options: LiveFramesOptions }
  /** Sends no more, waits for the answers; answered with LiveFramesResult. */
  | { readonly kind: 'stop' };

export interface LiveFramesResult {
  readonly accepted: number;
  /** Taken and not stored: they would come again as backlog. */
  readonly deferred: number;
  readonly refused: number;
}

const PATH = '/gpufleet.telemetry.v1.IngestService/Stream';
let stopping = false;
let ended: Promise<LiveFramesResult> | undefined;

serve<LiveFramesRequest>(async (request) => {
  if (request.kind === 'start') {
    ended = run(request.options);
    return undefined;
  }
  stopping = true;
  return ended;
});

async function run(options: LiveFramesOptions): Promise<LiveFramesResult> {
  const trace = loadTrace('1s', { ...options.bench, log: () => {} });
  const requests = frames(trace, options.startMs);
  const slots = trace.dictionary.series.length;
  const window = Math.max(1, Math.floor(options.windowSamples / slots / options.nodes.length));
  const streams = options.nodes.map((node) => new LiveStream(node, trace, requests, window));
  await Promise.all(streams.map((stream) => stream.run(options.port)));
  const sum = (of: (stream: LiveStream) => number): number =>
    slots * streams.reduce((total, stream) => total + of(stream), 0);
  return {
    accepted: sum(({ accepted }) => accepted),
    deferred: sum(({ deferred }) => deferred),
    refused: sum(({ refused }) => refused),
  };
}

/** The nth tick of any node, coded at its first use. */
function frames({ dictionary, rows }: Trace, startMs: number): (n: number) => Buffer {
  const encoder = new FrameEncoder(dictionary);
  const states = new Uint8Array(dictionary.series.length);
  const made: Buffer[] = [];
  return (n) => {
    while (made.length <= n) {
      const i = made.length;
      const tick = {
        timestampMs: startMs + i * dictionary.intervalMs,
        values: rows[i % rows.length]!,
        states,
      };
      const frame = encoder.encode(tick).slice();
      made.push(record(i + 2, { case: 'tick', value: create(TickSchema, { dictionary: 1, frame }) }));
    }
    return made[n]!;
  };
}

class LiveStream {
  accepted = 0;
  deferred = 0;
  refused = 0;
  #sent = 0;
  readonly #node: string;
  readonly #trace: Trace;
  readonly #request: (n: number) => Buffer;
  readonly #window: number;

  constructor(node: string, trace: Trace, request: (n: number) => Buffer, window: number) {
    this.#node = node;
    this.#trace = trace;
    this.#request = request;
    this.#window = window;
  }

  async run(port: number): Promise<void> {
    using client = closing(
      new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
        'grpc.enable_retries': 0,
        'grpc-node.flow_control_window': 2 ** 20,
        'grpc.use_local_subchannel_pool': 1,
      }),
    );
    const call = client.makeBidiStreamRequest(
      PATH,
      (bytes: Buffer) => bytes,
      (bytes: Buffer): StreamResponse => fromBinary(StreamResponseSchema, bytes),
    );
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    call.on('data', ({ message }: StreamResponse) => {
      if (message.case === 'ack') this.#settle(message.value);
      this.#pump(call);
    });
    call.on('end', resolve);
    call.on('error', reject);
    const hello = create(HelloSchema, {
      protocolVersion: 1,
      oldestProtocolVersion: 1,
      cluster: BENCH_CLUSTER,
      node: this.#node,
      machineId: this.#node,
      wallTimeUnixMs: BigInt(Date.now()),
      runs: [{ id: new Uint8Array(16), firstSequence: 1n, lastSequence: 0n }],
    });
    call.write(toRequest({ case: 'hello', value: hello }));
    const dictionary = dictionaryOf(this.#node, this.#trace.dictionary);
    call.write(record(1, { case: 'dictionary', value: dictionaryToWire(dictionary, 1) }));
    const timer = setInterval(() => this.#pump(call), 50);
    await promise.finally(() => clearInterval(timer));
  }

  #pump(call: ClientDuplexStream<Buffer, StreamResponse>): void {
    const settled = this.accepted + this.deferred + this.refused;
    if (stopping) {
      if (settled >= this.#sent) call.end();
      return;
    }
    while (this.#sent - settled < this.#window) call.write(this.#request(this.#sent++));
  }

  /** Sequence 1 is the dictionary. */
  #settle(ack: Ack): void {
    const ticks = (first: bigint, last: bigint): number => Number(last - first) + 1 - (first === 1n ? 1 : 0);
    for (const { first, last } of ack.accepted) this.accepted += ticks(first, last);
    for (const { first, last } of ack.deferred) this.deferred += ticks(first, last);
    for (const { range } of ack.refused) if (range) this.refused += ticks(range.first, range.last);
  }
}

function closing(client: Client): Client & Disposable {
  return Object.assign(client, { [Symbol.dispose]: () => client.close() });
}

function record(sequence: number, body: WireRecord['body']): Buffer {
  return toRequest({
    case: 'record',
    value: create(RecordSchema, { run: 0, sequence: BigInt(sequence), lane: Lane.LIVE, body }),
  });
}

function toRequest(message: StreamRequest['message']): Buffer {
  return Buffer.from(toBinary(StreamRequestSchema, create(StreamRequestSchema, { message })));
}
