import { describe, expect, it } from 'vitest';
import {
  type FleetSummary,
  FleetSummaryBuilder,
  fleetQuantile,
  MAX_MODELS,
  mergeSummaries,
} from '../../../../aggregator/health/peers/fleet-summary.ts';
import { seededRandom } from '../../../support/random.ts';

function summaryOf(values: readonly number[], model = 'H100'): FleetSummary {
  const builder = new FleetSummaryBuilder();
  for (const value of values) builder.add(model, 'coreCelsius', value);
  return builder.done();
}

// What is lost without it: with several shards each would call usual what only its own part of the fleet shows.
describe('fleet summary', () => {
  it('of shards together is that of all values at once, after a way as JSON', () => {
    const random = seededRandom(3);
    const values = Array.from({ length: 3000 }, () => 40 + 30 * random());
    const parts = [0, 1, 2].map((part) => summaryOf(values.filter((_, i) => i % 3 === part)));
    const merged = mergeSummaries(parts.map((part) => JSON.parse(JSON.stringify(part)) as FleetSummary));
    expect(merged).toEqual(summaryOf(values));
    expect(fleetQuantile(merged, 'H100', 'coreCelsius', 0.5)).toBeCloseTo(55, -0.5);
  });

  it('gives quantiles to within a bin, over decades for errors', () => {
    const builder = new FleetSummaryBuilder();
    for (let i = 0; i < 990; i++) builder.add('H100', 'correctedPerDay', 0);
    for (let i = 0; i < 10; i++) builder.add('H100', 'correctedPerDay', 2000);
    const summary = builder.done();
    expect(fleetQuantile(summary, 'H100', 'correctedPerDay', 0.5)).toBe(0);
    const high = fleetQuantile(summary, 'H100', 'correctedPerDay', 0.999);
    expect(high).toBeGreaterThan(1400);
    expect(high).toBeLessThan(2800);
  });

  it('leaves NaN out and keeps what is out of range at the ends', () => {
    const summary = summaryOf([Number.NaN, -20, 500]);
    expect(fleetQuantile(summary, 'H100', 'coreCelsius', 1)).toBe(128);
    expect(fleetQuantile(summary, 'H100', 'coreCelsius', 0.1)).toBeLessThan(2);
    expect(fleetQuantile(summary, 'A100', 'coreCelsius', 0.5)).toBeNaN();
    expect(fleetQuantile(summary, '__proto__', 'coreCelsius', 0.5)).toBeNaN();
  });

  it('keeps a bounded number of models', () => {
    const builder = new FleetSummaryBuilder();
    for (let i = 0; i < MAX_MODELS + 10; i++) builder.add(`model-${i}`, 'coreCelsius', 50);
    expect(Object.keys(builder.done().models)).toHaveLength(MAX_MODELS);
  });

  it('refuses what is no summary', () => {
    const wrong = { version: 1, models: { H100: { coreCelsius: [1, 2, 3] } } } as const;
    expect(() => mergeSummaries([wrong])).toThrow(expect.objectContaining({ code: 'invalid_input' }));
    const newer = { version: 2, models: {} } as unknown as FleetSummary;
    expect(() => mergeSummaries([newer])).toThrow(expect.objectContaining({ code: 'invalid_input' }));
  });
});
