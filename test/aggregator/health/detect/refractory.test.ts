import { expect, test } from 'vitest';
import { Refractory } from '../../../../aggregator/health/detect/refractory.ts';

/** Fades to 1/e in as many samples as this. */
const SAMPLES = 10;
const GAP = Array<number>(99).fill(Number.NaN);

test.each([
  ['the first passes', [2], [2]],
  ['the same again is the same spell', [2, 2], [2, 0]],
  ['what goes on is said again after a while', [2, 2, 2, 2], [2, 0, 2, 0]],
  ['weaker is not said', [2, 1.5], [2, 0]],
  ['hardly stronger is not said', [2, 2.1], [2, 0]],
  ['much stronger is said: it got worse', [2, 3, 3.2], [2, 3, 0]],
  [
    'weaker is said once what was held has faded',
    [2, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [2, 0, 0, 0, 0, 0, 0, 0, 0, 1],
  ],
  ['no opinion stays no opinion and does not fade', [2, ...GAP, 2.1], [2, ...GAP, 0]],
  ['nothing unusual is nothing', [0, 0, 0], [0, 0, 0]],
])('%s (or an operator is told each sample of one incident, or not told of the next)', (_, given, passed) => {
  const refractory = new Refractory(1, SAMPLES);
  expect(given.map((strength) => refractory.admit(0, strength))).toEqual(passed);
});

test('a series does not silence its neighbour, and a forgotten one speaks again', () => {
  const refractory = new Refractory(2, SAMPLES);
  expect(refractory.admit(0, 5)).toBe(5);
  expect(refractory.admit(1, 2)).toBe(2);
  refractory.forget(0);
  expect(refractory.admit(0, 1)).toBe(1);
  expect(refractory.admit(1, 1)).toBe(0);
});

test('0 samples lets everything pass: rules that count how often a series is unusual need it', () => {
  const refractory = new Refractory(1, 0);
  expect([2, 2, 1].map((strength) => refractory.admit(0, strength))).toEqual([2, 2, 1]);
});
