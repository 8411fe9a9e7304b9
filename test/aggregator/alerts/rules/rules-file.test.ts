import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { parseRules } from '../../../../aggregator/alerts/rules/rules-file.ts';

function faultsOf(text: string): string[] {
  try {
    parseRules(text, 'rules.yaml');
  } catch (error) {
    return (error as Error).message
      .split('\n')
      .slice(1)
      .map((line) => line.trim());
  }
  return [];
}

describe('the shipped rules', () => {
  const text = readFileSync(
    new URL('../../../../aggregator/alerts/rules/default-rules.yaml', import.meta.url),
    'utf8',
  );
  const rules = parseRules(text, 'default-rules.yaml');

  it('load without a fault or a warning, or nobody would be alerted out of the box', () => {
    expect(rules.rules.map((rule) => rule.name)).toEqual([
      'gpu-temperature',
      'gpu-power-over-limit',
      'gpu-xid-critical',
      'samples-lost',
      'gpu-critical',
      'gpu-degraded',
      'gpu-anomaly',
    ]);
    expect(rules.warnings).toEqual([]);
  });

  it('leave memory off: inference servers fill it on purpose', () => {
    expect(rules.disabled).toEqual(['gpu-memory-full']);
  });

  it('keep temperature one alert: over 90 a warning, over 95 critical', () => {
    expect(rules.rules[0]).toMatchObject({
      direction: 'above',
      levels: [
        { severity: Severity.WARNING, limit: 90, forMs: 0 },
        { severity: Severity.CRITICAL, limit: 95, forMs: 0 },
      ],
    });
  });

  it('compare power with 105 % of the enforced limit for a minute', () => {
    expect(rules.rules[1]).toMatchObject({
      levels: [
        {
          limit: { metric: 'gpu_power_limit_watts', labels: { limit: 'enforced' }, times: 1.05 },
          forMs: 60_000,
        },
      ],
    });
  });

  it('end a critical Xid after an hour', () => {
    expect(rules.rules[2]).toMatchObject({
      event: 'xid',
      codes: 'critical',
      key: 'code',
      expiresMs: 3_600_000,
    });
  });
});

describe('a faulty rules file', () => {
  it('names all faults at once, each with its path: a user mends it in one go', () => {
    const faults = faultsOf(`
rules:
  - name: hot
    metric: gpu_temperature_celsius
    severities:
      - { severity: warning, above: ninety }
      - { severity: fatal, above: 95 }
    for: soon
  - name: Bad Name
    metric: gpu_power_watts
    colour: red
    severities:
      - { severity: warning }
  - name: xids
    event: xid
    codes: [79, seventy]
    expires: 1 hour
  - metric: gpu_power_watts
    severities: []
`);
    expect(faults).toEqual([
      'rules[0].severities[1].severity: must be info, warning or critical',
      'rules[0].for: must be a duration such as 30s, 1m or 1h',
      'rules[0].severities[0].above: must be a number',
      'rules[1].name: must be 1 to 63 of a-z, 0-9 and -',
      'rules[1].colour: is not a setting of a rule',
      'rules[1].severities[0]: must have either above or below',
      'rules[2].expires: must be a duration such as 30s, 1m or 1h',
      'rules[2].codes[1]: must be a code',
      'rules[3].name: is missing',
      'rules[3].severities: must have at least one severity',
    ]);
  });

  it.each([
    ['names twice', 'rules: [&r {name: a, event: xid}, *r]', 'rules[1].name: "a" is there twice'],
    [
      'severities out of order',
      'rules: [{name: a, metric: m, severities: [{severity: warning, above: 95}, {severity: critical, above: 90}]}]',
      'rules[0].severities: a higher severity must lie further above',
    ],
    [
      'above and below in one rule',
      'rules: [{name: a, metric: m, severities: [{severity: warning, above: 5}, {severity: critical, below: 1}]}]',
      'rules[0].severities: must be all above or all below',
    ],
    ['no list', 'rules: 5', 'rules: must be a list'],
    ['an unknown top setting', 'rules: []\nrule: 1', 'rule: is not a setting of a rule'],
    [
      'neither metric nor value',
      'rules: [{name: a, severities: [{severity: info, above: 1}]}]',
      'rules[0]: must have either metric or value',
    ],
    [
      'a bad quotient',
      'rules: [{name: a, value: {metric: m, over: 7}, severities: [{severity: info, above: 1}]}]',
      'rules[0].value.over: must be the name of a metric',
    ],
    [
      'a bad relative limit',
      'rules: [{name: a, metric: m, severities: [{severity: info, above: {metric: n, times: x}}]}]',
      'rules[0].severities[0].above.times: must be a number',
    ],
    [
      'codes of another event',
      'rules: [{name: a, event: gpu_lost, codes: [1]}]',
      'rules[0].codes: is only for the event xid',
    ],
  ])('is refused for %s', (_, text, fault) => {
    expect(faultsOf(text)).toEqual([fault]);
  });

  it('is refused for what is not YAML, with the line', () => {
    expect(faultsOf('rules:\n  - {name: a')[0]).toMatch(/line \d/);
  });

  it('is refused over the limits: rule names are label values', () => {
    const many = Array.from({ length: 501 }, (_, i) => `  - { name: r${i}, event: xid }`).join('\n');
    expect(faultsOf(`rules:\n${many}`)).toEqual(['rules: must be at most 500']);
    expect(faultsOf(`rules: []\n#${'x'.repeat(1024 * 1024)}`)).toEqual(['is larger than 1048576 bytes']);
  });
});

it('a metric that the catalogue does not know is a warning: a typo would never alert', () => {
  const { warnings } = parseRules(
    'rules: [{name: a, metric: gpu_temprature_celsius, severities: [{severity: info, above: 1}]}]',
    'rules.yaml',
  );
  expect(warnings).toEqual([expect.stringContaining('gpu_temprature_celsius is not in the catalogue')]);
});

it('an empty file is no rules, for those who want health alone', () => {
  expect(parseRules('rules: []', 'rules.yaml').rules).toEqual([]);
});
