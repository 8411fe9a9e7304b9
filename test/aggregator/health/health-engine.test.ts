import { describe, expect, it } from 'vitest';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Source } from '#shared/model/block.ts';
import type { Series } from '#shared/model/dictionary.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
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
  ['gpu_temperature_celsius', { sensor: 'memory' }, 78],
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

const DAY_MS = 86_400_000;

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

  it('with all inputs known has a coverage near 1; with the temperature alone a score, and a state that says unknown', () => {
    expect(engineOf().tick().coverage).toBeGreaterThan(0.9);
    const { engine, clock } = engineOf();
    const plain = dictionaryOf([
      series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'core' })),
      series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'memory' })),
    ]);
    engine.evaluate(blockOf(plain, clock.ms, [60, 60]));
    expect(engine.healthOf('GPU-0')).toMatchObject({ score: 100, state: HealthState.UNKNOWN });
    expect(engine.detailOf('GPU-0')!.low).toBeLessThan(20);
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
    expect(contributions[0]!.value).toBe(-9);
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

  it('is forgotten by half in a week of its own time, also from the backlog, and also without a UUID', () => {
    const { engine, clock, tick } = engineOf();
    tick();
    engine.event(SOURCE, { ...xidEvent(48, clock.ms - 7 * DAY_MS), gpuUuid: '' });
    const { contributions } = tick();
    expect(contributions[0]).toMatchObject({ signal: 'xid' });
    expect(contributions[0]!.value).toBeCloseTo(0.5, 3);
    expect(contributions[0]!.explanation).toContain('Xid 48 (uncorrectable ECC error) 7 days ago');
  });

  it.each([
    ['a burst counts once: a loop in one driver is not a hundred faults', [0, 60_000, 120_000], 63, {}, 0.3],
    ['comes again after the burst', [0, 600_000], 63, {}, 0.6],
    ['is only the follower of another', [0], 48, { follows: '79' }, 0],
    ['a site has judged harmless', [0], 48, { severity: 'info' }, 0],
    ['a site has judged worse than the catalogue', [0], 31, { severity: 'error' }, 0.5],
    ['63 is suspicious, not fatal', [0], 63, { severity: 'warning' }, 0.3],
  ])('that %s', (_, times, code, attributes, weight) => {
    const { engine, clock, tick } = engineOf();
    tick();
    const at = clock.ms - 600_000;
    for (const ms of times) {
      const event = xidEvent(code, at + ms);
      engine.event(SOURCE, { ...event, attributes: { ...event.attributes, ...attributes } });
    }
    const said = tick().contributions.find(({ signal }) => signal === 'xid');
    expect(said?.value ?? 0).toBeCloseTo(weight, 2);
  });

  it('45 costs only where no process is named: else one ended, as they do', () => {
    const { engine, clock, tick } = engineOf();
    tick();
    const event = xidEvent(45, clock.ms);
    engine.event(SOURCE, { ...event, text: "NVRM: Xid (PCI:0000:1b:00): 45, pid='<unknown>', Ch 00000008" });
    expect(tick().score).toBeLessThan(90);
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
    // The minute of silence was announced by its loss: it is no gap of the agent.
    expect(tick()).toMatchObject({ score: 100, state: HealthState.CRITICAL });
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
    expect(tick().state).toBe(HealthState.UNKNOWN);
    for (let i = 0; i < 90; i++) tick();
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

describe('missing data', () => {
  const missing: readonly [what: string, changes: Changes, confidence: number][] = [
    ['nothing', {}, 1],
    ['an optional signal', { gpu_remapped_rows: undefined }, 1],
    ['a required one', { gpu_ecc_errors_total: undefined }, 0.95],
    [
      'both temperatures',
      { gpu_temperature_celsius: undefined, gpu_temperature_margin_celsius: undefined },
      0.9,
    ],
  ];

  it.each(missing)('(%s) costs no point, and widens the interval by what is required', (_, changes, most) => {
    const { engine, tick } = engineOf();
    tick(changes);
    const { score, low, confidence, contributions } = engine.detailOf('GPU-0')!;
    expect(score).toBe(100);
    expect(contributions).toEqual([]);
    expect(confidence).toBeLessThanOrEqual(most);
    expect(confidence).toBeGreaterThan(0.6);
    if (most === 1) expect(low).toBe(100);
    else expect(low).toBeLessThan(50);
  });

  it('is never taken as 0: a margin of nothing is a GPU that burns', () => {
    const { engine, tick } = engineOf();
    tick({ gpu_temperature_margin_celsius: undefined, gpu_temperature_celsius: undefined });
    const thermal = engine.detailOf('GPU-0')!.dimensions.find(({ dimension }) => dimension === 2)!;
    expect(thermal.score).toBe(100);
    expect(thermal.coverage).toBeLessThan(0.5);
  });

  it('makes the state unknown below 60 % confidence: a guess is no verdict', () => {
    const { engine, clock } = engineOf();
    const power = dictionaryOf([series('gpu_power_watts', gpuLabels(0))]);
    engine.evaluate(blockOf(power, clock.ms, [300]));
    const { confidence, low, state } = engine.detailOf('GPU-0')!;
    expect(confidence).toBeLessThan(0.6);
    expect(low).toBeLessThan(20);
    expect(state).toBe(HealthState.UNKNOWN);
  });
});

describe('what its peers say', () => {
  it('costs points while it is news, and nothing once nobody renews it', () => {
    const { engine, clock, tick } = engineOf();
    tick();
    engine.facts('GPU-0', { clockRatio: 0.85, temperatureZ: 1, stepTimeRatio: 1.2 });
    const { contributions } = tick();
    expect(contributions.map(({ signal }) => signal)).toEqual([
      'gpu_clock_hertz{domain="sm"} against siblings',
      'step time against job peers',
    ]);
    clock.ms += 16 * 60_000;
    expect(tick().contributions.filter(({ signal }) => signal.includes('siblings'))).toEqual([]);
  });

  it('weighs corrected errors by its fleet: what all of them show is no fault of one', () => {
    const { engine, clock } = engineOf();
    const dictionary = dictionaryOf([
      series('gpu_ecc_errors_total', gpuLabels(0, { type: 'corrected', scope: 'volatile' })),
    ]);
    engine.evaluate(blockOf(dictionary, clock.ms, [0]));
    clock.ms += 1000;
    engine.evaluate(blockOf(dictionary, clock.ms, [200]));
    const signals = () => engine.healthOf('GPU-0')!.contributions.map(({ value }) => value);
    engine.facts('GPU-0', { correctedEccFleetP99PerDay: 250 });
    clock.ms += 1000;
    engine.evaluate(blockOf(dictionary, clock.ms, [200]));
    expect(signals()).toEqual([]);
    engine.facts('GPU-0', { correctedEccFleetP99PerDay: 20 });
    clock.ms += 1000;
    engine.evaluate(blockOf(dictionary, clock.ms, [200]));
    expect(signals()).toEqual([10]);
  });
});

describe('a cap', () => {
  const event = (type: string, atMs: number, attributes: Readonly<Record<string, string>> = {}) => ({
    ...xidEvent(0, atMs),
    type,
    attributes,
  });

  it.each([
    ['diagnostic', { result: 'pass' }, 100],
    ['operator_clear', { by: 'anna' }, 100],
    ['repair', {}, 70],
  ])('of an Xid 79 is lifted by %s, and only by what came after it', (type, attributes, score) => {
    const { engine, clock, tick } = engineOf();
    tick();
    engine.event(SOURCE, xidEvent(79, clock.ms));
    engine.event(SOURCE, event(type, clock.ms - 60_000, attributes));
    expect(tick()).toMatchObject({ state: HealthState.CRITICAL });
    expect(tick().score).toBeLessThanOrEqual(10);
    clock.ms += 1000;
    engine.event(SOURCE, event(type, clock.ms, attributes));
    expect(tick().score).toBeGreaterThanOrEqual(score - 5);
    // What is delivered late and was before the clearing does not bring it back.
    engine.event(SOURCE, xidEvent(79, clock.ms - 30_000));
    expect(tick().score).toBeGreaterThanOrEqual(score - 5);
  });

  it('of an Xid 79 ends after a day, and its weight goes on', () => {
    const { engine, clock, tick } = engineOf();
    tick();
    engine.event(SOURCE, xidEvent(79, clock.ms));
    clock.ms += DAY_MS + 60_000;
    const { contributions, score } = tick();
    expect(contributions.some(({ explanation }) => explanation.includes('held at'))).toBe(false);
    expect(score).toBeLessThan(50);
  });

  it('of uncorrectable errors holds for seven days though the driver was loaded anew, and a passed check of the node lifts it', () => {
    const { engine, clock, tick } = engineOf();
    tick();
    tick({ gpu_ecc_errors_total: 1 });
    clock.ms += 6 * DAY_MS;
    expect(tick({ gpu_ecc_errors_total: 0 }).score).toBeLessThanOrEqual(60);
    engine.event(SOURCE, { ...event('diagnostic', clock.ms, { result: 'pass' }), gpu: '', gpuUuid: '' });
    expect(tick({ gpu_ecc_errors_total: 0 }).score).toBeGreaterThan(85);
  });

  it('of a row remap that failed is not talked away: the device still says so', () => {
    const { engine, clock, tick } = engineOf();
    tick({ gpu_row_remap_failed: 1 });
    engine.event(SOURCE, event('operator_clear', clock.ms));
    expect(tick({ gpu_row_remap_failed: 1 })).toMatchObject({ state: HealthState.CRITICAL });
  });
});

describe('a driver reload', () => {
  it('invents no errors: counters that begin anew count from there', () => {
    const { tick } = engineOf();
    tick({ gpu_pcie_replay_total: 500, 'gpu_clock_event_seconds_total/hw_thermal': 900 });
    const again = { gpu_pcie_replay_total: 0, 'gpu_clock_event_seconds_total/hw_thermal': 0 };
    expect(tick(again).contributions).toEqual([]);
  });

  it('takes all GPUs of a node and gives them back: nobody has to clear what nobody broke', () => {
    const { engine, clock } = engineOf();
    const dictionary = dictionaryOf(
      [0, 1].flatMap((gpu) => H100.map(([name, labels]) => series(name, gpuLabels(gpu, labels)))),
    );
    const values = [0, 1].flatMap(() => H100.map(([, , value]) => value));
    const tickBoth = () => {
      clock.ms += 1000;
      engine.evaluate(blockOf(dictionary, clock.ms, values));
    };
    const send = (type: string) => {
      for (const gpu of [0, 1]) engine.event(SOURCE, { ...xidEvent(0, clock.ms, gpu), type, attributes: {} });
    };
    tickBoth();
    send('gpu_lost');
    expect(engine.scoreOf('GPU-1')).toMatchObject({ state: HealthState.CRITICAL });
    clock.ms += 20_000;
    send('gpu_back');
    tickBoth();
    for (const gpu of ['GPU-0', 'GPU-1']) {
      expect(engine.detailOf(gpu)).toMatchObject({ owesClearing: false, score: 100 });
      expect(engine.scoreOf(gpu)!.state).not.toBe(HealthState.CRITICAL);
    }
  });
});

describe('links', () => {
  const stateOf = (states: readonly number[][]) => {
    const { engine, clock } = engineOf();
    const dictionary = dictionaryOf(
      states[0]!.map((_, link) => series('gpu_link_state', gpuLabels(0, { link: String(link) }))),
    );
    for (const values of states) {
      clock.ms += 1000;
      engine.evaluate(blockOf(dictionary, clock.ms, values));
    }
    return engine.healthOf('GPU-0')!;
  };

  it('of which one is down hold the score at 30', () => {
    expect(stateOf([[1, 1, 0]])).toMatchObject({ score: 30 });
    expect(
      stateOf([
        [1, 1, 1],
        [0, 0, 0],
      ]).contributions[0]!.explanation,
    ).toContain('3 of its 18 links are down');
  });

  it('that were never there, or were disabled, cost nothing: a board without a bridge is whole', () => {
    expect(stateOf([[0, 0, 0]]).score).toBe(100);
    expect(stateOf([[1, 1, 2]]).score).toBe(100);
  });

  it('count their errors by the hour; a link that is new, or a counter that fell, is none', () => {
    const { engine, clock } = engineOf();
    const names = ['gpu_link_crc_flit_errors_total', 'gpu_link_replay_errors_total'];
    const of = (...links: string[]) =>
      dictionaryOf(links.flatMap((link) => names.map((name) => series(name, gpuLabels(0, { link })))));
    const see = (dictionary: ReturnType<typeof of>, values: number[]) => {
      clock.ms += 1000;
      engine.evaluate(blockOf(dictionary, clock.ms, values));
      return (
        engine.healthOf('GPU-0')!.contributions.find(({ signal }) => signal.startsWith('gpu_link'))?.value ??
        0
      );
    };
    const one = of('0');
    expect(see(one, [1000, 5])).toBe(0);
    expect(see(one, [1004, 6])).toBe(5);
    expect(see(one, [0, 6])).toBe(5);
    expect(see(of('0', '1'), [0, 6, 800, 7])).toBe(5);
    clock.ms += 2 * 3_600_000;
    expect(see(of('0', '1'), [0, 6, 800, 7])).toBe(0);
  });
});

describe('two sources of one series', () => {
  it('are not added up: the slower one of two that disagree is not heard while the other is fresh', () => {
    const { engine, clock } = engineOf();
    const ecc = series('gpu_ecc_errors_total', gpuLabels(0, { type: 'uncorrected', scope: 'volatile' }));
    const fast = createDictionary('nvml', 1000, [ecc]);
    const slow = createDictionary('dcgm', 30_000, [ecc]);
    for (let i = 0; i < 30; i++) {
      clock.ms += 1000;
      engine.evaluate(blockOf(fast, clock.ms, [4]));
      engine.evaluate(blockOf(slow, clock.ms, [3]));
    }
    expect(engine.healthOf('GPU-0')!.contributions[0]!.value).toBe(4);
  });
});

describe('a restart', () => {
  it('forgets no Xid, no loss, no error that was counted, and counts none twice', () => {
    const first = engineOf();
    first.tick();
    first.tick({ gpu_ecc_errors_total: 1 });
    first.engine.event(SOURCE, xidEvent(48, first.clock.ms));
    const before = first.tick({ gpu_ecc_errors_total: 1 });
    const saved = JSON.parse(JSON.stringify([...first.engine.saved()]));

    const second = engineOf();
    second.engine.restore(saved);
    second.clock.ms = first.clock.ms;
    const after = second.tick({ gpu_ecc_errors_total: 1 });
    const said = ({ contributions }: typeof after) =>
      contributions.map(({ signal, value }) => [signal, Number(value.toFixed(3))]);
    expect(said(after)).toEqual(said(before));
    expect(second.engine.scoreOf('GPU-0')).toEqual({ score: after.score, state: before.state });
  });

  it('does not change what is kept while nothing happens: a change is a write', () => {
    const { engine, tick } = engineOf();
    tick();
    const before = JSON.stringify([...engine.saved()]);
    for (let i = 0; i < 5; i++) tick();
    expect(JSON.stringify([...engine.saved()])).toBe(before);
  });

  it('with something else on disk begins anew', () => {
    const { engine, tick } = engineOf();
    engine.restore([{ uuid: 'GPU-0', machine: { state: HealthState.HEALTHY }, record: { repairs: 'x' } }]);
    expect(tick().score).toBe(100);
  });
});

describe('each change of state', () => {
  it('is told once, with what the score is made of', () => {
    const told: string[] = [];
    const { engine, clock, tick } = engineOf({
      onTransition: ({ uuid }, { from, to, cause }, contributions) =>
        told.push(`${uuid} ${from}>${to} ${cause} ${contributions.map(({ signal }) => signal).join()}`),
    });
    tick();
    engine.event(SOURCE, xidEvent(79, clock.ms));
    tick();
    clock.ms += 60_000;
    engine.advance();
    expect(told).toEqual(['GPU-0 0>1 score ', 'GPU-0 1>3 cap xid']);
  });
});
