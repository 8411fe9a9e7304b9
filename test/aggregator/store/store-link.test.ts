import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { uncompress } from 'snappy';
import { expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Block, BlockSpan, Source } from '#shared/model/block.ts';
import { type Clock, systemClock } from '#shared/model/clock.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import type { ReplayNeed } from '../../../aggregator/store/canary.ts';
import type { DeadLetter } from '../../../aggregator/store/dead-letter.ts';
import type { StoreLoss } from '../../../aggregator/store/ignored-rows.ts';
import { StoreAccess, type StoreAccessSettings } from '../../../aggregator/store/store-access.ts';
import { VictoriaMetricsLink, type VictoriaMetricsOptions } from '../../../aggregator/store/store-link.ts';
import { TestAuthority } from '../../shared/security/certificates.ts';
import { decodeWriteRequest, startReceiver } from '../../support/remote-write-receiver.ts';
import { hasVictoriaMetrics } from '../../support/servers.ts';
import { tempDir } from '../../support/temp.ts';
import { startTextServer } from '../../support/text-server.ts';
import { startVictoriaMetrics } from '../../support/victoria-metrics.ts';
import { until } from '../../support/wait.ts';

const DAY = 86_400_000;
const source: Source = { cluster: 'c', node: 'n', externalLabels: [] };
const dictionary = createDictionary(
  'g',
  1000,
  ['0', '1'].map((gpu) => ({
    name: 'gpu_x',
    labels: [['gpu', gpu]] as const,
    kind: 'gauge',
    decimals: 0,
    help: '',
    unit: '',
  })),
);

function blockAt(timestampMs: number, values = [1, 2]): Block {
  return {
    source,
    dictionary,
    timestampMs,
    values: Float64Array.from(values),
    states: new Uint8Array(2),
    live: true,
  };
}

/** A link with everything that it called back, running until disposed. */
function linkTo(url: string, more: Partial<VictoriaMetricsOptions> = {}) {
  const letters: DeadLetter[] = [];
  const losses: StoreLoss[] = [];
  const replays: ReplayNeed[] = [];
  const registry = createRegistry();
  let changes = 0;
  const link = new VictoriaMetricsLink({
    url,
    shard: 'shard-1',
    clock: systemClock,
    random: () => 0.5,
    logger: silentLogger,
    registry,
    onChange: () => changes++,
    onDeadLetter: (letter) => void letters.push(letter),
    onLoss: (loss) => void losses.push(loss),
    onReplay: (need) => void replays.push(need),
    pollEveryMs: 500,
    ...more,
  });
  const stop = new AbortController();
  const running = link.run(stop.signal);
  return {
    link,
    registry,
    letters,
    losses,
    replays,
    changes: () => changes,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
      await link[Symbol.asyncDispose]();
    },
  };
}

/** The wall clock, moved. */
class MovedClock implements Clock {
  movedMs = 0;

  now(): number {
    return systemClock.now() + this.movedMs;
  }

  monotonic(): number {
    return systemClock.monotonic();
  }
}

async function metricOf(registry: ReturnType<typeof createRegistry>, line: string): Promise<number> {
  const text = await registry.metrics();
  const found = text.split('\n').find((one) => one.startsWith(`${line} `));
  return Number(found?.slice(line.length + 1) ?? Number.NaN);
}

/** A store's start time counts whole seconds. */
async function anotherSecond(): Promise<void> {
  const now = Math.floor(Date.now() / 1000);
  await until(() => Math.floor(Date.now() / 1000) > now, { timeoutMs: 2_000, what: 'another second' });
}

const canaryWritten = (registry: ReturnType<typeof createRegistry>) => async (): Promise<boolean> =>
  (await metricOf(registry, 'gpufleet_store_canary_timestamp_seconds')) > 0;

const real = test.skipIf(!hasVictoriaMetrics());

real(
  'a real VictoriaMetrics: its incarnation changes with a restart, and its limits bound what is admitted',
  { timeout: 60_000 },
  async () => {
    await using store = await startVictoriaMetrics({ flags: ['-retentionPeriod=30d'] });
    await using watched = linkTo(store.url);
    const { link } = watched;
    await until(() => link.status.epoch !== 0n, { timeoutMs: 10_000, what: 'the first epoch' });
    const before = link.status.epoch;
    expect(link.status.notes).toEqual([]);
    expect(Date.now() - link.timeBounds.minMs).toBeLessThanOrEqual(30 * DAY);
    await store.kill9();
    await anotherSecond();
    await store.restart();
    await until(() => link.status.epoch !== before, { timeoutMs: 20_000, what: 'the new epoch' });
    expect(watched.changes()).toBeGreaterThanOrEqual(2);
    // It was killed, not set back: the canary is younger than a minute.
    expect(watched.replays).toEqual([]);
  },
);

real(
  'a real VictoriaMetrics takes live blocks and spans: every sample is there, with its value',
  { timeout: 60_000 },
  async () => {
    await using store = await startVictoriaMetrics();
    await using watched = linkTo(store.url);
    await until(() => watched.link.status.epoch !== 0n, { timeoutMs: 10_000, what: 'the epoch' });
    const base = Math.floor(Date.now() / 1000) * 1000 - 600_000;
    const ticks = 100;
    const span: BlockSpan = {
      source,
      dictionary,
      ticks,
      timestamps: Float64Array.from({ length: ticks }, (_, t) => base + t * 1000),
      values: Float64Array.from({ length: ticks * 2 }, (_, cell) => (cell % 2 === 0 ? 5 : cell / 2)),
      states: new Uint8Array(ticks * 2),
    };
    const outcomes = await Promise.all([
      watched.link.writeSpan(span),
      ...Array.from({ length: 50 }, (_, t) =>
        watched.link.write(blockAt(base + 200_000 + t * 1000, [t, -t])),
      ),
    ]);
    expect(new Set(outcomes.map(({ state }) => state))).toEqual(new Set(['accepted']));
    const exported = await store.export('gpu_x');
    const valuesOf = (gpu: string) => exported.find(({ metric }) => metric.gpu === gpu)!;
    expect(valuesOf('0').timestamps).toEqual([
      ...span.timestamps,
      ...Array.from({ length: 50 }, (_, t) => base + 200_000 + t * 1000),
    ]);
    expect(valuesOf('0').values).toEqual([
      ...Array.from({ length: ticks }, () => 5),
      ...Array.from({ length: 50 }, (_, t) => t),
    ]);
    expect(valuesOf('1').values.slice(0, ticks)).toEqual(Array.from({ length: ticks }, (_, t) => t + 0.5));
  },
);

// Lost without it: hours of history after a restore, which nobody would notice before they are looked for.
real(
  'a store that is restored from a copy says since when samples must come again, once',
  { timeout: 120_000 },
  async () => {
    await using dir = tempDir();
    const data = join(dir.path, 'data');
    await using store = await startVictoriaMetrics({ dataDir: data });
    const clock = new MovedClock();
    // Two hours ago, as the samples' and the canary's times say.
    clock.movedMs = -2 * 3_600_000;
    const backedUp = clock.now();
    {
      await using first = linkTo(store.url, { clock });
      await until(canaryWritten(first.registry), { timeoutMs: 20_000, what: 'a canary' });
      expect(first.replays).toEqual([]);
    }
    await store.stop();
    cpSync(data, join(dir.path, 'copy'), { recursive: true });
    await store.restart();
    clock.movedMs = 0;
    // A fresh process after a pause: too much is asked for rather than too little.
    await using second = linkTo(store.url, { clock });
    await until(canaryWritten(second.registry), { timeoutMs: 20_000, what: 'a canary of now' });
    expect(second.replays.length).toBe(1);
    second.replays.length = 0;

    await store.stop();
    await anotherSecond();
    rmSync(data, { recursive: true });
    cpSync(join(dir.path, 'copy'), data, { recursive: true });
    await store.restart();
    await until(() => second.replays.length > 0, { timeoutMs: 30_000, what: 'the replay' });
    const [need] = second.replays;
    expect(Math.abs(need!.fromMs - (backedUp - 20_000))).toBeLessThan(30_000);
    expect(need!.reason).toMatch(/set back/);

    const writtenUntil = await metricOf(second.registry, 'gpufleet_store_canary_timestamp_seconds');
    await until(
      async () => (await metricOf(second.registry, 'gpufleet_store_canary_timestamp_seconds')) > writtenUntil,
      { timeoutMs: 20_000, what: 'canaries go on' },
    );
    expect(second.replays.length).toBe(1);

    await store.stop();
    await anotherSecond();
    rmSync(data, { recursive: true });
    await store.restart();
    await until(() => second.replays.length > 1, { timeoutMs: 30_000, what: 'the replay of everything' });
    expect(second.replays[1]).toMatchObject({ fromMs: 0, reason: expect.stringMatching(/emptied/) });
  },
);

real('rows that the store took and dropped are a loss', { timeout: 60_000 }, async () => {
  await using store = await startVictoriaMetrics();
  await using watched = linkTo(store.url);
  await until(() => watched.link.status.epoch !== 0n, { timeoutMs: 10_000, what: 'the epoch' });
  expect(await watched.link.write(blockAt(Date.now() + 30 * DAY))).toMatchObject({ state: 'accepted' });
  await until(() => watched.losses.length > 0, { timeoutMs: 20_000, what: 'the loss' });
  expect(watched.losses).toMatchObject([
    {
      reason: 'store_ignored',
      samples: 2,
      estimated: true,
      node: '',
      detail: expect.stringMatching(/2 big_/),
    },
  ]);
  expect(await metricOf(watched.registry, 'gpufleet_store_ignored_rows_total{reason="big_timestamp"}')).toBe(
    2,
  );
});

real('basic authentication, and a password that is mended while we run', { timeout: 60_000 }, async () => {
  await using dir = tempDir();
  const file = join(dir.path, 'password');
  writeFileSync(file, 'wrong');
  await using store = await startVictoriaMetrics({
    flags: ['-httpAuth.username=writer', '-httpAuth.password=right-one'],
  });
  const access = new StoreAccess({ basic_auth: { username: 'writer', password_file: file } }, () =>
    systemClock.monotonic(),
  );
  await using watched = linkTo(store.url, { access });
  const { link } = watched;
  const written = link.write(blockAt(Date.now()));
  await until(() => link.status.notes.some((note) => note.includes('answers 401')), {
    timeoutMs: 10_000,
    what: 'the note about 401',
  });
  writeFileSync(file, 'right-one');
  expect(await written).toMatchObject({ state: 'accepted' });
  await until(() => link.status.notes.length === 0, { timeoutMs: 10_000, what: 'nothing to note' });
});

// Lost without it: samples that anybody on the way reads or takes.
test('TLS with an authority of our own, a client certificate, another server name and a bearer token', async () => {
  await using dir = tempDir();
  await using authority = await TestAuthority.create();
  const server = await authority.issue('store.example', 'DNS:store.example');
  const client = await authority.issue('writer');
  const token = join(dir.path, 'token');
  writeFileSync(token, 'secret');
  const seen: { authorization: string | undefined; authorized: boolean; samples: number }[] = [];
  const https = createServer(
    {
      cert: readFileSync(server.cert),
      key: readFileSync(server.key),
      ca: readFileSync(authority.ca),
      requestCert: true,
      rejectUnauthorized: true,
    },
    async (request, response) => {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part as Buffer);
      if (request.method === 'GET') {
        response.writeHead(request.url === '/metrics' ? 200 : 404).end('vm_app_start_timestamp 1780000000\n');
        return;
      }
      const message = (await uncompress(Buffer.concat(parts))) as Buffer;
      seen.push({
        authorization: request.headers.authorization,
        authorized: (request.socket as TLSSocket).authorized,
        samples: decodeWriteRequest(message).length,
      });
      response.writeHead(204).end();
    },
  );
  await new Promise<void>((listening) => https.listen(0, '127.0.0.1', listening));
  const url = `https://127.0.0.1:${(https.address() as AddressInfo).port}`;
  const tls = { ca: authority.ca, cert: client.cert, key: client.key, server_name: 'store.example' };
  const accessOf = (settings: StoreAccessSettings): StoreAccess =>
    new StoreAccess(settings, () => systemClock.monotonic());
  {
    await using watched = linkTo(url, { access: accessOf({ bearer_token_file: token, tls }) });
    await until(() => watched.link.status.epoch !== 0n, { timeoutMs: 10_000, what: 'the epoch' });
    expect(await watched.link.write(blockAt(Date.now()))).toMatchObject({ state: 'accepted' });
    expect(seen).toEqual([{ authorization: 'Bearer secret', authorized: true, samples: 2 }]);
  }
  {
    await using wrong = linkTo(url, { access: accessOf({ tls: { ...tls, server_name: 'other.example' } }) });
    void wrong.link.write(blockAt(Date.now()));
    await until(() => wrong.link.status.notes.length > 0, { timeoutMs: 10_000, what: 'the refusal' });
    expect(seen.length).toBe(1);
  }
  https.closeAllConnections();
  await new Promise((closed) => https.close(closed));
});

test('a store that does not say when it started, or does not deduplicate, is shown as such', async () => {
  await using receiver = await startReceiver();
  receiver.metrics = 'go_goroutines 5\n';
  await using watched = linkTo(receiver.url);
  await until(() => watched.link.status.notes.length >= 2, { timeoutMs: 10_000, what: 'both notes' });
  expect(watched.link.status.notes.join()).toMatch(/at-least-once.*degraded/);
});

// Lost without it: samples that a vmstorage took with it, durable in the eyes of their agents.
test('of a cluster every process counts: one that started anew is another incarnation, one that is away confirms none', async () => {
  await using receiver = await startReceiver();
  const page = (start: number, more = ''): string => `vm_app_start_timestamp ${start}\n${more}`;
  await using insert = await startTextServer(page(1780000000));
  await using storage = await startTextServer(
    page(1780000001, 'flag{name="dedup.minScrapeInterval", value="1ms"} 1\n'),
  );
  const { clock, advance } = steppedClock();
  await using watched = linkTo(`${receiver.url}/insert/0/prometheus`, {
    processes: [insert.url.replace('/metrics', ''), storage.url],
    clock,
  });
  const { link } = watched;
  await until(() => link.status.epoch !== 0n, { timeoutMs: 10_000, what: 'the epoch' });
  const first = link.status.epoch;
  expect(link.status.notes).toEqual([]);
  expect(await link.write(blockAt(Date.now()))).toEqual({ state: 'accepted', epoch: first });
  expect(receiver.requests[0]!.path).toBe('/insert/0/prometheus/api/v1/write');

  for (const status of [500, 404]) {
    storage.status = status;
    storage.text = '';
    const asked = storage.requests;
    await until(() => storage.requests > asked + 1, { timeoutMs: 20_000, what: `reads of ${status}` });
    advance(1_000_000);
    expect(link.status.epoch).toBe(first);
    expect(link.status.epochAgeMs).toBeGreaterThanOrEqual(1_000_000);
  }
  storage.status = 200;
  storage.text = page(1780000099, 'flag{name="dedup.minScrapeInterval", value="1ms"} 1\n');
  await until(() => link.status.epoch !== first, { timeoutMs: 20_000, what: 'another epoch' });
}, 60_000);

test('a cluster whose processes are not listed is no store that can be trusted: degraded, and said so', async () => {
  await using receiver = await startReceiver();
  receiver.metrics = 'vm_app_start_timestamp 1780000000\n';
  await using watched = linkTo(`${receiver.url}/insert/0/prometheus`);
  await until(() => watched.link.status.notes.join().includes('degraded'), {
    timeoutMs: 10_000,
    what: 'the note',
  });
  expect(await watched.link.write(blockAt(Date.now()))).toEqual({ state: 'accepted', epoch: 0n });
});

test('a dead letter is offered again, and the answer comes back in words', async () => {
  await using receiver = await startReceiver();
  await using watched = linkTo(receiver.url);
  const { link, letters } = watched;
  receiver.answer = ({ samples }) => ({
    status: samples.some(({ value }) => value === 2) ? 400 : 204,
    body: 'too many labels',
  });
  await link.write(blockAt(Date.now()));
  const [letter] = letters;
  expect(await link.replayDeadLetter(letter!.body)).toEqual({ refused: '400 too many labels' });
  receiver.answer = () => ({ status: 204 });
  expect(await link.replayDeadLetter(letter!.body)).toBe('accepted');
  expect(receiver.stored.map(({ value }) => value)).toContain(2);
});

/** A monotonic clock that can be put forward. */
function steppedClock(): { clock: Clock; advance: (ms: number) => void } {
  let ahead = 0;
  return {
    clock: { now: () => systemClock.now(), monotonic: () => systemClock.monotonic() + ahead },
    advance: (ms) => {
      ahead += ms;
    },
  };
}
