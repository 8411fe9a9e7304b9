/**
 * Records what this version puts on the wire and on disk, for later versions to read:
 *
 *   node test/contract/record-version.ts 0.1.0
 *
 * writes test/fixtures/versions/<version>/: stream.bin (each message as length, 4 bytes LE, and bytes), buffer/
 * and buffer.json (the agent's folder), expected.json (what was collected). Run it once for a release.
 */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { credentials, Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import {
  StreamRequestSchema,
  type StreamResponse,
  StreamResponseSchema,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { Agent } from '../../agent/agent.ts';
import type { Collector, Reading } from '../../agent/collect/collector.ts';
import { createSimulatedCollector } from '../../agent/collect/simulated/collector.ts';
import { DEFAULT_LIMITS } from '../../aggregator/ingest/admission.ts';
import { AgentStream } from '../../aggregator/ingest/agent-stream.ts';
import { ingestMetrics } from '../../aggregator/ingest/ingest-metrics.ts';
import { SpanTable } from '../../aggregator/ingest/span-table.ts';
import { quietSink } from '../support/quiet-sink.ts';
import { until } from '../support/wait.ts';
import type { ExpectedRecords } from './recorded-version.ts';

const TICKS = 12;
const [version] = process.argv.slice(2);
if (version === undefined || !/^\d+\.\d+\.\d+$/.test(version))
  throw new Error('name a version, such as 0.1.0');
const folder = join(import.meta.dirname, '../fixtures/versions', version);
await rm(folder, { recursive: true, force: true });
await mkdir(folder, { recursive: true });

const expected: ExpectedRecords = { series: [], ticks: [], events: [] };
const messages: Buffer[] = [];
const { server, port } = await listen();
const collector = remembering(
  createSimulatedCollector({
    node: 'recorded',
    gpus: 2,
    seed: 11,
    intervalMs: 100,
    clock: systemClock,
    faults: [{ at: 0.5, gpu: 1, kind: 'xid', code: 79, duration: 300 }],
  }),
);
const agent = await Agent.open({
  config: {
    cluster: 'recorded',
    external_labels: { rack: 'r1' },
    aggregators: [{ host: '127.0.0.1', port }],
    buffer: { max_age: 86_400_000, max_bytes: 2 ** 30 },
  },
  node: 'recorded',
  directory: folder,
  machineId: 'recorded-machine',
  bootId: 'recorded-boot',
  version,
  credentials: credentials.createInsecure(),
  token: async () => undefined,
  collectors: () => [collector],
  clock: systemClock,
  random: () => 0,
  logger: silentLogger,
});
const stop = new AbortController();
const running = agent.run(stop.signal);
await until(() => expected.ticks.length >= TICKS, { timeoutMs: 30_000, what: 'the ticks are collected' });
stop.abort();
await running;
await agent[Symbol.asyncDispose]();
// Room for a full disk: it says nothing.
await rm(join(folder, 'buffer.reserve'), { force: true });
server.forceShutdown();
await writeFile(
  join(folder, 'stream.bin'),
  Buffer.concat(messages.flatMap((bytes) => [lengthOf(bytes), bytes])),
);
await writeFile(join(folder, 'expected.json'), `${JSON.stringify(expected)}\n`);
process.stdout.write(
  `${folder}: ${messages.length} messages, ${expected.ticks.length} ticks, ${expected.events.length} events\n`,
);
process.exit(0);

/** Keeps what each reading held, before its arrays are used again. */
function remembering(inner: Collector): Collector {
  return {
    name: inner.name,
    intervalMs: inner.intervalMs,
    rank: 50,
    holdsDevice: false,
    describe: () => 'a test',
    async collect(signal): Promise<Reading> {
      const reading = await inner.collect(signal);
      if (expected.series.length === 0)
        expected.series.push(
          ...reading.dictionary.series.map(({ name, labels }) => JSON.stringify([name, labels])),
        );
      expected.ticks.push({ values: [...reading.values], states: [...reading.states] });
      for (const { type, gpu, attributes } of reading.events)
        expected.events.push({ type, gpu, attributes: { ...attributes } });
      return reading;
    },
    [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
  };
}

/** An aggregator's end that keeps every byte and acknowledges everything. */
async function listen() {
  const grpc = new Server();
  const definition = {
    path: '/gpufleet.telemetry.v1.IngestService/Stream',
    requestStream: true,
    responseStream: true,
    requestSerialize: (bytes: Buffer) => bytes,
    requestDeserialize: (bytes: Buffer) => bytes,
    responseSerialize: (message: StreamResponse) => Buffer.from(toBinary(StreamResponseSchema, message)),
    responseDeserialize: (bytes: Buffer) => fromBinary(StreamResponseSchema, bytes),
  } as const;
  grpc.addService(
    { stream: definition },
    {
      stream: (call: ServerDuplexStream<Buffer, StreamResponse>) => {
        const stream = new AgentStream({
          sink: quietSink(),
          limits: DEFAULT_LIMITS,
          windowBytes: 256 * 1024,
          backfillWindowBytes: () => 256 * 1024,
          spans: new SpanTable(),
          shard: 'recorder',
          boundNode: undefined,
          address: call.getPeer(),
          clock: systemClock,
          timeBounds: () => ({ minMs: 0, maxMs: Number.MAX_SAFE_INTEGER }),
          onHello: () => {},
          send: (response) => void call.write(response),
          metrics: ingestMetrics(createRegistry(), () => 1),
        });
        call.on('data', (bytes: Buffer) => {
          messages.push(Buffer.from(bytes));
          stream.receive(fromBinary(StreamRequestSchema, bytes));
        });
        call.on('end', () => {
          stream.acknowledge();
          call.end();
        });
      },
    },
  );
  const bound = await new Promise<number>((resolve, reject) => {
    grpc.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, at) =>
      error ? reject(error) : resolve(at),
    );
  });
  return { server: grpc, port: bound };
}

function lengthOf(bytes: Buffer): Buffer {
  const length = Buffer.allocUnsafe(4);
  length.writeUInt32LE(bytes.length);
  return length;
}
