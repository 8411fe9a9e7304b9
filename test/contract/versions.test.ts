import { create, fromBinary, isMessage, type Message, toBinary } from '@bufbuild/protobuf';
import { WireType } from '@bufbuild/protobuf/wire';
import {
  Client,
  credentials,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  status,
} from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import {
  AckSchema,
  DictionarySchema,
  Lane,
  RecordSchema,
  ReplaySchema,
  type StreamRequest,
  StreamRequestSchema,
  type StreamResponse,
  StreamResponseSchema,
  WelcomeSchema,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary, dictionaryToWire } from '#shared/wire/dictionary.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import { Agent } from '../../agent/agent.ts';
import { DEFAULT_LIMITS } from '../../aggregator/ingest/admission.ts';
import { AgentStream } from '../../aggregator/ingest/agent-stream.ts';
import { ingestMetrics } from '../../aggregator/ingest/ingest-metrics.ts';
import { IngestServer } from '../../aggregator/ingest/ingest-server.ts';
import { SpanTable } from '../../aggregator/ingest/span-table.ts';
import { fakeCollector } from '../support/fake-collector.ts';
import { quietSink } from '../support/quiet-sink.ts';
import { tempDir } from '../support/temp.ts';
import { until } from '../support/wait.ts';

const NOW = 1_780_000_000_000;
const dictionary = createDictionary('g', 1000, [
  { name: 'm', labels: [['gpu', '0']], kind: 'gauge', decimals: 0, help: '', unit: '' },
]);

function frameOf(value: number): Uint8Array {
  const tick = {
    timestampMs: NOW + value,
    values: Float64Array.of(value),
    states: Uint8Array.of(SlotState.Present),
  };
  return new FrameEncoder(dictionary).encode(tick).slice();
}

/** Fields that a later version might add: one of each wire type, numbers that nobody uses, in every message below. */
function fromTheFuture<M extends Message>(message: M): M {
  message.$unknown = [
    { no: 2000, wireType: WireType.Varint, data: Uint8Array.of(0x96, 0x01) },
    { no: 2001, wireType: WireType.Bit64, data: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) },
    { no: 2002, wireType: WireType.LengthDelimited, data: Uint8Array.of(3, 0x08, 0x96, 0x01) },
    { no: 2003, wireType: WireType.Bit32, data: Uint8Array.of(1, 2, 3, 4) },
  ];
  for (const child of childrenOf(message)) fromTheFuture(child);
  return message;
}

/** The messages right below one: fields, lists, and what a oneof holds. */
function childrenOf(message: Message): Message[] {
  return Object.values(message)
    .flatMap((value): unknown[] => {
      if (Array.isArray(value)) return value;
      const one = value as { case?: unknown; value?: unknown } | undefined;
      return typeof one === 'object' && one !== null && 'case' in one ? [one.value] : [value];
    })
    .filter((value): value is Message => isMessage(value));
}

const record = (sequence: number, body: object, lane: Lane = Lane.LIVE) => ({
  message: {
    case: 'record' as const,
    value: create(RecordSchema, { sequence: BigInt(sequence), lane, body: body as never }),
  },
});

/** Every kind of message that an agent sends. */
const REQUESTS: readonly Parameters<typeof create<typeof StreamRequestSchema>>[1][] = [
  {
    message: {
      case: 'hello',
      value: {
        protocolVersion: 1,
        cluster: 'c',
        node: 'n',
        machineId: 'm',
        runs: [{ id: new Uint8Array(16), lastSequence: 5n }],
        externalLabels: { rack: 'r1' },
      },
    },
  },
  { message: { case: 'status', value: { pendingRecords: 3n, samplesPerSecond: 2.5 } } },
  record(0, { case: 'dictionary', value: create(DictionarySchema, dictionaryToWire(dictionary, 1)) }),
  record(1, { case: 'tick', value: { dictionary: 1, frame: frameOf(1) } }),
  record(
    2,
    { case: 'ticks', value: { dictionary: 1, gaps: [1], frames: [frameOf(2), frameOf(3)] } },
    Lane.BACKFILL,
  ),
  record(4, { case: 'event', value: { type: 'xid', text: 'Xid 79', attributes: { code: '79' } } }),
  record(5, { case: 'loss', value: { samples: 7n, reason: 'trimmed' } }),
];

/** What an aggregator understands of these bytes. */
function understood(requests: readonly Uint8Array[]): unknown[] {
  const seen: unknown[] = [];
  const accepted = Promise.resolve({ state: 'accepted', epoch: 1n } as const);
  const note = (what: unknown) => {
    seen.push(what);
    return accepted;
  };
  const stream = new AgentStream({
    sink: {
      ...quietSink(),
      connected: ({ source, runs }) => void note([source, runs]),
      status: (_, said) => void note(said),
      block: ({ timestampMs, values, states }) => note(['block', timestampMs, [...values], [...states]]),
      span: ({ ticks, timestamps, values }) =>
        note(['span', [...timestamps.subarray(0, ticks)], [...values.subarray(0, ticks)]]),
      event: (_, event) => note(event),
      loss: (_, identity, loss) => note([identity, loss]),
    },
    limits: DEFAULT_LIMITS,
    windowBytes: 2 ** 20,
    backfillWindowBytes: () => 2 ** 20,
    spans: new SpanTable(),
    shard: 's',
    boundNode: undefined,
    address: '',
    clock: systemClock,
    timeBounds: () => ({ minMs: 0, maxMs: Number.MAX_SAFE_INTEGER }),
    onHello: () => {},
    send: () => {},
    metrics: ingestMetrics(createRegistry(), () => 1),
  });
  for (const bytes of requests) stream.receive(fromBinary(StreamRequestSchema, bytes));
  stream.close();
  return seen;
}

describe('fields that a later version adds change nothing: an upgrade goes node by node, in any order', () => {
  test('an aggregator understands an agent of a later version as it does one of its own', () => {
    const plain = REQUESTS.map((request) =>
      toBinary(StreamRequestSchema, create(StreamRequestSchema, request)),
    );
    const extended = REQUESTS.map((request) =>
      toBinary(StreamRequestSchema, fromTheFuture(create(StreamRequestSchema, request))),
    );
    extended.forEach((bytes, i) => {
      expect(bytes.length).toBeGreaterThan(plain[i]!.length);
    });
    expect(understood(plain)).toHaveLength(6);
    expect(understood(extended)).toEqual(understood(plain));
  });

  test('a kind of message, and a kind of record, that it does not know do not end the stream', () => {
    // Field 99 of StreamRequest; and a Record (field 2) whose body is field 99.
    const kinds = [
      Uint8Array.of(0x9a, 0x06, 1, 0),
      Uint8Array.of(0x12, 8, 0x10, 9, 0x18, 1, 0x9a, 0x06, 1, 0),
    ];
    const [hello, ...rest] = REQUESTS.map((one) =>
      toBinary(StreamRequestSchema, create(StreamRequestSchema, one)),
    );
    expect(understood([hello!, ...kinds, ...rest])).toEqual(understood([hello!, ...rest]));
  });

  test('an agent delivers to an aggregator of a later version', async () => {
    await using dir = tempDir();
    const later = await startLaterAggregator();
    const collector = fakeCollector();
    const agent = await Agent.open({
      config: {
        cluster: 'c',
        external_labels: {},
        aggregators: [{ host: '127.0.0.1', port: later.port }],
        buffer: { max_age: 3_600_000, max_bytes: 2 ** 30, fsync: 'tick' },
      },
      node: 'n',
      directory: dir.path,
      machineId: 'm',
      bootId: 'b',
      version: '0.0.0',
      credentials: credentials.createInsecure(),
      token: async () => undefined,
      collectors: () => [collector],
      clock: systemClock,
      random: () => 0.1,
      logger: silentLogger,
    });
    const stop = new AbortController();
    const running = agent.run(stop.signal);
    const metric = async (name: string): Promise<number> =>
      Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(await agent.registry.metrics())?.[1]);
    try {
      await until(() => later.acknowledged.size > 5, { timeoutMs: 20_000, what: 'records acknowledged' });
      await until(async () => (await metric('gpufleet_agent_backlog_records')) === 0, {
        timeoutMs: 20_000,
        what: 'no backlog',
      });
      expect(await metric('gpufleet_agent_uplink_failures_total')).toBe(0);
      expect(later.streams).toBe(1);
    } finally {
      stop.abort();
      await running;
      await agent[Symbol.asyncDispose]();
      later.stop();
    }
  });
});

/** Takes everything, and says so in messages full of fields that this version does not know. */
async function startLaterAggregator() {
  const acknowledged = new Set<bigint>();
  const server = new Server();
  const found = { acknowledged, port: 0, streams: 0, stop: () => server.forceShutdown() };
  const identity = (bytes: Buffer): Buffer => bytes;
  server.addService(
    {
      stream: {
        path: '/gpufleet.telemetry.v1.IngestService/Stream',
        requestStream: true,
        responseStream: true,
        requestSerialize: identity,
        requestDeserialize: identity,
        responseSerialize: identity,
        responseDeserialize: identity,
      },
    },
    {
      stream: (call: ServerDuplexStream<Buffer, Buffer>) => {
        found.streams++;
        const send = (message: StreamResponse['message']): void => {
          const response = fromTheFuture(create(StreamResponseSchema, { message }));
          call.write(Buffer.from(toBinary(StreamResponseSchema, response)));
        };
        call.on('data', (bytes: Buffer) => {
          const { message } = fromBinary(StreamRequestSchema, bytes);
          if (message.case === 'hello') {
            const replays = [{ id: 'r1', fromUnixMs: 1n, toUnixMs: 2n }];
            const welcome = { protocolVersion: 1, windowBytes: 2 ** 18, backfillOpen: true, replays };
            send({ case: 'welcome', value: create(WelcomeSchema, welcome) });
            send({ case: 'replay', value: create(ReplaySchema, { id: 'r2', fromUnixMs: 1n, toUnixMs: 2n }) });
            // A kind of answer that this version does not know.
            call.write(Buffer.of(0x9a, 0x06, 1, 0));
          }
          for (const range of acceptedRanges(message)) {
            acknowledged.add(range.first);
            const refused = [{ range: { run: 0, first: 10n ** 9n, last: 10n ** 9n }, reason: 'x' }];
            const ack = {
              accepted: [range],
              refused,
              storeEpoch: 1n,
              backfillOpen: true,
              windowBytes: 2 ** 18,
            };
            send({ case: 'ack', value: create(AckSchema, ack) });
          }
        });
        call.on('end', () => call.end());
      },
    },
  );
  found.port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    );
  });
  return found;
}

function acceptedRanges(message: StreamRequest['message']) {
  if (message.case !== 'record' || message.value.sequence === 0n) return [];
  const { run, sequence, body } = message.value;
  const sequences = [sequence];
  if (body.case === 'ticks')
    for (const gap of body.value.gaps) sequences.push(sequences.at(-1)! + BigInt(gap));
  return sequences.map((one) => ({ run, first: one, last: one }));
}

test('an agent of 0.1.0 is told what to do: its samples wait, and somebody must know why', async () => {
  await using server = await IngestServer.listen({
    listen: { host: '127.0.0.1', port: 0 },
    credentials: ServerCredentials.createInsecure(),
    authenticate: () => ({ node: undefined }),
    sink: quietSink(),
    shard: 's',
    timeBounds: () => ({ minMs: 0, maxMs: Number.MAX_SAFE_INTEGER }),
    clock: systemClock,
    logger: silentLogger,
    registry: createRegistry(),
  });
  const client = new Client(`127.0.0.1:${server.address.port}`, credentials.createInsecure());
  const call = client.makeBidiStreamRequest(
    '/gpufleet.telemetry.v1alpha1.IngestService/Stream',
    (bytes: Buffer) => bytes,
    (bytes: Buffer) => bytes,
  );
  const { code, details } = await new Promise<{ code: number; details: string }>((resolve) => {
    call.on('error', (error) => resolve(error as unknown as { code: number; details: string }));
    call.on('data', () => {});
    call.write(Buffer.from(toBinary(StreamRequestSchema, create(StreamRequestSchema, REQUESTS[0]))));
  });
  client.close();
  expect(code).toBe(status.FAILED_PRECONDITION);
  expect(details).toMatch(/aggregator speaks \S*v1\b.*the agent v1alpha1.*update the agent/);
});
