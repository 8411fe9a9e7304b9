import { credentials, ServerCredentials } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { BlockSpan } from '#shared/model/block.ts';
import { systemClock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Loss } from '#shared/model/loss.ts';
import { Agent } from '../../../agent/agent.ts';
import { IngestServer, type IngestServerOptions } from '../../../aggregator/ingest/ingest-server.ts';
import type {
  AgentStatus,
  IngestSink,
  Outcome,
  ReplayOrder,
} from '../../../aggregator/ingest/ingest-sink.ts';
import { fakeCollector } from '../../support/fake-collector.ts';
import { tempDir } from '../../support/temp.ts';
import { until } from '../../support/wait.ts';

class RecordingSink implements IngestSink {
  readonly blocks: { timestampMs: number; values: number[]; live: boolean }[] = [];
  readonly events: { event: FleetEvent; late: boolean }[] = [];
  readonly losses: unknown[] = [];
  readonly nodes: string[] = [];
  store = { epoch: 1n, epochAgeMs: 0, backfillOpen: true };
  outcome: () => Outcome = () => ({ state: 'accepted', epoch: this.store.epoch });

  connected({ source }: Parameters<IngestSink['connected']>[0]): void {
    this.nodes.push(source.node);
  }
  disconnected(): void {
    this.nodes.pop();
  }
  async block({ timestampMs, values, live }: Parameters<IngestSink['block']>[0]): Promise<Outcome> {
    this.blocks.push({ timestampMs, values: [...values], live });
    return this.outcome();
  }
  readonly statuses: AgentStatus[] = [];
  orders: ReplayOrder[] = [];
  status(_: unknown, status: AgentStatus): void {
    this.statuses.push(status);
  }
  replays(): readonly ReplayOrder[] {
    return this.orders;
  }
  async span({ ticks, timestamps, values, dictionary }: BlockSpan): Promise<Outcome> {
    const slots = dictionary.series.length;
    for (let tick = 0; tick < ticks; tick++) {
      const row = values.subarray(tick * slots, (tick + 1) * slots);
      this.blocks.push({ timestampMs: timestamps[tick]!, values: [...row], live: false });
    }
    return this.outcome();
  }
  async event(_: unknown, event: FleetEvent, late: boolean): Promise<Outcome> {
    this.events.push({ event, late });
    return this.outcome();
  }
  async loss(_: unknown, _identity: string, loss: unknown): Promise<Outcome> {
    this.losses.push(loss);
    return this.outcome();
  }
  /** Readings that arrived at least once, in order of their first value. */
  get distinct(): number[] {
    return [...new Set(this.blocks.map(({ values }) => values[0]!))].sort((a, b) => a - b);
  }
}

function listen(sink: IngestSink, overrides: Partial<IngestServerOptions> = {}): Promise<IngestServer> {
  return IngestServer.listen({
    listen: { host: '127.0.0.1', port: 0 },
    credentials: ServerCredentials.createInsecure(),
    authenticate: () => ({ node: undefined }),
    sink,
    shard: 'test',
    timeBounds: () => ({ minMs: 0, maxMs: Number.MAX_SAFE_INTEGER }),
    clock: systemClock,
    logger: silentLogger,
    registry: createRegistry(),
    ...overrides,
  });
}

function openAgent(
  directory: string,
  port: number,
  collector: ReturnType<typeof fakeCollector>,
  node = 'node-1',
  machineId = 'm1',
  token?: string,
  before: { host: string; port: number }[] = [],
) {
  const config = {
    cluster: 'c',
    external_labels: { rack: 'r1' },
    aggregators: [...before, { host: '127.0.0.1', port }],
    buffer: { max_age: 3_600_000, max_bytes: 2 ** 30 },
  };
  return Agent.open({
    config,
    node,
    directory,
    machineId,
    bootId: 'b',
    version: '0.0.0',
    credentials: credentials.createInsecure(),
    token: async () => token,
    collectors: () => [collector],
    clock: systemClock,
    random: () => 0.1,
    logger: silentLogger,
  });
}

/** Bounded: a test that waits for what never comes fails with its name. */
async function soon(predicate: () => boolean | Promise<boolean>, what: string): Promise<void> {
  await until(predicate, { timeoutMs: 20_000, what });
}

/** Runs an agent until the body is done, then stops it in order. */
async function withAgent(agent: Agent, body: () => Promise<void>): Promise<void> {
  const stop = new AbortController();
  const running = agent.run(stop.signal);
  try {
    await body();
  } finally {
    stop.abort();
    await running;
    await agent[Symbol.asyncDispose]();
  }
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1);

test('every reading arrives live, in order, with its values', async () => {
  await using dir = tempDir();
  const sink = new RecordingSink();
  await using server = await listen(sink);
  const collector = fakeCollector();
  await withAgent(await openAgent(dir.path, server.address.port, collector), () =>
    // The first may have been recorded before there was a stream, and then come as backlog.
    soon(() => sink.blocks.filter(({ live }) => live).length > 3, '4 live ticks'),
  );
  expect(sink.distinct).toEqual(upTo(collector.taken.length));
  for (const { values } of sink.blocks) expect(values).toEqual(upTo(10).map((i) => i * values[0]!));
  expect(sink.nodes).toEqual([]);
});

describe('nothing recorded is lost', () => {
  test('what was recorded before there was an aggregator comes by the backlog, with the events, marked late', async () => {
    await using dir = tempDir();
    const collector = fakeCollector();
    const event = {
      type: 'xid',
      timestampMs: 1_780_000_000_000,
      gpu: '3',
      gpuUuid: 'GPU-3',
      text: 'Xid 79',
      attributes: { code: '79' },
    };
    collector.next.push(event);
    await withAgent(await openAgent(dir.path, 1, collector), () =>
      soon(() => collector.taken.length >= 6, '6 readings'),
    );
    const recorded = collector.taken.length;
    const sink = new RecordingSink();
    await using server = await listen(sink);
    await withAgent(await openAgent(dir.path, server.address.port, fakeCollector(10, 60_000)), () =>
      soon(() => sink.distinct.length >= recorded, 'the backlog'),
    );
    expect(sink.distinct).toEqual(upTo(recorded));
    expect(sink.blocks.every(({ live }) => !live)).toBe(true);
    expect(sink.events).toEqual([{ event, late: true }]);
  });

  test('an aggregator that goes and comes back gets what it missed', async () => {
    await using dir = tempDir();
    const sink = new RecordingSink();
    const collector = fakeCollector();
    const first = await listen(sink);
    const { port } = first.address;
    await withAgent(await openAgent(dir.path, port, collector), async () => {
      await soon(() => sink.blocks.length >= 3, 'first ticks');
      await first[Symbol.asyncDispose]();
      const seen = collector.taken.length;
      await soon(() => collector.taken.length >= seen + 5, 'readings without an aggregator');
      await using _second = await listen(sink, { listen: { host: '127.0.0.1', port } });
      await soon(() => sink.distinct.length >= seen + 6, 'the gap');
      const now = sink.distinct;
      expect(now).toEqual(upTo(now.length));
    });
  });

  test('an aggregator whose name does not resolve, and one that nobody listens for, only cost a moment', async () => {
    await using dir = tempDir();
    const sink = new RecordingSink();
    await using server = await listen(sink);
    const collector = fakeCollector();
    const dead = [
      { host: 'no-such-host.invalid', port: 7400 },
      { host: '127.0.0.1', port: 1 },
    ];
    const agent = await openAgent(dir.path, server.address.port, collector, 'node-1', 'm1', undefined, dead);
    await withAgent(agent, async () => {
      await soon(() => sink.blocks.some(({ live }) => live), 'a live tick by the third address');
      expect(await agent.registry.metrics()).toMatch(/gpufleet_agent_uplink_failures_total [1-9]/);
      const recorded = collector.taken.length;
      await soon(() => sink.distinct.length >= recorded, 'what was recorded before');
      expect(sink.distinct.slice(0, recorded)).toEqual(upTo(recorded));
    });
  });

  test('deferred ticks come again once the store takes them, though they were evaluated live', async () => {
    await using dir = tempDir();
    const sink = new RecordingSink();
    sink.outcome = () => ({ state: 'deferred' });
    sink.store.backfillOpen = false;
    await using server = await listen(sink);
    const collector = fakeCollector();
    await withAgent(await openAgent(dir.path, server.address.port, collector), async () => {
      await soon(() => sink.blocks.length >= 5, 'live ticks');
      expect(sink.blocks.every(({ live }) => live)).toBe(true);
      const deferred = sink.distinct;
      sink.outcome = () => ({ state: 'accepted', epoch: 1n });
      sink.store.backfillOpen = true;
      server.announce();
      await soon(
        () => deferred.every((one) => sink.blocks.some(({ live, values }) => !live && values[0] === one)),
        'backfill',
      );
    });
  });

  test('a store with another incarnation gets again what was accepted under the old one', async () => {
    await using dir = tempDir();
    const sink = new RecordingSink();
    await using server = await listen(sink);
    const collector = fakeCollector();
    await withAgent(await openAgent(dir.path, server.address.port, collector), async () => {
      await soon(() => sink.blocks.length >= 5, 'live ticks');
      const before = sink.distinct;
      sink.store.epoch = 2n;
      server.announce();
      await soon(
        () => before.every((one) => sink.blocks.filter(({ values }) => values[0] === one).length >= 2),
        'repeats',
      );
    });
  });

  test('refused records are in the ledger and are not tried again', async () => {
    await using dir = tempDir();
    const sink = new RecordingSink();
    await using server = await listen(sink, {
      timeBounds: () => ({ minMs: Date.now() + 1e9, maxMs: Number.MAX_SAFE_INTEGER }),
    });
    const collector = fakeCollector();
    await withAgent(await openAgent(dir.path, server.address.port, collector), () =>
      soon(() => sink.losses.length >= 3, 'losses'),
    );
    expect(sink.blocks).toEqual([]);
    expect(sink.losses[0]).toMatchObject({ reason: 'refused', detail: expect.stringContaining('too_old') });
    // What can still be read is counted, not guessed.
    const losses = sink.losses as Loss[];
    for (const { samples, estimated } of losses) {
      expect(estimated).toBe(false);
      expect(samples % 10).toBe(0);
    }
  });
});

describe('a replay', () => {
  test('brings again what was recorded in its time range, once, however often it is asked for', async () => {
    await using dir = tempDir();
    const sink = new RecordingSink();
    const registry = createRegistry();
    await using server = await listen(sink, { registry });
    const collector = fakeCollector();
    await withAgent(await openAgent(dir.path, server.address.port, collector), async () => {
      // Long enough that the first ones are acknowledged: what is in flight is left to its answer.
      await soon(() => sink.blocks.length >= 60, 'live ticks');
      const times = sink.blocks.map(({ timestampMs }) => timestampMs);
      const [fromMs, toMs] = [times[5]!, times[12]!];
      sink.blocks.length = 0;
      const order = { id: 'r1', fromMs, toMs, reason: 'test' };
      sink.orders = [order];
      expect(server.replay(order, 'node-1')).toBe(1);
      expect(server.replay(order)).toBe(1);
      expect(server.replay(order, 'other')).toBe(0);
      const backlog = () => sink.blocks.filter(({ live }) => !live).map(({ timestampMs }) => timestampMs);
      await soon(() => backlog().length >= 8, 'the range');
      expect(backlog()).toEqual(times.slice(5, 13));
    });
    // A new stream is told of the order again, and the agent knows that it is done.
    const agent = await openAgent(dir.path, server.address.port, fakeCollector(10, 100));
    const seen = sink.blocks.length;
    await withAgent(agent, async () => {
      await soon(() => sink.blocks.slice(seen).some(({ live }) => live), 'live ticks again');
      expect(await agent.registry.metrics()).toContain('gpufleet_agent_replayed_records_total 0');
    });
  });
});

test('an agent says how far behind it is', async () => {
  await using dir = tempDir();
  const collector = fakeCollector();
  const began = Date.now();
  await withAgent(await openAgent(dir.path, 1, collector), () =>
    soon(() => collector.taken.length >= 6, '6 readings'),
  );
  const sink = new RecordingSink();
  sink.store.backfillOpen = false;
  await using server = await listen(sink);
  await withAgent(await openAgent(dir.path, server.address.port, fakeCollector(10, 60_000)), () =>
    soon(() => sink.statuses.length >= 1, 'a status'),
  );
  expect(sink.statuses[0]!.pendingRecords).toBeGreaterThanOrEqual(6);
  expect(sink.statuses[0]!.oldestUndurableMs).toBeGreaterThanOrEqual(began - 100);
  expect(sink.statuses[0]!.oldestUndurableMs).toBeLessThanOrEqual(Date.now());
});

describe('one bad stream hurts nobody else', () => {
  test('a wrong token is refused and said, and the samples are kept', async () => {
    await using dir = tempDir();
    const sink = new RecordingSink();
    const registry = createRegistry();
    await using server = await listen(sink, {
      registry,
      authenticate: (bearer) => (bearer === 'right' ? { node: undefined } : undefined),
    });
    const collector = fakeCollector();
    await withAgent(await openAgent(dir.path, server.address.port, collector, 'node-1', 'm1', 'wrong'), () =>
      soon(async () => (await registry.metrics()).includes('code="UNAUTHENTICATED"'), 'a refusal'),
    );
    expect(sink.blocks).toEqual([]);
    await withAgent(
      await openAgent(dir.path, server.address.port, fakeCollector(10, 60_000), 'node-1', 'm1', 'right'),
      () => soon(() => sink.distinct.length >= collector.taken.length, 'what was kept'),
    );
  });

  test('a credential of one node cannot speak for another', async () => {
    await using dir = tempDir();
    const sink = new RecordingSink();
    const registry = createRegistry();
    await using server = await listen(sink, { registry, authenticate: () => ({ node: 'node-2' }) });
    await withAgent(await openAgent(dir.path, server.address.port, fakeCollector()), () =>
      soon(async () => (await registry.metrics()).includes('code="PERMISSION_DENIED"'), 'a refusal'),
    );
    expect(sink.blocks).toEqual([]);
  });

  test('a second machine under the same name is refused while the first is alive, and raises an event', async () => {
    await using dir1 = tempDir();
    await using dir2 = tempDir();
    const sink = new RecordingSink();
    await using server = await listen(sink);
    await withAgent(await openAgent(dir1.path, server.address.port, fakeCollector()), async () => {
      await soon(() => sink.blocks.length >= 2, 'the first machine');
      await withAgent(await openAgent(dir2.path, server.address.port, fakeCollector(3), 'node-1', 'm2'), () =>
        soon(() => sink.events.length >= 1, 'the conflict'),
      );
    });
    expect(sink.events[0]!.event).toMatchObject({ type: 'identity_conflict' });
    expect(sink.blocks.every(({ values }) => values.length === 10)).toBe(true);
  });
});
