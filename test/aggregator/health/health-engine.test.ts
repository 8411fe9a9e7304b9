import { describe, expect, it } from 'vitest';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Source } from '#shared/model/block.ts';
import type { Series } from '#shared/model/dictionary.ts';
import { HealthEngine, type HealthEngineOptions } from '../../../aggregator/health/health-engine.ts';
import { seededRandom } from '../../support/random.ts';
import {
  blockOf,
  dictionaryOf,
  gpuLabels,
  ManualClock,
  SOURCE,
  START_MS,
  series,
  xidEvent,
} from '../alerts/block-of.ts';

/** The series of one H100 and the values of a healthy one under full load. */
const H100: readonly (readonly [name: string, labels: Readonly<Record<string, string>>, value: number])[] = [
  ['gpu_temperature_celsius', { sensor: 'core' }, 68],
  ['gpu_temperature_celsius', { sensor: 'memory' }, 84],
  ['gpu_temperature_margin_celsius', {}, 19],
  ['gpu_power_watts', {}, 699],
  ['gpu_power_limit_watts', { limit: 'enforced' }, 700],
  ['gpu_clock_event_reasons', {}, 0x4],
  ['gpu_clock_event_seconds_total', { reason: 'hw_thermal' }, 100],
  ['gpu_clock_event_seconds_total', { reason: 'sw_thermal' }, 20],
  ['gpu_clock_event_seconds_total', { reason: 'hw_power_brake' }, 0],
  ['gpu_ecc_errors_total', { type: 'uncorrected', scope: 'volatile' }, 0],
  ['gpu_row_remap_pending', {}, 0],
  ['gpu_row_remap_failed', {}, 0],
  ['gpu_remapped_rows', { cause: 'uncorrectable' }, 0],
  ['gpu_pcie_replay_total', {}, 4],
  ['gpu_pcie_link_width', {}, 16],
  ['gpu_pcie_link_width_max', {}, 16],
  ['gpu_recovery_action', {}, 0],
];

type Changes = Readonly<Record<string, number | undefined>>;

function engineOf(options: Partial<HealthEngineOptions> = {}) {
  const clock = new ManualClock();
  const registry = createRegistry();
  const engine = new HealthEngine({ clock, registry, ...options });
  const dictionary = dictionaryOf(H100.map(([name, labels]) => series(name, gpuLabels(0, labels))));
  /** One tick of a healthy H100 with changes, by `name` or `name/label value`; one second after the last. */
  const tick = (changes: Changes = {}, source: Source = SOURCE) => {
    clock.ms += 1000;
    const values = H100.map(([name, labels, value]) => {
      const key = [name, ...Object.values(labels).slice(0, 1)].join('/');
      return key in changes ? changes[key] : name in changes ? changes[name] : value;
    });
    engine.evaluate(blockOf(dictionary, clock.ms, values, { source }));
    return engine.healthOf('GPU-0')!;
  };
  return { engine, clock, registry, tick };
}

describe('a GPU that works', () => {
  it('at full power, at its power cap, costs no point: load is not an illness', () => {
    const { tick } = engineOf();
    for (let i = 0; i < 100; i++) tick();
    expect(tick()).toMatchObject({ score: 100, state: HealthState.HEALTHY, contributions: [] });
  });

  it('at idle costs no point', () => {
    const { tick } = engineOf();
    const idle = { gpu_power_watts: 70, gpu_clock_event_reasons: 0x1, 'gpu_temperature_celsius/core': 30 };
    for (let i = 0; i < 10; i++) tick(idle);
    expect(tick(idle).score).toBe(100);
  });

  it('with all inputs known has a coverage near 1, with the temperature alone still a score', () => {
    expect(engineOf().tick().coverage).toBeGreaterThan(0.6);
    const { engine, clock } = engineOf();
    const plain = dictionaryOf([
      series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'core' })),
      series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'memory' })),
    ]);
    engine.evaluate(blockOf(plain, clock.ms, [60, 60]));
    expect(engine.healthOf('GPU-0')).toMatchObject({ score: 100, state: HealthState.HEALTHY });
  });
});

describe('what costs points', () => {
  it.each<[string, Changes, number, number]>([
    ['gpu_temperature_margin_celsius', { gpu_temperature_margin_celsius: 1 }, 55, 80],
    ['gpu_temperature_celsius{sensor="memory"}', { 'gpu_temperature_celsius/memory': 96 }, 50, 80],
    ['gpu_ecc_errors_total{type="uncorrected",scope="volatile"}', { gpu_ecc_errors_total: 1 }, 20, 60],
    ['gpu_row_remap_pending', { gpu_row_remap_pending: 1 }, 50, 60],
    ['gpu_row_remap_failed', { gpu_row_remap_failed: 1 }, 0, 10],
    ['gpu_remapped_rows{cause="uncorrectable"}', { gpu_remapped_rows: 4 }, 30, 60],
    ['gpu_pcie_link_width', { gpu_pcie_link_width: 8 }, 60, 80],
    ['gpu_recovery_action', { gpu_recovery_action: 4 }, 30, 60],
    ['gpu_clock_event_reasons', { gpu_clock_event_reasons: 0x40 }, 59, 60],
  ])('%s, with value, threshold and a sentence', (signal, changes, from, to) => {
    const { tick } = engineOf();
    tick();
    const health = tick(changes);
    expect(health.score).toBeGreaterThanOrEqual(from);
    expect(health.score).toBeLessThanOrEqual(to);
    const said = health.contributions.find((one) => one.signal === signal);
    expect(said?.explanation).toBeTruthy();
    expect(said!.points).toBeGreaterThan(0);
  });

  it('96 °C where the source tells no margin and no limit', () => {
    const { tick } = engineOf();
    const { score, contributions } = tick({
      gpu_temperature_margin_celsius: undefined,
      'gpu_temperature_celsius/core': 96,
    });
    expect(score).toBeLessThan(70);
    expect(contributions[0]!.value).toBe(-7);
  });

  it('thermal slowdown by its share of the time, forgotten over hours', () => {
    const { tick, clock } = engineOf();
    tick();
    let seconds = 100;
    for (let i = 0; i < 120; i++) {
      seconds += 0.5;
      tick({ 'gpu_clock_event_seconds_total/hw_thermal': seconds });
    }
    const slowed = tick({ 'gpu_clock_event_seconds_total/hw_thermal': seconds });
    expect(slowed.contributions[0]!.signal).toContain('hw_thermal');
    expect(slowed.contributions[0]!.value).toBeGreaterThan(0.05);
    clock.ms += 6 * 3_600_000;
    expect(tick({ 'gpu_clock_event_seconds_total/hw_thermal': seconds }).score).toBeGreaterThan(slowed.score);
  });

  it('not one bad second after a start', () => {
    const { tick } = engineOf();
    tick();
    expect(tick({ 'gpu_clock_event_seconds_total/hw_thermal': 101 }).score).toBeGreaterThan(85);
  });

  it('power over the limit for minutes, not for a second', () => {
    const { tick } = engineOf();
    tick();
    expect(tick({ gpu_power_watts: 900 }).score).toBe(100);
    for (let i = 0; i < 300; i++) tick({ gpu_power_watts: 900 });
    expect(tick({ gpu_power_watts: 900 }).contributions[0]).toMatchObject({ signal: 'gpu_power_watts' });
  });

  it('PCIe replays by their rate; a counter that was reset costs nothing', () => {
    const { tick } = engineOf();
    let count = 1000;
    tick({ gpu_pcie_replay_total: count });
    expect(tick({ gpu_pcie_replay_total: 0 }).score).toBe(100);
    for (let i = 0; i < 600; i++) {
      count += 3;
      tick({ gpu_pcie_replay_total: count });
    }
    expect(tick({ gpu_pcie_replay_total: count }).contributions[0]).toMatchObject({
      signal: 'gpu_pcie_replay_total',
    });
  });

  it('always adds up to what is missing, over random values of every input', () => {
    const { tick } = engineOf();
    const random = seededRandom(5);
    for (let round = 0; round < 2_000; round++) {
      const changes = Object.fromEntries(
        H100.flatMap(([name, labels]) => {
          if (random() < 0.6) return [];
          const key = [name, ...Object.values(labels).slice(0, 1)].join('/');
          return [[key, random() < 0.2 ? undefined : Math.floor(random() ** 4 * 1000)]];
        }),
      );
      const { score, contributions } = tick(changes);
      expect(contributions.reduce((sum, one) => sum + one.points, 0)).toBe(100 - score);
    }
  });
});

describe('an Xid', () => {
  it('79 holds the score at 10 and makes the GPU critical at once', () => {
    const { engine, clock, tick } = engineOf();
    tick();
    engine.event(SOURCE, xidEvent(79, clock.ms));
    expect(engine.healthOf('GPU-0')).toMatchObject({ state: HealthState.CRITICAL });
    expect(engine.healthOf('GPU-0')!.score).toBeLessThanOrEqual(10);
  });

  it('of an application costs nothing: they are most of all Xids', () => {
    const { engine, clock, tick } = engineOf();
    tick();
    for (const code of [13, 31, 43, 45]) engine.event(SOURCE, xidEvent(code, clock.ms));
    expect(tick().score).toBe(100);
  });

  it('counts for an hour by its own time, also from the backlog, and also without a UUID', () => {
    const { engine, clock, tick } = engineOf();
    tick();
    engine.event(SOURCE, { ...xidEvent(48, clock.ms - 1_800_000), gpuUuid: '' });
    expect(tick().contributions[0]).toMatchObject({ signal: 'xid', value: 48 });
    clock.ms += 1_800_000;
    expect(tick().score).toBe(100);
    engine.event(SOURCE, xidEvent(48, clock.ms - 7_200_000));
    expect(tick().score).toBe(100);
  });
});

describe('a GPU that is lost', () => {
  it('is critical, also in silence, until it gives samples again', () => {
    const { engine, clock, tick } = engineOf();
    tick();
    const lost = { ...xidEvent(0, clock.ms), type: 'gpu_lost', attributes: {} };
    engine.event(SOURCE, lost);
    clock.ms += 60_000;
    expect(engine.healthOf('GPU-0')).toMatchObject({ state: HealthState.CRITICAL });
    expect(engine.healthOf('GPU-0')!.contributions.some((one) => one.signal === 'gpu_lost')).toBe(true);
    expect(tick().score).toBe(100);
  });

  it('that comes back as an event is there again', () => {
    const { engine, clock, tick } = engineOf();
    tick();
    engine.event(SOURCE, { ...xidEvent(0, clock.ms), type: 'gpu_lost' });
    engine.event(SOURCE, { ...xidEvent(0, clock.ms), type: 'gpu_back' });
    expect(engine.healthOf('GPU-0')!.score).toBe(100);
  });
});

describe('unknown', () => {
  it('is a GPU that was never heard of, and one that is silent for three intervals', () => {
    const { engine, clock, tick } = engineOf();
    expect(engine.healthOf('GPU-0')).toBeUndefined();
    tick();
    clock.ms += 4_000;
    expect(engine.healthOf('GPU-0')).toMatchObject({ state: HealthState.HEALTHY });
    clock.ms += 1;
    expect(engine.healthOf('GPU-0')).toMatchObject({ state: HealthState.UNKNOWN, coverage: 0 });
    expect(tick().state).toBe(HealthState.HEALTHY);
  });

  it('is one whose temperature and power the driver refuses: absent is not fine', () => {
    const { tick, clock } = engineOf();
    tick();
    clock.ms += 10_000;
    const refused = { 'gpu_temperature_celsius/core': undefined, gpu_power_watts: undefined };
    expect(tick(refused).state).toBe(HealthState.UNKNOWN);
  });

  it('is not a critical GPU that fell silent: silence heals nothing, for a day', () => {
    const { engine, clock, tick } = engineOf();
    tick({ gpu_row_remap_failed: 1 });
    clock.ms += 3_600_000;
    expect(engine.healthOf('GPU-0')!.state).toBe(HealthState.CRITICAL);
    clock.ms += 24 * 3_600_000;
    expect(engine.healthOf('GPU-0')!.state).toBe(HealthState.UNKNOWN);
  });

  it('is a GPU of which only the backlog is known', () => {
    const { engine, clock } = engineOf();
    const dictionary = dictionaryOf([series('gpu_power_watts', gpuLabels(0))]);
    engine.evaluate(blockOf(dictionary, clock.ms, [100], { live: false }));
    expect(engine.healthOf('GPU-0')).toBeUndefined();
  });
});

describe('whose GPU it is', () => {
  it('a node that claims the GPU of another does not change its health', async () => {
    const { engine, registry, tick } = engineOf();
    tick();
    const thief: Source = { ...SOURCE, node: 'thief' };
    expect(tick({ gpu_row_remap_failed: 1 }, thief).score).toBe(100);
    expect(await registry.metrics()).toContain('gpufleet_health_refused_total{reason="other_node"} 1');
    expect([...engine.scores()][0]!.source).toBe(SOURCE);
  });

  it('a GPU that was moved takes its health to the other node', () => {
    const { engine, clock, tick } = engineOf();
    tick();
    clock.ms += 60_000;
    const other: Source = { ...SOURCE, node: 'other' };
    tick({}, other);
    expect([...engine.scores()].map(({ source, uuid, score }) => [source.node, uuid, score])).toEqual([
      ['other', 'GPU-0', 100],
    ]);
  });

  it('a slice does not count as the GPU', () => {
    const { engine, clock } = engineOf();
    const slice: Series = series('gpu_power_watts', gpuLabels(0, { mig_id: '1' }));
    engine.evaluate(blockOf(dictionaryOf([slice]), clock.ms, [100]));
    expect([...engine.scores()]).toEqual([]);
  });

  it('more GPUs than the limit are refused, counted, and let in once others were silent for a day', async () => {
    const { engine, clock, registry } = engineOf({ maxGpus: 1 });
    const of = (gpu: number) => dictionaryOf([series('gpu_power_watts', gpuLabels(gpu))]);
    engine.evaluate(blockOf(of(0), START_MS, [100]));
    engine.evaluate(blockOf(of(1), START_MS, [100]));
    expect(await registry.metrics()).toContain('gpufleet_health_refused_total{reason="too_many"} 1');
    clock.ms += 25 * 3_600_000;
    engine.evaluate(blockOf(of(1), clock.ms, [100]));
    expect([...engine.scores()].map(({ uuid }) => uuid)).toEqual(['GPU-1']);
  });
});
