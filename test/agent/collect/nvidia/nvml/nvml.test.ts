import { readFileSync, statSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { dcgmField } from '#shared/catalogue/dcgm.ts';
import { metricNamed } from '#shared/catalogue/metrics.ts';
import { systemClock } from '#shared/model/clock.ts';
import type { Reading } from '../../../../../agent/collect/collector.ts';
import { nvmlFields } from '../../../../../agent/collect/nvidia/nvml/fields.ts';
import { schedule } from '../../../../../agent/collect/scheduler.ts';
import { fakeCollector } from '../../../../support/fake-collector.ts';
import { canBuildFakeNvml, fakeNvml } from '../../../../support/fake-nvml/fake-nvml.ts';
import { until } from '../../../../support/wait.ts';
import { nvmlUnderTest } from './nvml-node.ts';

const UUID = (index: number): string => `GPU-00000000-0000-0000-0000-${String(index).padStart(12, '0')}`;

describe.skipIf(!canBuildFakeNvml())('NVML over a library of our own', () => {
  // Lost without it: everything that a node with nothing but a driver can show.
  test('reads every GPU in base units, and says of each field why it has no value', async () => {
    await using nvml = fakeNvml({
      gpus: 2,
      links: 2,
      unsupported: 'nvmlDeviceGetFanSpeed,82',
      denied: '83,nvmlDeviceGetPowerUsage',
      'value.nvmlDeviceGetTemperature.1': 91,
      'value.nvmlDeviceGetMarginTemperature.1': -3,
    });
    await using node = nvmlUnderTest(nvml);
    const fast = await node.read();
    expect(fast.get('gpu_up{gpu=0}')).toBe(1);
    expect(fast.get('gpu_temperature_celsius{gpu=0,sensor=core}')).toBe(50);
    expect(fast.get('gpu_temperature_celsius{gpu=1,sensor=core}')).toBe(91);
    expect(fast.get('gpu_temperature_margin_celsius{gpu=1}')).toBe(-3);
    expect(fast.get('gpu_power_instant_watts{gpu=0}')).toBe(310.25);
    expect(fast.get('gpu_clock_hertz{domain=sm,gpu=0}')).toBe(1.98e9);
    expect(fast.get('gpu_utilization_ratio{gpu=0,task=general}')).toBe(0.93);
    expect(fast.get('gpu_memory_used_bytes{gpu=0}')).toBe(60 * 2 ** 30);
    expect(fast.get('gpu_memory_utilization_ratio{gpu=0}')).toBe(60 / 79.5);
    expect(fast.get('gpu_clock_event_seconds_total{gpu=0,reason=hw_thermal}')).toBe(1.5);
    expect(fast.get('gpu_io_bytes_total{bus=nvlink,direction=transmit,gpu=0}')).toBe(138 * 1000 * 1024);
    expect(fast.get('gpu_fan_ratio{gpu=0}')).toBe('not_supported');
    expect(fast.get('gpu_temperature_celsius{gpu=0,sensor=memory}')).toBe('not_supported');
    expect(fast.get('gpu_power_watts{gpu=0}')).toBe('no_permission');
    expect(fast.get('gpu_energy_joules_total{gpu=0}')).toBe('no_permission');
    const slow = await node.read(node.slow);
    expect(slow.get('gpu_temperature_limit_celsius{gpu=0,limit=shutdown}')).toBe(-8);
    expect(slow.get('gpu_remapped_rows{cause=uncorrectable,gpu=0}')).toBe(2);
    expect(slow.get('gpu_remap_banks{availability=max,gpu=0}')).toBe(2559);
    expect(
      slow.get('gpu_ecc_errors_by_location_total{gpu=0,location=sram,scope=volatile,type=uncorrected}'),
    ).toBe(102);
    expect(slow.get('gpu_fabric_health_mask{gpu=0}')).toBe(0x55);
    expect(slow.get('gpu_link_symbol_ber_ratio{gpu=0,link=1}')).toBe(2e-13);
    // NVLink 5 has no CRC counters: hundreds of series that never come are left out.
    expect([...slow.keys()].some((key) => key.startsWith('gpu_link_crc'))).toBe(false);
    const info = [...slow.keys()].filter((key) => key.startsWith('gpu_info'));
    expect(info[1]).toBe(
      'gpu_info{device=nvidia1,driver_version=590.48.01,gpu=1,pci_bus_id=00000000:11:00.0,serial=1650000001,vbios_version=96.00.99.00.01,vendor=nvidia}',
    );
    expect(node.events).toEqual([]);
    expect(node.fast.describe()).toContain('NVML 590.48.01');
  });

  // Lost without it: an old driver shows no memory, no temperature limits.
  test('takes the older function where the newer one is not supported', async () => {
    await using nvml = fakeNvml({
      unsupported: 'nvmlDeviceGetMemoryInfo_v2,193,252',
      counter: 1000,
    });
    await using node = nvmlUnderTest(nvml);
    const fast = await node.read();
    expect(fast.get('gpu_memory_used_bytes{gpu=0}')).toBe(60.5 * 2 ** 30);
    expect(fast.get('gpu_memory_reserved_bytes{gpu=0}')).toBe('not_supported');
    expect(fast.get('gpu_memory_utilization_ratio{gpu=0}')).toBe('not_supported');
    expect(fast.get('gpu_clock_event_seconds_total{gpu=0,reason=hw_thermal}')).toBe(2);
    expect((await node.read(node.slow)).get('gpu_temperature_limit_celsius{gpu=0,limit=shutdown}')).toBe(95);
  });

  // Lost without it: a GPU that falls off the bus is silence, and its return a new GPU.
  test('says at once that a GPU is lost, and recognises it when it is back', async () => {
    await using nvml = fakeNvml({ gpus: 3 });
    await using node = nvmlUnderTest(nvml);
    await node.read();
    await node.read(node.slow);
    nvml.control({ gpus: 3, lost: 1 });
    const lost = await node.read();
    expect(lost.get('gpu_up{gpu=1}')).toBe(0);
    expect(lost.get('gpu_power_watts{gpu=1}')).toBe('gpu_lost');
    expect(lost.get('gpu_power_watts{gpu=2}')).toBe(300.502);
    expect(node.events.map(({ type, gpu, gpuUuid }) => ({ type, gpu, gpuUuid }))).toEqual([
      { type: 'gpu_lost', gpu: '1', gpuUuid: UUID(1) },
    ]);
    expect(node.events[0]!.attributes).toEqual({ source: 'nvml', pci: '0000:11:00.0', serial: '1650000001' });
    // Also after the library was opened anew and cannot open the GPU any more.
    await node.readUntil(() => nvml.log().filter((line) => line === 'init').length > 2);
    const still = await node.read();
    expect(still.get('gpu_up{gpu=1}')).toBe(0);
    expect(still.get('gpu_power_watts{gpu=1}')).toBe('gpu_lost');
    expect((await node.read(node.slow)).get('gpu_ecc_enabled{gpu=1}')).toBe('gpu_lost');
    nvml.control({ gpus: 3 });
    const back = await node.readUntil((told) => told.get('gpu_up{gpu=1}') === 1);
    expect(back.get('gpu_power_watts{gpu=1}')).toBe(300.501);
    expect(node.events.map(({ type, gpuUuid }) => [type, gpuUuid])).toEqual([
      ['gpu_lost', UUID(1)],
      ['gpu_back', UUID(1)],
    ]);
  });

  // Lost without it: the card that fell off while the node was down is never missed.
  test('misses a GPU that was there before the agent was started again', async () => {
    await using nvml = fakeNvml({ gpus: 2 });
    const before = nvmlUnderTest(nvml);
    await before.read();
    await before[Symbol.asyncDispose]();
    nvml.control({ gpus: 1 });
    await using node = nvmlUnderTest({ ...nvml, facts: before.facts });
    expect((await node.read()).get('gpu_up{gpu=1}')).toBe(0);
    expect(node.events.map(({ type, gpuUuid }) => [type, gpuUuid])).toEqual([['gpu_lost', UUID(1)]]);
    // Once: the next start of the agent is no news of it.
    await using again = nvmlUnderTest({ ...nvml, facts: before.facts });
    expect((await again.read()).get('gpu_up{gpu=1}')).toBe(0);
    expect(again.events).toEqual([]);
    nvml.control({ gpus: 2 });
    await again.readUntil((told) => told.get('gpu_up{gpu=1}') === 1);
    expect(again.events.map(({ type }) => type)).toEqual(['gpu_back']);
  });

  // Lost without it: a GPU that is dead from the beginning does not exist.
  test('shows a GPU that could never be opened as down', async () => {
    await using nvml = fakeNvml({ gpus: 2, closed: 1 });
    await using node = nvmlUnderTest(nvml);
    expect((await node.read()).get('gpu_up{gpu=1}')).toBe(0);
    expect(node.events.map(({ type, gpu }) => [type, gpu])).toEqual([['gpu_lost', '1']]);
  });

  // Lost without it: after a driver upgrade the agent must be restarted by hand.
  test('opens a reloaded driver by itself within the same read', async () => {
    await using nvml = fakeNvml({ counter: 5000 });
    await using node = nvmlUnderTest(nvml);
    expect((await node.read()).get('gpu_energy_joules_total{gpu=0}')).toBe(5_000_000);
    nvml.control({ generation: 2, counter: 1, driver: '600.10' });
    expect((await node.read()).get('gpu_energy_joules_total{gpu=0}')).toBe(1000);
    const slow = await node.read(node.slow);
    expect([...slow.keys()].find((key) => key.startsWith('gpu_info'))).toContain('driver_version=600.10');
    expect(node.events).toEqual([]);
  });

  test('says that there is no driver, goes on trying, and shows it when it is there', async () => {
    await using nvml = fakeNvml({ init: 9 });
    await using node = nvmlUnderTest(nvml);
    const reading = await node.fast.collect(AbortSignal.timeout(20_000));
    expect(reading.problem).toContain('the driver is not loaded');
    nvml.control({ init: 18 });
    expect((await node.fast.collect(AbortSignal.timeout(20_000))).problem).toContain('different versions');
    nvml.control({});
    const told = await node.readUntil((one) => one.get('up{source=nvml}') === 1);
    expect(told.get('gpu_up{gpu=0}')).toBe(1);
    await using none = nvmlUnderTest({ library: '/nowhere/libnvidia-ml.so.1' });
    const missing = await none.fast.collect(AbortSignal.timeout(20_000));
    expect(missing.problem).toContain('Cannot load /nowhere/libnvidia-ml.so.1');
  });

  // Lost without it: an open handle blocks a driver upgrade or a MIG change.
  test('lets go of the driver between reads where it is told to', async () => {
    await using nvml = fakeNvml({ gpus: 2 });
    await using node = nvmlUnderTest({ ...nvml, keepOpen: false });
    for (let i = 0; i < 3; i++) expect((await node.read()).get('gpu_up{gpu=1}')).toBe(1);
    expect(nvml.log()).toEqual(['init', 'shutdown', 'init', 'shutdown', 'init', 'shutdown']);
  });

  // Lost without it: one wedged driver takes the whole agent with it, or is killed and freezes the GPU.
  test('a hang in the library: other sources miss no tick, SIGTERM once, said once, no second process', async () => {
    await using nvml = fakeNvml();
    await using node = nvmlUnderTest({ ...nvml, timeoutMs: 300 });
    await node.read();
    const inits = nvml.log().length;
    const other = fakeCollector(3, 100);
    const stamps: number[] = [];
    const readings: Reading[] = [];
    const stop = new AbortController();
    const run = (collector: typeof node.fast, take: (reading: Reading) => void): Promise<void> =>
      schedule(
        {
          collector,
          clock: systemClock,
          phase: 0,
          shift: () => 0,
          onReading: async (reading) => take(reading),
          onFailure: (error) => expect.fail(String(error)),
          onMissed: () => {},
        },
        stop.signal,
      );
    nvml.control({ hang: 600, stubborn: 1 });
    const running = [
      run(other, ({ timestampMs }) => void stamps.push(timestampMs)),
      run(node.fast, (reading) => {
        node.events.push(...reading.events);
        readings.push(reading);
      }),
    ];
    await until(() => node.events.length > 0 && readings.length > 5 && stamps.length > 10, {
      timeoutMs: 20_000,
      what: 'the collector says that it is stuck',
    });
    stop.abort();
    await Promise.all(running);
    // On a busy machine a tick may be late; one that waited for the library would wait for ten minutes.
    for (let i = 1; i < stamps.length; i++) expect(stamps[i]! - stamps[i - 1]!).toBeLessThan(5000);
    expect(readings.every(({ states }) => states.includes(4))).toBe(true);
    const [stuck] = node.events;
    expect(stuck).toMatchObject({ type: 'collector_stuck', attributes: { source: 'nvml', phase: 'begin' } });
    const pid = Number(stuck!.attributes.pid);
    expect(readFileSync(`/proc/${pid}/stat`, 'latin1')).toContain(String(pid));
    expect((await node.read()).get('up{source=nvml}')).toBe(0);
    expect(nvml.log().slice(inits)).toEqual(['term']);
    // The driver lets go: the process obeys, and the next read has another one.
    nvml.control({});
    const told = await node.readUntil((one) => one.get('up{source=nvml}') === 1);
    expect(told.get('gpu_up{gpu=0}')).toBe(1);
    expect(node.events.map(({ attributes }) => attributes.phase)).toEqual(['begin', 'over']);
    expect(() => statSync(`/proc/${pid}`)).toThrow();
  });

  // Lost without it: a hang that ends at SIGTERM would be reported as one that does not.
  test('a hang that ends when asked to is a timeout and not a stuck collector', async () => {
    await using nvml = fakeNvml();
    await using node = nvmlUnderTest({ ...nvml, timeoutMs: 200 });
    await node.read();
    nvml.control({ hang: 600 });
    expect((await node.read()).get('gpu_up{gpu=0}')).toBe('timeout');
    nvml.control({});
    await node.readUntil((told) => told.get('gpu_up{gpu=0}') === 1);
    expect(node.events).toEqual([]);
  });

  // Lost without it: a crash in the vendor's library ends the agent, or restarts it in a tight loop.
  test('a crash in the library is counted and said, and the next start waits', async () => {
    await using nvml = fakeNvml();
    await using node = nvmlUnderTest(nvml);
    await node.read();
    nvml.control({ crash: 1 });
    expect((await node.read()).get('gpu_up{gpu=0}')).toBe('absent');
    const paused = await node.fast.collect(AbortSignal.timeout(1000));
    expect(paused.problem).toContain('started again in');
    expect(node.events.map(({ type, attributes }) => [type, attributes.how])).toEqual([
      ['collector_crashed', 'ended by SIGSEGV'],
    ]);
    nvml.control({});
    await node.readUntil((told) => told.get('gpu_up{gpu=0}') === 1);
    expect(node.fast.describe()).toContain('1 crashes');
  });
});

// Lost without it: NVML and the exporter give two series for one thing, and neither replaces the other.
test('every series is of the catalogue, with the labels that dcgm-exporter has for the same', () => {
  const page = readFileSync(new URL('../../../../../shared/catalogue/dcgm.ts', import.meta.url), 'utf8');
  const names = new Set(page.match(/DCGM_FI_[A-Z0-9_]+/g));
  const theirs = new Set([...names].map((name) => shapeOf(dcgmField(name)!)));
  const both = new Set([...names].map((name) => dcgmField(name)!.metric.name));
  for (const { metric, labels, source } of nvmlFields) {
    expect(metricNamed(metric), metric).toBeDefined();
    const perLink = 'field' in source && source.perLink ? ['link'] : [];
    const shape = JSON.stringify([metric, Object.entries(labels).sort(), perLink]);
    if (both.has(metric) && !ONLY_NVML.has(shape)) expect([...theirs], shape).toContain(shape);
  }
});

/** Locations that DCGM has no field for. */
const ONLY_NVML = new Set(
  ['corrected', 'uncorrected'].flatMap((type) =>
    ['volatile', 'aggregate'].map((scope) =>
      JSON.stringify([
        'gpu_ecc_errors_by_location_total',
        [
          ['location', 'sram'],
          ['scope', scope],
          ['type', type],
        ],
        [],
      ]),
    ),
  ),
);

function shapeOf({ metric, labels, labelsFrom }: NonNullable<ReturnType<typeof dcgmField>>): string {
  const sorted = labels.map(([name, value]) => [name, value]).sort();
  return JSON.stringify([metric.name, sorted, [...labelsFrom.values()].filter((name) => name === 'link')]);
}
