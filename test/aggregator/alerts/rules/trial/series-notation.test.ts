import { expect, test } from 'vitest';
import { parseSeries, parseValues } from '../../../../../aggregator/alerts/rules/trial/series-notation.ts';

// Lost without it: tests of rules that were written for promtool mean something else here.
test.each([
  ['1 2.5 -3', [1, 2.5, -3]],
  ['0+10x5', [0, 10, 20, 30, 40, 50]],
  ['5-1x2', [5, 4, 3]],
  ['-2+4x3', [-2, 2, 6, 10]],
  ['7x3', [7, 7, 7, 7]],
  ['1x0', [1]],
  ['_', ['missing']],
  ['_x3 1', ['missing', 'missing', 'missing', 1]],
  ['1e3 1e-2x1', [1000, 0.01, 0.01]],
  ['Inf -Inf NaN', [Infinity, -Infinity, Number.NaN]],
  ['1 stale', [1, 'stale']],
  ['', []],
])('the values "%s"', (text, values) => {
  expect(parseValues(text)).toEqual(values);
});

test.each(['1 two', '0+10y5', '1+x5', '5x', 'x5', '1,2', 'stalex2', '1x9999999'])(
  '"%s" are no values',
  (text) => {
    expect(parseValues(text)).toContain('is no value');
  },
);

test('more values than a week has are refused before they are made', () => {
  expect(parseValues('0+1x999999')).toBe('must be at most 100000 values');
  expect(parseValues('_x99999 1 1')).toBe('must be at most 100000 values');
});

test('series have labels with values', () => {
  expect(parseSeries('up{node="n1", gpu="0"}')).toEqual({ name: 'up', labels: { node: 'n1', gpu: '0' } });
  expect(parseSeries('up')).toEqual({ name: 'up', labels: {} });
  expect(parseSeries('up{node=~"n."}')).toBe('label node must have one value');
  expect(parseSeries('up > 1')).toBe('must be a series, such as up{node="n1"}');
  expect(parseSeries('up{')).toContain('must be a series');
});
