import { readFileSync } from 'node:fs';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { describe, expect, it } from 'vitest';
import { type Alert, AlertState, Resolution, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Source } from '#shared/model/block.ts';
import type { AlertChange } from '../../../aggregator/alerts/alert-change.ts';
import { AlertEngine, type AlertEngineOptions } from '../../../aggregator/alerts/alert-engine.ts';
import { parseRules } from '../../../aggregator/alerts/rules/rules-file.ts';
import { severityName } from '../../../aggregator/alerts/summary.ts';
import {
  blockOf,
  dictionaryOf,
  gpuLabels,
  ManualClock,
  SOURCE,
  START_MS,
  series,
  xidEvent,
} from './block-of.ts';

const SHIPPED = readFileSync(
  new URL('../../../aggregator/alerts/rules/default-rules.yaml', import.meta.url),
  'utf8',
);
const TEMPERATURE = dictionaryOf([
  series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'core' }), 'Cel'),
  series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'memory' }), 'Cel'),
]);

/** An engine, its clock, and what it told: change, state, severity, transition. */
function engineOf(rules = SHIPPED, more: Partial<AlertEngineOptions> = {}) {
  const clock = new ManualClock();
  const registry = createRegistry();
  const engine = new AlertEngine({ rules: parseRules(rules, 'rules').rules, clock, registry, ...more });
  const told: { change: AlertChange; alert: Alert }[] = [];
  engine.subscribe((alert, change) => void told.push({ change, alert }));
  const seconds = (from: number, values: readonly number[]) => {
    for (const [index, value] of values.entries()) {
      clock.ms = START_MS + (from + index) * 1000;
      engine.evaluate(blockOf(TEMPERATURE, clock.ms, [value, 50]));
    }
  };
  const changes = () => told.map(({ change }) => change);
  return { engine, clock, registry, told, seconds, changes };
}

const HOT = (more: string) => `rules:
  - name: hot
    metric: gpu_temperature_celsius
    labels: { sensor: core }
    severities: [{ severity: warning, above: 90 }]
    ${more}
`;

describe('temperature', () => {
  it('of 96 °C raises one critical alert, and 60 °C resolves it, each told once', () => {
    const { engine, told, seconds } = engineOf();
    seconds(0, [70, 96, 96, 97, 60, 60, 59]);
    expect(told.map(({ change, alert }) => [change, alert.severity, alert.transition])).toEqual([
      ['fired', Severity.CRITICAL, 1n],
      ['resolved', Severity.CRITICAL, 2n],
    ]);
    const [alert] = [...engine.alerts()];
    expect(alert).toMatchObject({
      rule: 'gpu-temperature',
      cluster: 'east',
      node: 'gpu-07.rack3',
      gpu: '0',
      gpuUuid: 'GPU-0',
      gpuModel: 'NVIDIA H100 80GB HBM3',
      state: AlertState.RESOLVED,
      resolution: Resolution.CLEARED,
    });
    expect(told[0]!.alert).toMatchObject({ value: 96, threshold: 95, state: AlertState.FIRING });
    expect(told[0]!.alert.summary).toBe('GPU temperature is 96 °C, above 95 °C, on GPU 0 of gpu-07.rack3');
    // By the samples' own times.
    expect(timestampMs(told[0]!.alert.firedAt!)).toBe(START_MS + 1000);
    expect(timestampMs(alert!.resolvedAt!)).toBe(START_MS + 4000);
  });

  it('that rises and falls changes the severity of one alert, under one id', () => {
    const { told, seconds } = engineOf();
    seconds(0, [91, 96, 94, 91, 60]);
    expect(told.map(({ change, alert }) => [change, severityName(alert.severity)])).toEqual([
      ['fired', 'warning'],
      ['severity', 'critical'],
      // 94 is within the margin of 95: no change.
      ['severity', 'warning'],
      ['resolved', 'warning'],
    ]);
    expect(new Set(told.map(({ alert }) => alert.id)).size).toBe(1);
    expect(told.map(({ alert }) => alert.transition)).toEqual([1n, 2n, 3n, 4n]);
  });

  it('that swings around the limit alerts once, not at every swing', () => {
    const { seconds, changes } = engineOf();
    seconds(0, [91, 89, 91, 89, 91, 88.5, 88]);
    expect(changes()).toEqual(['fired', 'resolved']);
  });

  it('fires again under the same id after it resolved', () => {
    const { engine, told, seconds } = engineOf();
    seconds(0, [96, 60, 96]);
    expect(told.map(({ alert }) => alert.transition)).toEqual([1n, 2n, 3n]);
    expect([...engine.alerts()]).toHaveLength(1);
    expect(told[2]!.alert.resolvedAt).toBeUndefined();
  });

  it('of the backlog raises nothing: what was hot an hour ago is history', () => {
    const { engine, told } = engineOf();
    engine.evaluate(blockOf(TEMPERATURE, START_MS, [99, 50], { live: false }));
    expect(told).toEqual([]);
  });

  it('that is absent or sent twice changes nothing', () => {
    const { engine, told } = engineOf();
    engine.evaluate(blockOf(TEMPERATURE, START_MS, [96, 50]));
    engine.evaluate(blockOf(TEMPERATURE, START_MS + 1000, [undefined, 50]));
    engine.evaluate(blockOf(TEMPERATURE, START_MS, [60, 50]));
    expect(told).toHaveLength(1);
  });

  it('goes on being evaluated on a node whose clock was set back by days', () => {
    const { engine, changes } = engineOf();
    engine.evaluate(blockOf(TEMPERATURE, START_MS + 2 * 86_400_000, [96, 50]));
    engine.evaluate(blockOf(TEMPERATURE, START_MS, [60, 50]));
    expect(changes()).toEqual(['fired', 'resolved']);
  });

  it('is followed over a new stream and a new dictionary: a reconnect must not leave it firing for ever', () => {
    const { engine, changes } = engineOf();
    engine.evaluate(blockOf(TEMPERATURE, START_MS, [96, 50]));
    const again: Source = { ...SOURCE };
    const dictionary = dictionaryOf([...TEMPERATURE.series].reverse());
    engine.evaluate(blockOf(dictionary, START_MS + 1000, [50, 60], { source: again }));
    expect(changes()).toEqual(['fired', 'resolved']);
  });
});

describe('for', () => {
  it('makes the alert pending first, and a recovery before its end withdraws it', () => {
    const { engine, seconds, changes } = engineOf(HOT('for: 5s'));
    seconds(0, [91, 91, 91, 89]);
    expect(changes()).toEqual(['pending', 'withdrawn']);
    expect([...engine.alerts()]).toEqual([]);
  });

  it('fires once the condition has held by the samples own times', () => {
    const { told, seconds, changes } = engineOf(HOT('for: 5s'));
    seconds(0, [91, 91, 91, 91, 91]);
    expect(changes()).toEqual(['pending']);
    expect(told[0]!.alert.transition).toBe(0n);
    seconds(5, [91]);
    expect(changes()).toEqual(['pending', 'fired']);
    expect(timestampMs(told[1]!.alert.startedAt!)).toBe(START_MS);
    expect(timestampMs(told[1]!.alert.firedAt!)).toBe(START_MS + 5000);
  });

  it('holds over a gap of three intervals: two lost ticks are not a recovery', () => {
    const { seconds, changes } = engineOf(HOT('for: 5s'));
    seconds(0, [91, 91]);
    seconds(4, [91, 91]);
    expect(changes()).toEqual(['pending', 'fired']);
  });

  it('starts anew after a longer gap: nobody saw that it held', () => {
    const { seconds, changes } = engineOf(HOT('for: 5s'));
    seconds(0, [91, 91]);
    seconds(6, [91, 91, 91, 91, 91]);
    expect(changes()).toEqual(['pending']);
    seconds(11, [91]);
    expect(changes()).toEqual(['pending', 'fired']);
  });

  it('leaves a firing alert firing through any silence', () => {
    const { engine, clock, seconds, changes } = engineOf();
    seconds(0, [96]);
    clock.ms += 86_400_000;
    engine.advance(clock.ms);
    expect(changes()).toEqual(['fired']);
    seconds(90_000, [96]);
    expect(changes()).toEqual(['fired']);
  });

  it('that ends a new pending leaves the earlier, resolved alert as it was', () => {
    const { engine, seconds } = engineOf(HOT('for: 2s'));
    seconds(0, [91, 91, 91, 60]);
    const before = [...engine.alerts()];
    seconds(4, [91, 60]);
    expect([...engine.alerts()]).toEqual(before);
    expect(before[0]!.state).toBe(AlertState.RESOLVED);
  });
});

describe('power', () => {
  const dictionary = dictionaryOf([
    series('gpu_power_watts', gpuLabels(0), 'W'),
    series('gpu_power_watts', gpuLabels(1), 'W'),
    series('gpu_power_limit_watts', gpuLabels(0, { limit: 'enforced' }), 'W'),
    series('gpu_power_limit_watts', gpuLabels(1, { limit: 'enforced' }), 'W'),
    series('gpu_power_limit_watts', gpuLabels(1, { limit: 'max' }), 'W'),
  ]);

  it('is compared with the enforced limit of the same GPU for a minute', () => {
    const { engine, told } = engineOf();
    for (let s = 0; s <= 60; s++)
      engine.evaluate(blockOf(dictionary, START_MS + s * 1000, [310, 310, 300, 290, 999]));
    expect(told.map(({ change, alert }) => [change, alert.gpu])).toEqual([
      ['pending', '1'],
      ['fired', '1'],
    ]);
    expect(told[1]!.alert.threshold).toBeCloseTo(304.5);
  });

  it('follows a limit that is lowered while it runs', () => {
    const { engine, changes } = engineOf();
    for (let s = 0; s <= 61; s++)
      engine.evaluate(blockOf(dictionary, START_MS + s * 1000, [400, 0, 300, 1, 1]));
    engine.evaluate(blockOf(dictionary, START_MS + 62_000, [400, 0, 500, 1, 1]));
    expect(changes()).toEqual(['pending', 'fired', 'resolved']);
  });

  it('is not judged where the limit is not known', () => {
    const { engine, told } = engineOf();
    for (let s = 0; s <= 61; s++) {
      engine.evaluate(blockOf(dictionary, START_MS + s * 1000, [900, 0, undefined, 1, 1]));
    }
    expect(told).toEqual([]);
  });
});

describe('memory in use', () => {
  const rules = SHIPPED.replace('    enabled: false\n', '').replace('for: 10m', 'for: 0s');

  it('is the quotient of two series where the source has no ratio', () => {
    const { engine, told } = engineOf(rules);
    const dictionary = dictionaryOf([
      series('gpu_memory_used_bytes', gpuLabels(0), 'By'),
      series('gpu_memory_total_bytes', gpuLabels(0), 'By'),
    ]);
    engine.evaluate(blockOf(dictionary, START_MS, [90, 100]));
    engine.evaluate(blockOf(dictionary, START_MS + 1000, [90, 0]));
    expect(told).toEqual([]);
    engine.evaluate(blockOf(dictionary, START_MS + 2000, [96, 100]));
    expect(told[0]!.alert.value).toBeCloseTo(0.96);
  });

  it('is the ratio where there is one, and never both', () => {
    const { engine, told } = engineOf(rules);
    const dictionary = dictionaryOf([
      series('gpu_memory_used_bytes', gpuLabels(0), 'By'),
      series('gpu_memory_total_bytes', gpuLabels(0), 'By'),
      series('gpu_memory_utilization_ratio', gpuLabels(0), '1'),
    ]);
    engine.evaluate(blockOf(dictionary, START_MS, [100, 100, 0.97]));
    expect(told.map(({ alert }) => alert.value)).toEqual([0.97]);
  });

  it('of two slices of one GPU makes two alerts', () => {
    const { engine } = engineOf(rules);
    const dictionary = dictionaryOf([
      series('gpu_memory_utilization_ratio', gpuLabels(0, { mig_id: '1', mig_profile: '1g.10gb' })),
      series('gpu_memory_utilization_ratio', gpuLabels(0, { mig_id: '2', mig_profile: '1g.10gb' })),
    ]);
    engine.evaluate(blockOf(dictionary, START_MS, [0.99, 0.98]));
    expect([...engine.alerts()].map((alert) => alert.key)).toEqual(['mig_id=1', 'mig_id=2']);
  });
});

describe('what health concludes', () => {
  const state = (from: string, to: string, atMs: number, more = {}) => ({
    ...{ type: 'health_state', timestampMs: atMs, gpu: '0', gpuUuid: 'GPU-0', text: `score of ${to}` },
    attributes: { from, to, ...more },
  });
  const anomaly = (phase: string, id: string, atMs: number) => ({
    ...{ type: 'anomaly', timestampMs: atMs, gpu: '0', gpuUuid: 'GPU-0', text: 'runs hot for its load' },
    attributes: { phase, id },
  });
  const active = (engine: AlertEngine) =>
    [...engine.alerts()].filter((one) => one.state === AlertState.FIRING).map(({ rule }) => rule);

  it('raises one alert for a state, and takes it back when the state is left', () => {
    const { engine, clock } = engineOf();
    engine.event(SOURCE, state('healthy', 'degraded', START_MS), false);
    expect(active(engine)).toEqual(['gpu-degraded']);
    clock.ms = START_MS + 60_000;
    engine.event(SOURCE, state('degraded', 'critical', clock.ms), false);
    expect(active(engine)).toEqual(['gpu-critical']);
    clock.ms += 60_000;
    engine.event(SOURCE, state('critical', 'degraded', clock.ms), false);
    clock.ms += 60_000;
    engine.event(SOURCE, state('degraded', 'healthy', clock.ms), false);
    expect(active(engine)).toEqual([]);
    expect([...engine.alerts()].map(({ resolution }) => resolution)).toEqual([
      Resolution.CLEARED,
      Resolution.CLEARED,
    ]);
  });

  it('wakes nobody for a node that operators drained, and resolves there what was raised before', () => {
    const { engine, clock } = engineOf();
    const suppressed = { suppressed: 'true' };
    engine.event(SOURCE, state('healthy', 'critical', START_MS, suppressed), false);
    expect(active(engine)).toEqual([]);
    engine.event(SOURCE, state('healthy', 'critical', START_MS + 1), false);
    clock.ms = START_MS + 60_000;
    engine.event(SOURCE, state('critical', 'degraded', clock.ms, suppressed), false);
    expect(active(engine)).toEqual([]);
  });

  it('tells anomalies of one GPU apart, each until it is over', () => {
    const { engine, clock } = engineOf();
    engine.event(SOURCE, anomaly('begin', 'a', START_MS), false);
    engine.event(SOURCE, anomaly('begin', 'b', START_MS), false);
    clock.ms = START_MS + 60_000;
    engine.event(SOURCE, anomaly('end', 'a', clock.ms), false);
    expect([...engine.alerts()].map(({ key, state: now }) => [key, now])).toEqual([
      ['a', AlertState.RESOLVED],
      ['b', AlertState.FIRING],
    ]);
  });
});

describe('an Xid', () => {
  it('that is critical alerts, with its name and the kernel line; an application error does not', () => {
    const { engine, told } = engineOf();
    engine.event(SOURCE, xidEvent(13, START_MS), false);
    engine.event(SOURCE, xidEvent(79, START_MS), false);
    expect(told).toHaveLength(1);
    expect(told[0]!.alert).toMatchObject({ rule: 'gpu-xid-critical', key: '79', value: 79, late: false });
    expect(told[0]!.alert.summary).toMatch(/^Critical Xid 79 \(.+\) on GPU 0 of gpu-07.rack3: NVRM: Xid/);
  });

  it('alerts once for each code and GPU', () => {
    const { engine } = engineOf();
    for (const [code, gpu] of [
      [79, 0],
      [79, 1],
      [48, 0],
    ] as const) {
      engine.event(SOURCE, xidEvent(code, START_MS, gpu), false);
    }
    expect([...engine.alerts()]).toHaveLength(3);
  });

  it('expires an hour after the last of its kind', () => {
    const { engine, clock, told, changes } = engineOf();
    engine.event(SOURCE, xidEvent(79, START_MS), false);
    clock.ms = START_MS + 1_800_000;
    engine.event(SOURCE, xidEvent(79, clock.ms), false);
    engine.advance(START_MS + 3_600_000);
    expect(changes()).toEqual(['fired']);
    engine.advance(START_MS + 5_400_000);
    expect(changes()).toEqual(['fired', 'resolved']);
    expect(told[1]!.alert.resolution).toBe(Resolution.EXPIRED);
  });

  // Two aggregators know of it from the stream; one of them hears the node, and its repeats.
  it('of a node that another aggregator hears expires a day later, in case that one is gone', () => {
    const { engine, told } = engineOf();
    engine.event(SOURCE, xidEvent(79, START_MS), false);
    let hears = false;
    const other = engineOf(SHIPPED, { hears: () => hears });
    other.engine.restore([told[0]!.alert]);
    other.engine.advance(START_MS + 7_200_000);
    expect(other.changes()).toEqual([]);
    hears = true;
    other.engine.advance(START_MS + 7_200_000);
    expect(other.changes()).toEqual(['resolved']);
    const gone = engineOf(SHIPPED, { hears: () => false });
    gone.engine.restore([told[0]!.alert]);
    gone.engine.advance(START_MS + 3_600_000 + 86_400_000);
    expect(gone.changes()).toEqual(['resolved']);
  });

  it('that is older than what fires, such as from the backlog, does not say that it is over', () => {
    const { engine, clock, changes } = engineOf(`rules:
  - { name: link, event: link_down, until_event: link_up }
`);
    const link = (type: string, second: number) => ({ ...xidEvent(0, START_MS + second * 1000), type });
    clock.ms = START_MS + 60_000;
    engine.event(SOURCE, link('link_down', 10), false);
    engine.event(SOURCE, link('link_up', 5), true);
    expect(changes()).toEqual(['fired']);
    engine.event(SOURCE, link('link_up', 11), false);
    expect(changes()).toEqual(['fired', 'resolved']);
  });

  it('of a clock that ran ahead hides nothing that really happens until then', () => {
    const { engine, clock, changes } = engineOf();
    engine.event(SOURCE, xidEvent(79, START_MS + 7_200_000), false);
    engine.advance(START_MS + 3_600_000);
    clock.ms = START_MS + 5_400_000;
    engine.event(SOURCE, xidEvent(79, clock.ms), false);
    expect(changes()).toEqual(['fired', 'resolved', 'fired']);
  });

  it('of a storm expire in parts: no tick waits for all of them', () => {
    const { engine, changes } = engineOf();
    for (let gpu = 0; gpu < 1_000; gpu++) engine.event(SOURCE, xidEvent(79, START_MS, gpu), false);
    for (let gpu = 0; gpu < 1_500; gpu++)
      engine.event({ ...SOURCE, node: 'another' }, xidEvent(79, START_MS, gpu), false);
    const resolved = () => changes().filter((change) => change === 'resolved').length;
    engine.advance(START_MS + 3_600_000);
    expect(resolved()).toBe(2_000);
    engine.advance(START_MS + 3_601_000);
    expect(resolved()).toBe(2_500);
  });

  it('from the backlog alerts all the same, marked late, for an hour from its arrival', () => {
    const { engine, clock, told, changes } = engineOf();
    engine.event(SOURCE, xidEvent(79, START_MS - 7_200_000), true);
    expect(told[0]!.alert.late).toBe(true);
    expect(timestampMs(told[0]!.alert.firedAt!)).toBe(START_MS - 7_200_000);
    engine.advance(clock.ms + 3_599_000);
    expect(changes()).toEqual(['fired']);
    engine.advance(clock.ms + 3_600_000);
    expect(changes()).toEqual(['fired', 'resolved']);
  });

  it('that an agent sends again after a store was restored raises nothing new', () => {
    const { engine, clock, changes } = engineOf();
    engine.event(SOURCE, xidEvent(79, START_MS), false);
    clock.ms = START_MS + 3_600_000;
    engine.advance(clock.ms);
    engine.event(SOURCE, xidEvent(79, START_MS), true);
    expect(changes()).toEqual(['fired', 'resolved']);
  });

  it('of a listed code alerts by the list', () => {
    const { engine } = engineOf('rules: [{name: mine, event: xid, codes: [13], severity: info}]');
    engine.event(SOURCE, xidEvent(79, START_MS), false);
    engine.event(SOURCE, xidEvent(13, START_MS), false);
    expect([...engine.alerts()].map((alert) => [alert.value, alert.severity])).toEqual([[13, Severity.INFO]]);
  });
});

describe('an operator', () => {
  it('who resolves while the condition holds is not bothered until it has cleared', () => {
    const { engine, clock, told, seconds, changes } = engineOf();
    seconds(0, [96]);
    const { id } = told[0]!.alert;
    expect(engine.resolve(id, 'fan is on order', clock.ms)).toBe('suppressed');
    expect(told[1]!.alert).toMatchObject({ suppressed: true, resolution: Resolution.OPERATOR });
    expect(told[1]!.alert.summary).toContain('fan is on order');
    seconds(1, [96, 97, 91]);
    expect(changes()).toEqual(['fired', 'resolved']);
    seconds(4, [60]);
    expect(changes()).toEqual(['fired', 'resolved', 'released']);
    expect(engine.get(id)).toMatchObject({ suppressed: false, state: AlertState.RESOLVED, transition: 2n });
    seconds(5, [96]);
    expect(told.at(-1)!.alert).toMatchObject({ state: AlertState.FIRING, transition: 3n });
  });

  it('who resolves the alert of a node that is silent gets it back if the condition still holds', () => {
    const { engine, clock, told, seconds, changes } = engineOf();
    seconds(0, [96]);
    clock.ms += 120_000;
    expect(engine.resolve(told[0]!.alert.id, '', clock.ms)).toBe('resolved');
    seconds(200, [96]);
    expect(changes()).toEqual(['fired', 'resolved', 'fired']);
  });

  it('is told what cannot be resolved', () => {
    const { engine, told, seconds } = engineOf();
    expect(engine.resolve('0000000000000000', '', START_MS)).toBe('not_found');
    seconds(0, [96, 60]);
    expect(engine.resolve(told[0]!.alert.id, '', START_MS)).toBe('not_active');
  });
});

describe('the limits', () => {
  const labels = (gpu: number) => gpuLabels(gpu, { sensor: 'core' });

  it('drop the oldest resolved alert first and refuse what would drop an active one, counted', async () => {
    const { engine, registry } = engineOf(SHIPPED, { maxAlerts: 2 });
    const dictionary = dictionaryOf([0, 1, 2].map((gpu) => series('gpu_temperature_celsius', labels(gpu))));
    const step = (s: number, values: number[]) =>
      engine.evaluate(blockOf(dictionary, START_MS + s * 1000, values));
    step(0, [96, 96, 50]);
    step(1, [96, 50, 50]);
    step(2, [96, 50, 96]);
    expect([...engine.alerts()].map((alert) => alert.gpu)).toEqual(['0', '2']);
    step(3, [96, 96, 96]);
    expect([...engine.alerts()].map((alert) => alert.gpu)).toEqual(['0', '2']);
    expect(await registry.metrics()).toContain('gpufleet_alerts_refused_total{rule="gpu-temperature"} 1');
  });

  it('of one node do not take the room of another', () => {
    const { engine } = engineOf(SHIPPED, { maxAlertsPerNode: 1 });
    const other: Source = { ...SOURCE, node: 'calm' };
    const dictionary = dictionaryOf([0, 1].map((gpu) => series('gpu_temperature_celsius', labels(gpu))));
    engine.evaluate(blockOf(dictionary, START_MS, [96, 96]));
    engine.evaluate(blockOf(dictionary, START_MS, [96, 50], { source: other }));
    expect([...engine.alerts()].map((alert) => alert.node)).toEqual([SOURCE.node, 'calm']);
  });
});

describe('after a restart', () => {
  it('an alert goes on firing, is not told again, and resolves under its count', () => {
    const first = engineOf();
    first.seconds(0, [96]);
    const { engine, seconds, told } = engineOf();
    engine.restore(first.engine.alerts());
    seconds(1, [96, 94, 60]);
    expect(told.map(({ change, alert }) => [change, alert.transition])).toEqual([['resolved', 2n]]);
  });

  it('a suppressed alert stays silent, and an Xid still expires', () => {
    const first = engineOf();
    first.seconds(0, [96]);
    first.engine.resolve(first.told[0]!.alert.id, '', START_MS);
    first.engine.event(SOURCE, xidEvent(79, START_MS), false);
    const { engine, seconds, changes } = engineOf();
    engine.restore(first.engine.alerts());
    seconds(1, [96]);
    expect(changes()).toEqual([]);
    engine.advance(START_MS + 3_600_000);
    expect(changes()).toEqual(['resolved']);
  });

  it('an alert whose rule was removed resolves: nothing else ever would', () => {
    const first = engineOf();
    first.seconds(0, [96]);
    const { engine, told } = engineOf('rules: []');
    engine.restore(first.engine.alerts());
    expect(told.map(({ change, alert }) => [change, alert.summary])).toEqual([
      ['resolved', expect.stringContaining('rule was removed')],
    ]);
  });
});

it('counts transitions, evaluations and what is active', async () => {
  const { registry, seconds } = engineOf(HOT('clear: 2'));
  seconds(0, [96, 60, 96]);
  const text = await registry.metrics();
  expect(text).toContain('gpufleet_alert_transitions_total{rule="hot",state="firing"} 2');
  expect(text).toContain('gpufleet_alert_rule_evaluations_total{kind="threshold"} 3');
  expect(text).toContain('gpufleet_alerts_active{severity="warning"} 1');
});
