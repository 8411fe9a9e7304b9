import { expect, it } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { HealthEngine } from '../../../aggregator/health/health-engine.ts';
import { TREND_FIGURES } from '../../../aggregator/health/trend-figures.ts';
import { blockOf, dictionaryOf, gpuLabels, ManualClock, SOURCE, series } from '../alerts/block-of.ts';

const SERIES = [
  ['gpu_utilization_ratio', { task: 'general' }],
  ['gpu_temperature_celsius', { sensor: 'memory' }],
  ['gpu_temperature_limit_celsius', { limit: 'memory_max_operating' }],
  ['gpu_temperature_margin_celsius', {}],
  ['gpu_power_watts', {}],
  ['gpu_remapped_rows', { cause: 'uncorrectable' }],
  ['gpu_pcie_replay_total', {}],
  ['gpu_ecc_errors_total', { type: 'uncorrected', scope: 'volatile' }],
] as const;

function open() {
  const clock = new ManualClock();
  const health = new HealthEngine({ clock, registry: createRegistry() });
  const dictionary = dictionaryOf(
    [0, 1].flatMap((gpu) => SERIES.map(([name, labels]) => series(name, gpuLabels(gpu, labels)))),
  );
  /** A second later: the same of both GPUs, but for the load and the errors of the first. */
  const tick = (load: number, ecc: number): void => {
    clock.ms += 1000;
    const both = [80, 95, 12, 600, 3, 100 + ((clock.ms / 1000) % 1000)];
    health.evaluate(blockOf(dictionary, clock.ms, [load, ...both, ecc, 1, ...both, 7]));
  };
  const figures = () =>
    [...health.trendFigures()].length === 0
      ? undefined
      : first(health.trendFigures(), ({ source, uuid, values, uncorrectedMs }) => ({
          ...{ source, uuid, uncorrectedMs },
          ...Object.fromEntries(TREND_FIGURES.map((name, i) => [name, values[i]!])),
        }));
  return { clock, health, tick, figures };
}

function first<T, R>(all: Iterable<T>, read: (one: T) => R): R | undefined {
  for (const one of all) return read(one);
  return undefined;
}

it('of a busy GPU its margins and what wear counts, and what its siblings say', () => {
  const { health, tick, figures } = open();
  for (let i = 0; i < 5; i++) tick(1, 0);
  health.facts('GPU-0', { clockRatio: 0.97 });
  expect(figures()).toMatchObject({
    ...{ source: SOURCE, uuid: 'GPU-0', core_margin: 12, memory_margin: 15, remapped_rows: 3 },
    ...{ clock_of_siblings: 0.97, thermal_resistance: Number.NaN, uncorrectedMs: Number.NaN },
  });
});

// Lost without it: a job that ends on Fridays makes a trend of every margin.
it('of an idle one no margin and no clock', () => {
  const { health, tick, figures } = open();
  for (let i = 0; i < 5; i++) tick(0, 0);
  health.facts('GPU-0', { clockRatio: 0.97 });
  expect(figures()).toMatchObject({
    ...{ core_margin: Number.NaN, memory_margin: Number.NaN, clock_of_siblings: Number.NaN },
    ...{ remapped_rows: 3 },
  });
});

it('when uncorrected errors rose, and not what was there at first sight', () => {
  const { clock, tick, figures } = open();
  tick(1, 5);
  expect(figures()!.uncorrectedMs).toBeNaN();
  tick(1, 6);
  const roseMs = clock.ms;
  tick(1, 6);
  expect(figures()!.uncorrectedMs).toBe(roseMs);
  // A reset counter counts from zero.
  tick(1, 1);
  expect(figures()!.uncorrectedMs).toBe(clock.ms);
});

it('nothing of a silent one', () => {
  const { clock, tick, figures } = open();
  tick(1, 0);
  expect(figures()).toBeDefined();
  clock.ms += 60_000;
  expect(figures()).toBeUndefined();
});
