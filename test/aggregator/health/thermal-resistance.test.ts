import { describe, expect, it } from 'vitest';
import { ThermalResistance } from '../../../aggregator/health/thermal-resistance.ts';

/** Idle at 30 °C, then days under 600 of 700 W at 0.06 °C a watt. */
function learned(days: number): ThermalResistance {
  const one = new ThermalResistance();
  one.add(30, 70, 0.1, 60);
  for (let minute = 0; minute < days * 1440; minute++) one.add(30 + 36, 600, 600 / 700, 60);
  return one;
}

describe('degrees for each watt', () => {
  it('say nothing before a day under load: a guess would blame new boards', () => {
    expect(learned(0.9).excess).toBeNaN();
    expect(Math.abs(learned(1.1).excess)).toBeLessThan(0.1);
  });

  it('show a heat sink that comes loose, at a load that is as it was', () => {
    const one = learned(5);
    for (let minute = 0; minute < 240; minute++) one.add(30 + 48, 600, 600 / 700, 60);
    expect(one.excess).toBeGreaterThan(0.25);
  });

  // Days without a look at the air must not end in a jump of every GPU of a node.
  it('do not blame a GPU that worked for a week and then rests', () => {
    const one = learned(7);
    one.add(30, 70, 0.1, 60);
    for (let minute = 0; minute < 240; minute++) one.add(30 + 36, 600, 600 / 700, 60);
    expect(Math.abs(one.excess)).toBeLessThan(0.05);
  });

  it('do not blame a GPU that has less or more to do', () => {
    const one = learned(5);
    for (let minute = 0; minute < 120; minute++) one.add(30 + 24, 400, 400 / 700, 60);
    expect(Math.abs(one.excess)).toBeLessThan(0.15);
  });

  it('say nothing of a GPU that was never seen without work: its air is not known', () => {
    const one = new ThermalResistance();
    for (let minute = 0; minute < 3_000; minute++) one.add(66, 600, 600 / 700, 60);
    expect(one.excess).toBeNaN();
  });
});
