import { expect, test } from 'vitest';
import { PREVALENCES, precisionAt, upperRate } from '../../../../benchmarks/accuracy/fleet/precision.ts';

test('precision at the field rates: a rate of false alarms that looks small still drowns real faults', () => {
  const [gpu, node] = PREVALENCES;
  expect(gpu!.faultsPerGpuWeek).toBeCloseTo(0.00174, 5);
  expect(node!.faultsPerGpuWeek).toBeCloseTo(0.003661, 6);
  expect(precisionAt(gpu!, 0.95, 0.02)).toBeCloseTo(0.0764, 3);
  expect(precisionAt(gpu!, 0.95, 0)).toBe(1);
  expect(precisionAt(gpu!, 0, 0)).toBe(0);
});

test.each([
  // Exact one-sided 95 % limits of a Poisson mean (half of the chi-square quantile with 2n + 2 degrees of freedom).
  [0, 2.996],
  [1, 4.744],
  [5, 10.513],
  [80, 96.35],
])(
  'with %d false alarms the rate may still be %d in as many GPU-weeks: none seen is not none',
  (events, limit) => {
    expect(upperRate(events, 1) / limit).toBeGreaterThan(0.97);
    expect(upperRate(events, 1) / limit).toBeLessThan(1.03);
    expect(upperRate(events, 4000)).toBeCloseTo(upperRate(events, 1) / 4000, 12);
  },
);
