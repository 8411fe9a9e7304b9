import type { Prng } from './prng.ts';

/** Without work; loading model and data; training. */
type Phase = 'idle' | 'ramp' | 'steady';

/** What one training job is like, drawn when it begins. Shares are 0 to 1. */
interface Job {
  readonly compute: number;
  readonly tensor: number;
  readonly dram: number;
  readonly memory: number;
  readonly network: number;
  /** Seconds of one optimizer step: compute, then all-reduce. */
  readonly stepSeconds: number;
  readonly checkpointEverySeconds: number;
  readonly checkpointSeconds: number;
}

/** Seconds of each phase, even between the two. */
const PHASE_SECONDS: Record<Phase, readonly [number, number]> = {
  idle: [60, 600],
  ramp: [60, 150],
  steady: [3600, 6 * 3600],
};
/** A new node is soon busy: people who look at a simulation want to see something. */
const FIRST_IDLE_SECONDS = 20;

/**
 * What the job asks of every GPU of the node: a distributed training run that all of them share, which is why
 * their figures rise and fall together. All shares 0 to 1, as of the last `advance`.
 */
export class Workload {
  phase: Phase = 'idle';
  /** Share of time in which any kernel runs. */
  busy = 0;
  /** How hard the SMs work: drives power. */
  compute = 0;
  tensor = 0;
  dram = 0;
  /** Of device memory that is allocated. */
  memory = 0;
  /** Of NVLink bandwidth: all-reduce. */
  network = 0;
  /** Of PCIe bandwidth from the host (training data) and to it (checkpoints). */
  fromHost = 0;
  toHost = 0;

  readonly #random: Prng;
  #now = 0;
  #began = 0;
  #ends = FIRST_IDLE_SECONDS;
  #job: Job;

  constructor(random: Prng) {
    this.#random = random;
    this.#job = drawJob(random);
  }

  advance(seconds: number): void {
    this.#now += seconds;
    while (this.#now >= this.#ends) this.#nextPhase();
    if (this.phase === 'idle') this.#set(0, 0, 0, 0, 0, 0);
    else if (this.phase === 'ramp') this.#ramp();
    else this.#steady();
  }

  #nextPhase(): void {
    this.phase = this.phase === 'idle' ? 'ramp' : this.phase === 'ramp' ? 'steady' : 'idle';
    if (this.phase === 'ramp') this.#job = drawJob(this.#random);
    this.#began = this.#ends;
    this.#ends += this.#random.between(...PHASE_SECONDS[this.phase]);
  }

  /** Memory fills first (weights, optimizer state), then the steps find their pace. */
  #ramp(): void {
    const done = (this.#now - this.#began) / (this.#ends - this.#began);
    const job = this.#job;
    this.#set(
      0.15 + 0.8 * done,
      0.8 * done * job.compute,
      job.memory * Math.min(1, 1.5 * done),
      0.2 * done,
      0.1,
      0,
    );
  }

  #steady(): void {
    const job = this.#job;
    const sinceStart = this.#now - this.#began;
    if (sinceStart % job.checkpointEverySeconds >= job.checkpointEverySeconds - job.checkpointSeconds) {
      // Everybody waits until the weights are on disk.
      this.#set(0.12, 0.06, job.memory, 0, 0, 0.3);
      return;
    }
    const reducing = 0.5 + 0.5 * Math.sin((2 * Math.PI * sinceStart) / job.stepSeconds);
    this.#set(
      0.995,
      job.compute * (1 - 0.08 * reducing),
      job.memory,
      job.network * (0.6 + 0.4 * reducing),
      0.01,
      0.002,
    );
  }

  #set(
    busy: number,
    compute: number,
    memory: number,
    network: number,
    fromHost: number,
    toHost: number,
  ): void {
    this.busy = busy;
    this.compute = compute;
    this.tensor = compute * this.#job.tensor;
    this.dram = compute * this.#job.dram;
    this.memory = memory;
    this.network = network;
    this.fromHost = fromHost;
    this.toHost = toHost;
  }
}

function drawJob(random: Prng): Job {
  return {
    compute: random.between(0.76, 0.95),
    tensor: random.between(0.4, 0.65),
    dram: random.between(0.45, 0.7),
    // Below 95 %: a training job that fills the rest dies of it.
    memory: random.between(0.62, 0.9),
    network: random.between(0.15, 0.4),
    stepSeconds: random.between(3, 11),
    checkpointEverySeconds: random.between(600, 1800),
    checkpointSeconds: random.between(15, 45),
  };
}
