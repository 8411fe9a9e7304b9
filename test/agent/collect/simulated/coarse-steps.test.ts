import { expect, test } from 'vitest';
import { CORE, Simulation } from './simulation.ts';

const METRICS: readonly (readonly [name: string, label?: readonly [string, string]])[] = [
  ['gpu_temperature_celsius', CORE],
  ['gpu_power_watts'],
  ['gpu_sm_active_ratio'],
  ['gpu_dram_active_ratio'],
];

/** Mean and deviation of each metric over half a day of reads half a minute apart, checkpoints and all. */
async function halfDay(stepSeconds: number): Promise<{ mean: number; deviation: number }[]> {
  const simulation = new Simulation({ stepSeconds, load: 'steady' });
  await simulation.read(0);
  await simulation.read(600);
  const sums = METRICS.map(() => ({ one: 0, two: 0 }));
  const reads = 12 * 120;
  for (let i = 0; i < reads; i++) {
    await simulation.read(30);
    for (const [m, [name, label]] of METRICS.entries()) {
      const value = simulation.value(2, name, label);
      sums[m]!.one += value;
      sums[m]!.two += value * value;
    }
  }
  return sums.map(({ one, two }) => {
    const mean = one / reads;
    return { mean, deviation: Math.sqrt(two / reads - mean * mean) };
  });
}

// Lost without it: detectors tuned on a fleet that is simulated in coarse steps meet other noise on a real one.
test('steps of ten seconds show the same means and spreads as steps of one', {
  timeout: 60_000,
}, async () => {
  const [fine, coarse] = [await halfDay(1), await halfDay(10)];
  for (const [m, [name]] of METRICS.entries()) {
    expect(coarse[m]!.mean / fine[m]!.mean, `mean of ${name}`).toBeCloseTo(1, 1.5);
    expect(coarse[m]!.deviation / fine[m]!.deviation, `deviation of ${name}`).toBeGreaterThan(0.8);
    expect(coarse[m]!.deviation / fine[m]!.deviation, `deviation of ${name}`).toBeLessThan(1.25);
  }
});

test('counters of time and energy do not depend on the steps', async () => {
  const [fine, coarse] = [new Simulation(), new Simulation({ stepSeconds: 10 })];
  for (const one of [fine, coarse]) {
    await one.read(0);
    for (let i = 0; i < 200; i++) await one.read(30);
  }
  const joules = (one: Simulation) => one.value(0, 'gpu_energy_joules_total');
  const idle = new Simulation();
  await idle.read(0);
  const before = joules(idle);
  expect((joules(coarse) - before) / (joules(fine) - before)).toBeCloseTo(1, 1.5);
});
