import { describe, expect, it } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Block } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { DetectionEngine } from '../../../../aggregator/health/detect/detection-engine.ts';
import { DetectionLimits } from '../../../../aggregator/health/detect/detection-limits.ts';
import { defaultDetectionSettings } from '../../../../aggregator/health/detect/detection-settings.ts';
import { IncidentTracker } from '../../../../aggregator/health/detect/incident-tracker.ts';
import { NodeDetection } from '../../../../aggregator/health/detect/node-detection.ts';
import { seededRandom } from '../../../support/random.ts';
import { blockOf, gpuLabels, SOURCE, START_MS, series } from '../../alerts/block-of.ts';

const GAUGES = [
  series('gpu_power_watts', gpuLabels(0)),
  series('gpu_utilization_ratio', gpuLabels(0, { task: 'general' })),
  series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'core' })),
];
const REMAPPED = series('gpu_remapped_rows', gpuLabels(0, { cause: 'uncorrectable' }));
const INTERVAL_MS = 30_000;

/** A node of one GPU, read every 30 s, and what is found of it, by detector. */
function watched() {
  const found: string[] = [];
  const node = new NodeDetection(SOURCE, new DetectionLimits(defaultDetectionSettings()), {
    isOpen: () => false,
    anyOpen: () => false,
    alsoMoved: () => {},
    admit: () => true,
    found: (_, detector, signal) => found.push(`${detector} ${signal}`),
  });
  const random = seededRandom(3);
  let t = START_MS;
  /** `frozen`: the power is what it was, bit by bit. */
  const tick = (dictionary: Dictionary, frozen = false): void => {
    t += INTERVAL_MS;
    const watts = frozen ? 500 : 500 + 20 * random();
    node.evaluate(blockOf(dictionary, t, [watts, 0.9 + 0.05 * random(), 60 + Math.round(random())]));
  };
  const also = (dictionary: Dictionary, values: readonly number[]): void =>
    node.evaluate(blockOf(dictionary, t, values));
  return { node, found, tick, also, now: () => t };
}

const gauges = createDictionary('fast', INTERVAL_MS, GAUGES);
const HOUR = 120;

describe('a sensor that freezes is found', () => {
  it('where nothing else happens', () => {
    const { found, tick } = watched();
    for (let i = 0; i < 6 * HOUR; i++) tick(gauges);
    expect(found).toEqual([]);
    for (let i = 0; i < HOUR; i++) tick(gauges, true);
    expect(found[0]).toContain('frozen gpu_power_watts');
  });

  // Lost without it: every detector of a node that has one slow source, or whose MIG instances come and go.
  it('also where another source of the GPU comes every ten minutes', () => {
    const { found, tick, also } = watched();
    const slow = createDictionary('slow', 600_000, [REMAPPED, series('gpu_fan_ratio', gpuLabels(0))]);
    for (let i = 0; i < 7 * HOUR; i++) {
      tick(gauges, i >= 6 * HOUR);
      if (i % 20 === 0) also(slow, [0, 0.5]);
    }
    expect(found[0]).toContain('frozen gpu_power_watts');
  });

  it('also where the dictionary changes with each tick', () => {
    const { found, tick } = watched();
    for (let i = 0; i < 7 * HOUR; i++) {
      const mig = series('gpu_memory_used_bytes', gpuLabels(0, { mig_id: String(i) }));
      tick(createDictionary('fast', INTERVAL_MS, [...GAUGES, mig]), i >= 6 * HOUR);
    }
    expect(found[0]).toContain('frozen gpu_power_watts');
  });

  it('also after values that no sensor has, and hours of a clock that goes to and fro', () => {
    const { node, found, tick, now } = watched();
    const absurd = (values: readonly number[], shiftMs = 0): Block =>
      blockOf(gauges, now() + 1_000 + shiftMs, values);
    for (let i = 0; i < 2 * HOUR; i++) tick(gauges);
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, 1e300, -1e300, 5e-324]) {
      tick(gauges);
      node.evaluate(absurd([value, value, value]));
    }
    for (const hours of [5, -5, 48, -48]) node.evaluate(absurd([500, 0.9, 60], hours * 3_600_000));
    for (let i = 0; i < 6 * HOUR; i++) tick(gauges);
    found.length = 0;
    for (let i = 0; i < HOUR; i++) tick(gauges, true);
    expect(found[0]).toContain('frozen gpu_power_watts');
  });
});

// Lost without it: incidents that stay open for as long as a clock was ahead, or a fleet that is learned anew after a step.
describe("a step of the aggregator's clock", () => {
  it('back by hours ends a quiet incident in its time, and silences no new one for long', () => {
    const tracker = new IncidentTracker({ quietMs: 600_000 });
    const subject = { source: SOURCE, gpu: '0', uuid: 'GPU-0', model: '' };
    const finding = { detector: 'level', signal: 's', value: 1, expected: 0, strength: 2 } as const;
    const ahead = START_MS + 10 * 3_600_000;
    tracker.add(subject, finding, ahead, ahead);
    tracker.advance(START_MS);
    tracker.advance(START_MS + 600_000);
    expect(tracker.open).toBe(0);
    tracker.add(subject, finding, ahead, ahead);
    tracker.advance(ahead + 600_000);
    tracker.add(subject, { ...finding, strength: 5 }, START_MS, START_MS);
    expect(tracker.open).toBe(1);
  });

  it('by two days forgets no node', async () => {
    const registry = createRegistry();
    let wall = START_MS;
    const engine = new DetectionEngine({ clock: { now: () => wall, monotonic: () => 5_000 }, registry });
    engine.evaluate(blockOf(gauges, wall, [500, 0.9, 60]));
    engine.advance(wall);
    wall += 48 * 3_600_000;
    engine.advance(wall);
    expect(await registry.metrics()).toMatch(/gpufleet_detector_series\{detector="frozen"\} [1-9]/);
  });
});

describe('a node that is out of its mind', () => {
  it('is watched up to 64 GPUs: the others cost nothing', () => {
    const { node } = watched();
    for (let tick = 0; tick < 20; tick++) {
      const many = Array.from({ length: 500 }, (_, i) =>
        series('gpu_power_watts', gpuLabels(tick * 500 + i)),
      );
      const dictionary = createDictionary(`group ${tick}`, 1_000, many);
      node.evaluate(
        blockOf(
          dictionary,
          START_MS + tick * 1_000,
          many.map(() => 300),
        ),
      );
    }
    expect(node.rows.gpus).toHaveLength(64);
  });
});
