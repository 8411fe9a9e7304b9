import { expect, test } from 'vitest';
import {
  logHypergeometricTail,
  medianInPlace,
  normalTail,
  wilson,
} from '../../../../aggregator/health/patterns/distributions.ts';

// Lost without it: every p-value and interval that a pattern states. Expected values by scipy 1.17.
test.each([
  [0, 0.5],
  [1, 0.15865525393145707],
  [1.96, 0.024997895148220435],
  [3, 0.0013498980316300933],
  [5, 2.866515718791933e-7],
  [8, 6.22096057427174e-16],
  [-1, 1 - 0.15865525393145707],
])('the upper tail of a normal at %d', (z, expected) => {
  expect(normalTail(z) / expected).toBeCloseTo(1, 6);
});

test.each([
  [3, 100, 8, 10, -3.461324130961483],
  [6, 5000, 8, 9, -36.75891568403368],
  [2, 20, 5, 4, -1.3914676784001112],
  [8, 100_000, 8, 8, -81.49852081015706],
  [20, 1000, 100, 60, -15.213600012112286],
])('%d or more of %d with %d marked and %d drawn', (k, total, marked, drawn, expected) => {
  expect(logHypergeometricTail(k, total, marked, drawn)).toBeCloseTo(expected, 8);
});

test('what must be has chance 1, what cannot be has none', () => {
  expect(logHypergeometricTail(0, 10, 3, 4)).toBe(0);
  expect(logHypergeometricTail(2, 5, 4, 3)).toBe(0);
  expect(logHypergeometricTail(4, 10, 3, 4)).toBe(Number.NEGATIVE_INFINITY);
});

test.each([
  [3, 10, 0.10779126740630102, 0.6032218525388546],
  [0, 12, 0, 0.24249400665524085],
  [47, 50, 0.8378290831116182, 0.979385029651026],
  [0, 0, 0, 1],
])("Wilson's interval of %d in %d", (hits, trials, low, high) => {
  const interval = wilson(hits, trials);
  expect(interval.low).toBeCloseTo(low, 10);
  expect(interval.high).toBeCloseTo(high, 10);
});

test('the median of a part of an array', () => {
  expect(medianInPlace(Float64Array.of(5, 1, 3, 99), 3)).toBe(3);
  expect(medianInPlace(Float64Array.of(4, 1, 3, 2, 99), 4)).toBe(2.5);
  expect(medianInPlace(Float64Array.of(1), 0)).toBeNaN();
});
