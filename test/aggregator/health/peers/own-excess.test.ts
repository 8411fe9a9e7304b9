import { expect, test } from 'vitest';
import { OwnExcess } from '../../../../aggregator/health/peers/own-excess.ts';

const TICK_MS = 30_000;
const HOUR_TICKS = 120;

function after(ticks: number, deviation: (tick: number) => number, excess = new OwnExcess(2)): number {
  let last = Number.NaN;
  for (let tick = 0; tick < ticks; tick++) last = excess.add(1, deviation(tick), TICK_MS);
  return last;
}

// A new rack of boards that differ by a few percent must not be called ill on its first day.
test('nothing is said before six hours of work, and then nothing of what was always so', () => {
  expect(after(5 * HOUR_TICKS, () => -0.05)).toBeNaN();
  expect(Math.abs(after(7 * HOUR_TICKS, () => -0.05))).toBeLessThan(0.001);
});

test('what became worse shows within hours', () => {
  const excess = after(30 * HOUR_TICKS, (tick) => (tick < 28 * HOUR_TICKS ? -0.02 : -0.15));
  expect(excess).toBeLessThan(-0.1);
});

test('a minute of it is nothing', () => {
  const excess = after(24 * HOUR_TICKS + 2, (tick) => (tick < 24 * HOUR_TICKS ? 0 : -0.5));
  expect(Math.abs(excess)).toBeLessThan(0.02);
});

test('another GPU in the same place begins anew', () => {
  const excess = new OwnExcess(2);
  after(10 * HOUR_TICKS, () => -0.2, excess);
  excess.forget(1);
  expect(after(HOUR_TICKS, () => 0, excess)).toBeNaN();
});
