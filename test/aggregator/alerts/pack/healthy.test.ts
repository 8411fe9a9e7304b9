import { expect, test } from 'vitest';
import { GPU_PROFILES, type GpuModel } from '../../../../agent/collect/simulated/profiles.ts';
import type { LoadPattern } from '../../../../agent/collect/simulated/workload.ts';
import { simulated } from './simulated-run.ts';

const MODELS = Object.keys(GPU_PROFILES) as GpuModel[];
const LOADS: readonly LoadPattern[] = ['jobs', 'steady', 'diurnal', 'bursty'];

// Lost without it: people who are woken by GPUs that are only busy, and soon read no alert at all.
test.each(MODELS.flatMap((model) => LOADS.map((load) => [model, load] as const)))(
  'eight healthy %s with %s load raise nothing in six hours',
  async (model, load) => {
    using run = await simulated({ model, load, gpus: 8, seed: 11, intervalMs: 30_000, minutes: [360, 0, 0] });
    expect(run.lines).toEqual([]);
  },
);
