import { connect, type Socket } from 'node:net';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type Ack,
  HelloSchema,
  IngestService,
  Lane,
  RecordSchema,
  type StreamRequest,
  StreamRequestSchema,
  StreamResponseSchema,
  TickSchema,
  type Record as WireRecord,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { createDictionary, dictionaryToWire } from '#shared/wire/dictionary.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import type { BenchOptions } from '../bench-case.ts';
import { loadTrace, type Trace } from '../trace.ts';
import { BENCH_CLUSTER, dictionaryOf } from './bench-nodes.ts';
import { dataFrame, GrpcReader, openingFrames } from './http2-frames.ts';
import { serve } from './program.ts';

/*
 * A fleet of streams in one process, a frame each interval, phases spread over it. All nodes send the same values, so
 * that a tick is coded once, down to its HTTP/2 frame, and sending is one write to a socket: ten thousand streams
 * take a small part of a core, which leaves the machine to those that are measured.
 */
export interface PacedStreamsOptions {
  readonly port: number;
  readonly streams: number;
  /** The first series of the trace's dictionary: 50 are one GPU. */
  readonly series: number;
  readonly intervalMs: number;
  /** Names of the nodes begin with this, `node-` where not given. */
  readonly names?: string;
  /** Frames that are made beforehand: the load ends with them. */
  readonly ticks: number;
  readonly bench: Omit<BenchOptions, 'log'>;
}

export type PacedStreamsRequest =
  /** Opens all streams, then begins to send; answered when every stream has had a tick acknowledged. */
  | { readonly kind: 'start'; readonly options: PacedStreamsOptions }
  /** Answered with PacedCount. */
  | { readonly kind: 'count' };

export interface PacedCount {
  /** Ticks of all streams since the start. */
  readonly sent: number;
  readonly acknowledged: number;
  /** Taken and not stored. */
  readonly deferred: number;
  readonly acknowledgements: number;
}

/** Streams that are being opened at one moment: less than a listener's backlog of 511. */
const OPENING_AT_ONCE = 200;
const SEND_EVERY_MS = 10;
const PATH = `/${IngestService.typeName}/Stream`;

const count = { sent: 0, acknowledged: 0, deferred: 0, acknowledgements: 0 };
let failed: Error | undefined;

serve<PacedStreamsRequest>(async (request) => {
  if (request.kind === 'start') await start(request.options);
  if (failed) throw failed;
  return count satisfies PacedCount;
});

async function start(options: PacedStreamsOptions): Promise<void> {
  const { streams, port, intervalMs, ticks, bench, names = 'node-' } = options;
  const trace = loadTrace('1s', { ...bench, log: () => {} });
  const dictionary = firstSeries(trace.dictionary, options.series, intervalMs);
  const opened: PacedStream[] = [];
  for (let from = 0; from < streams; from += OPENING_AT_ONCE) {
    const some = Array.from({ length: Math.min(OPENING_AT_ONCE, streams - from) }, (_, i) =>
      PacedStream.open(port, `${names}${from + i}`, dictionary),
    );
    opened.push(...(await Promise.all(some)));
  }
  send(opened, framesOf(trace, dictionary, ticks, Date.now()), intervalMs);
  while (opened.some((stream) => !stream.acknowledged)) {
    if (failed) throw failed;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Each stream at its own moment of the interval; what a late timer left out is sent at once. */
function send(streams: readonly PacedStream[], frames: readonly Buffer[], intervalMs: number): void {
  const began = performance.now();
  let next = 0;
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - began) / intervalMs) * streams.length);
    for (; next < due; next++) {
      const frame = frames[Math.floor(next / streams.length)];
      if (!frame) return clearInterval(timer);
      streams[next % streams.length]!.write(frame);
      count.sent++;
    }
  }, SEND_EVERY_MS);
}

function firstSeries({ group, series }: Dictionary, length: number, intervalMs: number): Dictionary {
  return createDictionary(group, intervalMs, series.slice(0, length));
}

function framesOf(trace: Trace, dictionary: Dictionary, ticks: number, startMs: number): Buffer[] {
  const encoder = new FrameEncoder(dictionary);
  const slots = dictionary.series.length;
  const states = new Uint8Array(slots);
  return Array.from({ length: ticks }, (_, i) => {
    const values = trace.rows[i % trace.rows.length]!.subarray(0, slots);
    const timestampMs = startMs + i * dictionary.intervalMs;
    const frame = encoder.encode({ timestampMs, values, states }).slice();
    return record(i + 1, { case: 'tick', value: create(TickSchema, { dictionary: 1, frame }) });
  });
}

/** One agent's connection and its one stream. */
class PacedStream {
  acknowledged = false;
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Resolves when the aggregator has said Welcome. */
  static async open(port: number, node: string, dictionary: Dictionary): Promise<PacedStream> {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    const stream = new PacedStream(socket);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const fail = (error: Error): void => {
      failed ??= error;
      reject(error);
    };
    const reader = new GrpcReader({
      message: (bytes) => {
        const { message } = fromBinary(StreamResponseSchema, bytes);
        if (message.case === 'welcome') resolve();
        else if (message.case === 'ack') stream.#settle(message.value);
      },
      reply: (bytes) => socket.write(bytes),
    });
    socket.on('data', (chunk) => {
      try {
        reader.read(chunk);
      } catch (error) {
        fail(error as Error);
      }
    });
    socket.on('error', fail);
    socket.on('close', () => fail(new Error(`the aggregator closed the stream of ${node}`)));
    const hello = create(HelloSchema, {
      protocolVersion: 1,
      oldestProtocolVersion: 1,
      cluster: BENCH_CLUSTER,
      node,
      machineId: node,
      wallTimeUnixMs: BigInt(Date.now()),
      runs: [{ id: new Uint8Array(16), firstSequence: 1n }],
    });
    const own = dictionaryToWire(dictionaryOf(node, dictionary), 1);
    socket.write(openingFrames(`127.0.0.1:${port}`, PATH));
    socket.write(request({ case: 'hello', value: hello }));
    socket.write(record(0, { case: 'dictionary', value: own }));
    await promise;
    return stream;
  }

  write(frame: Buffer): void {
    this.#socket.write(frame);
  }

  #settle({ accepted, deferred, refused }: Ack): void {
    count.acknowledgements++;
    for (const { first, last } of accepted) {
      count.acknowledged += Number(last - first) + 1;
      this.acknowledged = true;
    }
    for (const { first, last } of deferred) count.deferred += Number(last - first) + 1;
    if (refused.length > 0) throw new Error(`a tick was refused: ${refused[0]!.detail}`);
  }
}

function record(sequence: number, body: WireRecord['body']): Buffer {
  const value = create(RecordSchema, { run: 0, sequence: BigInt(sequence), lane: Lane.LIVE, body });
  return request({ case: 'record', value });
}

function request(message: StreamRequest['message']): Buffer {
  return dataFrame(toBinary(StreamRequestSchema, create(StreamRequestSchema, { message })));
}
