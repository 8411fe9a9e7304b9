import { describe, expect, test } from 'vitest';
import { createSimulatedCollector } from '../../../../agent/collect/simulated/collector.ts';
import { MAX_GPUS } from '../../../../agent/collect/simulated/machine.ts';
import { GPU_PROFILES, type GpuModel } from '../../../../agent/collect/simulated/profiles.ts';
import { metricNamed } from '../../../../shared/catalogue/metrics.ts';
import { SlotState } from '../../../../shared/model/slot-state.ts';
import { seriesFault } from '../../../../shared/wire/dictionary.ts';
import { CORE, correlation, MEMORY, Simulation, SM } from './simulation.ts';

/** Reads at these seconds; every value of every read. */
async function valuesOf(simulation: Simulation, gaps: readonly number[]): Promise<number[][]> {
  const all: number[][] = [];
  for (const gap of gaps) all.push([...(await simulation.read(gap)).values]);
  return all;
}

/** With faults, jitter, a long pause and a step back: everything that draws random numbers. */
const GAPS = [0, 1, 1, 1.003, 10, 60, 60, 0.997, 600, 7200, -5, 1, 1, 1];

describe('the same', () => {
  // Lost without it: a fault that was seen once in a simulation cannot be shown to anybody again.
  test('seed, node and times give the same values and dictionary', async () => {
    const options = { faultRate: 50, faults: [{ at: 30, gpu: 1, kind: 'ecc_burst' }] };
    const [first, second] = [new Simulation(options), new Simulation(options)];
    expect(await valuesOf(first, GAPS)).toEqual(await valuesOf(second, GAPS));
    expect(first.last.dictionary.hash).toBe(second.last.dictionary.hash);
  });

  // Lost without it: a fleet of simulated nodes is one node many times, and every peer comparison is zero.
  test.each([{ seed: 2 }, { node: 'node-b' }])('but %o give others', async (other) => {
    const [first, second] = [new Simulation(), new Simulation(other)];
    await valuesOf(first, GAPS);
    await valuesOf(second, GAPS);
    expect(second.last.dictionary.hash).not.toBe(first.last.dictionary.hash);
    expect(second.value(0, 'gpu_power_watts')).not.toBe(first.value(0, 'gpu_power_watts'));
  });
});

// Lost without it: every tick costs a dictionary, on the wire and on disk.
test('the dictionary is one object, of series that the wire takes, each once and of the catalogue', async () => {
  const simulation = new Simulation();
  const { dictionary } = await simulation.read(0);
  expect((await simulation.read(1)).dictionary).toBe(dictionary);
  expect(dictionary.group).toBe('simulated');
  expect(dictionary.series.length / 8).toBeGreaterThanOrEqual(50);
  expect(dictionary.series.length / 8).toBeLessThanOrEqual(72);
  for (const one of dictionary.series) {
    expect(seriesFault(one), `${one.name} ${one.labels}`).toBeUndefined();
    expect(one).toMatchObject(pick(one.name));
  }
  expect(new Set(dictionary.series.map((one) => `${one.name} ${one.labels}`)).size).toBe(
    dictionary.series.length,
  );
  const facts = Object.fromEntries(dictionary.series[simulation.slot(0, 'gpu_info')]!.labels);
  expect(facts).toMatchObject({ gpu: '0', model: 'NVIDIA H100 80GB HBM3', pci_bus_id: '00000000:1B:00.0' });
  expect(facts.uuid).toMatch(/^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  expect(facts.serial).toMatch(/^\d{13}$/);
});

function pick(name: string) {
  const { kind, decimals, unit, help } = metricNamed(name)!;
  return { kind, decimals, unit, help };
}

/** round(v * 10^d) / 10^d === v, as the wire codes it. */
function isExact(value: number, decimals: number): boolean {
  const power = 10 ** Math.abs(decimals);
  return decimals < 0
    ? Math.round(value / power) * power === value
    : Math.round(value * power) / power === value;
}

describe.each(Object.keys(GPU_PROFILES) as GpuModel[])('a day of eight %s at 10 s', (model) => {
  // Lost without it: a healthy simulated fleet raises alerts, or its samples are quarantined or coded large.
  test('stays in range, exact, cool and within its power limit; counters never go back', async () => {
    const simulation = new Simulation({ model, intervalMs: 10_000 });
    const { dictionary } = await simulation.read(0);
    const checks = dictionary.series.map(({ name, decimals, kind }, slot) => ({
      ...metricNamed(name)!,
      slot,
      decimals,
      counts: kind === 'counter',
    }));
    const previous = Float64Array.from(simulation.last.values);
    const faults = new Set<string>();
    const hot = ['sensor', GPU_PROFILES[model].vendor === 'amd' ? 'hotspot' : 'core'] as const;
    let hottest = 0;
    let busiest = 0;
    for (let i = 0; i < 8640; i++) {
      const { values, states, events } = await simulation.read(10);
      for (const { slot, name, min, max, decimals, counts } of checks) {
        const value = values[slot]!;
        if (!(value >= min && value <= max)) faults.add(`${name} out of range: ${value}`);
        if (!isExact(value, decimals) || Object.is(value, -0)) faults.add(`${name} not exact: ${value}`);
        if (counts && value < previous[slot]!) faults.add(`${name} went back to ${value}`);
        if (states[slot] !== SlotState.Present) faults.add(`${name} is in state ${states[slot]}`);
      }
      previous.set(values);
      for (const { type, text } of events) if (type !== 'job_change') faults.add(`event ${text}`);
      for (let gpu = 0; gpu < 8; gpu++) {
        hottest = Math.max(hottest, simulation.value(gpu, 'gpu_temperature_celsius', hot));
        busiest = Math.max(busiest, simulation.value(gpu, 'gpu_power_watts'));
      }
    }
    expect([...faults]).toEqual([]);
    const { limitWatts, maxOperatingCelsius } = GPU_PROFILES[model];
    expect(hottest).toBeLessThan(maxOperatingCelsius);
    expect(hottest).toBeGreaterThan(60);
    // Not for one read, let alone for the minute after which the rule fires.
    expect(busiest).toBeLessThan(1.05 * limitWatts);
    expect(busiest).toBeGreaterThan(0.85 * limitWatts);
  });
});

describe('the physics', () => {
  // Lost without it: detectors that look for power without work, or heat without power, are tested on noise.
  test('power follows work at once, and temperature follows power late', async () => {
    const simulation = new Simulation();
    await simulation.read(0);
    const [compute, power, core, memory, clock] = [[], [], [], [], []] as number[][];
    await simulation.run(4000, () => {
      compute!.push(simulation.value(3, 'gpu_sm_active_ratio'));
      power!.push(simulation.value(3, 'gpu_power_watts'));
      core!.push(simulation.value(3, 'gpu_temperature_celsius', CORE));
      memory!.push(simulation.value(3, 'gpu_temperature_celsius', MEMORY));
      clock!.push(simulation.value(3, 'gpu_clock_hertz', SM));
    });
    const late = (seconds: number, of: number[]) =>
      correlation(power!.slice(0, -100), of.slice(seconds, -100 + seconds || undefined));
    expect(correlation(compute!, power!)).toBeGreaterThan(0.97);
    expect(late(15, core!)).toBeGreaterThan(late(0, core!) + 0.02);
    expect(late(15, core!)).toBeGreaterThan(0.9);
    expect(late(40, memory!)).toBeGreaterThan(late(0, memory!) + 0.02);
    expect(Math.min(...power!)).toBeLessThan(90);
    expect(Math.max(...power!)).toBeGreaterThan(550);
    expect(Math.min(...clock!)).toBe(345e6);
  });

  // Lost without it: peers in one node do not resemble each other, and "unlike its peers" finds everybody.
  test('the boards of a node move together, each a little its own way', async () => {
    const simulation = new Simulation();
    await simulation.read(0);
    const boards: number[][] = Array.from({ length: 8 }, () => []);
    await simulation.run(3000, () => {
      for (const [gpu, series] of boards.entries()) series.push(simulation.value(gpu, 'gpu_power_watts'));
    });
    for (let gpu = 1; gpu < 8; gpu++) {
      expect(correlation(boards[0]!, boards[gpu]!)).toBeGreaterThan(0.95);
      expect(boards[gpu]).not.toEqual(boards[0]);
    }
    // A regulator is never still: two equal readings in a row are a frozen sensor, not a calm one.
    const still = boards[0]!.filter((watts, i) => watts === boards[0]![i - 1]).length;
    expect(still).toBeLessThan(10);
  });

  // Lost without it: energy, and the money that is computed of it, disagrees with the power that is shown.
  test('energy is the integral of power', async () => {
    const simulation = new Simulation();
    await simulation.read(0);
    const before = simulation.value(5, 'gpu_energy_joules_total');
    let joules = 0;
    await simulation.run(2000, () => {
      joules += simulation.value(5, 'gpu_power_watts');
    });
    const counted = simulation.value(5, 'gpu_energy_joules_total') - before;
    // Each of the 2,000 readings is rounded to a milliwatt.
    expect(Math.abs(counted - joules)).toBeLessThan(1.5);
    expect(counted).toBeGreaterThan(100 * 2000);
  });

  // Lost without it: a slower interval gives another world, and a fault found at 1 s is not there at 10 s.
  test('the interval does not change what a job uses', async () => {
    const [fine, coarse] = [new Simulation(), new Simulation({ intervalMs: 10_000 })];
    await fine.read(0);
    await coarse.read(0);
    const before = fine.value(0, 'gpu_energy_joules_total');
    await fine.run(3000);
    for (let i = 0; i < 300; i++) await coarse.read(10);
    const used = (simulation: Simulation) => simulation.value(0, 'gpu_energy_joules_total') - before;
    expect(used(coarse) / used(fine)).toBeCloseTo(1, 6);
  });

  // Lost without it: a suspended laptop or a paused VM comes back to an agent that computes for minutes.
  test('a long pause is walked in bounded steps, and time goes on after it', async () => {
    const simulation = new Simulation({ faults: [{ at: 80_000, gpu: 0, kind: 'memory_full' }] });
    await simulation.read(0);
    const before = simulation.value(0, 'gpu_energy_joules_total');
    await simulation.read(10 * 365 * 86_400);
    const day = simulation.value(0, 'gpu_energy_joules_total') - before;
    expect(day).toBeGreaterThan(70 * 86_400 * 0.9);
    expect(day).toBeLessThan(710 * 86_400);
    expect(simulation.value(0, 'gpu_memory_utilization_ratio')).toBeGreaterThan(0.99);
    await simulation.read(1);
    expect(simulation.value(0, 'gpu_energy_joules_total') - before - day).toBeLessThan(710);
  });

  // Lost without it: a clock that steps back takes counters back or stops the simulation.
  test('a clock that steps back counts as one interval', async () => {
    const simulation = new Simulation();
    await simulation.read(0);
    const before = simulation.value(0, 'gpu_energy_joules_total');
    await simulation.read(-3600);
    const grown = simulation.value(0, 'gpu_energy_joules_total') - before;
    expect(grown).toBeGreaterThan(50);
    expect(grown).toBeLessThan(710);
  });
});

// Lost without it: a configuration of a million GPUs is a million objects.
test('a number of GPUs that cannot be is refused', async () => {
  const clock = { now: () => 0, monotonic: () => 0 };
  for (const gpus of [0, MAX_GPUS + 1, 1.5]) {
    expect(() => createSimulatedCollector({ node: 'n', intervalMs: 1000, clock, gpus })).toThrow(
      `Cannot simulate ${gpus} GPUs`,
    );
  }
  const most = new Simulation({ gpus: MAX_GPUS });
  await most.read(0);
  expect(
    new Set(
      most.last.dictionary.series.flatMap(({ labels }) =>
        labels.filter(([name]) => name === 'pci_bus_id').map(([, value]) => value),
      ),
    ).size,
  ).toBe(MAX_GPUS);
});

// Lost without it: a fleet of simulated nodes in one process spends its time making garbage, not load.
test('ten thousand ticks reuse their arrays, and dispose twice is once', async () => {
  const simulation = new Simulation();
  const { values, states } = await simulation.read(0);
  await simulation.run(10_000);
  expect(simulation.last.values).toBe(values);
  expect(simulation.last.states).toBe(states);
  await simulation.collector[Symbol.asyncDispose]();
  await simulation.collector[Symbol.asyncDispose]();
});
