import { expect, test } from 'vitest';
import { parseRules } from '../../../../aggregator/alerts/rules/rules-file.ts';
import { runTrial } from '../../../../aggregator/alerts/rules/trial/run-trial.ts';

const RULES = parseRules(
  `rules:
  - name: disk-full
    value: { metric: node_filesystem_avail_bytes, over: node_filesystem_size_bytes }
    severities: [{ severity: warning, below: 0.05 }]
  - name: link-down
    event: link_down
    until_event: link_up
    key: device
`,
  'r.yaml',
).rules;

// Lost without it: the free space of one filesystem as a share of another's size.
test('a ratio is of one filesystem, however many a node has', () => {
  const series = (name: string, mountpoint: string, value: number) => ({
    name,
    labels: { node: 'n1', mountpoint },
    values: [value, value],
  });
  const [avail, size] = ['node_filesystem_avail_bytes', 'node_filesystem_size_bytes'];
  const lines = runTrial(
    {
      name: 'two filesystems',
      intervalMs: 10_000,
      series: [
        series(avail!, '/', 40),
        series(avail!, '/data', 40),
        series(size!, '/data', 1000),
        series(size!, '/', 100),
      ],
      events: [],
      groups: {},
      expectations: [
        {
          atMs: 10_000,
          rule: 'disk-full',
          alerts: [{ labels: { mountpoint: '/data' }, annotations: {}, state: 'firing' }],
        },
      ],
    },
    RULES,
  );
  expect(lines).toEqual([]);
});

test('until_event is the type of an event, and ends what has its key', () => {
  expect(RULES[1]).toMatchObject({ untilEvent: 'link_up', until: {} });
  expect(() => parseRules('rules:\n  - { name: a, event: b, until_event: Up }\n', 'r.yaml')).toThrow(
    /r\.yaml:2:\d+: rules\[0\]\.until_event: must be the type of an event/,
  );
});
