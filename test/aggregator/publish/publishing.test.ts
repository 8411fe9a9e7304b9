import { jetstreamManager } from '@nats-io/jetstream';
import { connect, millis } from '@nats-io/transport-node';
import { describe, expect, it } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Source } from '#shared/model/block.ts';
import type { RejectedTick } from '#shared/model/rejection.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { Validation } from '../../../aggregator/validate/validation.ts';
import { startNats } from '../../support/nats-server.ts';
import { hasNatsServer } from '../../support/servers.ts';
import { until } from '../../support/wait.ts';
import {
  blockOf,
  dictionaryOf,
  gpuLabels,
  ManualClock,
  SOURCE,
  START_MS,
  series,
} from '../alerts/block-of.ts';
import { decodeDocumented } from './documented-decoder.ts';
import { connected, countOf, lookUp, openPublishing, pendingOf, pull, stored } from './nats-publishing.ts';

const node = (name: string, cluster = 'east'): Source => ({ cluster, node: name, externalLabels: [] });

function rejectedOf(source: Source, timestampMs = START_MS, value = 999): RejectedTick {
  return {
    ...{ source, group: 'nvml', timestampMs, live: true, omitted: 0 },
    samples: [
      {
        series: series('gpu_temperature_celsius', gpuLabels(3, { sensor: 'core' })),
        ...{ value, reason: 'out_of_range', low: -40, high: 150, count: 1 },
      },
    ],
  };
}

const TICKS = { ticks: { enabled: true } };
const DICTIONARY = dictionaryOf([
  series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'core' }), 'Cel'),
  { ...series('gpu_clock_hertz', gpuLabels(0)), decimals: -6 },
  { ...series('gpu_energy_joules_total', gpuLabels(0)), kind: 'counter', decimals: 3 },
  { ...series('gpu_fan_ratio', gpuLabels(0)), decimals: 2 },
]);

const json = (body: Uint8Array): unknown => JSON.parse(Buffer.from(body).toString());

describe.skipIf(!hasNatsServer())('on a real nats-server', () => {
  // Lost without it: the value that explains an incident was refused, and nobody can see what it was.
  it('a rejected sample is at JetStream with everything that the documentation promises', async () => {
    await using nats = await startNats();
    await using opened = openPublishing(nats.url, {});
    opened.publishing.rejectedTick(rejectedOf({ ...SOURCE, externalLabels: [['team', 'ml']] }));
    await stored(opened, 'rejected', 1);
    const [message] = await pull(nats.url, 'GPUFLEET_REJECTED', 'reader', 1);
    expect(message!.subject).toBe('gpufleet.rejected.east.gpu-07%2Erack3');
    expect(json(message!.body)).toEqual({
      cluster: 'east',
      node: 'gpu-07.rack3',
      external_labels: { team: 'ml' },
      source: 'nvml',
      time: '2026-01-01T00:00:00.000Z',
      live: true,
      samples: [
        {
          metric: 'gpu_temperature_celsius',
          labels: { gpu: '3', model: 'NVIDIA H100 80GB HBM3', sensor: 'core', uuid: 'GPU-3' },
          value: 999,
          reason: 'out_of_range',
          low: -40,
          high: 150,
        },
      ],
      omitted: 0,
    });
  });

  it('what JSON cannot hold is a word: infinity, no number, a value that the agent did not send, a whole tick', async () => {
    await using nats = await startNats();
    await using opened = openPublishing(nats.url, {});
    const tick = rejectedOf(SOURCE);
    const [sample] = tick.samples;
    opened.publishing.rejectedTick({
      ...tick,
      samples: [
        { ...sample!, value: Number.NEGATIVE_INFINITY, reason: 'not_finite' },
        { ...sample!, value: Number.NaN, reason: 'not_a_number' },
        { ...sample!, value: undefined, reason: 'quarantined_by_agent' },
        {
          ...sample!,
          series: undefined,
          value: undefined,
          reason: 'from_the_future',
          low: 0,
          high: START_MS,
          count: 400,
        },
      ],
    });
    await stored(opened, 'rejected', 1);
    const [message] = await pull(nats.url, 'GPUFLEET_REJECTED', 'reader', 1);
    expect((json(message!.body) as { samples: { value: unknown }[] }).samples).toMatchObject([
      { value: '-Infinity' },
      { value: 'NaN' },
      { value: null },
      { metric: '', value: null, count: 400, not_after: '2026-01-01T00:00:00.000Z' },
    ]);
  });

  it('wildcards choose by cluster and by node', async () => {
    await using nats = await startNats();
    await using opened = openPublishing(nats.url, {});
    for (const source of [node('a'), node('b'), node('a', 'west')])
      opened.publishing.rejectedTick(rejectedOf(source));
    await stored(opened, 'rejected', 3);
    const heard = async (durable: string, filter: string, count: number) =>
      (await pull(nats.url, 'GPUFLEET_REJECTED', durable, count, filter)).map(({ subject }) => subject);
    expect(await heard('east', 'gpufleet.rejected.east.>', 2)).toEqual([
      'gpufleet.rejected.east.a',
      'gpufleet.rejected.east.b',
    ]);
    expect(await heard('a', 'gpufleet.rejected.*.a', 2)).toEqual([
      'gpufleet.rejected.east.a',
      'gpufleet.rejected.west.a',
    ]);
  });

  // Lost without it: a tick stream that somebody switched on and forgot fills the disk that alerts are on.
  it('every stream is made with its limits, and none that is not switched on', async () => {
    await using nats = await startNats();
    await using opened = openPublishing(nats.url, {
      ticks: { enabled: true, enriched: true },
      max_age: '1h',
      max_bytes: '5MiB',
    });
    await connected(opened);
    const connection = await connect({ servers: nats.url });
    const jsm = await jetstreamManager(connection);
    const found: Record<string, unknown> = {};
    for await (const { config } of jsm.streams.list()) {
      const { subjects, max_bytes, max_age, max_msgs_per_subject, discard, storage } = config;
      found[config.name] = [subjects, max_bytes, millis(max_age), max_msgs_per_subject, discard, storage];
    }
    await connection.close();
    const [bytes, hour] = [5 * 2 ** 20, 3_600_000];
    expect(found).toEqual({
      GPUFLEET_REJECTED: [['gpufleet.rejected.>'], bytes, hour, 10_000, 'old', 'file'],
      GPUFLEET_DICTIONARIES: [['gpufleet.dictionaries.>'], bytes, 3 * hour, 1, 'old', 'file'],
      GPUFLEET_TICKS: [['gpufleet.ticks.>'], bytes, hour, -1, 'old', 'file'],
      GPUFLEET_ENRICHED: [['gpufleet.enriched.>'], bytes, hour, -1, 'old', 'file'],
    });
  });

  it('a stream that an operator has made keeps the limits that the operator gave it', async () => {
    await using nats = await startNats();
    const connection = await connect({ servers: nats.url });
    const jsm = await jetstreamManager(connection);
    const made = { name: 'GPUFLEET_REJECTED', subjects: ['gpufleet.rejected.>'], max_bytes: 123_456 };
    await jsm.streams.add(made);
    await using opened = openPublishing(nats.url, {});
    opened.publishing.rejectedTick(rejectedOf(SOURCE));
    await stored(opened, 'rejected', 1);
    expect((await jsm.streams.info('GPUFLEET_REJECTED')).config.max_bytes).toBe(123_456);
    await connection.close();
  });

  // Lost without it: validation refuses a value, and the one that was refused is nowhere to be looked at.
  it('what validation refuses can be replayed from the beginning, also after NATS was started anew', async () => {
    await using nats = await startNats();
    await using opened = openPublishing(nats.url, {});
    const validation = new Validation({
      settings: { enabled: true, future_tolerance: 600_000, past_tolerance: 86_400_000 },
      ...{ clock: new ManualClock(), registry: createRegistry() },
      onRejected: (tick) => opened.publishing.rejectedTick(tick),
    });
    for (const celsius of [41, 151, 42, -99])
      validation.check(blockOf(DICTIONARY, START_MS, [celsius, 1_980_000_000, 1, 0.5]));
    await stored(opened, 'rejected', 2);
    await nats.restart();
    const messages = await pull(nats.url, 'GPUFLEET_REJECTED', 'analyst', 2);
    const samples = messages.flatMap(({ body }) => (json(body) as { samples: object[] }).samples);
    expect(samples).toMatchObject([
      { metric: 'gpu_temperature_celsius', value: 151, reason: 'out_of_range', low: -40, high: 150 },
      { metric: 'gpu_temperature_celsius', value: -99, reason: 'out_of_range' },
    ]);
  });

  it('over its size a stream forgets the oldest, and goes on taking', async () => {
    await using nats = await startNats();
    await using opened = openPublishing(nats.url, { max_bytes: '1MiB' });
    await connected(opened);
    const wide = rejectedOf(SOURCE);
    for (let i = 0; i < 100; i++)
      opened.publishing.rejectedTick({
        ...wide,
        timestampMs: START_MS + i,
        samples: new Array(100).fill(wide.samples[0]),
      });
    await stored(opened, 'rejected', 100);
    const [oldest] = await pull(nats.url, 'GPUFLEET_REJECTED', 'reader', 1);
    expect(oldest!.seq).toBeGreaterThan(1);
    const connection = await connect({ servers: nats.url });
    const { state } = await (await jetstreamManager(connection)).streams.info('GPUFLEET_REJECTED');
    await connection.close();
    expect(state.bytes).toBeLessThanOrEqual(2 ** 20);
    expect(state.last_seq).toBe(100);
  });

  // Lost without it: a second reader of the stream takes the first one's messages, or a late one has no past.
  it('consumers have positions of their own: one goes on after a restart, one begins late at the beginning', async () => {
    await using nats = await startNats();
    await using opened = openPublishing(nats.url, TICKS);
    await connected(opened);
    const publish = (from: number, to: number) => {
      for (let i = from; i < to; i++)
        opened.publishing.tick(
          blockOf(DICTIONARY, START_MS + i * 1000, [i, 1_980_000_000, i * 700.125, 0.5]),
        );
    };
    publish(0, 10);
    await stored(opened, 'ticks', 10);
    const first = await pull(nats.url, 'GPUFLEET_TICKS', 'warehouse', 4);
    expect(await pendingOf(nats.url, 'GPUFLEET_TICKS', 'warehouse')).toBe(6);
    publish(10, 15);
    await stored(opened, 'ticks', 15);
    const late = await pull(nats.url, 'GPUFLEET_TICKS', 'late', 15);
    const rest = await pull(nats.url, 'GPUFLEET_TICKS', 'warehouse', 11);
    const dictionary = await lookUp(nats.url, late[0]!.dictionary);
    const temperatures = (messages: typeof late) =>
      messages.map(({ body }) => decodeDocumented(dictionary, body).values[0]);
    const all = Array.from({ length: 15 }, (_, i) => i);
    expect(temperatures(late)).toEqual(all);
    expect(temperatures([...first, ...rest])).toEqual(all);
    expect(await pendingOf(nats.url, 'GPUFLEET_TICKS', 'late')).toBe(0);
  });

  it('a tick is decoded by what is documented: times, scaled, raw, absent and quarantined values', async () => {
    await using nats = await startNats();
    await using opened = openPublishing(nats.url, TICKS);
    await connected(opened);
    const block = blockOf(DICTIONARY, START_MS, [undefined, 1_980_000_000, 123_456.789, Math.PI]);
    opened.publishing.tick(block);
    block.states[2] = SlotState.Quarantined;
    block.states[0] = SlotState.Present;
    block.values[0] = -12.5;
    opened.publishing.tick({ ...block, timestampMs: START_MS + 1000 });
    await stored(opened, 'ticks', 2);
    const messages = await pull(nats.url, 'GPUFLEET_TICKS', 'reader', 2);
    expect(messages.map(({ subject }) => subject)).toEqual(
      new Array(2).fill('gpufleet.ticks.east.gpu-07%2Erack3.test'),
    );
    const dictionary = await lookUp(nats.url, messages[0]!.dictionary);
    expect(dictionary).toMatchObject({ hash: messages[0]!.dictionary, group: 'test', interval_ms: 1000 });
    expect(dictionary.series[0]).toMatchObject({
      name: 'gpu_temperature_celsius',
      labels: { gpu: '0', sensor: 'core', uuid: 'GPU-0' },
      ...{ kind: 'gauge', unit: 'Cel' },
    });
    expect(messages.map(({ body }) => decodeDocumented(dictionary, body))).toEqual([
      { timeMs: START_MS, values: [undefined, 1_980_000_000, 123_456.789, Math.PI], modes: [1, 0, 0, 5] },
      { timeMs: START_MS + 1000, values: [-12.5, 1_980_000_000, undefined, Math.PI], modes: [0, 0, 2, 5] },
    ]);
  });

  it('an outage costs nothing that fits the queue, and dictionaries are told to the server that comes back', async () => {
    await using nats = await startNats();
    await using opened = openPublishing(nats.url, TICKS);
    await connected(opened);
    const tick = (i: number) =>
      opened.publishing.tick(blockOf(DICTIONARY, START_MS + i * 1000, [i, 0, i, 0]));
    tick(0);
    await stored(opened, 'ticks', 1);
    await stored(opened, 'dictionaries', 1);
    await nats.kill9();
    await until(() => !opened.link.status().connected, { timeoutMs: 20_000, what: 'the loss is noticed' });
    for (let i = 1; i < 50; i++) tick(i);
    await nats.restart();
    await connected(opened);
    tick(50);
    await stored(opened, 'ticks', 51);
    await stored(opened, 'dictionaries', 2);
    const messages = await pull(nats.url, 'GPUFLEET_TICKS', 'reader', 51);
    const dictionary = await lookUp(nats.url, messages[0]!.dictionary);
    const seen = messages.map(({ body }) => decodeDocumented(dictionary, body).values[0]);
    expect(seen).toEqual(Array.from({ length: 51 }, (_, i) => i));
    expect(await countOf(opened.registry, 'gpufleet_publish_dropped_total', { stream: 'ticks' })).toBe(0);
  });
});
