import { describe, expect, test } from 'vitest';
import { counter, createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Tick } from '#shared/model/block.ts';
import { systemClock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Collector, Reading } from '../../agent/collect/collector.ts';
import { troublesOf } from '../../agent/control/agent-status.ts';
import { GpuLedger } from '../../agent/control/gpu-ledger.ts';
import { ControlDesk } from '../../agent/control-desk.ts';
import { SourceSet } from '../../agent/source-set.ts';
import { fakeCollector } from '../support/fake-collector.ts';
import { until } from '../support/wait.ts';

/** Its readings in a group of this name, as the contract has it. */
function grouped(collector: Collector, name: string): Collector {
  let dictionary: Dictionary | undefined;
  const collect = async (signal: AbortSignal): Promise<Reading> => {
    const reading = await collector.collect(signal);
    dictionary ??= { ...reading.dictionary, group: name };
    return { ...reading, dictionary };
  };
  return { ...collector, collect };
}

/** A desk over a real set of sources: one holds a device, one does not. */
function deskOf() {
  const registry = createRegistry();
  const lost = counter(registry, {
    name: 'gpufleet_agent_lost_samples_total',
    help: 'h',
    labelNames: ['reason'],
  });
  const events: FleetEvent[] = [];
  const ticks = new Map<string, Tick>();
  const disposed: string[] = [];
  const make = (): Collector[] =>
    ['device', 'host'].map((name) => ({
      ...grouped(fakeCollector(2, 100), name),
      name,
      holdsDevice: name === 'device',
      [Symbol.asyncDispose]: async () => void disposed.push(name),
    }));
  const sources = new SourceSet(
    {
      clock: systemClock,
      logger: silentLogger,
      phaseOf: () => 0,
      nextShift: () => 0,
      onReading: async ({ name }, reading) => void ticks.set(name, reading),
      onFailure() {},
      onMissed() {},
      onRemoved: async () => {},
    },
    make(),
    async () => make(),
  );
  const facts = new Map<string, string>();
  const desk = new ControlDesk({
    version: '1.2.3',
    cluster: 'c',
    node: 'n',
    run: 'ab',
    pid: 1,
    clock: systemClock,
    sources,
    ticks: () => ticks.values(),
    ledger: new GpuLedger({
      facts: { get: (name) => facts.get(name), set: (name, value) => void facts.set(name, value) },
      bootId: 'b',
      bootedMs: 0,
      expected: undefined,
    }),
    uplink: {
      connected: true,
      status: async () => ({
        connected: true,
        aggregator: 'a:1',
        problem: '',
        clock_skew_ms: 0,
        pending_records: 0,
        pending_samples: 0,
        oldest_not_durable_ms: null,
      }),
    },
    buffer: () => ({ bytes: 1, max_bytes: 2, writable: true, unbuffered_records: 0 }),
    registry,
    recordEvent: async (event) => {
      events.push(event);
      desk.observe(event);
    },
    reload: async () => [],
  });
  return { desk, sources, events, disposed, registry, lost };
}

async function running(work: (one: ReturnType<typeof deskOf>) => Promise<void>): Promise<void> {
  const one = deskOf();
  const stop = new AbortController();
  const tasks = Promise.all([one.sources.run(stop.signal), one.desk.run(stop.signal)]);
  try {
    await until(async () => (await one.desk.status()).sources.every(({ state }) => state === 'reading'), {
      timeoutMs: 10_000,
      what: 'a first read of every source',
    });
    await work(one);
  } finally {
    stop.abort();
    await tasks;
    await one.sources[Symbol.asyncDispose]();
  }
}

const stateOf = async (desk: ControlDesk, name: string): Promise<string | undefined> =>
  (await desk.status()).sources.find((source) => source.name === name)?.state;

describe('the desk', () => {
  test('says what is there: sources, GPUs, losses as the metrics have them', () =>
    running(async ({ desk, lost }) => {
      lost.inc({ reason: 'trimmed' }, 5);
      const status = await desk.status();
      expect(status).toMatchObject({
        node: 'n',
        gpus: 2,
        expected_gpus: { count: 2, from: 'learnt' },
        lost_samples: { trimmed: 5 },
      });
      expect(status.sources[0]).toMatchObject({
        name: 'device',
        interval_ms: 100,
        series: 2,
        slots: { present: 2 },
      });
      expect(desk.gateFacts().gpus).toHaveLength(2);
    }));

  // Lost without it: a driver upgrade fails because the agent holds the device, or the agent never comes back.
  test('a pause lets go of what holds a device and of nothing else; it is said, seen, and ends by itself', () =>
    running(async ({ desk, events, disposed, registry }) => {
      await desk.pause(1_500);
      expect(disposed).toEqual(['device']);
      expect([await stateOf(desk, 'device'), await stateOf(desk, 'host')]).toEqual(['paused', 'reading']);
      expect(troublesOf(await desk.status())[0]).toContain('Paused until');
      expect(desk.gateFacts().paused_until_ms).not.toBeNull();
      const remaining = async () =>
        (await registry.getSingleMetric('gpufleet_agent_pause_remaining_seconds')!.get()).values[0]!.value;
      expect(await remaining()).toBeGreaterThan(0);
      await until(async () => (await stateOf(desk, 'device')) === 'reading', {
        timeoutMs: 10_000,
        what: 'a read of the device after the pause',
      });
      expect(await remaining()).toBe(0);
      await until(() => events.length === 2, { timeoutMs: 10_000, what: 'the word that the pause is over' });
      expect(events.map(({ type, attributes }) => `${type} ${attributes.phase}`)).toEqual([
        'collection_pause begin',
        'collection_pause over',
      ]);
      expect(events[0]!.attributes.sources).toBe('device');
    }));

  test('a pause is ended before its time, and resume without one is nothing', () =>
    running(async ({ desk, events }) => {
      await desk.resume();
      expect(events).toEqual([]);
      await desk.pause(60_000);
      await desk.resume();
      await until(async () => (await stateOf(desk, 'device')) === 'reading', {
        timeoutMs: 10_000,
        what: 'a read of the device after the pause',
      });
      expect(events.map(({ attributes }) => attributes.phase)).toEqual(['begin', 'over']);
    }));

  // Lost without it: a source that hangs in the driver looks like one that merely fails.
  test('a stuck source is shown with its wait channel until it is over', () =>
    running(async ({ desk }) => {
      const stuck = (phase: string): FleetEvent => ({
        type: 'collector_stuck',
        timestampMs: 1,
        gpu: '',
        gpuUuid: '',
        text: 'device: process 7 does not end',
        attributes: { source: 'device', phase, pid: '7', wait_channel: 'os_acquire_mutex' },
      });
      desk.observe(stuck('begin'));
      const source = (await desk.status()).sources.find(({ name }) => name === 'device');
      expect(source).toMatchObject({ state: 'stuck', reason: 'hangs in os_acquire_mutex' });
      desk.observe(stuck('over'));
      expect(await stateOf(desk, 'device')).toBe('reading');
    }));

  // Lost without it: a source that was exchanged is shown as stuck until the agent restarts, though it reads.
  test.each(['a pause', 'a reload'])('a stuck source that %s exchanged is a new one', (how) =>
    running(async ({ desk }) => {
      desk.observe({
        type: 'collector_stuck',
        timestampMs: 1,
        gpu: '',
        gpuUuid: '',
        text: 'device: process 7 does not end',
        attributes: { source: 'device', phase: 'begin', pid: '7' },
      });
      expect(await stateOf(desk, 'device')).toBe('stuck');
      if (how === 'a pause') {
        await desk.pause(60_000);
        await desk.resume();
      } else {
        await desk.sayReloaded(['log_level'], []);
        expect(await stateOf(desk, 'device')).toBe('stuck');
        await desk.sayReloaded(['collectors'], []);
      }
      await until(async () => (await stateOf(desk, 'device')) === 'reading', {
        timeoutMs: 10_000,
        what: 'a read of the new one',
      });
    }),
  );
});
