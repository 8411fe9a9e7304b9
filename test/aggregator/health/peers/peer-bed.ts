import { type PeerRow, READING, READINGS } from '../../../../aggregator/health/peers/peer-row.ts';
import { PeerWatch, type PeerWatchOptions } from '../../../../aggregator/health/peers/peer-watch.ts';
import { seededRandom } from '../../../support/random.ts';

/** One GPU of the bed; what a test changes of it holds from the next round on. */
export interface BedGpu {
  uuid: string;
  node: string;
  slot: number;
  model: string;
  job: string;
  /** False: it gives no row. */
  present: boolean;
  /** Instead of, or on top of, what a healthy GPU at work shows. */
  set: Partial<Record<keyof typeof READING, number>>;
}

const WORKING: Partial<Record<keyof typeof READING, number>> = {
  coreCelsius: 60,
  memoryCelsius: 66,
  watts: 600,
  limitWatts: 700,
  smMegahertz: 1980,
  utilisation: 0.99,
  clockReasons: 0,
  tensorActive: 0.5,
  linkBytesPerSecond: 1e11,
  linksUp: 18,
  linkErrors: 0,
  pcieLanes: 16,
  correctedErrors: 3,
  memoryUsed: 0.8,
};
export const IDLE: BedGpu['set'] = {
  coreCelsius: 30,
  memoryCelsius: 34,
  watts: 70,
  smMegahertz: 345,
  utilisation: 0,
  clockReasons: 1,
  tensorActive: 0,
  linkBytesPerSecond: 0,
};
/** Half the width of a reading's noise, as a share. */
const NOISE = 0.004;
export const ROUND_MS = 30_000;

/** Nodes of eight GPUs that a PeerWatch looks at every 30 s. */
export class PeerBed {
  readonly gpus: BedGpu[] = [];
  readonly watch: PeerWatch;
  nowMs = 1_000_000;
  readonly #random = seededRandom(7);

  constructor(nodes = 1, options: PeerWatchOptions = {}) {
    this.watch = new PeerWatch({ maxGpus: 256, ...options });
    for (let node = 0; node < nodes; node++) {
      for (let slot = 0; slot < 8; slot++) {
        const uuid = `n${node}-${slot}`;
        this.gpus.push({
          uuid,
          node: `n${node}`,
          slot,
          model: 'H100',
          job: `job-${node}`,
          present: true,
          set: {},
        });
      }
    }
  }

  /** So many minutes of rounds; `before` each round, given the round's number. */
  run(minutes: number, before?: (round: number) => void): this {
    for (let round = 0; round < minutes * 2; round++) {
      before?.(round);
      this.nowMs += ROUND_MS;
      for (const gpu of this.gpus) if (gpu.present) this.watch.take(this.row(gpu), this.nowMs);
      this.watch.round(this.nowMs);
    }
    return this;
  }

  row({ uuid, node, slot, model, job, set }: BedGpu): PeerRow {
    const readings = new Float64Array(READINGS).fill(Number.NaN);
    for (const [name, value] of Object.entries({ ...WORKING, ...set })) {
      const counts = COUNTS.has(name);
      readings[READING[name as keyof typeof READING]] = counts ? value : value * this.#noise();
    }
    return { uuid, cluster: 'c', node, slot, model, pool: '', job, readings };
  }

  /** Signals of a GPU's findings. */
  signals(index: number): string[] {
    return this.watch.findingsOf(this.gpus[index]!.uuid).map(({ signal }) => signal);
  }

  /** All GPUs with findings. */
  get unusual(): string[] {
    return [...this.watch.unusual()];
  }

  #noise(): number {
    return 1 + NOISE * (2 * this.#random() - 1);
  }
}

const COUNTS: ReadonlySet<string> = new Set([
  'clockReasons',
  'linksUp',
  'linkErrors',
  'pcieLanes',
  'correctedErrors',
  'smMegahertz',
  'limitWatts',
  'utilisation',
]);
