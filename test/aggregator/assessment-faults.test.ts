import { describe, expect, it } from 'vitest';
import { Assessment } from '../../aggregator/assessment.ts';
import { AssetBook } from '../../aggregator/enrich/asset-book.ts';
import { defaultDetectionSettings } from '../../aggregator/health/detect/detection-settings.ts';
import { builtInProfiles } from '../../aggregator/health/profiles/load-profiles.ts';
import type { HealthShelf } from '../../aggregator/health/states/health-shelf.ts';
import { createRegistry } from '../../shared/instruments/registry.ts';
import { silentLogger } from '../../shared/logging/logger.ts';
import {
  blockOf,
  dictionaryOf,
  gpuLabels,
  ManualClock,
  SOURCE,
  series,
  xidEvent,
} from './alerts/block-of.ts';

/** A disk that is full, or gone. */
const FULL: HealthShelf = {
  write: () => Promise.reject(new Error('no space left on device')),
  async *entries() {},
};

async function assessmentOf(onEvent: () => void = () => {}) {
  const clock = new ManualClock();
  const registry = createRegistry();
  const assessment = await Assessment.open({
    ...{ clock, registry, shelf: FULL, onEvent, random: () => 0.5 },
    logger: silentLogger,
    assets: await AssetBook.open(undefined),
    profiles: builtInProfiles(),
    detection: defaultDetectionSettings(),
  });
  return { assessment, clock, registry };
}

const POWER = dictionaryOf([series('gpu_power_watts', gpuLabels(0))]);

// Lost without it: a node whose stream ends at each tick, and its alerts and samples with it, by a fault of health.
describe('a fault within health', () => {
  it('of whoever is told of a state costs neither the tick nor the state', async () => {
    const { assessment, clock, registry } = await assessmentOf(() => {
      throw new Error('the listener is broken');
    });
    assessment.evaluate(blockOf(POWER, clock.ms, [300]));
    assessment.event(SOURCE, xidEvent(79, clock.ms));
    clock.ms += 1_000;
    assessment.evaluate(blockOf(POWER, clock.ms, [300]));
    assessment.advance();
    expect(assessment.health.scoreOf('GPU-0')!.score).toBeLessThanOrEqual(10);
    expect(await registry.metrics()).toContain('gpufleet_health_faults_total{part="transition"} 1');
  });

  it('of one part leaves the others their look at each tick and event', async () => {
    const { assessment, clock, registry } = await assessmentOf();
    assessment.evaluate(blockOf(POWER, clock.ms, [300]));
    const broken = () => {
      throw new Error('broken');
    };
    assessment.detection.evaluate = broken;
    assessment.detection.event = broken;
    assessment.detection.advance = broken;
    clock.ms += 1_000;
    assessment.evaluate(blockOf(POWER, clock.ms, [301]));
    assessment.event(SOURCE, xidEvent(79, clock.ms));
    assessment.advance();
    expect(assessment.health.scoreOf('GPU-0')!.score).toBeLessThanOrEqual(10);
    expect(await registry.metrics()).toContain('gpufleet_health_faults_total{part="detection"} 3');
  });

  it('of a full disk costs nothing but what was to be kept', async () => {
    const { assessment, clock } = await assessmentOf();
    for (let i = 0; i < 10; i++) {
      clock.ms += 1_000;
      assessment.evaluate(blockOf(POWER, clock.ms, [300]));
      assessment.event(SOURCE, xidEvent(79, clock.ms));
      assessment.event(SOURCE, { ...xidEvent(0, clock.ms), type: 'operator_clear' });
    }
    await assessment.flush();
    expect(assessment.health.scoreOf('GPU-0')).toBeDefined();
  });
});
