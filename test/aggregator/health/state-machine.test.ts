import { describe, expect, it } from 'vitest';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { HealthStateMachine, type StateInput } from '../../../aggregator/health/state-machine.ts';
import type { Transition } from '../../../aggregator/health/states/transition.ts';
import { seededRandom } from '../../support/random.ts';

const { UNSPECIFIED, HEALTHY, DEGRADED, CRITICAL, UNKNOWN, FLAPPING } = HealthState;
const START_MS = 1_767_225_600_000;
const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;

type Given = number | Partial<StateInput>;

function inputOf(given: Given): StateInput {
  const defaults = { score: 100, cap: undefined, confidence: 1, fresh: true };
  return typeof given === 'number' ? { ...defaults, score: given } : { ...defaults, ...given };
}

const SILENT: Given = { fresh: false };
/** As the engine gives a capped GPU: the cap is in the score. */
const capped = (cap: number): Given => ({ score: cap, cap });

/** A machine under a clock of its own, evaluated every so many seconds. */
class Bench {
  machine = new HealthStateMachine();
  readonly transitions: Transition[] = [];
  readonly intervalS: number;
  nowMs = START_MS;

  constructor(intervalS = 1) {
    this.intervalS = intervalS;
  }

  /** Evaluates now, and on for so many seconds. */
  hold(given: Given, seconds = 0): this {
    const input = inputOf(given);
    for (const endMs = this.nowMs + seconds * 1000; ; this.nowMs += this.intervalS * 1000) {
      this.#note(this.machine.step(input, this.nowMs));
      if (this.nowMs + this.intervalS * 1000 > endMs) break;
    }
    return this;
  }

  wait(seconds: number): this {
    this.nowMs += seconds * 1000;
    return this;
  }

  clear(cause: 'diagnostic' | 'repair' | 'operator', by = 'ada'): this {
    this.#note(this.machine.clear(cause, this.nowMs, by));
    return this;
  }

  get state(): HealthState {
    return this.machine.state;
  }

  /** `healthy>degraded score` of each transition. */
  get told(): string[] {
    return this.transitions.map(({ from, to, cause }) => `${name(from)}>${name(to)} ${cause}`);
  }

  #note(transition: Transition | undefined): void {
    if (transition !== undefined) this.transitions.push(transition);
  }
}

function name(state: HealthState): string {
  return HealthState[state as unknown as keyof typeof HealthState]?.toString() ?? NAMES[state]!;
}

const NAMES: Readonly<Record<number, string>> = {
  [UNSPECIFIED]: '-',
  [HEALTHY]: 'healthy',
  [DEGRADED]: 'degraded',
  [CRITICAL]: 'critical',
  [UNKNOWN]: 'unknown',
};

const healthy = (intervalS = 1): Bench => new Bench(intervalS).hold(100, 10).wait(intervalS);
const degraded = (intervalS = 1): Bench => new Bench(intervalS).hold(70).wait(intervalS);
const criticalByScore = (): Bench => new Bench().hold(40).wait(1);
const criticalByCap = (): Bench => healthy().hold(capped(10)).wait(1);

describe('the first state', () => {
  it.each([
    [100, HEALTHY],
    [80, HEALTHY],
    [79.9, DEGRADED],
    [50, DEGRADED],
    [49.9, CRITICAL],
    [capped(60), DEGRADED],
    [capped(30), CRITICAL],
  ])('is decided by the first good score: %j', (given, state) => {
    expect(new Bench().hold(given).state).toBe(state);
  });

  it('is not there before anything good was heard: a start of the aggregator makes no transitions', () => {
    const bench = new Bench().hold(SILENT, 600).wait(1).hold({ confidence: 0.3 }, 600);
    expect(bench.state).toBe(UNSPECIFIED);
    expect(bench.machine.shown).toBe(UNKNOWN);
    expect(bench.transitions).toEqual([]);
    expect(bench.wait(1).hold(100).state).toBe(HEALTHY);
  });

  it('is critical for a lost GPU that never gave a sample', () => {
    expect(new Bench().hold({ ...inputOf(capped(10)), fresh: false, confidence: 0 }).state).toBe(CRITICAL);
  });
});

describe('each row of the table, before and after its wait', () => {
  // Each row: where it starts, what is given, the seconds after which it is not there yet, and after which it is.
  it.each<[string, () => Bench, Given, number, HealthState, number, HealthState]>([
    ['healthy to degraded under 80 for 90 s', healthy, 79, 89, HEALTHY, 90, DEGRADED],
    ['healthy to critical under 50 for 60 s', healthy, 49, 59, HEALTHY, 60, CRITICAL],
    ['degraded to critical under 50 for 60 s', degraded, 49, 59, DEGRADED, 60, CRITICAL],
    ['degraded to healthy from 88 for 30 min', degraded, 88, 1799, DEGRADED, 1800, HEALTHY],
    ['critical to degraded from 60 for 2 h', criticalByScore, 60, 7199, CRITICAL, 7200, DEGRADED],
    ['healthy to unknown without samples', healthy, SILENT, 0, UNKNOWN, 1, UNKNOWN],
    ['healthy to unknown with few signals', healthy, { confidence: 0.59 }, 0, UNKNOWN, 1, UNKNOWN],
    ['healthy at the least confidence', healthy, { confidence: 0.6 }, 0, HEALTHY, 600, HEALTHY],
    ['degraded to unknown without samples', degraded, SILENT, 0, UNKNOWN, 1, UNKNOWN],
    ['critical stays for a day of silence', criticalByScore, SILENT, DAY_S - 1, CRITICAL, DAY_S, UNKNOWN],
  ])('%s', (_, start, given, beforeS, before, afterS, after) => {
    expect(start().hold(given, beforeS).state).toBe(before);
    expect(start().hold(given, afterS).state).toBe(after);
  });

  it.each<[string, Given, HealthState]>([
    ['healthy', 100, HEALTHY],
    ['degraded', 70, DEGRADED],
    ['critical', 49, CRITICAL],
  ])('unknown is left after 90 s of good evaluations, to what the score says: %s', (_, given, state) => {
    const start = (): Bench => healthy().hold(SILENT, 300).wait(1);
    if (state !== CRITICAL) expect(start().hold(given, 89).state).toBe(UNKNOWN);
    expect(start().hold(given, 90).state).toBe(state);
    // A break begins the wait anew.
    expect(start().hold(given, 50).wait(1).hold(SILENT).wait(1).hold(given, 50).state).toBe(UNKNOWN);
  });

  it.each([60, 45, 31])('a warning cap of %i degrades in one evaluation', (cap) => {
    expect(healthy().hold(capped(cap)).state).toBe(DEGRADED);
  });

  it('a cap over 60 is no warning', () => {
    expect(healthy().hold({ score: 80, cap: 80 }, 3600).state).toBe(HEALTHY);
  });

  it.each([
    ['a healthy GPU', healthy],
    ['a degraded GPU', degraded],
    ['a silent GPU', () => healthy().hold(SILENT, 60).wait(1)],
  ])('Xid 79 (a cap of 10) makes %s critical in one evaluation: it is drained now', (_, start) => {
    const bench = start().hold({ ...inputOf(capped(10)), fresh: false });
    expect(bench.state).toBe(CRITICAL);
    const { nowMs: atMs } = bench;
    expect(bench.transitions.at(-1)).toMatchObject({ to: CRITICAL, cause: 'cap', score: 10, atMs });
  });

  it('a dip that ends begins the wait anew', () => {
    const bench = healthy();
    for (let i = 0; i < 20; i++) bench.hold(70, 80).wait(1).hold(100, 5).wait(1);
    expect(bench.state).toBe(HEALTHY);
  });

  it('is not healthy a second after it left critical: the half hour is one as a degraded GPU', () => {
    const bench = criticalByScore().hold(100, 7200).wait(1);
    expect(bench.hold(100, 1798).state).toBe(DEGRADED);
    expect(bench.wait(1).hold(100).state).toBe(HEALTHY);
  });

  it('takes its least confidence from who makes it: plain exporters give few signals', () => {
    const machine = new HealthStateMachine({ leastConfidence: 0.1 });
    machine.step(inputOf({ confidence: 0.25 }), START_MS);
    expect(machine.state).toBe(HEALTHY);
    expect(machine.step(inputOf({ confidence: 0.05 }), START_MS + 1000)).toMatchObject({
      to: UNKNOWN,
      cause: 'stale',
      why: '5 % of its signals are known, under 10 %',
    });
  });
});

describe('chatter', () => {
  it.each([1, 7, 60, 600, 1799])(
    'a score that swings between 79 and 87 every %i s for a day moves the state once at most',
    (halfS) => {
      const bench = healthy();
      for (let s = 0; s < DAY_S; s++, bench.nowMs += 1000)
        bench.hold(Math.floor(s / halfS) % 2 === 0 ? 79 : 87);
      expect(bench.transitions.length - 1).toBe(halfS < 90 ? 0 : 1);
    },
  );
});

describe('the clock', () => {
  it.each([30, 60])('gives the same transitions at 1 s and at %i s, within one interval', (intervalS) => {
    const run = (every: number): Transition[] => {
      const bench = new Bench(every);
      const story: [Given, number][] = [
        [100, 1200],
        [70, 600],
        [45, 600],
        [95, 3 * HOUR_S],
        [SILENT, 1200],
        [95, 1200],
        [capped(60), 1200],
        [95, 2400],
      ];
      for (const [given, seconds] of story) bench.hold(given, seconds - every).wait(every);
      return bench.transitions;
    };
    const fine = run(1);
    const coarse = run(intervalS);
    expect(coarse.map(({ from, to, cause }) => [from, to, cause])).toEqual(
      fine.map(({ from, to, cause }) => [from, to, cause]),
    );
    expect(fine.length).toBeGreaterThan(6);
    for (const [i, { atMs }] of coarse.entries())
      expect(Math.abs(atMs - fine[i]!.atMs)).toBeLessThanOrEqual(intervalS * 1000);
  });

  it('counts a gap as a minute at most: what nobody looked at did not hold', () => {
    const bench = degraded().hold(95, 60).wait(HOUR_S).hold(95);
    expect(bench.state).toBe(DEGRADED);
    // Two minutes of the thirty had passed, in two pieces.
    expect(bench.hold(95, 1679).state).toBe(DEGRADED);
    expect(bench.wait(1).hold(95).state).toBe(HEALTHY);
    // Nor is a GPU worse because the aggregator looked away: 60 s of the 90 have passed.
    expect(healthy().hold(70).wait(DAY_S).hold(70).state).toBe(HEALTHY);
  });

  it('set back, it neither heals nor forgets', () => {
    const bench = degraded()
      .hold(95, 600)
      .wait(-5 * DAY_S);
    expect(bench.hold(95, 1199).state).toBe(DEGRADED);
    expect(bench.wait(1).hold(95).state).toBe(HEALTHY);
  });

  it('set back, a critical GPU that is silent is still held for a day and not for longer', () => {
    const bench = criticalByScore()
      .hold(SILENT, 12 * HOUR_S)
      .wait(-30 * DAY_S);
    expect(bench.hold(SILENT, 12 * HOUR_S - 60).state).toBe(CRITICAL);
    expect(bench.wait(120).hold(SILENT).state).toBe(UNKNOWN);
  });
});

describe('critical by a cap', () => {
  it('stays so without a clearing event, however good the score is', () => {
    expect(criticalByCap().hold(100, 5 * HOUR_S).state).toBe(CRITICAL);
  });

  it.each([
    ['diagnostic', 0, 'clear', 'a check after a reset passed'],
    ['operator', 0, 'operator', 'an operator cleared it'],
    // A repaired GPU fails again soonest: it is watched for the two hours.
    ['repair', 2 * HOUR_S, 'clear', 'it was repaired'],
  ] as const)('is cleared by a %s, degraded after %i s', (event, seconds, cause, words) => {
    const bench = criticalByCap().clear(event);
    expect(bench.state).toBe(CRITICAL);
    if (seconds > 0) expect(bench.hold(100, seconds - 1).state).toBe(CRITICAL);
    bench.wait(1).hold(100);
    expect(bench.state).toBe(DEGRADED);
    expect(bench.transitions.at(-1)).toMatchObject({ from: CRITICAL, to: DEGRADED, cause, by: 'ada' });
    expect(bench.transitions.at(-1)!.why).toContain(words);
  });

  it('changes with the clearing event itself where the score is good by then', () => {
    const bench = criticalByCap().hold(100, 60).clear('diagnostic', 'dcgm');
    expect(bench.transitions.at(-1)).toMatchObject({ to: DEGRADED, cause: 'clear', by: 'dcgm', score: 100 });
    const repaired = criticalByCap()
      .hold(100, 2 * HOUR_S)
      .clear('repair');
    expect(repaired.state).toBe(DEGRADED);
  });

  it('needs a score of 60 after the event', () => {
    const bench = criticalByCap().clear('diagnostic').hold(59, 600).wait(1);
    expect(bench.state).toBe(CRITICAL);
    expect(bench.hold(60).state).toBe(DEGRADED);
  });

  it('owes another event where the cap holds on: a check that passed on a dead GPU clears nothing', () => {
    const bench = criticalByCap().clear('operator').hold(capped(10)).wait(1);
    expect(bench.hold(100, 5 * HOUR_S).state).toBe(CRITICAL);
  });

  it('goes on after more than a day of silence: unplugging it clears nothing', () => {
    const bench = criticalByCap()
      .hold(SILENT, DAY_S + 1)
      .wait(1);
    expect(bench.state).toBe(UNKNOWN);
    expect(bench.hold(100, 90).state).toBe(CRITICAL);
    expect(bench.clear('operator').state).toBe(DEGRADED);
    const cleared = criticalByCap()
      .hold(SILENT, DAY_S + 1)
      .clear('repair')
      .wait(1);
    expect(cleared.hold(100, 90).state).toBe(HEALTHY);
  });

  it('is told apart as stale while it is silent', () => {
    const bench = criticalByCap();
    expect(bench.hold(SILENT, 10).machine.stale).toBe(true);
    expect(bench.wait(1).hold(100).machine.stale).toBe(false);
    expect(bench.machine.owesClearing).toBe(true);
  });

  it('a clearing event for a healthy GPU changes nothing', () => {
    const bench = healthy().clear('diagnostic').clear('repair').clear('operator').wait(1).hold(100, 60);
    expect(bench.told).toEqual(['->healthy score']);
  });
});

describe('the flap guard', () => {
  /** Four changes: degraded, healthy, degraded, healthy. */
  const almost = (): Bench => {
    const bench = healthy();
    for (let i = 0; i < 2; i++) bench.hold(capped(60)).wait(1).hold(100, 1800).wait(1);
    expect(bench.machine.flapping).toBe(false);
    return bench;
  };
  const flapping = (): Bench => almost().hold(capped(60)).wait(1);

  it('holds the worse state for a day after the fifth change', () => {
    const bench = flapping();
    expect(bench.transitions.at(-1)).toMatchObject({
      from: HEALTHY,
      to: DEGRADED,
      flapping: true,
      cause: 'flap',
    });
    expect(bench.machine.shown).toBe(FLAPPING);
    expect(bench.hold(100, DAY_S - 2).state).toBe(DEGRADED);
    bench.wait(1).hold(100, 2);
    expect(bench.state).toBe(HEALTHY);
    expect(bench.machine.flapping).toBe(false);
    expect(bench.transitions.at(-1)).toMatchObject({ to: HEALTHY, flapping: false, cause: 'score' });
  });

  it('says that it ends also where the state stays', () => {
    const bench = flapping().hold(capped(60), DAY_S + 1);
    expect(bench.transitions.at(-1)).toMatchObject({ from: DEGRADED, to: DEGRADED, flapping: false });
    expect(bench.machine.shown).toBe(DEGRADED);
  });

  it('pins the worse state also where the fifth change was to the better one', () => {
    const bench = healthy();
    for (let i = 0; i < 3; i++) bench.hold(SILENT).wait(1).hold(100, 90).wait(1);
    // unknown, healthy, unknown, healthy, unknown: the fifth pins unknown, and 90 good seconds change nothing.
    expect(bench.state).toBe(UNKNOWN);
    const other = degraded();
    for (let i = 0; i < 3; i++) other.hold(100, 1800).wait(1).hold(capped(60)).wait(1);
    expect(other.told.at(-1)).toBe('degraded>degraded flap');
    expect(other.state).toBe(DEGRADED);
  });

  it('lets worse through: a cap makes a held GPU critical at once, and that is held', () => {
    const bench = flapping().hold(capped(10)).wait(1);
    expect(bench.machine.shown).toBe(CRITICAL);
    bench
      .clear('diagnostic')
      .hold(100, DAY_S - 10)
      .wait(1);
    expect(bench.state).toBe(CRITICAL);
    expect(bench.wait(20).hold(100).state).toBe(DEGRADED);
  });

  it('does not count changes that are more than a day apart', () => {
    const bench = almost().hold(100, DAY_S).wait(1).hold(capped(60));
    expect(bench.machine.flapping).toBe(false);
  });

  it.each(['repair', 'operator'] as const)('is ended by a %s: somebody has looked at it', (event) => {
    const bench = flapping().clear(event);
    expect(bench.transitions.at(-1)).toMatchObject({ to: DEGRADED, flapping: false, by: 'ada' });
    expect(bench.hold(100, 1800).state).toBe(HEALTHY);
    expect(bench.wait(1).hold(capped(60)).machine.flapping).toBe(false);
  });

  it('is not ended by a check that passed: passing in between is what flapping is', () => {
    expect(flapping().clear('diagnostic').machine.flapping).toBe(true);
  });
});

describe('a snapshot', () => {
  it('of a GPU at rest is the same every time: nothing is written where nothing happens', () => {
    const bench = healthy();
    const before = JSON.stringify(bench.machine.snapshot());
    bench.hold(97, DAY_S);
    expect(JSON.stringify(bench.machine.snapshot())).toBe(before);
    expect(before).toBe(`{"state":${HEALTHY}}`);
  });

  it('goes on where it was, through JSON: a restart neither heals nor forgets', () => {
    const random = seededRandom(11);
    const whole = new Bench(10);
    const cut = new Bench(10);
    for (let i = 0; i < 3000; i++) {
      const given = randomInput(random);
      const seconds = 10 * Math.floor(random() * 400);
      for (const bench of [whole, cut]) bench.hold(given, seconds);
      const event = random();
      if (event < 0.05) for (const bench of [whole, cut]) bench.clear('diagnostic');
      const restored = new HealthStateMachine();
      restored.restore(JSON.parse(JSON.stringify(cut.machine.snapshot())));
      // The one that goes on looks once more at the same moment; the restored one has seen nothing yet.
      cut.machine = restored;
      for (const bench of [whole, cut]) bench.hold(given).wait(10);
    }
    // Ten seconds: a step right after the restart counts for nothing.
    expect(cut.transitions.map(({ from, to }) => [from, to])).toEqual(
      whole.transitions.map(({ from, to }) => [from, to]),
    );
    expect(whole.transitions.length).toBeGreaterThan(100);
  });
});

function randomInput(random: () => number): StateInput {
  const kind = random();
  const score = Math.round(random() ** 0.4 * 100);
  if (kind < 0.1) return inputOf(SILENT);
  if (kind < 0.15) return inputOf({ score, confidence: random() });
  if (kind < 0.2) return inputOf(capped(10));
  if (kind < 0.25) return inputOf(capped(60));
  return inputOf(kind < 0.6 ? 95 : score);
}

describe('fuzzed', () => {
  it.each([1, 2, 3, 4, 5, 6])(
    'never goes back before its time, nor is healthy under a critical cap (seed %i)',
    (seed) => {
      const random = seededRandom(seed);
      const machine = new HealthStateMachine();
      const changes = new Map<string, number>();
      let nowMs = START_MS;
      let goodForMs = -1;
      let enteredMs = nowMs;
      let cleared = false;
      let input = inputOf(100);
      let left = 0;
      for (let i = 0; i < 30_000; i++) {
        if (left-- <= 0) {
          input = randomInput(random);
          left = Math.floor(random() ** 3 * 600);
        }
        const stepMs = 1000 * (1 + Math.floor(random() * 60));
        nowMs += stepMs;
        const good = input.fresh && input.confidence >= 0.6;
        goodForMs = !good ? -1 : goodForMs < 0 ? 0 : goodForMs + stepMs;
        if (random() < 0.002) {
          const way = machine.clear('diagnostic', nowMs, 'check');
          cleared = machine.state === CRITICAL;
          if (way !== undefined && way.from !== way.to) enteredMs = nowMs;
        }
        const before = machine.state;
        const moved = machine.step(input, nowMs);
        if ((input.cap ?? 100) <= 30) expect(machine.state).toBe(CRITICAL);
        expect([HEALTHY, DEGRADED, CRITICAL, UNKNOWN, UNSPECIFIED]).toContain(machine.state);
        expect(moved === undefined).toBe(
          machine.state === before && (moved === undefined || moved.from !== moved.to),
        );
        if (moved === undefined) continue;
        expect(moved).toMatchObject({ from: before, to: machine.state, atMs: nowMs });
        expect(moved.why).not.toBe('');
        const way = `${name(moved.from)}>${name(moved.to)}`;
        changes.set(way, (changes.get(way) ?? 0) + 1);
        const waited = nowMs - enteredMs;
        if (way === 'degraded>healthy') expect(waited).toBeGreaterThanOrEqual(1_800_000);
        if (way === 'critical>degraded' && !cleared) expect(waited).toBeGreaterThanOrEqual(7_200_000);
        if (way.startsWith('unknown>') && way !== 'unknown>critical')
          expect(goodForMs).toBeGreaterThanOrEqual(90_000);
        expect(way).not.toBe('critical>healthy');
        if (moved.from !== moved.to) {
          enteredMs = nowMs;
          cleared = false;
        }
      }
      expect(changes.size).toBeGreaterThan(6);
    },
  );
});
