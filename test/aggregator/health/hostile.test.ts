import { describe, expect, it } from 'vitest';
import { type HealthDimension, HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Source } from '#shared/model/block.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { composeScore } from '../../../aggregator/health/compose-score.ts';
import { HealthEngine, type HealthEngineOptions } from '../../../aggregator/health/health-engine.ts';
import { Incidents } from '../../../aggregator/health/incidents.ts';
import { builtInProfiles } from '../../../aggregator/health/profiles/load-profiles.ts';
import { type Profile, ProfileSet } from '../../../aggregator/health/profiles/profile.ts';
import { WindowCount } from '../../../aggregator/health/window-count.ts';
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

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const ecc = (gpu = 0) =>
  series('gpu_ecc_errors_total', gpuLabels(gpu, { type: 'uncorrected', scope: 'volatile' }));
const power = (gpu = 0) => series('gpu_power_watts', gpuLabels(gpu));

function engineOf(options: Partial<HealthEngineOptions> = {}) {
  const clock = new ManualClock();
  const registry = createRegistry();
  const engine = new HealthEngine({ clock, registry, ...options });
  const dictionary = dictionaryOf([power(), ecc()]);
  const tick = (watts: number, errors: number, at?: number) => {
    if (at === undefined) clock.ms += 1_000;
    const timestampMs = at ?? clock.ms;
    engine.evaluate(blockOf(dictionary, timestampMs, [watts, errors]));
    return engine.detailOf('GPU-0')!;
  };
  return { engine, clock, registry, tick };
}

const generic = builtInProfiles().named('generic')!;
const h100 = builtInProfiles().named('h100')!;
/** The one profile there is, changed. */
const profilesOf = (change: Partial<Profile>) => new ProfileSet([{ ...h100, ...change }]);

function event(type: string, timestampMs: number, attributes: FleetEvent['attributes'] = {}): FleetEvent {
  return { type, timestampMs, gpu: '0', gpuUuid: 'GPU-0', text: '', attributes };
}

// Lost without it: one broken agent, and no GPU of the fleet that is new gets a score any more.
describe('a node that invents a GPU at each tick', () => {
  it('takes no room from others: its silent ones make way, at 1,024', async () => {
    const { engine, clock, registry } = engineOf({ maxGpus: 5_000 });
    for (let i = 0; i < 3_000; i++) {
      clock.ms += 10_000;
      engine.evaluate(blockOf(dictionaryOf([power(i)]), clock.ms, [300]));
    }
    expect([...engine.scores()]).toHaveLength(1_024);
    expect(await registry.metrics()).not.toContain('reason="too_many_of_node"');
  });

  it('cannot have more than that at once, and what is refused is counted', async () => {
    const { engine, clock, registry } = engineOf();
    const all = Array.from({ length: 1_100 }, (_, gpu) => power(gpu));
    engine.evaluate(
      blockOf(
        dictionaryOf(all),
        clock.ms,
        all.map(() => 300),
      ),
    );
    expect([...engine.scores()]).toHaveLength(1_024);
    expect(await registry.metrics()).toContain('gpufleet_health_refused_total{reason="too_many_of_node"} 76');
    // Those that fall silent make way.
    clock.ms += 10_000;
    engine.evaluate(blockOf(dictionaryOf([power(5_000)]), clock.ms, [300]));
    expect(engine.scoreOf('GPU-5000')).toBeDefined();
  });

  it('heals nothing by it: a critical GPU that had to make way is critical when it is heard again', () => {
    const { engine, clock } = engineOf();
    engine.evaluate(blockOf(dictionaryOf([power(0)]), clock.ms, [300]));
    engine.event(SOURCE, xidEvent(79, clock.ms));
    for (let i = 1; i < 1_100; i++) {
      clock.ms += 10_000;
      engine.evaluate(blockOf(dictionaryOf([power(i)]), clock.ms, [300]));
    }
    expect(engine.scoreOf('GPU-0')).toBeUndefined();
    clock.ms += 10_000;
    engine.evaluate(blockOf(dictionaryOf([power(0)]), clock.ms, [300]));
    expect(engine.detailOf('GPU-0')).toMatchObject({ state: HealthState.CRITICAL, owesClearing: true });
    expect(engine.scoreOf('GPU-0')!.score).toBeLessThanOrEqual(10);
  });
});

// Lost without it: an Xid 79 of an hour ago that weighs twice since its agent was restarted.
describe('an Xid that is told again', () => {
  const rules = generic.events;
  const weightAfter = (times: readonly number[]) => {
    const incidents = new Incidents();
    for (const atMs of times) incidents.note('xid', '48', '', 1, atMs, rules);
    return incidents.weight('xid', 100 * MINUTE_MS, rules);
  };

  it('weighs what it weighed, in any order, and after others of its code', () => {
    const times = [0, 10, 11, 12, 30, 60].map((minutes) => minutes * MINUTE_MS);
    const once = weightAfter(times);
    expect(weightAfter([...times, ...times])).toBeCloseTo(once, 9);
    expect(weightAfter([...times, times[0]!, times[4]!, times[2]!])).toBeCloseTo(once, 9);
    expect(weightAfter([...times].reverse())).toBeCloseTo(once, 2);
  });

  it('also after a restart of the aggregator', () => {
    const first = engineOf();
    first.tick(300, 0);
    const times = [40, 20, 5].map((minutes) => first.clock.ms - minutes * MINUTE_MS);
    for (const atMs of times) first.engine.event(SOURCE, xidEvent(74, atMs));
    const before = first.tick(300, 0).score;
    const second = engineOf();
    second.clock.ms = first.clock.ms;
    second.engine.restore(JSON.parse(JSON.stringify([...first.engine.saved()])));
    second.tick(300, 0);
    for (const atMs of times) second.engine.event(SOURCE, xidEvent(74, atMs));
    expect(second.tick(300, 0).score).toBeCloseTo(before, 2);
  });

  it('does not come back where it was cleared', () => {
    const { engine, clock, tick } = engineOf();
    tick(300, 0);
    const xid = xidEvent(79, clock.ms);
    engine.event(SOURCE, xid);
    engine.event(SOURCE, event('operator_clear', clock.ms + 500));
    clock.ms += 1_000;
    engine.event(SOURCE, xid);
    expect(tick(300, 0).score).toBe(100);
  });

  it('100,000 of them, of any code, are a bounded record, and 79 stays the one that counts', () => {
    const { engine, clock, tick } = engineOf();
    tick(300, 0);
    engine.event(SOURCE, xidEvent(79, clock.ms));
    const random = seededRandom(5);
    for (let i = 0; i < 100_000; i++) {
      const attributes = { code: String(Math.floor(random() * 100_000)), severity: 'warning' };
      engine.event(SOURCE, event(i % 2 === 0 ? 'sxid' : 'xid', clock.ms + i, attributes));
    }
    const { score, contributions } = tick(300, 0);
    expect(score).toBeLessThanOrEqual(10);
    expect(contributions.some(({ explanation }) => explanation.includes('Xid 79'))).toBe(true);
    expect(JSON.stringify([...engine.saved()]).length).toBeLessThan(16_384);
  });
});

describe('a time that cannot be', () => {
  // Lost without it: a GPU that is lost for ever, whatever anybody does.
  it('of a loss in the year 2100 ends with the next sample, or with an operator', () => {
    const { engine, clock, tick } = engineOf();
    tick(300, 0);
    engine.event(SOURCE, event('gpu_lost', 4_102_444_800_000));
    expect(engine.scoreOf('GPU-0')!.score).toBeLessThanOrEqual(10);
    expect(tick(300, 0).score).toBe(100);
    engine.event(SOURCE, event('gpu_lost', clock.ms + 5 * MINUTE_MS));
    expect(engine.scoreOf('GPU-0')!.score).toBeLessThanOrEqual(10);
    engine.event(SOURCE, event('operator_clear', clock.ms));
    expect(engine.scoreOf('GPU-0')!.score).toBe(100);
  });

  it.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY, 8.64e15, -8.64e15])(
    'of an event (%d) throws nothing and makes no score that is none',
    (timestampMs) => {
      const { engine, tick } = engineOf();
      tick(300, 0);
      for (const type of ['xid', 'sxid', 'ras', 'gpu_lost', 'repair', 'diagnostic', 'recovery_action']) {
        engine.event(SOURCE, event(type, timestampMs, { code: '79', result: 'fail', to: 'x', test: 'y' }));
        engine.event(SOURCE, event(type, timestampMs, { code: 'NaN', severity: '__proto__' }));
        const { score, low } = tick(300, 0);
        expect(score >= 0 && score <= 100 && low <= score).toBe(true);
      }
      JSON.stringify([...engine.saved()]);
    },
  );

  // Lost without it: the Xids of two days, after an aggregator whose clock was two days ahead was cleared and corrected.
  it('of a clearing event that lies ahead, after the clock was set right, clears nothing that comes', () => {
    const { engine, clock, tick } = engineOf();
    tick(300, 0);
    clock.ms += 2 * DAY_MS;
    engine.event(SOURCE, event('operator_clear', clock.ms));
    clock.ms -= 2 * DAY_MS;
    tick(300, 0);
    clock.ms += 1_000;
    engine.event(SOURCE, xidEvent(79, clock.ms));
    expect(engine.scoreOf('GPU-0')!.score).toBeLessThanOrEqual(10);
  });

  // Lost without it: ten minutes of a GPU, each time that a clock that ran ahead is set right.
  it('of samples: an agent whose clock was set back is heard at once', () => {
    const { clock, tick } = engineOf();
    for (let i = 0; i < 70; i++) tick(300, 0);
    for (let i = 0; i < 10; i++) {
      clock.ms += 1_000;
      tick(300, 0, clock.ms + 9 * MINUTE_MS);
    }
    for (let i = 0; i < 10; i++) tick(300, 2);
    const { state, contributions } = tick(300, 2);
    expect(state).not.toBe(HealthState.UNKNOWN);
    expect(contributions[0]!.value).toBe(2);
    // One that only comes late changes nothing.
    expect(tick(300, 0, clock.ms - 5_000).contributions[0]!.value).toBe(2);
  });

  it('of a count: a window that was moved far ahead counts again, and forgets nothing for it', () => {
    const count = new WindowCount(DAY_MS, 24);
    count.add(1, START_MS);
    count.add(2, START_MS + 30 * DAY_MS);
    expect(count.sum(START_MS + 1_000)).toBe(2);
    count.add(3, START_MS + 2_000);
    expect(count.sum(START_MS + 3_000)).toBe(5);
    expect(count.sum(START_MS + 2 * DAY_MS)).toBe(0);
  });
});

// Lost without it: a GPU whose score is no number for ever, after one reading that was none.
describe('a value that cannot be', () => {
  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e300, -1e300, 5e-324, -0])(
    'such as %d leaves a score between 0 and 100, whose points add up, and nothing behind',
    (value) => {
      const { engine, clock, tick } = engineOf();
      tick(300, 0);
      const limits = dictionaryOf([
        power(),
        series('gpu_power_limit_watts', gpuLabels(0, { limit: 'enforced' })),
        series('gpu_pcie_replay_total', gpuLabels(0)),
        series('gpu_link_effective_ber_ratio', gpuLabels(0)),
        series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'core' })),
        series('gpu_clock_event_reasons', gpuLabels(0)),
        series('gpu_link_state', gpuLabels(0, { link: '0' })),
      ]);
      for (let i = 0; i < 5; i++) {
        clock.ms += 1_000;
        engine.evaluate(
          blockOf(
            limits,
            clock.ms,
            limits.series.map((_, slot) => (i % 2 === 0 || slot % 2 === 0 ? value : 1)),
          ),
        );
        const { score, contributions } = engine.detailOf('GPU-0')!;
        expect(score >= 0 && score <= 100).toBe(true);
        expect(contributions.reduce((sum, { points }) => sum + points, 0)).toBe(100 - score);
      }
      for (let i = 0; i < 3_000; i++) {
        clock.ms += 1_000;
        engine.evaluate(blockOf(limits, clock.ms, [300, 700, 1, 1e-20, 40, 0, 1]));
      }
      expect(engine.detailOf('GPU-0')!.score).toBe(100);
    },
  );

  it('below 0 on a log scale is no logarithm: a profile may ask for one anywhere', () => {
    const signals = h100.signals.map((rule) =>
      rule.name === 'core_margin'
        ? { ...rule, log: true, scaled: ([20, 10, 5, 1] as const).map(Math.log) as never }
        : rule,
    );
    const { engine, clock } = engineOf({ profiles: profilesOf({ signals }) });
    const margin = dictionaryOf([series('gpu_temperature_margin_celsius', gpuLabels(0)), power()]);
    engine.evaluate(blockOf(margin, clock.ms, [-2, 300]));
    expect(engine.detailOf('GPU-0')!.score).toBeLessThan(90);
  });
});

describe('points', () => {
  it('add up also where each is a fraction of the smallest: none is below 0', () => {
    const random = seededRandom(11);
    for (let i = 0; i < 2_000; i++) {
      const complaints = Array.from({ length: 1 + Math.floor(random() * 60) }, () => ({
        dimension: (1 + Math.floor(random() * 5)) as HealthDimension,
        ...{ signal: 's', value: 1, threshold: 0, source: 'x', explanation: 'x' },
        weight: random() < 0.5 ? 1 : random(),
        badness: 10 ** (-4 * random()),
      }));
      const { score, contributions } = composeScore(complaints, []);
      expect(contributions.every(({ points }) => points > 0)).toBe(true);
      expect(contributions.reduce((sum, { points }) => sum + points, 0)).toBe(100 - score);
    }
  });
});

describe('a profile', () => {
  // Lost without it: a site's own rule, which it wrote down and which never holds.
  it('may hold the score for an Xid that weighs nothing, for as long as it says', () => {
    const xidCaps = new Map([[31, { score: 55, windowMs: 60 * DAY_MS, source: 'site' }]]);
    const { engine, clock, tick } = engineOf({
      profiles: profilesOf({ events: { ...h100.events, xidCaps } }),
    });
    tick(300, 0);
    engine.event(SOURCE, xidEvent(31, clock.ms));
    expect(tick(300, 0).score).toBe(55);
    clock.ms += 30 * DAY_MS;
    expect(tick(300, 0).score).toBe(55);
    clock.ms += 31 * DAY_MS;
    // The gap in its samples is all that is left.
    expect(tick(300, 0).contributions.map(({ signal }) => signal)).toEqual(['gaps in its samples']);
  });

  it('that is chosen later counts at once, though no value changed', () => {
    const strict = h100.signals.map((rule) =>
      rule.name === 'uncorrectable_ecc' ? { ...rule, caps: [] } : rule,
    );
    const profiles = new ProfileSet([
      { ...h100, name: 'sized', signals: strict, matches: (_, bytes) => bytes > 0 },
      h100,
    ]);
    const { engine, clock, tick } = engineOf({ profiles });
    const before = tick(300, 1);
    const size = dictionaryOf([series('gpu_memory_total_bytes', gpuLabels(0))]);
    engine.evaluate(blockOf(size, clock.ms, [8e10]));
    const after = tick(300, 1);
    expect(after.profile).toBe('sized');
    expect(before.score).toBeLessThanOrEqual(60);
    const caps = after.contributions.filter(({ explanation }) => explanation.includes('held at 60'));
    expect(caps).toEqual([]);
  });
});

describe('many sources of one GPU', () => {
  it('of 100 ms and of 5 min, and thousands of groups that an agent invents, keep one story', () => {
    const { engine, clock } = engineOf();
    for (let i = 0; i < 1_000; i++)
      engine.evaluate(blockOf(createDictionary(`invented ${i}`, 1_000, [power(9)]), clock.ms, [300]));
    const fast = createDictionary('nvml', 100, [ecc(), power()]);
    const slow = createDictionary('dcgm', 300_000, [ecc(), power()]);
    for (let i = 0; i < 200; i++) {
      clock.ms += 100;
      engine.evaluate(blockOf(fast, clock.ms, [4, 300]));
      if (i % 20 === 0) engine.evaluate(blockOf(slow, clock.ms, [3, 300]));
    }
    expect(engine.detailOf('GPU-0')!.contributions[0]!.value).toBe(4);
  });

  it('of which one does not know the index of the GPU leave it its index', () => {
    const { engine, clock } = engineOf();
    const named = dictionaryOf([power()]);
    const unnamed = dictionaryOf([
      series('gpu_pcie_replay_total', [
        ['model', 'NVIDIA H100 80GB HBM3'],
        ['uuid', 'GPU-0'],
      ]),
    ]);
    engine.evaluate(blockOf(named, clock.ms, [300]));
    engine.evaluate(blockOf(unnamed, clock.ms, [0]));
    expect(engine.detailOf('GPU-0')!.gpu).toBe('0');
  });

  it('by a stream that is made anew at each tick lose nothing that was learned', () => {
    const { engine, clock } = engineOf();
    const dictionary = dictionaryOf([power(), ecc()]);
    for (let errors = 0; errors < 50; errors++) {
      clock.ms += 1_000;
      const source: Source = { ...SOURCE };
      engine.evaluate(blockOf(dictionary, clock.ms, [300, errors], { source }));
    }
    expect(engine.detailOf('GPU-0')!.contributions[0]!.value).toBe(49);
    expect([...engine.scores()]).toHaveLength(1);
  });

  it('by two nodes that both claim it, in turns, are one GPU of the one that was heard first', () => {
    const { engine, clock } = engineOf();
    const other: Source = { ...SOURCE, node: 'other' };
    const dictionary = dictionaryOf([power(), ecc()]);
    for (let i = 0; i < 100; i++) {
      clock.ms += 500;
      const source = i % 2 === 0 ? SOURCE : other;
      engine.evaluate(blockOf(dictionary, clock.ms, [300, i % 2 === 0 ? 0 : 7], { source }));
    }
    expect([...engine.scores()]).toMatchObject([{ source: SOURCE, score: 100 }]);
  });
});

it('what the kernel log asked for ends with a passed check: nothing else takes it back', () => {
  const { engine, clock, tick } = engineOf();
  tick(300, 0);
  engine.event(SOURCE, event('recovery_action', clock.ms, { to: '1' }));
  expect(tick(300, 0).score).toBeLessThan(90);
  engine.event(SOURCE, event('diagnostic', clock.ms, { result: 'pass' }));
  expect(tick(300, 0).score).toBe(100);
});

it('what was kept of GPUs that nobody hears is not renewed: it ends on the disk in its time', () => {
  const { engine } = engineOf();
  engine.restore([{ uuid: 'GPU-gone', machine: { state: HealthState.HEALTHY }, record: {} }]);
  expect([...engine.saved()]).toEqual([]);
});

it('time passes for each GPU that is silent, whichever others came and went', () => {
  const { engine, clock } = engineOf({ maxGpus: 3 });
  const tick = (gpus: readonly number[]) => {
    clock.ms += 10_000;
    for (const gpu of gpus)
      engine.evaluate(blockOf(dictionaryOf([power(gpu), ecc(gpu)], 10_000), clock.ms, [300, 0]));
    engine.advance();
  };
  for (let i = 0; i < 10; i++) tick([0, 1, 2]);
  for (let i = 0; i < 10_000; i++) tick([1]);
  tick([1, 7, 8]);
  for (let i = 0; i < 5; i++) tick([1, 7]);
  const states = new Map([...engine.scores()].map(({ uuid, state }) => [uuid, state]));
  expect(states.size).toBe(3);
  expect(states.get('GPU-1')).toBe(HealthState.HEALTHY);
  expect(states.get('GPU-8')).toBe(HealthState.UNKNOWN);
});
