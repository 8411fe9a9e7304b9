import { type AddressInfo, createServer } from 'node:net';
import { expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Block, BlockSpan, Source } from '#shared/model/block.ts';
import { systemClock } from '#shared/model/clock.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import type { DeadLetter } from '../../../aggregator/store/dead-letter.ts';
import {
  RemoteWriter,
  type RemoteWriterOptions,
  type WriteOutcome,
} from '../../../aggregator/store/remote-writer.ts';
import { seriesStarts } from '../../../aggregator/store/time-series.ts';
import {
  type ReceivedSample,
  type RemoteWriteReceiver,
  startReceiver,
} from '../../support/remote-write-receiver.ts';
import { until } from '../../support/wait.ts';

const source: Source = { cluster: 'c', node: 'node-1.example', externalLabels: [['rack', 'r7']] };
const NOW = 1_780_000_000_000;

function blockOf(values: number[], states?: number[], timestampMs = NOW): Block {
  const dictionary = createDictionary(
    'g',
    1000,
    values.map((_, i) => ({
      name: 'gpu_x',
      labels: [
        ['UUID', `GPU-${i}`],
        ['gpu', String(i)],
      ] as const,
      kind: 'gauge',
      decimals: 0,
      help: '',
      unit: '',
    })),
  );
  return {
    source,
    dictionary,
    timestampMs,
    values: Float64Array.from(values),
    states: Uint8Array.from(states ?? values.map(() => SlotState.Present)),
    live: true,
  };
}

function writerTo(
  url: string,
  {
    incarnation = { value: 7n },
    ...more
  }: { incarnation?: { value: bigint | undefined } } & Partial<RemoteWriterOptions> = {},
) {
  const registry = createRegistry();
  const letters: DeadLetter[] = [];
  const writer = new RemoteWriter({
    url,
    shard: 's-1',
    clock: systemClock,
    random: () => 0.01,
    epoch: () => incarnation.value,
    readEpoch: async () => {},
    onAvailability: () => {},
    onDeadLetter: (letter) => void letters.push(letter),
    logger: silentLogger,
    registry,
    ...more,
  });
  return { writer, registry, letters };
}

/** As a span of backlog: a row for each tick, a second apart. */
function spanOf(rows: readonly number[][]): BlockSpan {
  const { dictionary } = blockOf(rows[0]!);
  return {
    source,
    dictionary,
    ticks: rows.length,
    timestamps: Float64Array.from(rows, (_, t) => NOW + t * 1000),
    values: Float64Array.from(rows.flat()),
    states: new Uint8Array(rows.length * rows[0]!.length),
  };
}

test('a request is what remote write 1.0 demands: method, headers, sorted labels, values to the bit', async () => {
  await using receiver = await startReceiver();
  const { writer } = writerTo(receiver.url);
  await using _ = writer;
  const values = [1.5, -0, Number.POSITIVE_INFINITY, 0.1 + 0.2, 5e-324, 42];
  const states = [0, 0, 0, 0, 0, SlotState.Stale];
  expect(await writer.offer(blockOf(values, states))).toEqual({ state: 'accepted', epoch: 7n });
  const [request] = receiver.requests;
  expect(request).toMatchObject({ method: 'POST', path: '/api/v1/write' });
  expect(request!.headers).toMatchObject({
    'content-type': 'application/x-protobuf',
    'content-encoding': 'snappy',
    'x-prometheus-remote-write-version': '0.1.0',
  });
  expect(receiver.stored.map(({ bits }) => bits)).toEqual([
    '3ff8000000000000',
    '8000000000000000',
    '7ff0000000000000',
    '3fd3333333333334',
    '0000000000000001',
    '7ff0000000000002',
  ]);
  expect(Object.entries(receiver.stored[0]!.labels)).toEqual([
    ['UUID', 'GPU-0'],
    ['__name__', 'gpu_x'],
    ['cluster', 'c'],
    ['gpu', '0'],
    ['node', 'node-1.example'],
    ['rack', 'r7'],
  ]);
  expect(new Set(receiver.stored.map(({ timestampMs }) => timestampMs))).toEqual(new Set([NOW]));
});

test('absent, quarantined and timed-out slots write nothing: a blank must not become a zero', async () => {
  await using receiver = await startReceiver();
  const { writer } = writerTo(receiver.url);
  await using _ = writer;
  await writer.offer(
    blockOf([1, 2, 3, 4, 5], [SlotState.Absent, 0, SlotState.Quarantined, 0, SlotState.Timeout]),
  );
  expect(receiver.stored.map(({ labels, value }) => [labels.gpu, value])).toEqual([
    ['1', 2],
    ['3', 4],
  ]);
  expect(await writer.offer(blockOf([1], [SlotState.Absent]))).toEqual({ state: 'accepted', epoch: 7n });
});

test('a block larger than a request is split, and every sample arrives once', async () => {
  await using receiver = await startReceiver();
  const { writer } = writerTo(receiver.url);
  await using _ = writer;
  const many = Array.from({ length: 25_000 }, (_, i) => i);
  expect(await writer.offer(blockOf(many))).toMatchObject({ state: 'accepted' });
  expect(receiver.requests.length).toBeGreaterThan(2);
  expect(Math.max(...receiver.requests.map(({ samples }) => samples.length))).toBeLessThanOrEqual(10_000);
  expect(receiver.stored.map(({ value }) => value).sort((a, b) => a - b)).toEqual(many);
});

test('a store that is away is asked again until it answers; the samples are the same', async () => {
  await using receiver = await startReceiver();
  const { writer } = writerTo(receiver.url);
  await using _ = writer;
  let left = 3;
  receiver.answer = () => ({ status: left-- > 0 ? 503 : 204 });
  expect(await writer.offer(blockOf([1, 2]))).toMatchObject({ state: 'accepted' });
  expect(receiver.requests.length).toBe(4);
  expect(receiver.stored.map(({ value }) => value)).toEqual([1, 2]);
});

test('a poison series is cut out and everything beside it is stored', async () => {
  await using receiver = await startReceiver();
  const { writer, registry } = writerTo(receiver.url);
  await using _ = writer;
  receiver.answer = ({ samples }) => ({
    status: samples.some(({ value }) => value === 13) ? 400 : 204,
    body: 'out of bounds',
  });
  const values = Array.from({ length: 30 }, (_, i) => i);
  expect(await writer.offer(blockOf(values))).toMatchObject({ state: 'accepted' });
  expect(receiver.stored.map(({ value }) => value).sort((a, b) => a - b)).toEqual(
    values.filter((value) => value !== 13),
  );
  expect(await registry.metrics()).toContain('gpufleet_store_refused_series_total 1');
});

test('401, 403 and 404 are faults of the path: held, probed by one request, shown, never dropped', async () => {
  await using receiver = await startReceiver();
  const { writer, registry } = writerTo(receiver.url);
  await using _ = writer;
  const statuses = [401, 403, 404, 204];
  receiver.answer = () => ({ status: statuses.shift() ?? 204 });
  const offered = writer.offer(blockOf([1]));
  for (const status of [401, 403, 404]) {
    await until(() => writer.pathFault === status, { timeoutMs: 10_000, what: `a fault ${status}` });
    expect(await registry.metrics()).toContain(`gpufleet_store_path_fault{status="${status}"} 1`);
    expect(writer.available).toBe(false);
    // As when the store's metrics answer again: otherwise the next probe is a minute away.
    writer.wake();
  }
  expect(await offered).toMatchObject({ state: 'accepted' });
  expect(receiver.stored.length).toBe(1);
  expect(writer.pathFault).toBeUndefined();
  expect(await registry.metrics()).not.toContain('gpufleet_store_path_fault{');
});

// Lost without it: the whole fleet's samples, made dead letters one by one because of a slip in a URL.
test('an address that answers 400 to everything is a fault of the path: nothing is given up', async () => {
  await using receiver = await startReceiver();
  const { writer, letters } = writerTo(receiver.url);
  await using _ = writer;
  receiver.answer = () => ({ status: 400, body: 'unsupported path requested' });
  const offered = writer.offer(blockOf([1, 2, 3, 4]));
  await until(() => writer.pathFault === 400, { timeoutMs: 10_000, what: 'the fault' });
  receiver.answer = () => ({ status: 204 });
  writer.wake();
  expect(await offered).toMatchObject({ state: 'accepted' });
  expect(samplesOf(receiver.stored)).toEqual([1, 2, 3, 4]);
  expect(letters).toEqual([]);
});

test('413 makes requests smaller; where even one series gets it, a proxy is at fault and nothing is dropped', async () => {
  await using receiver = await startReceiver();
  const { writer, letters } = writerTo(receiver.url);
  await using _ = writer;
  receiver.answer = ({ samples }) => ({ status: samples.length > 900 ? 413 : 204 });
  const values = Array.from({ length: 6_000 }, (_, i) => i);
  expect(await writer.offer(blockOf(values))).toMatchObject({ state: 'accepted' });
  expect(samplesOf(receiver.stored)).toEqual(values);
  const learned = receiver.requests.length;
  await writer.offer(blockOf(values));
  const after = receiver.requests.slice(learned);
  expect(Math.max(...after.map(({ samples }) => samples.length))).toBeLessThanOrEqual(900);

  receiver.answer = () => ({ status: 413 });
  const offered = writer.offer(blockOf([1]));
  await until(() => writer.pathFault === 413, { timeoutMs: 10_000, what: 'the fault' });
  receiver.answer = () => ({ status: 204 });
  writer.wake();
  expect(await offered).toMatchObject({ state: 'accepted' });
  expect(letters).toEqual([]);
});

// Lost without it: what was refused, why, and the chance to send it again once the store takes it.
test('a refused series becomes a dead letter before its block is answered, and can be offered again', async () => {
  await using receiver = await startReceiver();
  const order: string[] = [];
  const letters: DeadLetter[] = [];
  const { writer } = writerTo(receiver.url, {
    onDeadLetter: async (letter) => {
      await Promise.resolve();
      order.push('letter');
      letters.push(letter);
    },
  });
  await using _ = writer;
  receiver.answer = ({ samples }) => ({
    status: samples.some(({ labels }) => labels.gpu === '1') ? 422 : 204,
    body: 'duplicate sample',
  });
  const rows = Array.from({ length: 150 }, (_, t) => [t, 1000 + t, 2000 + t]);
  const outcome = await writer.offerSpan(spanOf(rows)).finally(() => order.push('answered'));
  expect(outcome).toMatchObject({ state: 'accepted' });
  expect(order).toEqual(['letter', 'answered']);
  expect(letters).toMatchObject([
    {
      cluster: 'c',
      node: 'node-1.example',
      series: 'gpu_x{UUID="GPU-1",cluster="c",gpu="1",node="node-1.example",rack="r7"}',
      sampleCount: 150,
      fromMs: NOW,
      toMs: NOW + 149_000,
      status: 422,
      answer: 'duplicate sample',
    },
  ]);
  expect(letters[0]!.samples.length).toBe(100);
  expect(letters[0]!.samples[1]).toEqual({ timestampMs: NOW + 1000, value: 1001 });
  receiver.answer = () => ({ status: 204 });
  await writer.post(letters[0]!.body);
  expect(new Set(samplesOf(receiver.stored))).toEqual(new Set(rows.flat()));
});

test('a dead letter that cannot be kept defers its block: it comes again', async () => {
  await using receiver = await startReceiver();
  const { writer } = writerTo(receiver.url, {
    onDeadLetter: () => Promise.reject(new Error('the disk is full')),
  });
  await using _ = writer;
  receiver.answer = ({ samples }) => ({ status: samples.some(({ value }) => value === 2) ? 400 : 204 });
  expect(await writer.offer(blockOf([1, 2, 3]))).toEqual({ state: 'deferred' });
});

test('backlog arrives to the bit, and shares no request with live samples', async () => {
  await using receiver = await startReceiver();
  const { writer } = writerTo(receiver.url);
  await using _ = writer;
  const rows = Array.from({ length: 20 }, (_, t) => [t, 0.1 + t, -t]);
  await Promise.all([
    writer.offerSpan(spanOf(rows)),
    writer.offer(blockOf([77, 78], undefined, NOW + 99_000)),
  ]);
  expect(samplesOf(receiver.stored)).toEqual([...rows.flat(), 77, 78].sort((a, b) => a - b));
  for (const { samples } of receiver.requests)
    expect(new Set(samples.map(({ timestampMs }) => timestampMs > NOW + 90_000)).size).toBe(1);
});

/** A store that answers nothing until it is let go. */
function holdAnswers(receiver: RemoteWriteReceiver): () => void {
  const gate = Promise.withResolvers<void>();
  receiver.answer = async () => {
    await gate.promise;
    return { status: 204 };
  };
  return gate.resolve;
}

// Lost without it: fresh values and alerts' history while a backlog of hours drains.
test('live samples go before all backlog that waits, and backlog is asked for no faster than it drains', async () => {
  await using receiver = await startReceiver();
  const { writer } = writerTo(receiver.url);
  await using _ = writer;
  const answer = holdAnswers(receiver);
  const rows = Array.from({ length: 100 }, (_, t) => Array.from({ length: 600 }, (_, i) => t + i));
  const span = spanOf(rows);
  const spans = Array.from({ length: 18 }, () => writer.offerSpan(span));
  expect(writer.backfillOpen).toBe(false);
  const live = writer.offer(blockOf([1, 2, 3], undefined, NOW + 1_000_000));
  answer();
  await live;
  const at = receiver.requests.findIndex(({ samples }) => samples[0]!.timestampMs === NOW + 1_000_000);
  expect(at).toBeLessThan(10);
  expect(new Set((await Promise.all(spans)).map(({ state }) => state))).toEqual(new Set(['accepted']));
  expect(receiver.requests.length).toBeGreaterThan(20);
  await until(() => writer.backfillOpen, { timeoutMs: 5_000, what: 'room for backlog' });
});

// Lost without it: a store that is behind stays behind, for each tick costs it the labels of all its series.
test('live ticks that wait for a store which is behind share requests, and labels', async () => {
  await using receiver = await startReceiver();
  const { writer } = writerTo(receiver.url);
  await using _ = writer;
  const answer = holdAnswers(receiver);
  const tick = blockOf(Array.from({ length: 1_000 }, (_, i) => i));
  const states = Uint8Array.from(tick.states, (_, slot) => (slot === 7 ? SlotState.Stale : 0));
  const outcomes: Promise<WriteOutcome>[] = [];
  const COUNT = 130;
  for (let t = 0; t < COUNT; t++) {
    const values = tick.values.map((value) => value + t / 256);
    const shown = t === COUNT - 1 ? states : tick.states;
    outcomes.push(writer.offer({ ...tick, timestampMs: NOW + t * 1000, values, states: shown }));
  }
  // Fresh first: no agent is asked for backlog meanwhile.
  expect(writer.backfillOpen).toBe(false);
  answer();
  expect(new Set((await Promise.all(outcomes)).map(({ state }) => state))).toEqual(new Set(['accepted']));
  expect(writer.backfillOpen).toBe(true);
  const key = (gpu: string, timestampMs: number, bits: string): string => `${gpu} ${timestampMs} ${bits}`;
  const expected = Array.from({ length: COUNT * 1_000 }, (_, n) => {
    const [t, i] = [Math.floor(n / 1_000), n % 1_000];
    const bits = t === COUNT - 1 && i === 7 ? STALE_BITS : bitsOf(i + t / 256);
    return key(String(i), NOW + t * 1000, bits);
  });
  const stored = receiver.stored.map(({ labels, timestampMs, bits }) => key(labels.gpu!, timestampMs, bits));
  expect(stored.toSorted()).toEqual(expected.toSorted());

  // Five requests of ten ticks were under way or full before; in the rest a series is named once for 16 ticks.
  const series = receiver.requests.map(({ message }) => seriesStarts(message).length - 1);
  expect(series.reduce((sum, count) => sum + count, 0)).toBeLessThan(50_000 + 80_000 * 0.1);
  expect(Math.max(...receiver.requests.map(({ samples }) => samples.length))).toBeLessThanOrEqual(40_000);

  // And once nothing waits, a tick is on its own again.
  const last = receiver.requests.length;
  await writer.offer({ ...tick, timestampMs: NOW + 1_000_000 });
  expect(receiver.requests[last]!.samples).toHaveLength(1_000);
});

// Lost without it: alerts, once every agent's window is full of ticks that wait for a store that is away.
test('while the store is away what waits is deferred after a moment, and taken again when it is back', async () => {
  await using receiver = await startReceiver();
  const { writer } = writerTo(receiver.url, { awayHoldMs: 50 });
  await using _ = writer;
  let away = true;
  receiver.answer = () => ({ status: away ? 503 : 204 });
  const first = writer.offer(blockOf([1]));
  await until(() => !writer.available, { timeoutMs: 5_000, what: 'the outage' });
  await until(
    async () => (await Promise.race([writer.offer(blockOf([2])), undefined]))?.state === 'deferred',
    {
      timeoutMs: 5_000,
      what: 'a block deferred at once',
    },
  );
  away = false;
  expect(await first).toMatchObject({ state: 'accepted' });
  expect(await writer.offer(blockOf([3]))).toMatchObject({ state: 'accepted' });
  expect(samplesOf(receiver.stored)).toEqual(expect.arrayContaining([1, 3]));
});

test('a connection that the store closed while it was idle is no outage', async () => {
  const { promise: secondTry, resolve } = Promise.withResolvers<void>();
  let requests = 0;
  const server = createServer((socket) => {
    socket.on('error', () => {});
    let ofThisSocket = 0;
    socket.on('data', (data) => {
      if (!data.toString('latin1').startsWith('POST')) return;
      requests++;
      if (ofThisSocket++ > 0) return void socket.destroy();
      if (requests === 3) resolve();
      socket.write('HTTP/1.1 204 No Content\r\nconnection: keep-alive\r\n\r\n');
    });
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  const { writer, registry } = writerTo(`http://127.0.0.1:${port}`);
  expect(await writer.offer(blockOf([1]))).toMatchObject({ state: 'accepted' });
  expect(await writer.offer(blockOf([2]))).toMatchObject({ state: 'accepted' });
  await secondTry;
  expect(await registry.metrics()).not.toContain('gpufleet_store_retries_total{');
  await writer[Symbol.asyncDispose]();
  await new Promise((closed) => server.close(closed));
});

test('beyond its memory limit blocks are deferred at once, and closing defers what is left', async () => {
  await using receiver = await startReceiver();
  receiver.answer = () => ({ status: 503 });
  const { writer } = writerTo(receiver.url, { awayHoldMs: 60_000 });
  const block = blockOf(Array.from({ length: 9_000 }, (_, i) => i));
  const offered: Promise<WriteOutcome>[] = [];
  let deferred = false;
  while (!deferred && offered.length < 1_000) {
    const outcome = writer.offer(block);
    offered.push(outcome);
    deferred = (await Promise.race([outcome, undefined]))?.state === 'deferred';
  }
  // 64 MiB at nine bytes a sample, less the requests that were made before.
  expect(offered.length).toBeGreaterThan(700);
  expect(offered.length).toBeLessThan(840);
  expect(await writer.offerSpan(spanOf([[1], [2]]))).toEqual({ state: 'deferred' });
  expect(writer.backfillOpen).toBe(false);
  await writer[Symbol.asyncDispose]();
  expect(new Set((await Promise.all(offered)).map(({ state }) => state))).toEqual(new Set(['deferred']));
});

test('what is written before the incarnation of the store is known comes again: it could be booked wrong', async () => {
  await using receiver = await startReceiver();
  const { writer } = writerTo(receiver.url, { incarnation: { value: undefined } });
  await using _ = writer;
  expect(await writer.offer(blockOf([1]))).toEqual({ state: 'deferred' });
});

const STALE_BITS = '7ff0000000000002';

function bitsOf(value: number): string {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return bytes.toString('hex');
}

function samplesOf(samples: readonly ReceivedSample[]): number[] {
  return samples
    .filter(({ labels }) => labels.__name__ === 'gpu_x')
    .map(({ value }) => value)
    .sort((a, b) => a - b);
}

// Lost without it: a store with a lower limit than ours refuses each large request of backlog anew, for ever.
test('backlog goes in requests four times as large as live ones, until the store says that one is too large', async () => {
  await using receiver = await startReceiver();
  const { writer } = writerTo(receiver.url);
  await using _ = writer;
  const largest = 12_000;
  receiver.answer = ({ samples }) => ({ status: samples.length > largest ? 413 : 204 });
  const rows = Array.from({ length: 100 }, (_, t) => Array.from({ length: 400 }, (_, i) => t + i));
  expect(await writer.offerSpan(spanOf(rows))).toMatchObject({ state: 'accepted' });
  const before = receiver.requests.length;
  expect(receiver.requests[0]!.samples.length).toBe(40_000);
  expect(await writer.offerSpan(spanOf(rows))).toMatchObject({ state: 'accepted' });
  const later = receiver.requests.slice(before).map(({ samples }) => samples.length);
  expect(Math.max(...later)).toBeLessThanOrEqual(largest);
  expect(later.reduce((sum, count) => sum + count, 0)).toBe(40_000);
});
