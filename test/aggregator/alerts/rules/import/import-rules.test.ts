import { describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { importRules } from '../../../../../aggregator/alerts/rules/import/import-rules.ts';
import { parseRules } from '../../../../../aggregator/alerts/rules/rules-file.ts';

type Settings = Record<string, unknown>;

function imported(rules: readonly Settings[]) {
  return importRules(stringify({ groups: [{ name: 'gpu', interval: '30s', rules }] }), 'prometheus.yaml');
}

/** Without name and summary: what it looks at and when it fires. */
function ruleOf(expr: string, more: Settings = {}): Settings {
  const {
    rules,
    imported: [only],
  } = imported([{ alert: 'X', expr, labels: { severity: 'warning' }, ...more }]);
  expect(only!.notes.join(), expr).not.toContain('not translated');
  const { name: _, summary: __, ...settings } = (parse(rules).rules as Settings[]).at(-1)!;
  return settings;
}

const warning = (limit: Settings) => [{ severity: 'warning', ...limit }];

// Lost without it: an operator's own rule alerts at another limit than it did, or on another series.
describe('an expression becomes a rule', () => {
  test.each<[expr: string, settings: Settings]>([
    [
      'DCGM_FI_DEV_GPU_TEMP > 85',
      { metric: 'gpu_temperature_celsius', labels: { sensor: 'core' }, severities: warning({ above: 85 }) },
    ],
    [
      '85 < DCGM_FI_DEV_GPU_TEMP',
      { metric: 'gpu_temperature_celsius', labels: { sensor: 'core' }, severities: warning({ above: 85 }) },
    ],
    [
      '(DCGM_FI_DEV_GPU_UTIL{gpu="3"}) < 5',
      {
        metric: 'gpu_utilization_ratio',
        labels: { task: 'general', gpu: '3' },
        severities: warning({ below: 0.05 }),
      },
    ],
    [
      'DCGM_FI_DEV_FB_FREE < 1024',
      { metric: 'gpu_memory_free_bytes', severities: warning({ below: 1_073_741_824 }) },
    ],
    [
      'DCGM_FI_DEV_GPU_TEMP >= 90',
      { metric: 'gpu_temperature_celsius', labels: { sensor: 'core' }, severities: warning({ above: 89.5 }) },
    ],
    [
      'DCGM_FI_DEV_POWER_USAGE >= 400',
      { metric: 'gpu_power_watts', severities: warning({ above: 399.999999996 }) },
    ],
    [
      'DCGM_FI_DEV_ROW_REMAP_PENDING == 1',
      { metric: 'gpu_row_remap_pending', severities: warning({ above: 0.5 }) },
    ],
    ['up{job="dcgm"} == 0', { metric: 'up', severities: warning({ below: 0.5 }) }],
    ['gpu_row_remap_failed != 0', { metric: 'gpu_row_remap_failed', severities: warning({ above: 0.5 }) }],
    [
      'DCGM_FI_DEV_FB_USED / DCGM_FI_DEV_FB_TOTAL * 100 > 95',
      {
        value: { metric: 'gpu_memory_used_bytes', over: 'gpu_memory_total_bytes' },
        severities: warning({ above: 0.95 }),
      },
    ],
    [
      '100 * DCGM_FI_DEV_FB_USED / DCGM_FI_DEV_FB_TOTAL > 95',
      {
        value: { metric: 'gpu_memory_used_bytes', over: 'gpu_memory_total_bytes' },
        severities: warning({ above: 0.95 }),
      },
    ],
    [
      '1 - node_filesystem_avail_bytes / node_filesystem_size_bytes > 0.9',
      {
        value: { metric: 'node_filesystem_avail_bytes', over: 'node_filesystem_size_bytes' },
        severities: warning({ below: 0.1 }),
      },
    ],
    [
      'increase(DCGM_FI_DEV_ECC_DBE_VOL_TOTAL[10m]) > 0',
      {
        value: {
          metric: 'gpu_ecc_errors_total',
          labels: { scope: 'volatile', type: 'uncorrected' },
          increase: '10m',
        },
        severities: warning({ above: 0 }),
      },
    ],
    [
      'rate(DCGM_FI_DEV_THERMAL_VIOLATION[5m]) / 1e9 > 0.1',
      {
        value: { metric: 'gpu_clock_event_seconds_total', labels: { reason: 'hw_thermal' }, rate: '5m' },
        severities: warning({ above: 0.1 }),
      },
    ],
    [
      'DCGM_FI_DEV_POWER_USAGE > DCGM_FI_DEV_ENFORCED_POWER_LIMIT * 1.05',
      {
        metric: 'gpu_power_watts',
        severities: warning({
          above: { metric: 'gpu_power_limit_watts', labels: { limit: 'enforced' }, times: 1.05 },
        }),
      },
    ],
    [
      'DCGM_FI_DEV_PCIE_LINK_WIDTH < DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH',
      {
        metric: 'gpu_pcie_link_width',
        severities: warning({ below: { metric: 'gpu_pcie_link_width_max', labels: {}, times: 1 } }),
      },
    ],
    [
      'absent(DCGM_FI_DEV_GPU_TEMP)',
      { absent: 'gpu_temperature_celsius', labels: { sensor: 'core' }, severities: warning({ above: '5m' }) },
    ],
    ['absent_over_time(up[15m])', { absent: 'up', severities: warning({ above: '15m' }) }],
    [
      'min_over_time(DCGM_FI_DEV_GPU_TEMP[5m]) > 85',
      {
        metric: 'gpu_temperature_celsius',
        labels: { sensor: 'core' },
        severities: warning({ above: 85 }),
        for: '5m',
      },
    ],
    [
      'sum by (rack) (gpu_power_watts) > 40000',
      { aggregate: { sum: 'gpu_power_watts', by: 'rack' }, severities: warning({ above: 40_000 }) },
    ],
    [
      'avg(DCGM_FI_DEV_GPU_UTIL) by (Hostname) < 10',
      {
        aggregate: { avg: 'gpu_utilization_ratio', labels: { task: 'general' }, by: 'node' },
        severities: warning({ below: 0.1 }),
      },
    ],
    [
      'max by (Hostname, gpu) (DCGM_FI_DEV_GPU_TEMP) > 90',
      { metric: 'gpu_temperature_celsius', labels: { sensor: 'core' }, severities: warning({ above: 90 }) },
    ],
    ['DCGM_FI_DEV_XID_ERRORS == 79', { event: 'xid', codes: [79], key: 'code', severity: 'warning' }],
    ['DCGM_FI_DEV_XID_ERRORS > 0', { event: 'xid', codes: 'any', key: 'code', severity: 'warning' }],
  ])('%s', (expr, settings) => {
    expect(ruleOf(expr)).toEqual(settings);
  });

  test('a count by rack becomes the rule that is counted and the rule that counts', () => {
    const { rules } = imported([
      {
        alert: 'RackHot',
        expr: 'count by (rack) (DCGM_FI_DEV_GPU_TEMP > 85) > 3',
        for: '2m',
        labels: { severity: 'critical' },
      },
    ]);
    expect(parse(rules).rules).toEqual([
      {
        name: 'rack-hot-member',
        summary: 'Counted by rack-hot',
        metric: 'gpu_temperature_celsius',
        labels: { sensor: 'core' },
        severities: [{ severity: 'info', above: 85 }],
      },
      {
        name: 'rack-hot',
        aggregate: { count_of: 'rack-hot-member', by: 'rack' },
        severities: [{ severity: 'critical', above: 3 }],
        for: '2m',
      },
    ]);
  });
});

test('for, keep_firing_for, severity, labels, annotations and runbook come along', () => {
  const {
    rules,
    imported: [only],
  } = imported([
    {
      alert: 'GPUMemoryECCErrors',
      expr: 'DCGM_FI_DEV_GPU_TEMP > 85',
      for: '1h30m',
      keep_firing_for: '5m',
      labels: { severity: 'page', team: 'ml' },
      annotations: {
        summary: 'ECC errors',
        description:
          'GPU {{ $labels.gpu }} on {{ $labels.Hostname }} is at {{ $value | printf "%.1f" }} ({{ $labels.rack }}, {{ $value | humanizePercentage }})',
        runbook_url: 'https://example.org/ecc',
        query: '{{ query "up" }}',
      },
    },
  ]);
  expect(parse(rules).rules).toEqual([
    {
      name: 'gpu-memory-ecc-errors',
      summary: 'ECC errors',
      metric: 'gpu_temperature_celsius',
      labels: { sensor: 'core' },
      severities: [{ severity: 'critical', above: 85 }],
      for: '90m',
      keep_firing_for: '5m',
      add_labels: { team: 'ml' },
      annotations: {
        description:
          'GPU {{ gpu }} on {{ node }} is at {{ value | round }} ({{ labels.rack }}, {{ value | percent }})',
      },
      runbook: 'https://example.org/ecc',
    },
  ]);
  expect(only!.notes).toEqual([
    'severity page becomes critical',
    'annotation query is left out: it calculates',
  ]);
});

// Lost without it: a rule that is silently dropped, or translated into one that asks something else.
describe('what the stream cannot answer is left as it was, with a reason', () => {
  test.each<[expr: string, why: string]>([
    ['DCGM_FI_DEV_GPU_TEMP > 85 and DCGM_FI_DEV_GPU_UTIL > 50', '"and" joins series'],
    ['DCGM_FI_DEV_GPU_TEMP > on(gpu) DCGM_FI_DEV_MEMORY_TEMP', 'on is not of the stream'],
    ['predict_linear(node_filesystem_avail_bytes[6h], 86400) < 0', 'predict_linear is not of the stream'],
    ['avg_over_time(DCGM_FI_DEV_GPU_UTIL[1d]) < 10', 'avg_over_time is not of the stream'],
    ['max_over_time(DCGM_FI_DEV_GPU_TEMP[1h]) > 85', 'max_over_time needs history'],
    ['DCGM_FI_DEV_GPU_TEMP offset 1h > 85', 'offset looks into the past'],
    ['max_over_time((DCGM_FI_DEV_GPU_TEMP > 80)[1h:1m]) > 85', 'a subquery needs history'],
    ['DCGM_FI_DEV_GPU_TEMP{gpu=~"0|1"} > 85', 'gpu=~"0|1": labels can only be equal'],
    ['DCGM_FI_DEV_GPU_TEMP{pod!=""} > 85', 'pod!="": labels can only be equal'],
    ['DCGM_FI_DEV_GPU_TEMP{Hostname="n1"} > 85', 'label Hostname is not one of the series'],
    ['DCGM_FI_DEV_NO_SUCH_FIELD > 1', 'DCGM_FI_DEV_NO_SUCH_FIELD is not a field that is known'],
    ['instance:node_cpu:rate5m > 0.9', 'is made by a recording rule'],
    ['topk(3, DCGM_FI_DEV_GPU_TEMP) > 85', 'topk is not of the stream'],
    ['sum by (namespace) (DCGM_FI_DEV_FB_USED) > 1', 'by (namespace) is no group of the inventory'],
    ['sum without (gpu) (DCGM_FI_DEV_FB_USED) > 1', 'without: name the labels with by'],
    ['sum(rate(gpu_ecc_errors_total[5m])) > 1', 'sum of other things than one series'],
    ['DCGM_FI_DEV_GPU_TEMP == 85', '"== 85" is neither above nor below'],
    ['DCGM_FI_DEV_XID_ERRORS > 70', 'a comparison of Xid numbers by size'],
    ['DCGM_FI_DEV_GPU_TEMP', 'it compares nothing with a number'],
    ['DCGM_FI_DEV_GPU_TEMP > (', 'it ends early'],
    ['DCGM_FI_DEV_GPU_TEMP[5m] > 85', 'a range of DCGM_FI_DEV_GPU_TEMP needs history'],
    ['rate(gpu_ecc_errors_total) > 85', 'gpu_ecc_errors_total has no range'],
    ['rate(gpu_ecc_errors_total[30d]) > 85', 'its translation is not valid'],
    [
      'DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE > 1',
      'a calculation with more than one series that is no ratio',
    ],
    [`${'('.repeat(60)}up${')'.repeat(60)} == 0`, 'nested more than 50 deep'],
    [`up == ${'1'.repeat(4000)}`, 'longer than 4000 characters'],
  ])('%.60s', (expr, why) => {
    const rule = { alert: 'X', expr, for: '1m', labels: { severity: 'warning' } };
    const {
      imported: [only],
      rest,
      rules,
    } = imported([rule]);
    expect(only).toMatchObject({ name: 'X', rules: [] });
    expect(only!.notes.join()).toContain(why);
    expect(parse(rest!)).toEqual({ groups: [{ name: 'gpu', interval: '30s', rules: [rule] }] });
    expect(parse(rules)).toEqual({ rules: [] });
  });
});

test('a file with both gives both, and each rule is in exactly one', () => {
  const keep = { record: 'gpu:util', expr: 'avg(DCGM_FI_DEV_GPU_UTIL)' };
  const {
    rules,
    rest,
    imported: report,
  } = imported([
    { alert: 'Hot', expr: 'DCGM_FI_DEV_GPU_TEMP > 80', labels: { severity: 'warning' } },
    { alert: 'Hot', expr: 'DCGM_FI_DEV_GPU_TEMP > 90', labels: { severity: 'critical' } },
    keep,
    { alert: 'Broken' },
  ]);
  expect(report.map((one) => [one.name, one.rules])).toEqual([
    ['Hot', ['hot']],
    ['Hot', ['hot-critical']],
    ['gpu:util', []],
    ['', []],
  ]);
  expect(parseRules(rules, 'out').rules.map(({ name }) => name)).toEqual(['hot', 'hot-critical']);
  expect(parse(rest!).groups[0].rules).toEqual([keep, { alert: 'Broken' }]);
});

test.each(['', 'a: [', '[]', 'groups: 3', 'rules: []'])(
  '%j is no rules file of Prometheus, and that is said',
  (text) => {
    expect(() => importRules(text, 'p.yaml')).toThrow(
      /^Cannot import p\.yaml: it is no rules file of Prometheus: ./,
    );
  },
);
