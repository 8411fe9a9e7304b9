import { describe, expect, it } from 'vitest';
import type { FaultKind } from '../../../../agent/collect/simulated/faults.ts';
import type { Anomaly, DetectorName } from '../../../../aggregator/health/detect/anomaly.ts';
import { DetectionEngine } from '../../../../aggregator/health/detect/detection-engine.ts';
import { defaultDetectionSettings } from '../../../../aggregator/health/detect/detection-settings.ts';
import { createRegistry } from '../../../../shared/instruments/registry.ts';
import type { Block } from '../../../../shared/model/block.ts';
import { type Dictionary, labelOf } from '../../../../shared/model/dictionary.ts';
import { createDictionary } from '../../../../shared/wire/dictionary.ts';
import { blockOf, dictionaryOf, gpuLabels, ManualClock, series } from '../../alerts/block-of.ts';
import { INTERVAL_MS, NODE, watchSimulated } from './simulated-watch.ts';

const HOURS = 5;
const AT_HOUR = 4;

/** What a user is told, or not, of what befalls GPU 1 in the fifth hour. */
const TABLE: readonly [
  FaultKind,
  seconds: number,
  first: readonly [DetectorName, metric: string] | undefined,
][] = [
  ['frozen_sensor', 1800, ['frozen', 'gpu_power']],
  ['off_the_bus', 1800, ['level', 'gpu_up']],
  ['thermal_runaway', 900, ['rate', 'gpu_clock_event_seconds_total']],
  ['fan_failure', 1800, ['level', 'gpu_temperature_celsius']],
  ['ecc_corrected', 600, ['rate', 'gpu_ecc_errors_total']],
  ['row_remap_failure', 600, ['rate', 'gpu_row_remap']],
  ['nvlink_down', 900, ['rate', 'gpu_link_crc_flit_errors_total']],
  ['pcie_downtrain', 900, ['level', 'gpu_pcie_link_width']],
  ['power_brake', 600, ['rate', 'gpu_clock_event_seconds_total']],
  ['straggler', 1800, ['level', 'gpu_clock_hertz']],
  ['job_start', 60, undefined],
  ['job_stop', 1800, undefined],
  ['driver_reload', 20, undefined],
  ['memory_full', 1800, undefined],
  ['application_xid', 1, undefined],
];

const ofGpu = (incidents: readonly Anomaly[], gpu: string) => incidents.filter((one) => one.gpu === gpu);

describe('what a user is told of', () => {
  it.each(TABLE)('%s', async (kind, seconds, first) => {
    const faults = [{ kind, gpu: 1, at: AT_HOUR * 3600, duration: seconds * 1000 }];
    const { incidents } = await watchSimulated({ hours: HOURS, faults });
    if (first === undefined) return expect(incidents).toEqual([]);
    const [incident, ...more] = ofGpu(incidents, '1');
    expect(more).toEqual([]);
    const [detector, metric] = first;
    expect(
      incident?.contributions.some((one) => one.detector === detector && one.signal.startsWith(metric)),
    ).toBe(true);
    expect(incident?.test).toBe(false);
  });

  it('counters that fall without any event: a driver reload of an agent that misses it', async () => {
    const faults = [{ kind: 'driver_reload', at: AT_HOUR * 3600 }];
    const { incidents } = await watchSimulated({ hours: HOURS, faults, silent: true });
    expect(incidents).toEqual([]);
  });

  it('a power cap that policy sets: slower and cooler, and told of by the driver', async () => {
    const { incidents } = await watchSimulated({ hours: HOURS, load: 'steady', show: cappedAt(AT_HOUR) });
    expect(incidents).toEqual([]);
  });

  it('MIG that is reconfigured: another dictionary, instances that come and go', async () => {
    const dictionaries = new Map<Dictionary, Dictionary>();
    const show = (block: Block, hour: number): Block => {
      if (hour < AT_HOUR) return block;
      const { dictionary } = block;
      const partitioned = dictionaries.get(dictionary) ?? withInstances(dictionary);
      dictionaries.set(dictionary, partitioned);
      const values = new Float64Array(partitioned.series.length).fill(149);
      values.set(block.values);
      const states = new Uint8Array(partitioned.series.length);
      states.set(block.states);
      return { ...block, dictionary: partitioned, values, states };
    };
    const { incidents } = await watchSimulated({ hours: HOURS, show });
    expect(incidents).toEqual([]);
  });
});

/** Of the second half of it, power is capped at 350 W from an hour on: clock, energy and temperature follow. */
function cappedAt(from: number): (block: Block, hour: number) => Block {
  const saved = new Map<number, number>();
  return (block, hour) => {
    if (hour < from) return block;
    const values = block.values.slice();
    const { series: all } = block.dictionary;
    const place = (gpu: string, name: string, value?: string) =>
      all.findIndex(
        ({ name: other, labels }) =>
          other === name &&
          labelOf(labels, 'gpu') === gpu &&
          (value === undefined || labels.some(([, v]) => v === value)),
      );
    for (const gpu of ['0', '1', '2', '3']) {
      const power = place(gpu, 'gpu_power_watts');
      const over = Math.max(0, values[power]! - 350);
      if (over === 0) continue;
      values[power] = 350 - over / 1000;
      values[place(gpu, 'gpu_power_instant_watts')]! -= over;
      values[place(gpu, 'gpu_power_limit_watts', 'enforced')] = 350;
      values[place(gpu, 'gpu_clock_event_reasons')] = 0x4;
      values[place(gpu, 'gpu_clock_hertz', 'sm')]! *= 0.7;
      values[place(gpu, 'gpu_temperature_celsius', 'core')]! -= Math.round(0.06 * over);
      values[place(gpu, 'gpu_temperature_celsius', 'memory')]! -= Math.round(0.05 * over);
      const energy = place(gpu, 'gpu_energy_joules_total');
      saved.set(energy, (saved.get(energy) ?? 0) + (over * INTERVAL_MS) / 1000);
      values[energy]! -= saved.get(energy)!;
    }
    return { ...block, values };
  };
}

function withInstances(dictionary: Dictionary): Dictionary {
  const parts = dictionary.series
    .filter(({ name }) => name === 'gpu_temperature_celsius' || name === 'gpu_power_watts')
    .map((one) => ({
      ...one,
      labels: [...one.labels, ['mig_id', '3'] as const].sort(([a], [b]) => (a < b ? -1 : 1)),
    }));
  return createDictionary(dictionary.group, dictionary.intervalMs, [...dictionary.series, ...parts]);
}

describe('settings', () => {
  it('switch a detector off, so that a fleet whose sensors freeze is not called for it', async () => {
    const settings = { ...defaultDetectionSettings(), detectors: { frozen: false } };
    const faults = [{ kind: 'frozen_sensor', gpu: 1, at: AT_HOUR * 3600, duration: 1_800_000 }];
    const { incidents } = await watchSimulated({ hours: HOURS, faults, settings });
    expect(incidents.flatMap((one) => one.contributions.map(({ detector }) => detector))).not.toContain(
      'frozen',
    );
  });

  it('make one metric less sensitive than a fault shows', async () => {
    const settings = {
      ...defaultDetectionSettings(),
      metrics: {
        gpu_pcie_replay_total: { times: 1, floor: 0 },
        gpu_ecc_errors_total: { times: 1000, floor: 0 },
      },
    };
    const faults = [{ kind: 'ecc_corrected', gpu: 1, at: AT_HOUR * 3600, duration: 600_000 }];
    const { incidents } = await watchSimulated({ hours: HOURS, faults, settings });
    expect(incidents).toEqual([]);
  });
});

function small(maxSeries?: number) {
  const clock = new ManualClock();
  const registry = createRegistry();
  const engine = new DetectionEngine({ clock, registry, ...(maxSeries !== undefined && { maxSeries }) });
  const dictionary = dictionaryOf([
    series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'core' })),
    series('gpu_power_watts', gpuLabels(0)),
  ]);
  engine.evaluate(blockOf(dictionary, clock.ms, [60, 300], { source: NODE }));
  return { engine, clock, registry };
}

describe('a test that an operator injects', () => {
  it('is an incident of that GPU, marked as a test, that ends when its time is up', () => {
    const { engine, clock } = small();
    const phases: string[] = [];
    engine.subscribe((anomaly, phase) => {
      expect(anomaly).toMatchObject({ test: true, uuid: 'GPU-0', gpu: '0', strength: 3 });
      expect(anomaly.text).toMatch(/^Test: GPU 0: gpu_power_watts/);
      phases.push(phase);
    });
    engine.inject({ node: 'n', gpu: '0', metric: 'gpu_power_watts', strength: 3, seconds: 60 });
    for (let second = 0; second < 1200; second += 10) {
      clock.ms += 10_000;
      engine.advance(clock.ms);
    }
    expect(phases).toEqual(['begin', 'end']);
    expect([...engine.anomaliesOf('GPU-0')]).toMatchObject([{ test: true }]);
  });

  it('says no for a GPU that is not heard, a strength that is none, and a hundred at once', () => {
    const { engine } = small();
    const test = { uuid: 'GPU-0', metric: 'gpu_power_watts', strength: 2, seconds: 60 };
    expect(() => engine.inject({ ...test, uuid: 'GPU-9' })).toThrow('is not heard');
    expect(() => engine.inject({ ...test, strength: 0.5 })).toThrow('strength');
    expect(() => engine.inject({ ...test, seconds: 1e6 })).toThrow('seconds');
    for (let i = 0; i < 100; i++) engine.inject(test);
    expect(() => engine.inject(test)).toThrow('100 tests run');
  });
});

describe('findings of others', () => {
  const peer = {
    detector: 'peer',
    signal: 'gpu_clock_hertz sm',
    value: 1,
    expected: 2,
    strength: 2,
  } as const;

  it('join the incident of their GPU: one event, not two', () => {
    const { engine, clock } = small();
    const begun: string[] = [];
    engine.subscribe(({ id }, phase) => void (phase === 'begin' && begun.push(id)));
    engine.findings(NODE, 'GPU-0', '0', [peer, { ...peer, detector: 'row', signal: 'row' }], clock.ms);
    expect(begun).toHaveLength(1);
    expect([...engine.anomalies()]).toMatchObject([
      { model: 'NVIDIA H100 80GB HBM3', contributions: [{ detector: 'peer' }, { detector: 'row' }] },
    ]);
  });
});

describe('limits', () => {
  it('refuses series beyond the most, and counts them', async () => {
    const { registry } = small(3);
    expect(await registry.getSingleMetricAsString('gpufleet_detector_refused_total')).toMatch(
      /reason="too_many_series"} [1-9]/,
    );
  });

  it('forgets a node that was silent for a day: its series count no more', async () => {
    const { engine, clock, registry } = small();
    const watched = () => registry.getSingleMetricAsString('gpufleet_detector_series');
    expect(await watched()).toMatch(/detector="level"} [1-9]/);
    clock.ms += 86_400_000;
    engine.advance(clock.ms);
    expect(await watched()).toMatch(/detector="level"} 0/);
  });
});
