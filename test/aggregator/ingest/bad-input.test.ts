import { connect as connectHttp2 } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { create, toBinary } from '@bufbuild/protobuf';
import { Client, credentials, ServerCredentials, status } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import {
  HelloSchema,
  Lane,
  RecordSchema,
  type StreamRequest,
  StreamRequestSchema,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { createDictionary, dictionaryToWire } from '#shared/wire/dictionary.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import { DEFAULT_LIMITS } from '../../../aggregator/ingest/admission.ts';
import { IngestServer } from '../../../aggregator/ingest/ingest-server.ts';
import type { Outcome } from '../../../aggregator/ingest/ingest-sink.ts';
import { quietSink } from '../../support/quiet-sink.ts';
import { until } from '../../support/wait.ts';

const PATH = '/gpufleet.telemetry.v1.IngestService/Stream';
const ACCEPTED: Outcome = { state: 'accepted', epoch: 1n };
const dictionary = createDictionary('g', 1000, [
  { name: 'm', labels: [], kind: 'gauge', decimals: 0, help: '', unit: '' },
]);
const frame = new FrameEncoder(dictionary)
  .encode({ timestampMs: 1_780_000_000_000, values: Float64Array.of(1), states: Uint8Array.of(0) })
  .slice();

async function start(limits = DEFAULT_LIMITS) {
  const blocks: number[] = [];
  const sink = quietSink({
    async block({ timestampMs }) {
      blocks.push(timestampMs);
      return ACCEPTED;
    },
  });
  const server = await IngestServer.listen({
    listen: { host: '127.0.0.1', port: 0 },
    credentials: ServerCredentials.createInsecure(),
    authenticate: () => ({ node: undefined }),
    sink,
    shard: 's',
    limits,
    timeBounds: () => ({ minMs: 1_700_000_000_000, maxMs: 1_900_000_000_000 }),
    clock: systemClock,
    logger: silentLogger,
    registry: createRegistry(),
  });
  return { server, blocks };
}

/** A stream that sends whatever bytes it is given. */
function open(port: number) {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    'grpc.max_send_message_length': -1,
  });
  const call = client.makeBidiStreamRequest(
    PATH,
    (bytes: Buffer) => bytes,
    (bytes: Buffer) => bytes,
  );
  const answers: Buffer[] = [];
  call.on('data', (bytes: Buffer) => answers.push(bytes));
  const ended = new Promise<{ code: number; details: string }>((resolve) => {
    call.on('error', (error) => resolve(error as unknown as { code: number; details: string }));
    call.on('end', () => resolve({ code: status.OK, details: '' }));
  });
  return {
    ended,
    answers,
    write: (bytes: Uint8Array) => call.write(Buffer.from(bytes)),
    send: (message: StreamRequest['message']): void => {
      call.write(Buffer.from(toBinary(StreamRequestSchema, create(StreamRequestSchema, { message }))));
    },
    [Symbol.dispose]() {
      call.cancel();
      client.close();
    },
  };
}

const hello = (overrides: object = {}): StreamRequest['message'] => ({
  case: 'hello',
  value: create(HelloSchema, {
    protocolVersion: 1,
    cluster: 'c',
    node: 'n',
    machineId: 'm',
    runs: [{ id: new Uint8Array(16) }],
    ...overrides,
  }),
});
const record = (body: object, overrides: object = {}): StreamRequest['message'] => ({
  case: 'record',
  value: create(RecordSchema, { run: 0, sequence: 1n, lane: Lane.LIVE, body: body as never, ...overrides }),
});
const define = record({ case: 'dictionary', value: dictionaryToWire(dictionary, 1) }, { sequence: 0n });
const tick = (bytes: Uint8Array = frame, dictionaryId = 1) =>
  record({ case: 'tick', value: { dictionary: dictionaryId, frame: bytes } });

describe('each of these ends its own stream with a clear status, and no other', () => {
  test.each<[string, (stream: ReturnType<typeof open>) => void, number, RegExp]>([
    [
      'bytes that are no message',
      (s) => s.write(Uint8Array.of(0xff, 0xff, 0xff, 0xff)),
      status.INVALID_ARGUMENT,
      /./,
    ],
    ['a record before Hello', (s) => s.send(define), status.INVALID_ARGUMENT, /Hello must come first/],
    ['a second Hello', (s) => [hello(), hello()].forEach(s.send), status.INVALID_ARGUMENT, /already had one/],
    ['an empty node name', (s) => s.send(hello({ node: '' })), status.INVALID_ARGUMENT, /node name/],
    [
      'a run id of another length',
      (s) => s.send(hello({ runs: [{ id: new Uint8Array(3) }] })),
      status.INVALID_ARGUMENT,
      /run id/,
    ],
    [
      'external labels that forge a node',
      (s) => s.send(hello({ externalLabels: { node: 'x' } })),
      status.INVALID_ARGUMENT,
      /set by the aggregator/,
    ],
    [
      'a run that Hello did not name',
      (s) => [hello(), record({ case: 'tick', value: {} }, { run: 5 })].forEach(s.send),
      status.INVALID_ARGUMENT,
      /no run 5/,
    ],
    [
      'a tick of no dictionary',
      (s) => [hello(), tick(frame, 9)].forEach(s.send),
      status.INVALID_ARGUMENT,
      /dictionary 9/,
    ],
    [
      'a garbage frame',
      (s) => [hello(), define, tick(Uint8Array.of(1, 2, 3, 4, 5))].forEach(s.send),
      status.INVALID_ARGUMENT,
      /Cannot (decode frame|read number)/,
    ],
    [
      'a dictionary whose hash is wrong',
      (s) =>
        [
          hello(),
          record({ case: 'dictionary', value: { ...dictionaryToWire(dictionary, 1), hash: 5n } }),
        ].forEach(s.send),
      status.INVALID_ARGUMENT,
      /hash/,
    ],
    [
      'a dictionary with label "node"',
      (s) => {
        const forged = createDictionary('g', 1000, [
          { name: 'm', labels: [['node', 'other']], kind: 'gauge', decimals: 0, help: '', unit: '' },
        ]);
        s.send(hello());
        s.send(record({ case: 'dictionary', value: dictionaryToWire(forged, 1) }));
      },
      status.INVALID_ARGUMENT,
      /set by the aggregator/,
    ],
    [
      'a message over the limit',
      (s) => s.write(new Uint8Array(5 * 2 ** 20)),
      status.RESOURCE_EXHAUSTED,
      /larger/,
    ],
  ])('%s', async (_, attack, code, details) => {
    const { server, blocks } = await start();
    await using _server = server;
    using good = open(server.address.port);
    good.send(hello({ node: 'good' }));
    good.send(define);
    using bad = open(server.address.port);
    attack(bad);
    const ended = await bad.ended;
    expect(ended.code, ended.details).toBe(code);
    expect(ended.details).toMatch(details);
    good.send(tick());
    await until(() => blocks.length === 1, { timeoutMs: 10_000, what: 'the good stream' });
  });

  test('a claim of a message of 1 GB: closed without waiting for it or making room', async () => {
    const { server } = await start();
    await using _server = server;
    using stream = open(server.address.port);
    stream.send(hello());
    await until(() => stream.answers.length > 0, { timeoutMs: 10_000, what: 'Welcome' });
    const before = process.memoryUsage().rss;
    // The length prefix of gRPC says 1 GB; the bytes would follow.
    const session = connectHttp2(`http://127.0.0.1:${server.address.port}`);
    const request = session.request({
      ':method': 'POST',
      ':path': PATH,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const grpcStatus = new Promise((resolve) => {
      request.on('trailers', (trailers) => resolve(trailers['grpc-status']));
      request.on(
        'response',
        (headers) => headers['grpc-status'] !== undefined && resolve(headers['grpc-status']),
      );
    });
    request.on('error', () => {});
    request.resume();
    request.write(Buffer.from([0, 0x40, 0, 0, 0, 1, 2, 3]));
    expect(await grpcStatus).toBe(String(status.RESOURCE_EXHAUSTED));
    session.destroy();
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * 2 ** 20);
  });

  test('bytes that are not HTTP/2: the connection goes, the server stays', async () => {
    const { server, blocks } = await start();
    await using _server = server;
    const socket = connectTcp(server.address.port, '127.0.0.1');
    await new Promise((resolve) => socket.once('connect', resolve));
    socket.on('error', () => {});
    socket.resume();
    socket.write(Buffer.alloc(4096, 'x'));
    await new Promise((resolve) => socket.once('close', resolve));
    using good = open(server.address.port);
    for (const message of [hello(), define, tick()]) good.send(message);
    await until(() => blocks.length === 1, { timeoutMs: 10_000, what: 'the good stream' });
  });
});

test('too many series: the ticks of the group that goes over are refused and named, other groups go on', async () => {
  const { server, blocks } = await start({ ...DEFAULT_LIMITS, seriesPerNode: 2 });
  await using _server = server;
  const big = createDictionary(
    'big',
    1000,
    ['a', 'b'].map((name) => ({ name, labels: [], kind: 'gauge', decimals: 0, help: '', unit: '' })),
  );
  const bigFrame = new FrameEncoder(big).encode({
    timestampMs: 1_780_000_000_000,
    values: Float64Array.of(1, 2),
    states: new Uint8Array(2),
  });
  using stream = open(server.address.port);
  for (const message of [
    hello(),
    define,
    tick(),
    record({ case: 'dictionary', value: dictionaryToWire(big, 2) }, { sequence: 0n }),
    record({ case: 'tick', value: { dictionary: 2, frame: bigFrame } }, { sequence: 2n }),
  ]) {
    stream.send(message);
  }
  await until(() => stream.answers.some((bytes) => bytes.includes('series_limit')), {
    timeoutMs: 10_000,
    what: 'the refusal',
  });
  expect(blocks.length).toBe(1);
});

test.each([
  ['older than the store keeps', 1_600_000_000_000, 'too_old'],
  ['far ahead', 2_000_000_000_000, 'too_far_ahead'],
])('a tick %s is refused with its reason, and the stream goes on', async (_, timestampMs, reason) => {
  const { server, blocks } = await start();
  await using _server = server;
  const encoder = new FrameEncoder(dictionary);
  const encode = (at: number) =>
    encoder.encode({ timestampMs: at, values: Float64Array.of(1), states: Uint8Array.of(0) }).slice();
  using stream = open(server.address.port);
  for (const message of [
    hello(),
    define,
    tick(encode(timestampMs)),
    record({ case: 'tick', value: { dictionary: 1, frame: encode(1_780_000_000_000) } }, { sequence: 2n }),
  ]) {
    stream.send(message);
  }
  await until(() => stream.answers.some((bytes) => bytes.includes(reason)), {
    timeoutMs: 10_000,
    what: 'the refusal',
  });
  expect(blocks).toEqual([1_780_000_000_000]);
});
