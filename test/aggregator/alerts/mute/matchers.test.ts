import { describe, expect, it } from 'vitest';
import { Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import {
  compileMatcher,
  labelOf,
  parseMatcher,
  showMatcher,
} from '../../../../aggregator/alerts/mute/matchers.ts';
import { alertOf } from '../alert-of.ts';

describe('a matcher as Alertmanager writes it', () => {
  it.each([
    ['node=gpu-017', 'node', '=', 'gpu-017'],
    ['  node = "gpu-017" ', 'node', '=', 'gpu-017'],
    ['rule=~"gpu-.*"', 'rule', '=~', 'gpu-.*'],
    ['severity!=info', 'severity', '!=', 'info'],
    ['rule!~gpu-.+', 'rule', '!~', 'gpu-.+'],
    ['comment="a \\"b\\" \\\\ c\\nd, {e}"', 'comment', '=', 'a "b" \\ c\nd, {e}'],
    ['pool=""', 'pool', '=', ''],
    ['pool=', 'pool', '=', ''],
    ['k8s.io_name=a=b', 'k8s.io_name', '=', 'a=b'],
    ['key=GPU:7', 'key', '=', 'GPU:7'],
  ])('%s is read, and shown so that it is read again', (text, label, operator, value) => {
    const matcher = parseMatcher(text);
    expect(matcher).toEqual({ label, operator, value });
    expect(parseMatcher(showMatcher(matcher))).toEqual(matcher);
  });

  it.each([
    ['', 'a label'],
    ['node', 'a label'],
    ['=x', 'a label'],
    ['1node=x', 'a label'],
    ['node==x y', 'double quotes'],
    ['node="x', 'quotes must be closed'],
    ['node="x" y', 'quotes must be closed'],
    ['node="x\\q"', 'quotes must be closed'],
    ['node=~"("', 'Cannot use'],
    ['node=~"(?=x)"', 'Cannot use'],
    [`node=${'x'.repeat(1_001)}`, 'at most 1000'],
  ])('%s is refused, in words', (text, why) => {
    expect(() => parseMatcher(text)).toThrow(why);
    expect(() => parseMatcher(text)).toThrow(expect.objectContaining({ code: 'invalid_input' }));
  });

  it.each([
    ['rule=~"gpu-.*"', 'gpu-hot', true],
    ['rule=~"gpu-.*"', 'my-gpu-hot', false],
    ['rule=~"gpu"', 'gpu-hot', false],
    ['rule=~"a|b-c"', 'b-c', true],
    ['rule=~"a|b-c"', 'a|b-c', false],
    ['rule=~"abc|x.*"', 'xyz', true],
    ['rule=~"ab*"', 'a', true],
    ['rule=~"ab{0}c"', 'ac', true],
    ['rule=~"ab?"', 'a', true],
    ['rule=~"gpu-(0|1)"', 'gpu-1', true],
    ['rule=~"(?i)GPU"', 'gpu', true],
    ['rule=~"a[|]b"', 'a|b', true],
    ['rule=~""', '', true],
    ['rule=~".+"', '', false],
    ['rule!~"gpu-.*"', 'gpu-hot', false],
    ['rule!~"gpu-.*"', 'node-down', true],
    ['rule!=""', '', false],
  ])('%s says of "%s": %s', (text, value, matches) => {
    expect(compileMatcher(parseMatcher(text)).matches(value)).toBe(matches);
  });

  it('answers at once on an expression that would hang a backtracking engine', () => {
    const matcher = compileMatcher({ label: 'node', operator: '=~', value: '(a|a)*b' });
    expect(matcher.matches('a'.repeat(900))).toBe(false);
  });

  it('reads what an alert says of itself before its labels, and an absent label as empty', () => {
    const alert = alertOf('3', 1, { severity: Severity.WARNING, labels: { node: 'other', pool: 'a' } });
    const values = ['node', 'pool', 'severity', 'gpu', 'rule', 'alertname', 'absent', 'constructor'];
    expect(values.map((label) => labelOf(alert, label))).toEqual([
      ...['n1.rack', 'a', 'warning', '3', 'hot', 'hot', '', ''],
    ]);
  });
});
