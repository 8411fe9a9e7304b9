import { describe, expect, it } from 'vitest';
import { AlertState, Resolution, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { AbsentRule, AggregateRule } from '../../../aggregator/alerts/rules/rules.ts';
import type { Subject } from '../../../aggregator/alerts/subject.ts';
import { START_MS } from './block-of.ts';
import { engineWith } from './engine-of.ts';

const RACK: Subject = {
  ...{ cluster: 'east', node: '', gpu: '', gpuUuid: '', gpuModel: '' },
  ...{ key: 'rack=r7', unit: 'GPUs', labels: { rack: 'r7' } },
};
const GPU: Subject = {
  ...{ cluster: 'east', node: 'n1', gpu: '3', gpuUuid: 'GPU-3', gpuModel: 'H100' },
  ...{ key: '', unit: 's', labels: { sensor: 'core' } },
};
const RULES = `rules:
  - { name: gpu-critical, summary: GPU health critical, event: health_state }
  - name: rack-critical
    summary: GPU health critical
    aggregate: { count_of: gpu-critical, by: rack }
    severities: [{ severity: warning, above: 3 }, { severity: critical, above: 10 }]
    for: 2s
    keep_firing_for: 2s
    annotations: { description: 'Rack {{ labels.rack }} has {{ value }}' }
    add_labels: { team: dc }
  - name: rack-share
    summary: GPU health critical
    aggregate: { share_of: gpu-critical, by: rack }
    severities: [{ severity: critical, above: 0.3 }]
  - name: rack-heat
    summary: Average temperature
    aggregate: { avg: gpu_temperature_celsius, by: rack }
    severities: [{ severity: warning, above: 80 }]
    clear: 5
  - name: temperature-absent
    summary: GPU temperature
    absent: gpu_temperature_celsius
    severities: [{ severity: warning, above: 5m }, { severity: critical, above: 1h }]
`;

function watched() {
  const made = engineWith(RULES);
  const rule = (name: string) =>
    made.engine.rules().find((one) => one.name === name) as AggregateRule | AbsentRule;
  const observe = (name: string, subject: Subject, from: number, values: readonly number[]) => {
    for (const [index, value] of values.entries()) {
      made.clock.ms = START_MS + (from + index) * 1000;
      made.engine.observe(rule(name), subject, value, made.clock.ms, 1000);
    }
  };
  return { ...made, rule, observe };
}

describe('a value of a group', () => {
  it('goes through the same life as one of a series', () => {
    const { observe, told } = watched();
    observe('rack-critical', RACK, 0, [4, 4, 4, 11, 11, 11, 2, 4, 2, 2, 2]);
    expect(told.map(({ change, alert }) => [change, alert.severity])).toEqual([
      ['pending', Severity.WARNING],
      ['fired', Severity.WARNING],
      ['severity', Severity.CRITICAL],
      // Critical kept on for 2 s; the fourth of the rack came back within the warning's.
      ['severity', Severity.WARNING],
      ['resolved', Severity.WARNING],
    ]);
    expect(new Set(told.map(({ alert }) => alert.id)).size).toBe(1);
  });

  it('says which group, by how much, and what the rule adds', () => {
    const { observe, told } = watched();
    observe('rack-critical', RACK, 0, [4, 4, 4]);
    expect(told[1]!.alert).toMatchObject({
      ...{ cluster: 'east', node: '', key: 'rack=r7', labels: { rack: 'r7', team: 'dc' } },
      summary: 'rack r7: GPU health critical: 4 GPUs, above 3',
      annotations: { description: 'Rack r7 has 4' },
    });
  });

  it.each([
    ['rack-share', { ...RACK }, 0.4, 'rack r7: GPU health critical: 40 % of GPUs, above 30 %'],
    ['rack-heat', { ...RACK, unit: 'Cel' }, 81.5, 'rack r7: Average temperature: 81.5 °C, above 80 °C'],
    [
      'temperature-absent',
      GPU,
      400,
      'GPU temperature was last seen 6 min 40 s ago, above 5 min, on GPU 3 of n1',
    ],
  ])('of %s is a sentence', (name, subject, value, summary) => {
    const { observe, told } = watched();
    observe(name, subject, 0, [value]);
    expect(told.map(({ alert }) => alert.summary)).toEqual([summary]);
  });

  it('that is not known changes nothing, as does one of a rule that is gone', () => {
    const { engine, observe, rule, told } = watched();
    const gone = rule('rack-share');
    observe('rack-share', RACK, 0, [Number.NaN]);
    engine.setRules(engine.rules().filter(({ name }) => name !== 'rack-share'));
    engine.observe(gone, RACK, 1, START_MS, 1000);
    expect(told).toEqual([]);
  });

  it('of the same subject object under two rules is two alerts', () => {
    const { engine, observe } = watched();
    for (const second of [0, 1]) {
      observe('rack-share', RACK, second, [1]);
      observe('rack-heat', RACK, second, [99]);
    }
    expect([...engine.alerts()].map(({ rule, transition }) => [rule, transition])).toEqual([
      ['rack-share', 1n],
      ['rack-heat', 1n],
    ]);
  });
});

describe('a series that comes back', () => {
  it('resolves its alert and says so', () => {
    const { observe, told } = watched();
    observe('temperature-absent', GPU, 0, [301, 3601, 0]);
    expect(told.map(({ change }) => change)).toEqual(['fired', 'severity', 'resolved']);
    expect(told.at(-1)!.alert.summary).toBe('GPU temperature is there again on GPU 3 of n1');
  });
});

describe('a subject that has gone', () => {
  it('takes its alert with it: a rack that was dismantled would fire for ever', () => {
    const { engine, observe, rule, told, news } = watched();
    observe('rack-share', RACK, 0, [1]);
    engine.resolveGone(rule('rack-share'), RACK, START_MS + 5000);
    expect(told.at(-1)!.alert).toMatchObject({
      ...{ state: AlertState.RESOLVED, resolution: Resolution.CLEARED },
      summary: expect.stringMatching(/^Nothing left to watch: rack r7/),
    });
    expect(news()).toEqual(['fired', 'resolved']);
    observe('rack-critical', RACK, 0, [4]);
    engine.resolveGone(rule('rack-critical'), RACK, START_MS + 5000);
    // Of one that never had an alert there is nothing to say.
    engine.resolveGone(rule('rack-heat'), RACK, START_MS + 5000);
    expect(news()).toEqual(['pending', 'withdrawn']);
  });
});

it('counts what was looked at, by kind', async () => {
  const { observe, registry } = watched();
  observe('rack-share', RACK, 0, [0, 0]);
  observe('temperature-absent', GPU, 0, [0]);
  const text = await registry.metrics();
  expect(text).toContain('evaluations_total{kind="aggregate"} 2');
  expect(text).toContain('evaluations_total{kind="absent"} 1');
});
