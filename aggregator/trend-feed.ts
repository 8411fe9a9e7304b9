import { setImmediate } from 'node:timers/promises';
import type { Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { HealthEngine } from './health/health-engine.ts';
import type { FollowedFigure, PatternBook } from './health/patterns/pattern-book.ts';
import { TREND_FIGURES, type TrendFigures } from './health/trend-figures.ts';

export interface TrendFeedOptions {
  readonly health: Pick<HealthEngine, 'trendFigures'>;
  readonly patterns: Pick<PatternBook, 'follow' | 'figure' | 'note'>;
  readonly clock: Clock;
}

/** GPUs between two looks at the rest of the process: about a millisecond. */
const GPUS_AT_ONCE = 500;
/** Figures that are zero on a sound board: followed from the first that is not, or half of all rows would be zeros. */
const FROM_FIRST: ReadonlySet<string> = new Set(['remapped_rows', 'pcie_replays_per_minute']);
const WAITS = TREND_FIGURES.map((name) => FROM_FIRST.has(name));

/** What is followed of one GPU. About 1 kB where three figures are, with their names in the patterns. */
interface Followed {
  source: Source;
  subject: string;
  /** By TREND_FIGURES. */
  readonly figures: (FollowedFigure | undefined)[];
  uncorrectedMs: number;
  round: number;
}

/**
 * Tells the patterns what health knows of each GPU: figures that wear shows in, and uncorrected memory errors as they
 * come. Holds no more GPUs than health does: one that health no longer hears is let go of with the round.
 */
export class TrendFeed {
  readonly #options: TrendFeedOptions;
  readonly #gpus = new Map<string, Followed>();
  #round = 0;

  constructor(options: TrendFeedOptions) {
    this.#options = options;
  }

  /** GPUs that are followed. */
  get size(): number {
    return this.#gpus.size;
  }

  /** Once through all GPUs: about 3 µs each, in pieces. To be called about once a minute. */
  async round(): Promise<void> {
    const { health, clock } = this.#options;
    this.#round++;
    let done = 0;
    for (const gpu of health.trendFigures()) {
      this.#take(gpu, clock.now());
      if (++done % GPUS_AT_ONCE === 0) await setImmediate();
    }
    if (this.#gpus.size === done) return;
    for (const [uuid, { round }] of this.#gpus) if (round !== this.#round) this.#gpus.delete(uuid);
  }

  #take({ source, uuid, values, uncorrectedMs }: TrendFigures, nowMs: number): void {
    const { patterns } = this.#options;
    const gpu = this.#followedOf(source, uuid);
    for (let i = 0; i < values.length; i++) {
      const value = values[i]!;
      let figure = gpu.figures[i];
      if (Number.isNaN(value)) continue;
      if (figure === undefined) {
        if (WAITS[i] && !(value > 0)) continue;
        figure = patterns.follow(gpu.subject, uuid, TREND_FIGURES[i]!);
        if (figure === undefined) continue;
        gpu.figures[i] = figure;
      }
      patterns.figure(figure, value, nowMs);
    }
    if (!(uncorrectedMs > gpu.uncorrectedMs)) return;
    patterns.note(source, uuid, 'ecc_uncorrected', uncorrectedMs);
    gpu.uncorrectedMs = uncorrectedMs;
  }

  #followedOf(source: Source, uuid: string): Followed {
    let gpu = this.#gpus.get(uuid);
    if (gpu === undefined) {
      const subject = subjectOf(source, uuid);
      gpu = { source, subject, figures: [], uncorrectedMs: Number.NEGATIVE_INFINITY, round: this.#round };
      this.#gpus.set(uuid, gpu);
    } else if (gpu.source !== source) {
      gpu.source = source;
      const subject = subjectOf(source, uuid);
      // In another node: its figures go on, under its new name.
      if (subject !== gpu.subject) gpu.figures.length = 0;
      gpu.subject = subject;
    }
    gpu.round = this.#round;
    return gpu;
  }
}

function subjectOf({ cluster, node }: Source, uuid: string): string {
  return `${cluster}/${node}/${uuid}`;
}
