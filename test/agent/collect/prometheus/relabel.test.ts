import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { compileRelabel } from '../../../../agent/collect/prometheus/relabel.ts';
import { prometheusSettings, type RelabelSettings } from '../../../../agent/collect/prometheus/settings.ts';

function rulesOf(...metric_relabel_configs: object[]): readonly RelabelSettings[] {
  const targets = [{ name: 'a', url: 'http://a/', metric_relabel_configs }];
  return v.parse(prometheusSettings, { targets }).targets[0]!.metric_relabel_configs;
}

/** The series after the rules, as one object with its name in it; undefined where it is dropped. */
function relabelled(rules: object[], { __name__ = 'm', ...labels }: Record<string, string>) {
  const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  const given = { name: __name__, labels: sorted };
  const found = compileRelabel(rulesOf(...rules))(given);
  return found && { __name__: found.name, ...Object.fromEntries(found.labels) };
}

// Lost without it: metric_relabel_configs that people bring from Prometheus mean something else here.
describe('a rule with the action', () => {
  const given = { __name__: 'http_total', method: 'GET', path: '/a/b', code: '200' };
  test.each<[string, object, Record<string, string> | undefined]>([
    ['keep keeps', { source_labels: ['__name__'], regex: 'http_.*', action: 'keep' }, given],
    [
      'keep drops what does not match as a whole',
      { source_labels: ['__name__'], regex: 'http', action: 'keep' },
      undefined,
    ],
    ['drop drops', { source_labels: ['method', 'code'], regex: 'GET;2..', action: 'drop' }, undefined],
    [
      'drop joins with its separator',
      { source_labels: ['method', 'code'], separator: '/', regex: 'GET;2..', action: 'drop' },
      given,
    ],
    [
      'replace sets',
      { source_labels: ['path'], regex: '/([^/]*)/.*', target_label: 'top' },
      { ...given, top: 'a' },
    ],
    [
      'replace leaves what does not match',
      { source_labels: ['path'], regex: 'x', target_label: 'top' },
      given,
    ],
    [
      'replace removes with nothing',
      { target_label: 'path', replacement: '' },
      { __name__: 'http_total', method: 'GET', code: '200' },
    ],
    [
      'replace renames the metric',
      {
        source_labels: ['__name__'],
        regex: '(.*)_total',
        target_label: '__name__',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: a reference of Go's templates
        replacement: '${1}_count',
      },
      { ...given, __name__: 'http_count' },
    ],
    [
      'replace takes names and $$',
      {
        source_labels: ['code'],
        regex: '(?P<first>.).*',
        target_label: 'class',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: a reference of Go's templates
        replacement: '${first}xx$$',
      },
      { ...given, class: '2xx$' },
    ],
    [
      'replace reads the longest name',
      { source_labels: ['code'], regex: '(.).*', target_label: 'class', replacement: '$1xx!' },
      { ...given, class: '!' },
    ],
    [
      'replace takes its target from groups',
      { source_labels: ['method'], regex: '(.*)', target_label: 'is_$1', replacement: 'yes' },
      { ...given, is_GET: 'yes' },
    ],
    ['replace without a name left drops', { target_label: '__name__', replacement: '' }, undefined],
    [
      'labelmap copies',
      { regex: 'c(.*)', replacement: 'k$1', action: 'labelmap' },
      { ...given, kode: '200' },
    ],
    ['labeldrop drops', { regex: 'm.*|path', action: 'labeldrop' }, { __name__: 'http_total', code: '200' }],
    [
      'labelkeep keeps',
      { regex: '__name__|code', action: 'labelkeep' },
      { __name__: 'http_total', code: '200' },
    ],
    [
      'lowercase',
      { source_labels: ['method'], target_label: 'method', action: 'lowercase' },
      { ...given, method: 'get' },
    ],
    [
      'uppercase',
      { source_labels: ['path'], target_label: 'path', action: 'uppercase' },
      { ...given, path: '/A/B' },
    ],
    ['keepequal', { source_labels: ['method'], target_label: 'code', action: 'keepequal' }, undefined],
    ['dropequal', { source_labels: ['method'], target_label: 'code', action: 'dropequal' }, given],
    // md5("/a/b") = aee31d71a4dce5fe24481547cc863476: its last eight bytes modulo 8 are 6.
    [
      'hashmod',
      { source_labels: ['path'], target_label: 'shard', modulus: 8, action: 'hashmod' },
      { ...given, shard: '6' },
    ],
    [
      'replace into a temporary label leaves nothing',
      { source_labels: ['path'], target_label: '__tmp' },
      given,
    ],
  ])('%s', (_, rule, expected) => {
    expect(relabelled([rule], given)).toEqual(expected);
  });
});

test('rules see what those before them made', () => {
  const rules = [
    { source_labels: ['path'], regex: '/(.*)', target_label: '__tmp' },
    { source_labels: ['__tmp'], regex: 'a', action: 'keep' },
  ];
  expect(relabelled(rules, { path: '/a' })).toEqual({ __name__: 'm', path: '/a' });
  expect(relabelled(rules, { path: '/b' })).toBeUndefined();
});

test.each([
  { action: 'shred' },
  { action: 'replace' },
  { action: 'hashmod', target_label: 'a' },
  { action: 'keep', regexp: 'typo' },
])('a rule that says %j is refused', (rule) => {
  expect(() => rulesOf(rule)).toThrow();
});
