import { describe, expect, it } from 'vitest';
import { AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import type { FaultKind } from '../../agent/collect/simulated/faults.ts';
import { AlertEngine } from '../../aggregator/alerts/alert-engine.ts';
import { parseRules } from '../../aggregator/alerts/rules/rules-file.ts';
import { createRegistry } from '../../shared/instruments/registry.ts';
import { SlotState } from '../../shared/model/slot-state.ts';
import { AssessedNode, NODE } from './assessed-node.ts';
import { policyLimited, withInstances } from './shown-blocks.ts';

type State = ReturnType<AssessedNode['state']>;

/** Two hours of work before anything happens: detectors know what is usual then. */
const WARM_MINUTES = 120;
/** The GPU that it befalls. */
const GPU = 1;

async function warm(gpus = 4): Promise<AssessedNode> {
  const node = await AssessedNode.open({ gpus });
  await node.pass(WARM_MINUTES);
  return node;
}

interface Story {
  readonly what: string;
  readonly fault?: readonly [kind: FaultKind, minutes: number | undefined];
  readonly show?: AssessedNode['show'];
  /** What happens besides, and how long it is watched. */
  readonly goesOn: (node: AssessedNode) => Promise<void>;
  readonly ends: State;
  /** Of its transitions after the first, in order: what each says. */
  readonly says?: readonly RegExp[];
  /** Of its score at the end. */
  readonly because?: readonly RegExp[];
  /** Of its one anomaly; undefined: there is none. */
  readonly anomaly?: RegExp;
}

const minutes = (count: number) => (node: AssessedNode) => node.pass(count);

const STORIES: readonly Story[] = [
  {
    what: 'a frozen sensor: the GPU may be well, and somebody is told that it cannot be known',
    fault: ['frozen_sensor', undefined],
    goesOn: minutes(30),
    ends: 'healthy',
    anomaly: /^GPU 1: gpu_power_watts repeats the value \d+/,
  },
  {
    what: 'a GPU lost and back: critical until a check has passed, though it answers again',
    fault: ['off_the_bus', 10],
    goesOn: minutes(20),
    ends: 'critical',
    says: [/^Xid 79 \(GPU has fallen off the bus\) just now; a hard cap holds the score at 10/],
    because: [/Xid 79 .*20 min ago: the score is held at 10/],
    anomaly: /gpu_up is 0, 1 expected/,
  },
  {
    what: 'a GPU lost and back, and a check that passed: degraded at once, healthy after half an hour',
    fault: ['off_the_bus', 10],
    goesOn: async (node) => {
      await node.pass(20);
      node.event('diagnostic', GPU, { result: 'pass', test: 'level 3', source: 'dcgm' });
      expect(node.state(GPU)).toBe('degraded');
      await node.pass(31);
    },
    ends: 'healthy',
    says: [/Xid 79/, /^a check after a reset passed; the score 100 is at least 60/, /at least 88 for 30 min/],
    anomaly: /gpu_up is 0, 1 expected/,
  },
  {
    what: 'a GPU lost for good: an operator who says that it is fine does not make it so',
    fault: ['off_the_bus', undefined],
    goesOn: async (node) => {
      await node.pass(5);
      node.event('operator_clear', GPU, { by: 'ann' });
      await node.pass(5);
    },
    ends: 'critical',
    says: [/Xid 79/],
    because: [/the GPU is gone from the node/],
    anomaly: /gpu_up is 0, 1 expected/,
  },
  {
    what: 'a job that ends: nothing at all',
    fault: ['job_stop', 30],
    goesOn: minutes(60),
    ends: 'healthy',
  },
  {
    what: 'a driver that is loaded again, with its counters at zero: gone, back, and nobody has to clear it',
    fault: ['driver_reload', 1],
    goesOn: minutes(35),
    ends: 'healthy',
    says: [
      /^the GPU is gone from the node; a hard cap holds the score at 10/,
      /^the driver was loaded again and gave back all GPUs of the node; the score 100 is at least 60/,
      /^the score 100 has been at least 88 for 30 min/,
    ],
  },
  {
    what: 'a GPU that policy holds at half of its power: slower than its siblings, and no fault',
    show: policyLimited({ gpu: GPU, reason: 0x4, watts: 350, clockShare: 0.7, afterMinutes: WARM_MINUTES }),
    goesOn: minutes(60),
    ends: 'healthy',
  },
  {
    what: 'a GPU whose application clocks somebody set lower: no fault',
    show: policyLimited({ gpu: GPU, reason: 0x2, watts: 700, clockShare: 0.8, afterMinutes: WARM_MINUTES }),
    goesOn: minutes(60),
    ends: 'healthy',
  },
  {
    what: 'a MIG reconfiguration: another dictionary with instances, and the GPU is still the GPU',
    show: withInstances(GPU, WARM_MINUTES),
    goesOn: minutes(60),
    ends: 'healthy',
  },
  {
    what: 'thermal runaway: degraded as soon as hardware holds it back, critical within two minutes',
    fault: ['thermal_runaway', undefined],
    goesOn: minutes(10),
    ends: 'critical',
    says: [
      /^the hardware is slowing the GPU down for heat right now; a cap holds the score at 60/,
      /^the score [\d.]+ has been below 50 for 60 s/,
    ],
    because: [
      /slowed down by heat for [\d.]+ % of its time under load/,
      /\d+ °C over the highest operating temperature/,
      /hotter than its siblings at equal power/,
      /runs at 50 % of its siblings' clock, and no power cap or set clock explains it/,
    ],
    anomaly:
      /^GPU 1: gpu_temperature_celsius\{sensor="core"\} is unlike its peers at 1\d\d, \d\d.* expected, and \d more signs$/,
  },
  {
    what: 'a burst of memory errors: a double-bit error is critical within two minutes',
    fault: ['ecc_burst', undefined],
    goesOn: minutes(5),
    ends: 'critical',
    says: [
      /^\d uncorrectable memory errors within 7 days; a cap holds the score at 60 or less/,
      /below 50 for 60 s/,
    ],
    because: [
      /\d+ uncorrectable memory errors within 7 days/,
      /Xid 48 \(uncorrectable ECC error\)/,
      /the driver asks for a drain and a reset of the GPU/,
      /a row remap waits for a reset/,
    ],
    anomaly: /gpu_ecc_errors_total.*\d+ more signs$/,
  },
  {
    what: 'a row remap that failed: critical at once, and a check that passes does not talk it away',
    fault: ['row_remap_failure', undefined],
    goesOn: async (node) => {
      expect(node.state(GPU)).toBe('critical');
      node.event('diagnostic', GPU, { result: 'pass', test: 'level 1' });
      await node.pass(5);
    },
    ends: 'critical',
    says: [/^a row remap failed: the GPU is due for replacement; a hard cap holds the score at 10/],
    because: [/a row remap failed: the GPU is due for replacement/],
    anomaly: /gpu_row_remap_failed counted 1, none expected/,
  },
  {
    what: "an application's Xid 13: the GPU is fine",
    fault: ['application_xid', undefined],
    goesOn: minutes(10),
    ends: 'healthy',
  },
  {
    what: 'a straggler: degraded, and named as the one that the job waits for',
    fault: ['straggler', undefined],
    goesOn: minutes(15),
    ends: 'degraded',
    says: [/^the score [\d.]+ has been below 80 for 90 s/],
    because: [/runs at 69\.7 % of its siblings' clock, and no power cap or set clock explains it/],
    anomaly: /gpu_clock_hertz\{domain="sm"\} is behind its job at 1\.38 G, 1\.98 G expected/,
  },
];

describe('what befalls a GPU ends in the right state, with the right words', () => {
  it.each(STORIES)('$what', async ({ fault, show, goesOn, ends, says = [], because = [], anomaly }) => {
    await using node = await AssessedNode.open({ gpus: 8, ...(show && { show }) });
    await node.pass(WARM_MINUTES);
    if (fault)
      await node.befall(fault[0], GPU, fault[1] === undefined ? {} : { duration: fault[1] * 60_000 });
    await goesOn(node);

    const [first, ...transitions] = await node.transitions(GPU);
    expect(first).toMatchObject({ to: HealthState.HEALTHY, why: 'the first score is 100' });
    expect(transitions.map(({ why }) => why)).toEqual(says.map((words) => expect.stringMatching(words)));
    expect(node.state(GPU)).toBe(ends);
    for (const words of because) expect(node.reasons(GPU)).toContainEqual(expect.stringMatching(words));
    if (ends === 'healthy') expect(node.detail(GPU).score).toBeGreaterThan(90);
    expect(node.anomalies(GPU).map(({ text }) => text)).toEqual(
      anomaly === undefined ? [] : [expect.stringMatching(anomaly)],
    );
    // Nobody else is blamed.
    const others = fault?.[0] === 'driver_reload' ? [] : node.told.filter(({ gpu }) => gpu !== String(GPU));
    expect(others).toEqual([]);
  });

  it('silence is unknown, never healthy, and being heard again ends it', async () => {
    await using node = await warm();
    node.show = (block) => ({ ...block, states: block.states.map(() => SlotState.Absent) });
    await node.pass(10);
    expect(node.state(GPU)).toBe('unknown');
    node.show = (block) => block;
    await node.pass(5);
    expect(node.state(GPU)).toBe('healthy');
    const said = (await node.transitions(GPU)).map(({ why }) => why);
    expect(said.slice(1)).toEqual([
      'no fresh samples',
      expect.stringMatching(/^it is known again for 90 s, with a score of (100|9\d)/),
    ]);
  });

  it('what is told outside says which GPU, what it is now and why, without a look at anything else', async () => {
    await using node = await warm();
    await node.befall('straggler', GPU);
    await node.pass(10);
    const [state] = node.told.filter(({ type }) => type === 'health_state');
    expect(state).toMatchObject({
      gpu: '1',
      gpuUuid: node.uuid(GPU),
      attributes: { from: 'healthy', to: 'degraded', cause: 'score' },
    });
    expect(state!.text).toMatch(
      /^GPU 1 is degraded: the score [\d.]+ has been below 80 for 90 s, most of all: runs at [\d.]+ % of its siblings' clock/,
    );
    const [anomaly] = node.told.filter(({ type }) => type === 'anomaly');
    expect(anomaly).toMatchObject({
      gpuUuid: node.uuid(GPU),
      attributes: { phase: 'begin', detector: 'level' },
    });
    expect(anomaly!.attributes).not.toHaveProperty('test');
  });

  it('two driver updates in a day are no flapping: it would hold eight good GPUs critical for a day', async () => {
    await using node = await warm();
    for (let update = 0; update < 3; update++) {
      await node.befall('driver_reload', GPU, { duration: 60_000 });
      await node.pass(40);
    }
    expect(node.state(GPU)).toBe('healthy');
    expect((await node.transitions(GPU)).filter(({ flapping }) => flapping)).toEqual([]);
  });

  it('a driver reload does not pay what was owed before it', async () => {
    await using node = await warm();
    await node.befall('off_the_bus', GPU, { duration: 60_000 });
    await node.pass(26 * 60);
    expect(node.detail(GPU)).toMatchObject({ state: HealthState.CRITICAL, owesClearing: true });
    await node.befall('driver_reload', GPU, { duration: 60_000 });
    await node.pass(10);
    expect(node.state(GPU)).toBe('critical');
    expect(node.state(0)).toBe('degraded');
  });
});

describe('a restart', () => {
  it('heals nothing and forgets nothing: states, Xids, transitions, marks', async () => {
    await using node = await warm();
    await node.befall('off_the_bus', GPU, { duration: 60_000 });
    await node.pass(5);
    await node.assessment.operators.set(NODE, { state: 'degraded', by: 'ann', why: 'waits for a part' });
    const before = await node.transitions(GPU);

    await node.restart(3);
    expect(await node.transitions(GPU)).toEqual(before);
    expect(node.assessment.operators.list()).toMatchObject([{ node: 'n', state: 'degraded', by: 'ann' }]);
    await node.pass(5);
    expect(node.detail(GPU)).toMatchObject({ state: HealthState.CRITICAL, owesClearing: true, score: 10 });
    expect(node.reasons(GPU)).toContainEqual(
      expect.stringMatching(/Xid 79 .*1\d min ago: the score is held at 10/),
    );
    // That it is still critical is no news, and that the others are still well is none.
    expect(await node.transitions(GPU)).toEqual(before);
    expect(await node.transitions(0)).toHaveLength(1);

    node.event('diagnostic', GPU, { result: 'pass', source: 'dcgm' });
    expect(node.state(GPU)).toBe('degraded');
  });
});

describe('what an operator says of a node', () => {
  const RULES = parseRules(
    `rules:
  - { name: gone, event: health_state, where: { to: critical }, severity: critical }
  - { name: odd, event: anomaly, where: { phase: begin }, severity: warning }`,
    'test',
  ).rules;

  async function alerted(mark: 'drained' | 'maintenance' | 'degraded' | undefined): Promise<string[]> {
    await using node = await warm();
    const { clock } = node;
    const alerts = new AlertEngine({ rules: RULES, clock, registry: createRegistry() });
    if (mark) await node.assessment.operators.set(NODE, { state: mark, by: 'ann', why: 'a new fan' });
    await node.befall('off_the_bus', GPU);
    await node.pass(10);
    for (const event of node.told) alerts.event(NODE, event, false);
    const transition = (await node.transitions(GPU)).at(-1);
    // It is kept in any case.
    expect(transition).toMatchObject({
      to: HealthState.CRITICAL,
      suppressed: mark === 'drained' || mark === 'maintenance',
    });
    return [...alerts.alerts()]
      .filter(({ state }) => state === AlertState.FIRING)
      .map(({ rule }) => rule)
      .sort();
  }

  it.each([
    ['drained', []],
    ['maintenance', []],
    ['degraded', ['gone', 'odd']],
    [undefined, ['gone', 'odd']],
  ] as const)('%s: alerts %j', async (mark, rules) => {
    expect(await alerted(mark)).toEqual(rules);
  });
});

describe('a mark that is taken away, or ends', () => {
  it.each(['taken away', 'ended'])('%s: what is still wrong by then is told', async (how) => {
    await using node = await warm();
    const until = how === 'ended' ? { untilMs: node.clock.ms + 15 * 60_000 } : {};
    await node.assessment.operators.set(NODE, {
      state: 'maintenance',
      by: 'ann',
      why: 'a new fan',
      ...until,
    });
    await node.pass(1);
    await node.befall('off_the_bus', GPU);
    await node.pass(10);
    const told = () => node.told.filter(({ attributes }) => attributes.suppressed === undefined);
    expect(told()).toEqual([]);
    if (how === 'taken away') await node.assessment.operators.clear(NODE);
    await node.pass(5);
    expect(told()).toMatchObject([
      {
        type: 'health_state',
        gpuUuid: node.uuid(GPU),
        text: 'GPU 1 is critical, as it was while its node was marked',
        attributes: { to: 'critical' },
      },
    ]);
  });
});

describe('peers', () => {
  it('one hot GPU of eight is seen within five minutes, in its score and as an anomaly: no limit is near', async () => {
    await using node = await warm(8);
    await node.befall('fan_failure', GPU);
    await node.pass(4.5);
    expect(node.state(GPU)).toBe('degraded');
    expect(node.reasons(GPU)).toEqual([
      expect.stringMatching(/^hotter than its siblings at equal power by [\d.]+ robust deviations/),
    ]);
    expect(node.anomalies(GPU).map(({ text }) => text)).toEqual([
      expect.stringMatching(/^GPU 1: gpu_temperature_celsius\{sensor="\w+"\} .* \d\d(\.\d+)? expected/),
    ]);
    await node.pass(5);
    const found = node.anomalies(GPU).flatMap(({ contributions }) => contributions);
    expect(found).toContainEqual(
      expect.objectContaining({ detector: 'peer', signal: 'gpu_temperature_celsius{sensor="core"}' }),
    );
    expect(node.told.filter(({ gpu }) => gpu !== '1')).toEqual([]);
  });
});
