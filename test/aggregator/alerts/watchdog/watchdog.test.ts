import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { connect } from '@nats-io/transport-node';
import { expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { DependencyWatch } from '../../../../aggregator/alerts/watchdog/dependency-watch.ts';
import {
  type DependencyState,
  Heartbeat,
  type HeartbeatSettings,
  type Pulse,
} from '../../../../aggregator/alerts/watchdog/heartbeat.ts';
import { startNats } from '../../../support/nats-server.ts';
import { tempDir } from '../../../support/temp.ts';
import { until } from '../../../support/wait.ts';
import { ManualClock } from '../block-of.ts';

/** A heartbeat service: it counts the calls to each path. */
async function service(status = 200) {
  const calls: { path: string; body: Record<string, unknown> }[] = [];
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const part of request) text += String(part);
    calls.push({ path: request.url ?? '', body: JSON.parse(text) });
    response.writeHead(status).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    calls,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function heartbeatOf(settings: Partial<HeartbeatSettings>, pulse: Partial<Pulse> = {}) {
  const clock = new ManualClock();
  const registry = createRegistry();
  const now: { -readonly [Key in keyof Pulse]: Pulse[Key] } = {
    ...{ nats: 'ok', store: 'ok', waiting: 0, nodes: 3, lookedMs: clock.now() },
    ...pulse,
  };
  const published: { subject: string; body: Record<string, unknown> }[] = [];
  const heartbeat = new Heartbeat({
    settings: { every: 50, require: ['nats', 'store'], ...settings },
    ...{ cluster: 'east.1', shard: 'agg-0', clock, registry, logger: silentLogger },
    pulse: () => now,
    publish: (subject, body) => void published.push({ subject, body: JSON.parse(body) }),
  });
  const counted = async (outcome: string) =>
    Number(
      new RegExp(`gpufleet_heartbeats_total\\{outcome="${outcome}"\\} (\\d+)`).exec(
        await registry.metrics(),
      )?.[1],
    );
  return { heartbeat, now, clock, published, counted };
}

const never = new AbortController().signal;

// Lost without it: the night in which the alerting itself was down, and everything looked fine.
test('the URL is called while all is well, and not while the store, NATS or the engine is gone', async () => {
  await using outside = await service();
  const { heartbeat, now, clock, published, counted } = heartbeatOf({ url: `${outside.url}/beat` });
  await using _ = heartbeat;
  await heartbeat.beat(never);
  expect(outside.calls).toMatchObject([{ path: '/beat', body: { ok: true, shard: 'agg-0', nodes: 3 } }]);
  for (const [change, why] of [
    [{ store: 'away' }, 'store is away'],
    [{ nats: 'away' }, 'nats is away'],
    [{ lookedMs: clock.now() - 20_000 }, 'alerts are not evaluated'],
  ] as const) {
    const before = { ...now };
    Object.assign(now, change);
    await heartbeat.beat(never);
    expect(heartbeat.fault).toBe(why);
    expect(published.at(-1)).toMatchObject({
      subject: 'gpufleet.heartbeat.east%2E1.agg-0',
      body: { ok: false, wrong: why },
    });
    Object.assign(now, before);
  }
  expect(outside.calls).toHaveLength(1);
  expect(await counted('withheld')).toBe(3);
  now.store = 'off';
  await heartbeat.beat(never);
  expect(heartbeat.fault, 'what there is not is not missed').toBe('');
  expect(outside.calls).toHaveLength(2);
  expect(await counted('sent')).toBe(2);
});

test('what is not required may be away; a URL for failures hears why', async () => {
  await using outside = await service();
  await using dir = tempDir('heartbeat');
  const [good, bad] = [join(dir.path, 'good'), join(dir.path, 'bad')];
  writeFileSync(good, `${outside.url}/secret/ok\n`);
  writeFileSync(bad, `${outside.url}/secret/fail\n`);
  const { heartbeat, now } = heartbeatOf({ url_file: good, fail_url_file: bad, require: ['nats'] });
  await using _ = heartbeat;
  now.store = 'away';
  await heartbeat.beat(never);
  now.nats = 'away';
  await heartbeat.beat(never);
  expect(outside.calls).toMatchObject([
    { path: '/secret/ok', body: { ok: true, store: 'away' } },
    { path: '/secret/fail', body: { ok: false, wrong: 'nats is away' } },
  ]);
});

test('a service that refuses or is gone is counted, and the beats go on', async () => {
  const outside = await service(500);
  const { heartbeat, published, counted } = heartbeatOf({ url: outside.url });
  await using _ = heartbeat;
  const stop = new AbortController();
  const run = heartbeat.run(stop.signal);
  await until(() => published.length >= 2, { timeoutMs: 10_000, what: 'two beats' });
  await outside[Symbol.asyncDispose]();
  const before = published.length;
  await until(() => published.length >= before + 2, { timeoutMs: 10_000, what: 'beats without a service' });
  stop.abort();
  await run;
  expect(await counted('failed')).toBeGreaterThanOrEqual(3);
  expect(await counted('sent')).toBe(0);
});

// Lost without it: a slow heartbeat service looks as if every aggregator had died.
test('a URL that hangs does not keep the subject waiting, and is not called a second time meanwhile', async () => {
  let calls = 0;
  const server = createServer(() => void calls++);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { heartbeat, published } = heartbeatOf({ url });
  await using _ = heartbeat;
  const stop = new AbortController();
  const run = heartbeat.run(stop.signal);
  // Each call has ten seconds.
  await until(() => published.length >= 10, { timeoutMs: 9_000, what: 'beats beside the call' });
  expect(calls).toBe(1);
  stop.abort();
  await run;
  server.closeAllConnections();
  server.close();
});

test('a connection that is being closed does not end the beats', async () => {
  await using outside = await service();
  const heartbeat = new Heartbeat({
    settings: { every: 20, require: [], url: outside.url },
    ...{ cluster: 'east', shard: 'agg-0', clock: new ManualClock(), registry: createRegistry() },
    logger: silentLogger,
    pulse: () => ({ nats: 'ok', store: 'ok', waiting: 0, nodes: 0, lookedMs: Number.MAX_SAFE_INTEGER }),
    publish: () => {
      throw new Error('closed connection');
    },
  });
  await using _ = heartbeat;
  const stop = new AbortController();
  const run = heartbeat.run(stop.signal);
  await until(() => outside.calls.length >= 2, { timeoutMs: 10_000, what: 'two calls' });
  stop.abort();
  await run;
});

test('a subscriber of the subject hears the beats of a real connection', async () => {
  await using nats = await startNats();
  const connection = await connect({ servers: nats.url });
  try {
    const heard: string[] = [];
    connection.subscribe('gpufleet.heartbeat.>', {
      callback: (_, message) => void heard.push(message.subject),
    });
    await connection.flush();
    const heartbeat = new Heartbeat({
      settings: { every: 1_000, require: [] },
      ...{ cluster: 'east', shard: 'agg-0', clock: new ManualClock(), registry: createRegistry() },
      logger: silentLogger,
      pulse: () => ({ nats: 'ok', store: 'ok', waiting: 0, nodes: 0, lookedMs: Number.MAX_SAFE_INTEGER }),
      publish: (subject, body) => connection.publish(subject, body),
    });
    await heartbeat.beat(never);
    await until(() => heard.length > 0, { timeoutMs: 10_000, what: 'a beat' });
    expect(heard).toEqual(['gpufleet.heartbeat.east.agg-0']);
    await heartbeat[Symbol.asyncDispose]();
  } finally {
    await connection.close();
  }
});

// A restart of the store is no incident; an hour without it is.
test('a dependency that is away for a minute is told once, and its return once', () => {
  const clock = new ManualClock();
  const told: FleetEvent[] = [];
  const states: Record<string, DependencyState> = { store: 'ok', nats: 'off' };
  const watch = new DependencyWatch({
    ...{ shard: 'agg-0', clock },
    states: () => states,
    onEvent: (event) => told.push(event),
  });
  const pass = (seconds: number) => {
    for (let i = 0; i < seconds; i++) {
      clock.ms += 1_000;
      watch.look();
    }
  };
  pass(300);
  states.store = 'away';
  pass(45);
  states.store = 'ok';
  pass(300);
  expect(told).toEqual([]);
  states.store = 'away';
  pass(90);
  expect(told).toMatchObject([
    {
      type: 'dependency',
      text: 'store of aggregator agg-0 is away for 60 s',
      attributes: { what: 'store', state: 'away', of: 'store@agg-0' },
    },
  ]);
  pass(600);
  states.store = 'ok';
  pass(10);
  expect(told.slice(1)).toMatchObject([
    { attributes: { state: 'back' }, text: expect.stringMatching(/back after 69\d s/) },
  ]);
});
