import { credentials, ServerCredentials } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import type { Loss } from '#shared/model/loss.ts';
import { RangeSet } from '#shared/model/range-set.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { encodeEvent, RecordKind } from '#shared/wire/record.ts';
import type { RunRange } from '../../../agent/uplink/delivery.ts';
import type { ReadRecord, RecordSource } from '../../../agent/uplink/record-source.ts';
import { Uplink } from '../../../agent/uplink/uplink.ts';
import { DEFAULT_LIMITS } from '../../../aggregator/ingest/admission.ts';
import { IngestServer } from '../../../aggregator/ingest/ingest-server.ts';
import type { AgentStatus } from '../../../aggregator/ingest/ingest-sink.ts';
import { quietSink } from '../../support/quiet-sink.ts';
import { until } from '../../support/wait.ts';

const dictionary = createDictionary('g', 1000, [
  { name: 'm', labels: [], kind: 'gauge', decimals: 0, help: '', unit: '' },
]);
const tickAt = (timestampMs: number) => ({
  ...{ dictionary, timestampMs },
  values: Float64Array.of(1),
  states: Uint8Array.of(0),
});

const SOON = { timeoutMs: 10_000, what: 'what the test waits for' };

/** A real aggregator's port with an uplink to it, whose source is a disk that says what it was asked for. */
async function start() {
  const times: number[] = [];
  const events: string[] = [];
  const statuses: AgentStatus[] = [];
  /** How long the aggregator's process was stopped. */
  const stopped = { ms: 0 };
  const server = await IngestServer.listen({
    listen: { host: '127.0.0.1', port: 0 },
    credentials: ServerCredentials.createInsecure(),
    authenticate: () => ({ node: undefined }),
    sink: quietSink({
      async block({ timestampMs }) {
        times.push(timestampMs);
        return { state: 'accepted', epoch: 1n };
      },
      async event(_, { text }) {
        events.push(text);
        return { state: 'accepted', epoch: 1n };
      },
      status: (_, status) => void statuses.push(status),
    }),
    shard: 's',
    limits: DEFAULT_LIMITS,
    timeBounds: () => ({ minMs: 0, maxMs: Number.MAX_SAFE_INTEGER }),
    clock: { now: systemClock.now, monotonic: () => systemClock.monotonic() + stopped.ms },
    logger: silentLogger,
    registry: createRegistry(),
  });
  const live = {
    counter: 1,
    first: 1,
    last: 9,
    durable: new RangeSet(),
    id: new Uint8Array(16),
    cleanEnd: false,
  };
  const reads: [first: number, last: number][] = [];
  const disk = { read: async (): Promise<ReadRecord[]> => [] };
  const source: RecordSource & { lossesThrough: number } = {
    runs: [live],
    live,
    lossesThrough: 0,
    dictionaries: { get: () => dictionary, meanSeries: 1 },
    read: async (_, first, last) => {
      reads.push([first, last]);
      return await disk.read();
    },
    saveMarks: async () => {},
    appendLoss: async () => {},
    timeOf: async () => undefined,
    firstAtOrAfter: async () => undefined,
    settleUnbuffered: () => {},
    askFate: () => {},
    takeDeparted: () => undefined,
    fact: () => undefined,
    saveFact: () => {},
  };
  const registry = createRegistry();
  const uplink = new Uplink({
    aggregators: [`127.0.0.1:${server.address.port}`],
    credentials: credentials.createInsecure(),
    token: async () => undefined,
    identity: {
      ...{ cluster: 'c', node: 'n', machineId: 'm', bootId: 'b', agentVersion: '0.0.0', externalLabels: {} },
    },
    source,
    clock: systemClock,
    random: () => 0,
    logger: silentLogger,
    registry,
  });
  const stop = new AbortController();
  const running = uplink.run(stop.signal);
  return {
    server,
    registry,
    uplink,
    source,
    disk,
    times,
    events,
    reads,
    statuses,
    stopped,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
      await server[Symbol.asyncDispose]();
    },
  };
}

// Lost without it: an alert waits for the disk of the node that it is about.
test('a tick is heard by the aggregator while its disk has not answered yet', async () => {
  await using made = await start();
  await until(() => made.uplink.connected, SOON);
  made.uplink.offer({ sequence: 1, bytes: 10, samples: 1, tick: tickAt(1_780_000_000_000) });
  await until(() => made.times.length === 1, SOON);
  expect(made.reads).toEqual([]);
});

// Lost without it: where the last source has died, what was lost before is on the disk and in no ledger.
test('a loss is sent although nothing else is recorded any more', async () => {
  await using made = await start();
  await until(() => made.uplink.connected, SOON);
  made.source.lossesThrough = 9;
  await until(() => made.reads.some(([first, last]) => first === 1 && last === 9), SOON);
});

// Lost without it: a store that is set back further than a ring is long loses samples and no ledger says so.
test('what left the ring before the store was set back is a loss: nobody can send it again', async () => {
  await using made = await start();
  const losses: Loss[] = [];
  const asked: RunRange[][] = [];
  made.source.appendLoss = async (loss) => void losses.push(loss);
  made.source.takeDeparted = (ranges) => {
    asked.push([...ranges]);
    return asked.length > 1 ? undefined : { records: 2, samples: 800, fromMs: 5, toMs: 9 };
  };
  await until(() => made.uplink.connected, SOON);
  made.uplink.offer({ sequence: 1, bytes: 10, samples: 1, tick: tickAt(1_780_000_000_000) });
  await until(async () => /accepted_records_total 1$/m.test(await made.registry.metrics()), SOON);
  const order = { fromMs: Date.now() - 600_000, toMs: 0, reason: 'set back' };
  for (const id of ['r1', 'r2']) expect(made.server.replay({ ...order, id })).toBe(1);
  await until(() => asked.length === 2, SOON);
  expect(asked[0]).toEqual([{ run: 1, first: 1, last: 1 }]);
  expect(losses).toMatchObject([{ samples: 800, fromMs: 5, toMs: 9, reason: 'trimmed', estimated: true }]);
  expect(losses[0]!.detail).toContain('2 records had left the ring');
});

// Lost without it: an aggregator that was stopped takes what lay in its socket for news.
test('a status says how long it was under way', async () => {
  await using made = await start();
  await until(() => made.uplink.connected && made.statuses.length === 1, SOON);
  expect(made.statuses[0]!.lateMs).toBeLessThan(10_000);
  made.stopped.ms = 30_000;
  // A rate that nobody knew yet is told at once.
  made.uplink.offer({ sequence: 1, bytes: 10, samples: 1, tick: tickAt(1_780_000_000_000) });
  await until(() => made.statuses.length === 2, SOON);
  expect(made.statuses[1]!.lateMs).toBeGreaterThanOrEqual(30_000);
});

// Lost without it: an event whose write is awaited by the backlog is sent twice, for its own turn comes meanwhile.
test('what went live while the backlog read it is not sent again', async () => {
  await using made = await start();
  await until(() => made.uplink.connected, SOON);
  const event = {
    type: 'xid',
    timestampMs: 1_780_000_000_000,
    gpu: '',
    gpuUuid: '',
    text: 'Xid 79',
    attributes: {},
  };
  const written = Promise.withResolvers<ReadRecord[]>();
  made.disk.read = () => written.promise;
  made.uplink.offer({ sequence: 2, bytes: 10, samples: 1, tick: tickAt(1_780_000_000_000) });
  await until(() => made.reads.length === 1, SOON);
  made.uplink.offer({ sequence: 1, bytes: 10, event });
  made.disk.read = async () => [];
  written.resolve([{ sequence: 1, ok: true, kind: RecordKind.Event, body: encodeEvent(event) }]);
  await until(() => made.times.length === 1 && made.events.length >= 1, SOON);
  // The next tick comes after all that was sent before it.
  made.uplink.offer({ sequence: 3, bytes: 10, samples: 1, tick: tickAt(1_780_000_001_000) });
  await until(() => made.times.length === 2, SOON);
  expect(made.events).toEqual(['Xid 79']);
});
