import type { Prng } from './prng.ts';
import type { Job, Workload } from './workload.ts';

/** Of an untrained language model with 50,000 tokens (their logarithm), and the best that this one reaches. */
const FIRST_LOSS = 10.8;
const BEST_LOSS = 1.9;
/** Loss falls as a power of the steps: after this many it begins to, and so fast (Kaplan et al. 2020 find 0.05 to 0.1 of compute; steeper here, so that people see it fall). */
const LOSS_STEPS = 60;
const LOSS_EXPONENT = 0.35;
const LOSS_NOISE = 0.01;
/** Batches that the loader keeps ready. */
const QUEUE_BATCHES = 64;
/** How much of it is used up where the job takes all that it can. */
const QUEUE_TAKEN = 0.4;

/**
 * What the training job of a node says of itself. It is as fast as the slowest of the boards; a job that starts, or
 * starts again, goes on from its last checkpoint.
 */
export class Training {
  job: Job | undefined;
  /** Optimizer steps done. */
  steps = 0;
  /** Tokens taken since the job began, those of steps that were lost too. */
  tokens = 0;
  tokensPerSecond = 0;
  loss = FIRST_LOSS;
  queueDepth = QUEUE_BATCHES;
  checkpoints = 0;
  /** Duration of the last one. */
  checkpointSeconds = 0;
  sinceCheckpointSeconds = 0;
  /** Times that it went on from a checkpoint because a GPU was lost. */
  restarts = 0;

  readonly #random: Prng;
  #tokensPerStep = 0;
  #savedSteps = 0;
  #savingSeconds = 0;
  #hung = false;

  constructor(random: Prng) {
    this.#random = random;
  }

  /** After the workload has advanced. `slowest`: pace of the slowest board, 0 where one does not answer. */
  advance(seconds: number, workload: Workload, slowest: number): void {
    if (workload.job !== this.job) {
      // It computes from the next step on: boards that were away until now still count as slow in this one.
      this.#begin(workload.job);
      return;
    }
    if (!this.job) return;
    if (this.#hung && slowest > 0) this.#restart();
    this.#hung = slowest === 0;
    const share = workload.checkpointing ? 0 : (workload.compute / this.job.compute) * slowest;
    const done = (share * seconds) / this.job.stepSeconds;
    this.steps += done;
    this.tokens += done * this.#tokensPerStep;
    this.tokensPerSecond = (done * this.#tokensPerStep) / seconds;
    const fallen = (1 + this.steps / LOSS_STEPS) ** -LOSS_EXPONENT;
    this.loss = BEST_LOSS + (FIRST_LOSS - BEST_LOSS) * fallen * (1 + LOSS_NOISE * this.#random.normal());
    this.queueDepth = Math.round(
      QUEUE_BATCHES * (1 - QUEUE_TAKEN * share) + (share > 0 ? 2 * this.#random.normal() : 0),
    );
    this.queueDepth = Math.min(QUEUE_BATCHES, Math.max(0, this.queueDepth));
    this.#countCheckpoints(seconds, workload.checkpointing);
  }

  #begin(job: Job | undefined): void {
    this.job = job;
    this.steps = 0;
    this.tokens = 0;
    this.tokensPerSecond = 0;
    this.checkpoints = 0;
    this.checkpointSeconds = 0;
    this.sinceCheckpointSeconds = 0;
    this.restarts = 0;
    this.#savedSteps = 0;
    this.#savingSeconds = 0;
    this.#hung = false;
    // Half a million to four million tokens a batch, as published runs use.
    this.#tokensPerStep = 2 ** (19 + this.#random.below(4));
  }

  #restart(): void {
    this.restarts++;
    this.steps = this.#savedSteps;
    this.#savingSeconds = 0;
  }

  #countCheckpoints(seconds: number, checkpointing: boolean): void {
    this.sinceCheckpointSeconds += seconds;
    if (checkpointing) {
      this.#savingSeconds += seconds;
      return;
    }
    if (this.#savingSeconds === 0) return;
    this.checkpoints++;
    this.checkpointSeconds = this.#savingSeconds;
    this.sinceCheckpointSeconds = 0;
    this.#savingSeconds = 0;
    this.#savedSteps = this.steps;
  }
}
