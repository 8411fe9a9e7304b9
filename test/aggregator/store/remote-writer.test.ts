import { expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Block, Source } from '#shared/model/block.ts';
import { systemClock } from '#shared/model/clock.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { RemoteWriter } from '../../../aggregator/store/remote-writer.ts';
import { startReceiver } from '../../support/remote-write-receiver.ts';

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

function writerTo(url: string, epoch: { value: bigint | undefined } = { value: 7n }) {
  const registry = createRegistry();
  const writer = new RemoteWriter({
    url,
    clock: systemClock,
    random: () => 0.01,
    epoch: () => epoch.value,
    readEpoch: async () => {},
    onAvailability: () => {},
    logger: silentLogger,
    registry,
  });
  return { writer, registry };
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

test('401, 403 and 404 are faults of the path: held and tried again, never dropped', async () => {
  await using receiver = await startReceiver();
  const { writer } = writerTo(receiver.url);
  await using _ = writer;
  const statuses = [401, 403, 404, 204];
  receiver.answer = () => ({ status: statuses.shift()! });
  expect(await writer.offer(blockOf([1]))).toMatchObject({ state: 'accepted' });
  expect(receiver.stored.length).toBe(1);
});

test('beyond its memory limit blocks are deferred at once, and closing defers what is left', async () => {
  await using receiver = await startReceiver();
  receiver.answer = () => ({ status: 503 });
  const { writer } = writerTo(receiver.url);
  const block = blockOf(Array.from({ length: 9_000 }, (_, i) => i));
  const offered = Array.from({ length: 120 }, () => writer.offer(block));
  const last = await offered.at(-1)!;
  expect(last).toEqual({ state: 'deferred' });
  expect(writer.backfillOpen).toBe(false);
  await writer[Symbol.asyncDispose]();
  expect(new Set((await Promise.all(offered)).map(({ state }) => state))).toEqual(new Set(['deferred']));
});

test('what is written before the incarnation of the store is known comes again: it could be booked wrong', async () => {
  await using receiver = await startReceiver();
  const { writer } = writerTo(receiver.url, { value: undefined });
  await using _ = writer;
  expect(await writer.offer(blockOf([1]))).toEqual({ state: 'deferred' });
});
