import type { Clock } from '#shared/model/clock.ts';
import type { Series } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { canonicalSeries } from '../canonical-series.ts';
import { type Collector, type Reading, SOURCE_RANK } from '../collector.ts';
import { ReadingTable } from '../reading-table.ts';
import type { JobLabels } from './job-labels.ts';
import type { Machine } from './machine.ts';
import type { Training } from './training.ts';

export interface TrainingOptions {
  /** As the GPUs' collector advances it: at the same interval the two are read together. */
  readonly machine: Machine;
  readonly intervalMs: number;
  readonly clock: Clock;
}

type Metric = readonly [name: string, read: (training: Training) => number];

/** What a training job says of itself. No label names the job: gpu_job_info does, so that a new job makes no new series. */
const METRICS: readonly Metric[] = [
  ['training_loss', ({ loss }) => round(loss, 4)],
  ['training_steps', ({ steps }) => Math.floor(steps)],
  ['training_tokens_total', ({ tokens }) => Math.floor(tokens)],
  ['training_tokens_per_second', ({ tokensPerSecond }) => Math.round(tokensPerSecond)],
  ['training_queue_depth', ({ queueDepth }) => queueDepth],
  ['training_checkpoints_total', ({ checkpoints }) => checkpoints],
  ['training_checkpoint_seconds', ({ checkpointSeconds }) => round(checkpointSeconds, 3)],
  ['training_checkpoint_age_seconds', ({ sinceCheckpointSeconds }) => round(sinceCheckpointSeconds, 3)],
  ['training_restarts_total', ({ restarts }) => restarts],
];
const SERIES: readonly Series[] = METRICS.map(([name]) => canonicalSeries(name));

/**
 * The training job of a simulated node: what it says of itself, and gpu_job_info for each GPU that it has. Without a
 * job the job's series are absent and gpu_job_info ends.
 */
export function createTrainingCollector(options: TrainingOptions): Collector {
  return new TrainingCollector(options);
}

class TrainingCollector implements Collector {
  readonly name = 'simulated_training';
  readonly rank = SOURCE_RANK.other;
  readonly holdsDevice = false;
  readonly intervalMs: number;
  readonly #machine: Machine;
  readonly #table: ReadingTable;
  #planned: string | undefined;
  #series: readonly Series[] = SERIES;

  constructor({ machine, intervalMs, clock }: TrainingOptions) {
    this.intervalMs = intervalMs;
    this.#machine = machine;
    this.#table = new ReadingTable({ source: this.name, intervalMs, clock });
    this.#table.plan(SERIES);
  }

  describe(): string {
    return `the training job of a simulated node with ${this.#machine.boards.length} GPUs`;
  }

  async collect(): Promise<Reading> {
    const { job, node } = this.#machine;
    this.#plan(job);
    this.#table.begin();
    METRICS.forEach(([, read], i) => {
      if (job) this.#table.put(i, read(node.training));
      else this.#table.miss(i, SlotState.Absent);
    });
    for (let i = METRICS.length; i < this.#series.length; i++) this.#table.put(i, 1);
    return this.#table.finish();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nothing is open.
  }

  #plan(job: JobLabels | undefined): void {
    if (job?.job === this.#planned) return;
    this.#planned = job?.job;
    const { boards, profile } = this.#machine;
    const uses = boards.map(({ index, uuid }) =>
      canonicalSeries('gpu_job_info', { ...job, gpu: String(index), model: profile.model, uuid }),
    );
    this.#series = job ? [...SERIES, ...uses] : SERIES;
    this.#table.plan(this.#series);
  }
}

function round(value: number, decimals: number): number {
  const power = 10 ** decimals;
  return Math.round(value * power) / power;
}
