import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { testRules } from '../../../../../aggregator/alerts/rules/trial/test-rules.ts';
import { ROOT } from '../../../../support/data.ts';
import { tempDir } from '../../../../support/temp.ts';

const dir = tempDir('trial');
afterAll(() => dir[Symbol.asyncDispose]());

const HOT = {
  name: 'hot',
  metric: 'gpu_temperature_celsius',
  severities: [
    { severity: 'warning', above: 90 },
    { severity: 'critical', above: 95 },
  ],
  for: '20s',
  annotations: { description: 'GPU {{ gpu }} is at {{ value | celsius }}' },
};
const SERIES = 'gpu_temperature_celsius{node="n1",gpu="0"}';

let files = 0;

function write(content: unknown): string {
  const path = join(dir.path, `${files++}.yaml`);
  writeFileSync(path, typeof content === 'string' ? content : stringify(content));
  return path;
}

async function differencesOf(
  test: Record<string, unknown>,
  rules: readonly unknown[] = [HOT],
): Promise<readonly string[]> {
  const path = write({
    rule_files: [write({ rules })],
    evaluation_interval: '10s',
    tests: [{ name: 't', ...test }],
  });
  const [result] = await testRules(path);
  return result!.differences;
}

describe('a test of rules', () => {
  const input_series = [{ series: SERIES, values: '80 91x5 96x5 80x5' }];
  const at = (eval_time: string, exp_alerts: unknown, alertname = 'hot') => ({
    input_series,
    alert_rule_test: [{ eval_time, alertname, exp_alerts }],
  });

  test('passes where all is as expected', async () => {
    expect(await differencesOf(at('10s', [{ state: 'pending' }]))).toEqual([]);
    expect(await differencesOf(at('10s', []))).toEqual([]);
    expect(
      await differencesOf(at('30s', [{ exp_labels: { severity: 'warning', gpu: 0, node: 'n1' } }])),
    ).toEqual([]);
    expect(
      await differencesOf(
        at('100s', [
          { exp_annotations: { description: 'GPU 0 is at 96 °C' }, exp_labels: { severity: 'critical' } },
        ]),
      ),
    ).toEqual([]);
    expect(await differencesOf(at('150s', null))).toEqual([]);
  });

  // Lost without it: a test that is green whatever the rules do.
  test.each([
    ['an alert that is not there', at('10s', [{}]), 'at 10s, rule hot: missing: firing {}'],
    ['one that nobody expects', at('30s', []), 'at 30s, rule hot: not expected: firing {severity="warning"'],
    [
      'another severity',
      at('30s', [{ exp_labels: { severity: 'critical' } }]),
      'missing: firing {severity="critical"}',
    ],
    ['another label', at('30s', [{ exp_labels: { gpu: '1' } }]), 'missing: firing {gpu="1"}'],
    [
      'another text',
      at('30s', [{ exp_annotations: { description: 'x' } }]),
      'missing: firing {description="x"}',
    ],
    ['another state', at('30s', [{ state: 'pending' }]), 'missing: pending {}'],
    ['one instead of two', at('30s', [{}, {}]), 'missing: firing {}'],
    ['a rule that there is not', at('30s', [], 'hott'), 'at 30s, rule hott: there is no such rule'],
  ])('fails for %s', async (_, one, why) => {
    expect((await differencesOf(one)).join('\n')).toContain(why);
  });

  test('has events, racks and series that end', async () => {
    const rules = [
      { ...HOT, for: '0s' },
      { name: 'lost', event: 'gpu_lost', until_event: 'gpu_back', severity: 'critical' },
      { name: 'gone', absent: 'gpu_power_watts', severities: [{ severity: 'warning', above: '1m' }] },
      {
        name: 'rack',
        aggregate: { count_of: 'hot', by: 'rack' },
        severities: [{ severity: 'critical', above: 1 }],
      },
    ];
    const groups = { n1: { rack: 'r1' }, n2: { rack: 'r1' }, n3: { rack: 'r2' } };
    const series = ['n1', 'n2', 'n3'].map((node) => ({
      series: `gpu_temperature_celsius{node="${node}",gpu="0",uuid="${node}"}`,
      values: '80 92x100',
    }));
    const trial = {
      groups,
      input_series: [
        ...series,
        { series: 'gpu_power_watts{node="n1",gpu="0",uuid="n1"}', values: '1x5 stale' },
      ],
      events: [
        { at: '15s', event: 'gpu_lost', node: 'n2', gpu: 4 },
        { at: '45s', event: 'gpu_back', node: 'n2', gpu: 4 },
      ],
      alert_rule_test: [
        {
          eval_time: '20s',
          alertname: 'lost',
          exp_alerts: [{ exp_labels: { node: 'n2', gpu: '4', severity: 'critical' } }],
        },
        { eval_time: '50s', alertname: 'lost' },
        { eval_time: '20s', alertname: 'rack', exp_alerts: [{ exp_labels: { rack: 'r1' } }] },
        { eval_time: '1m30s', alertname: 'gone' },
        { eval_time: '3m', alertname: 'gone', exp_alerts: [{ exp_labels: { node: 'n1', gpu: '0' } }] },
      ],
    };
    expect(await differencesOf(trial, rules)).toEqual([]);
  });
});

// Lost without it: somebody who looks for the mistake in a file of a thousand lines.
describe('a file that cannot be read says where', () => {
  test.each([
    ['rule_files: [', /\.yaml:\d+:\d+: /],
    ['rule_files: []\ntests: []\n', /\.yaml:1:13: rule_files: must not be empty/],
    [
      'rule_files: [a]\ntests:\n  - input_series:\n      - series: up\n        values: 1 b\n    alert_rule_test: []\n',
      /\.yaml:5:17: tests\[0\]\.input_series\[0\]\.values: "b" is no value/,
    ],
    [
      'rule_files: [a]\ntests:\n  - alert_rule_test:\n      - eval_time: 5x\n        alertname: a\n',
      /\.yaml:4:20: tests\[0\]\.alert_rule_test\[0\]\.eval_time: must be a duration/,
    ],
    [
      'rule_files: [a]\ntests:\n  - input: 5\n    alert_rule_test: []\n',
      /\.yaml:3:5: tests\[0\]\.input: is not a setting of a test/,
    ],
    [
      'rule_files: [a]\nevaluation_interval: 1s\ntests:\n  - alert_rule_test:\n      - { eval_time: 100d, alertname: a }\n',
      /tests\[0\]: lasts more than 200000 intervals/,
    ],
    ['rule_files: [nowhere.yaml]\ntests: []\n', /Cannot read .*nowhere\.yaml: ENOENT/],
  ])('%j', async (text, why) => {
    await expect(testRules(write(text))).rejects.toThrow(why);
  });

  test('and rules that cannot be read, too', async () => {
    const rules = write('rules:\n  - name: X\n');
    await expect(testRules(write({ rule_files: [rules], tests: [] }))).rejects.toThrow(
      /:2:11: rules\[0\]\.name: must be 1 to 63/,
    );
  });
});

test('the examples that ship pass, and use the rules that ship', async () => {
  const results = await testRules(join(ROOT, 'deploy/examples/rules/site.test.yaml'));
  expect(results.map(({ differences }) => differences)).toEqual([[], []]);
  const shipped = write({
    rule_files: ['default'],
    tests: [
      {
        input_series: [{ series: 'gpu_row_remap_failed{node="n1",gpu="3"}', values: '0 1x3' }],
        alert_rule_test: [
          {
            eval_time: '20s',
            alertname: 'gpu-row-remap-failed',
            exp_alerts: [{ exp_labels: { gpu: '3', severity: 'critical' } }],
          },
        ],
      },
    ],
  });
  expect((await testRules(shipped))[0]!.differences).toEqual([]);
});
