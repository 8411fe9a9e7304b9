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

  const named = (name: string) => rules.rules.find((rule) => rule.name === name);

  it('load without a fault or a warning, or nobody would be alerted out of the box', () => {
    expect(rules.rules.map((rule) => rule.name)).toEqual(
      expect.arrayContaining([
        ...['gpu-temperature', 'gpu-power-over-limit', 'gpu-xid-critical', 'samples-lost'],
        ...['gpu-critical', 'gpu-degraded', 'gpu-anomaly'],
      ]),
    );
    expect(rules.warnings).toEqual([]);
  });

  it('leave memory off: inference servers fill it on purpose', () => {
    expect(rules.disabled).toContain('gpu-memory-full');
  });

  it('keep temperature one alert: over 90 a warning, over 95 critical', () => {
    expect(named('gpu-temperature')).toMatchObject({
      direction: 'above',
      levels: [
        { severity: Severity.WARNING, limit: 90, forMs: 0 },
        { severity: Severity.CRITICAL, limit: 95, forMs: 0 },
      ],
    });
  });

  it('compare power with 105 % of the enforced limit for a minute', () => {
    expect(named('gpu-power-over-limit')).toMatchObject({
      levels: [
        {
          limit: { metric: 'gpu_power_limit_watts', labels: { limit: 'enforced' }, times: 1.05 },
          forMs: 60_000,
        },
      ],
    });
  });

  it('end a critical Xid after an hour', () => {
    expect(named('gpu-xid-critical')).toMatchObject({
      event: 'xid',
      codes: 'critical',
      key: 'code',
      expiresMs: 3_600_000,
    });
  });
});

describe('a faulty rules file', () => {
  it('names all faults at once, each with its place and path: a user mends it in one go', () => {
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
      'rules.yaml:6:37: rules[0].severities[0].above: must be a number',
      'rules.yaml:7:21: rules[0].severities[1].severity: must be info, warning or critical',
      'rules.yaml:8:10: rules[0].for: must be a duration such as 30s, 1m or 1h',
      'rules.yaml:9:11: rules[1].name: must be 1 to 63 of a-z, 0-9 and -',
      'rules.yaml:11:5: rules[1].colour: is not a setting of a rule',
      'rules.yaml:13:9: rules[1].severities[0]: must have either above or below',
      'rules.yaml:16:17: rules[2].codes[1]: must be a code',
      'rules.yaml:17:14: rules[2].expires: must be a duration such as 30s, 1m or 1h',
      'rules.yaml:18:5: rules[3].name: is missing',
      'rules.yaml:19:17: rules[3].severities: must have at least one severity',
    ]);
  });

  // Each line is one rule, so that the column says which part of it is at fault.
  it.each([
    [
      'names twice',
      ['{name: a, event: xid}', '{name: a, event: xid}'],
      '3:11: rules[1].name: "a" is there twice',
    ],
    [
      'a name twice by an alias',
      ['&r {name: a, event: xid}', '*r'],
      '2:14: rules[1].name: "a" is there twice',
    ],
    [
      'severities out of order',
      ['{name: a, metric: m, severities: [{severity: warning, above: 95}, {severity: critical, above: 90}]}'],
      '2:37: rules[0].severities: a higher severity must lie further above',
    ],
    [
      'a severity twice',
      ['{name: a, metric: m, severities: [{severity: info, above: 95}, {severity: info, above: 99}]}'],
      '2:37: rules[0].severities: a severity is there twice',
    ],
    [
      'above and below in one rule',
      ['{name: a, metric: m, severities: [{severity: warning, above: 5}, {severity: critical, below: 1}]}'],
      '2:37: rules[0].severities: must be all above or all below',
    ],
    ['no rule', ['7'], '2:4: rules[0]: must be settings with their values'],
    [
      'neither metric nor value',
      ['{name: a, severities: [{severity: info, above: 1}]}'],
      '2:4: rules[0]: must have either metric or value',
    ],
    [
      'a bad quotient',
      ['{name: a, value: {metric: m, over: 7}, severities: [{severity: info, above: 1}]}'],
      '2:39: rules[0].value.over: must be the name of a metric',
    ],
    [
      'a quotient of growths',
      ['{name: a, value: {metric: m, over: n, rate: 1m}, severities: [{severity: info, above: 1}]}'],
      '2:33: rules[0].value.over: must not stand beside increase or rate',
    ],
    [
      'a bad relative limit',
      ['{name: a, metric: m, severities: [{severity: info, above: {metric: n, times: x}}]}'],
      '2:81: rules[0].severities[0].above.times: must be a number',
    ],
    [
      'codes of another event',
      ['{name: a, event: gpu_lost, codes: [1]}'],
      '2:38: rules[0].codes: is only for the event xid',
    ],
    [
      'a window shorter than agents read',
      ['{name: a, metric: m, increase: 5s, severities: [{severity: info, above: 1}]}'],
      '2:35: rules[0].increase: must be 10s to 7d',
    ],
    [
      'two windows',
      ['{name: a, metric: m, increase: 5m, rate: 5m, severities: [{severity: info, above: 1}]}'],
      '2:39: rules[0].rate: must not stand beside increase',
    ],
    [
      'a window beside value',
      ['{name: a, value: {metric: m}, rate: 5m, severities: [{severity: info, above: 1}]}'],
      '2:34: rules[0].rate: belongs into value',
    ],
    [
      'a bad keep_firing_for',
      ['{name: a, metric: m, keep_firing_for: 5, severities: [{severity: info, above: 1}]}'],
      '2:42: rules[0].keep_firing_for: must be a duration such as 30s, 1m or 1h',
    ],
    [
      'an absent rule with a number',
      ['{name: a, absent: m, severities: [{severity: info, above: 5}]}'],
      '2:62: rules[0].severities[0].above: must be a duration such as 30s, 1m or 1h',
    ],
    [
      'an absent rule that is below',
      ['{name: a, absent: m, severities: [{severity: info, below: 5m}]}'],
      '2:55: rules[0].severities[0].below: must be above',
    ],
    [
      'an aggregate of a rule that there is not',
      ['{name: a, aggregate: {count_of: b, by: rack}, severities: [{severity: info, above: 3}]}'],
      '2:36: rules[0].aggregate.count_of: there is no rule "b"',
    ],
    [
      'an aggregate of itself',
      ['{name: a, aggregate: {count_of: a, by: rack}, severities: [{severity: info, above: 3}]}'],
      '2:36: rules[0].aggregate.count_of: must be a rule about GPUs or nodes',
    ],
    [
      'a group that there is not',
      ['{name: a, aggregate: {avg: m, by: shelf}, severities: [{severity: info, above: 3}]}'],
      '2:38: rules[0].aggregate.by: must be one of node, rack, pool, switch, pdu, cooling_zone, row, datacenter, cluster, fleet',
    ],
    [
      'an aggregate of two things',
      ['{name: a, aggregate: {avg: m, max: m, by: rack}, severities: [{severity: info, above: 3}]}'],
      '2:25: rules[0].aggregate: must have exactly one of count_of, share_of, avg, min, max, sum',
    ],
    [
      'a share of more than all',
      [
        '{name: b, event: xid}',
        '{name: a, aggregate: {share_of: b, by: rack}, severities: [{severity: info, above: 30}]}',
      ],
      '3:87: rules[1].severities[0].above: must be a share from 0 to 1',
    ],
    [
      'a template with a name that there is not',
      ['{name: a, event: xid, annotations: {description: "On {{ node }}: {{ hostname }}"}}'],
      '2:69: rules[0].annotations.description: unknown name "hostname", known are node, gpu, gpu_uuid, gpu_model, cluster, rule, key, severity, value, threshold, summary, labels.<name>',
    ],
    [
      'a template with a filter that there is not',
      ["{name: a, event: xid, annotations: {description: '{{ value | upper }}'}}"],
      '2:54: rules[0].annotations.description: unknown filter "upper", known are percent, round, duration, bytes, celsius',
    ],
    [
      'a template that does not end',
      ["{name: a, event: xid, annotations: {description: 'x {{ value'}}"],
      '2:56: rules[0].annotations.description: {{ has no }}',
    ],
    [
      'a runbook that is no address',
      ['{name: a, event: xid, runbook: wiki/xid}'],
      '2:35: rules[0].runbook: must be an http or https address',
    ],
    [
      'a label that every alert has',
      ['{name: a, event: xid, add_labels: {node: x}}'],
      '2:39: rules[0].add_labels.node: is a label that every alert has',
    ],
    [
      'labels that are none',
      ['{name: a, event: xid, add_labels: [x]}'],
      '2:38: rules[0].add_labels: must be labels with their values',
    ],
  ])('is refused for %s', (_, rules, fault) => {
    const text = `rules:\n${rules.map((rule) => ` - ${rule}`).join('\n')}\n`;
    expect(faultsOf(text)).toEqual([`rules.yaml:${fault}`]);
  });

  it.each([
    ['no list', 'rules: 5', 'rules.yaml:1:8: rules: must be a list'],
    ['an unknown top setting', 'rules: []\nrule: 1', 'rules.yaml:2:1: rule: is not a setting of a rule'],
    ['no rules', '', 'rules.yaml:1:1: rules: is missing'],
    ['a key twice', 'rules: []\nrules: []', 'rules.yaml:2:1: Map keys must be unique'],
    [
      'what is not YAML',
      'rules:\n  - {name: a',
      'rules.yaml:2:13: Flow map in block collection must be sufficiently indented and end with a }',
    ],
    [
      'aliases that multiply',
      `a: &a [1,1]\n${'bcdefgh'
        .split('')
        .map((name, i) => `${name}: &${name} [${`*${'abcdefg'[i]},`.repeat(9)}]`)
        .join('\n')}\nrules: []`,
      'rules.yaml:1:1: Excessive alias count indicates a resource exhaustion attack',
    ],
  ])('is refused for %s', (_, text, fault) => {
    expect(faultsOf(text)).toEqual([fault]);
  });

  it('is refused over the limits: rule names are label values', () => {
    const many = Array.from({ length: 501 }, (_, i) => `  - { name: r${i}, event: xid }`).join('\n');
    expect(faultsOf(`rules:\n${many}`)).toEqual(['rules.yaml:2:3: rules: must be at most 500']);
    expect(faultsOf(`rules: []\n#${'x'.repeat(1024 * 1024)}`)).toEqual([
      'rules.yaml: is larger than 1048576 bytes',
    ]);
    const texts = Array.from({ length: 17 }, (_, i) => `t${i}: x`).join(', ');
    expect(faultsOf(`rules: [{name: a, event: xid, annotations: {${texts}}}]`)).toEqual([
      'rules.yaml:1:44: rules[0].annotations: must be at most 16',
    ]);
  });

  it('of another kind tells a hundred faults, not one for each of its lines', () => {
    const faults = faultsOf(`rules:\n${'  - 7\n'.repeat(300)}`);
    expect(faults).toHaveLength(101);
    expect(faults.at(-1)).toMatch(/and \d+ more$/);
  });
});

describe('a rule', () => {
  const parse = (text: string) => parseRules(text, 'rules.yaml').rules[0];

  it('has its texts: the runbook is an annotation, labels are added as they are', () => {
    expect(
      parse(
        'rules: [{name: a, event: xid, annotations: {description: "{{ node }}"}, runbook: "https://wiki/a", add_labels: {team: hw, tier: 2}}]',
      ),
    ).toMatchObject({
      annotations: { description: '{{ node }}', runbook_url: 'https://wiki/a' },
      addLabels: { team: 'hw', tier: '2' },
    });
  });

  it('on a counter looks at its growth', () => {
    const text = (window: string) =>
      `rules: [{name: a, metric: m_total, ${window}, keep_firing_for: 5m, severities: [{severity: info, above: 1}]}]`;
    expect(parse(text('increase: 10m'))).toMatchObject({
      keepFiringMs: 300_000,
      values: [{ metric: 'm_total', window: { fn: 'increase', ms: 600_000 } }],
    });
    expect(parse(text('rate: 5m'))).toMatchObject({ values: [{ window: { fn: 'rate', ms: 300_000 } }] });
    expect(
      parse('rules: [{name: a, value: [{metric: m, rate: 1h}], severities: [{severity: info, above: 1}]}]'),
    ).toMatchObject({ values: [{ window: { fn: 'rate', ms: 3_600_000 } }] });
  });

  it('of absence has its durations in seconds', () => {
    expect(
      parse('rules: [{name: a, absent: m, labels: {s: x}, severities: [{severity: warning, above: 5m}]}]'),
    ).toMatchObject({
      kind: 'absent',
      metric: 'm',
      labels: { s: 'x' },
      levels: [{ limit: 300 }],
      summary: 'm',
    });
  });

  it('of groups says what of which', () => {
    const text = (aggregate: string) => `rules:
  - {name: a, aggregate: ${aggregate}, for: 1m, severities: [{severity: warning, above: 0.5}]}
  - {name: b, event: xid}`;
    expect(parse(text('{share_of: b, by: pool}'))).toMatchObject({
      ...{ kind: 'aggregate', of: { fn: 'share_of', rule: 'b' }, by: 'pool' },
      levels: [{ limit: 0.5, forMs: 60_000 }],
    });
    expect(parse(text('{max: m, labels: {sensor: core}, by: cooling_zone}'))).toMatchObject({
      of: { fn: 'max', metric: 'm', labels: { sensor: 'core' } },
      by: 'cooling_zone',
    });
  });
});

it.each([
  [
    'the growth of a gauge',
    '{name: a, metric: gpu_power_watts, rate: 1m, severities: [{severity: info, above: 1}]}',
    'no counter',
  ],
  [
    'counting alerts of a rule that is off',
    '{name: a, aggregate: {count_of: off, by: rack}, severities: [{severity: info, above: 1}]}',
    'switched off',
  ],
])('%s is a warning: most likely it is not meant', (_, rule, doubt) => {
  const { warnings } = parseRules(`rules: [${rule}, {name: off, event: xid, enabled: false}]`, 'rules.yaml');
  expect(warnings).toEqual([expect.stringContaining(doubt)]);
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
