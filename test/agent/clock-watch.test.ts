import { expect, test } from 'vitest';
import { ClockWatch, LEAST_STEP_MS } from '../../agent/clock-watch.ts';

// Lost without it: samples an hour off are taken for the truth of that hour.
test('a step of the wall clock is seen, forwards and back; passing time and slewing are none', () => {
  let [wall, monotonic] = [1e12, 50];
  const watch = new ClockWatch({ now: () => wall, monotonic: () => monotonic });
  const pass = (ms: number, step = 0): number => {
    monotonic += ms;
    wall += ms + step;
    return watch.look();
  };
  expect(pass(1000)).toBe(0);
  expect(pass(1000, 3_600_000)).toBe(3_600_000);
  expect(pass(1000)).toBe(0);
  expect(pass(1000, -LEAST_STEP_MS)).toBe(-LEAST_STEP_MS);
  for (let second = 0; second < 600; second++) expect(pass(1000, 0.5)).toBe(0);
});
