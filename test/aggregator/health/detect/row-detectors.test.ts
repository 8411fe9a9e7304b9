import { describe, expect, it } from 'vitest';
import {
  RowDetectors,
  type RowDetectorsOptions,
} from '../../../../aggregator/health/detect/row-detectors.ts';
import { METRIC, METRICS } from '../../../../aggregator/health/peers/peer-metrics.ts';
import { seededRandom } from '../../../support/random.ts';

const GPUS = 16;

/** A fleet whose deviations are noise, fed every 30 s. */
class Bed {
  readonly detectors: RowDetectors;
  readonly #random = seededRandom(21);
  readonly #row = {
    deviations: new Float64Array(METRICS),
    values: new Float64Array(METRICS),
    expected: new Float64Array(METRICS),
  };
  nowMs = 0;

  constructor(options: Partial<RowDetectorsOptions> = {}) {
    this.detectors = new RowDetectors({ random: seededRandom(3), maxGpus: GPUS, ...options });
  }

  /** `odd`: what is added to GPU 5's deviations. */
  run(rounds: number, odd: Partial<Record<keyof typeof METRIC, number>> = {}): this {
    for (let round = 0; round < rounds; round++) {
      this.nowMs += 30_000;
      for (let gpu = 0; gpu < GPUS; gpu++) this.#feed(gpu, gpu === 5 ? odd : {});
    }
    return this;
  }

  #feed(gpu: number, odd: Partial<Record<keyof typeof METRIC, number>>): void {
    const { deviations, values, expected } = this.#row;
    deviations.fill(Number.NaN);
    const warm = this.#random() - 0.5;
    for (const name of ['core', 'memory', 'clock', 'watts'] as const) {
      const metric = METRIC[name];
      deviations[metric] = warm + 0.4 * (this.#random() - 0.5) + (odd[name] ?? 0);
      values[metric] = 60 + deviations[metric]!;
      expected[metric] = 60;
    }
    this.detectors.take(`gpu-${gpu}`, 'H100', this.#row, this.nowMs);
  }

  get found(): string[] {
    return Array.from({ length: GPUS }, (_, gpu) => `gpu-${gpu}`).filter(
      (uuid) => this.detectors.findingsOf(uuid, this.nowMs).length > 0,
    );
  }
}

// A GPU that is a little off in several metrics at once passes under the threshold of each of them.
describe('row detectors', () => {
  it('the PCA residual finds a GPU whose metrics part ways, after four minutes, and is over with it', () => {
    const bed = new Bed({ pca: true }).run(400);
    expect(bed.found).toEqual([]);
    bed.run(4, { core: 5, watts: -5 });
    expect(bed.found).toEqual([]);
    bed.run(8, { core: 5, watts: -5 });
    expect(bed.found).toEqual(['gpu-5']);
    const [finding] = bed.detectors.findingsOf('gpu-5', bed.nowMs);
    expect(finding!.detector).toBe('row');
    expect(['gpu_temperature_celsius{sensor="core"}', 'gpu_power_watts']).toContain(finding!.signal);
    expect(finding!.expected).toBe(60);
    bed.run(20);
    expect(bed.found).toEqual([]);
  });

  it('the isolation forest finds it too where it is switched on', () => {
    const bed = new Bed({ pca: false, isolation: true }).run(500);
    expect(bed.found).toEqual([]);
    bed.run(12, { core: 12, memory: 12, watts: -12, clock: -12 });
    const [finding] = bed.detectors.findingsOf('gpu-5', bed.nowMs);
    expect(finding?.detector).toBe('isolation');
  });

  it('both are off unless asked for', () => {
    const bed = new Bed().run(400).run(20, { core: 50, watts: -50 });
    expect(bed.found).toEqual([]);
  });

  it('too little to matter is no finding, however rare', () => {
    const bed = new Bed({ pca: true, isolation: true }).run(400);
    expect(bed.run(20, { core: 1.5, watts: -1.5 }).found).toEqual([]);
  });

  it('says nothing of a GPU that is silent or forgotten, and gives its room away', () => {
    const bed = new Bed({ pca: true }).run(400).run(12, { core: 8, watts: -8 });
    expect(bed.found).toEqual(['gpu-5']);
    expect(bed.detectors.findingsOf('gpu-5', bed.nowMs + 3_600_000)).toEqual([]);
    bed.detectors.forget('gpu-5');
    expect(bed.found).toEqual([]);
    expect(bed.run(12, { core: 8, watts: -8 }).found).toEqual(['gpu-5']);
  });

  it('looks at no more GPUs than it was made for', () => {
    const bed = new Bed({ pca: true, maxGpus: 4 }).run(1000).run(12, { core: 8, watts: -8 });
    expect(bed.found).toEqual([]);
  });
});
