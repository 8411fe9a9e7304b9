import type { BenchCase } from '../bench-case.ts';
import { fleetAccuracy } from './fleet/fleet-accuracy.ts';
import { nabAccuracy } from './nab/nab.ts';
import { siblingAccuracy } from './siblings/sibling-accuracy.ts';

/** How right the health findings are, on labelled data of others and on simulated faults. The same for each run of a seed. */
export const accuracy: BenchCase = {
  name: 'accuracy',
  description:
    'what the anomaly detectors find and what they raise falsely: Numenta Anomaly Benchmark, simulated fleet, sibling faults',
  run: async (options) => ({
    ...(await nabAccuracy(options)),
    ...(await fleetAccuracy(options)),
    ...(await siblingAccuracy(options)),
  }),
};
