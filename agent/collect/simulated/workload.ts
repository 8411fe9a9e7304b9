import type { Prng } from './prng.ts';

/** Without work; loading model and data; training. */
type Phase = 'idle' | 'ramp' | 'steady';

/**
 * How work comes: `jobs` one training after another with pauses of minutes; `steady` one that never ends; `diurnal`
 * one that is fed as the day brings it, least at 3 and most at 15 o'clock UTC; `bursty` short ones.
 */
export type LoadPattern = 'jobs' | 'steady' | 'diurnal' | 'bursty';

/** What one training job is like, drawn when it begins. Shares are 0 to 1. */
export interface Job {
  /** Counts the jobs of the node, from 1. */
  readonly number: number;
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

type PhaseSeconds = Record<Phase, readonly [low: number, high: number]>;

/** Seconds of each phase, even between the two. */
const TRAININGS: PhaseSeconds = { idle: [60, 600], ramp: [60, 150], steady: [3600, 6 * 3600] };
const WITHOUT_END: PhaseSeconds = { ...TRAININGS, steady: [Infinity, Infinity] };
const BURSTS: PhaseSeconds = { idle: [30, 300], ramp: [5, 20], steady: [60, 600] };
const PHASE_SECONDS: Record<LoadPattern, PhaseSeconds> = {
  jobs: TRAININGS,
  steady: WITHOUT_END,
  diurnal: WITHOUT_END,
  bursty: BURSTS,
};
const DAY_SECONDS = 86_400;
/** The hour UTC at which a diurnal load is highest, and the share of it that is left twelve hours away. */
const BUSIEST_SECONDS = 15 * 3600;
const NIGHT_SHARE = 0.2;
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

  /** Whether everybody waits until the weights are on disk. */
  checkpointing = false;

  readonly #random: Prng;
  readonly #pattern: LoadPattern;
  /** Seconds after midnight UTC at the first read. */
  #timeOfDay = 0;
  #jobless = false;
  #jobs = 0;
  #now = 0;
  #began = 0;
  #ends = FIRST_IDLE_SECONDS;
  #job: Job;

  constructor(random: Prng, pattern: LoadPattern = 'jobs') {
    this.#random = random;
    this.#pattern = pattern;
    this.#job = drawJob(random, 0);
  }

  /** The job that has the GPUs now. */
  get job(): Job | undefined {
    return this.phase === 'idle' ? undefined : this.#job;
  }

  /** What a diurnal load goes by: the wall clock at the first read, Unix ms. */
  beginAt(nowMs: number): void {
    this.#timeOfDay = (nowMs / 1000) % DAY_SECONDS;
  }

  /** While jobless nothing runs, whatever the pattern; the next job begins when that is over. */
  set jobless(jobless: boolean) {
    if (jobless === this.#jobless) return;
    this.#jobless = jobless;
    if (jobless) this.#begin('idle', Infinity);
    else this.startJob();
  }

  /** The next job begins now, in the place of one that runs; not while jobless. */
  startJob(): void {
    if (!this.#jobless) this.#begin('ramp');
  }

  advance(seconds: number): void {
    this.#now += seconds;
    while (this.#now >= this.#ends) this.#nextPhase();
    this.checkpointing = false;
    if (this.phase === 'idle') this.#set(0, 0, 0, 0, 0, 0);
    else if (this.phase === 'ramp') this.#ramp();
    else this.#steady();
  }

  #nextPhase(): void {
    this.#enter(this.phase === 'idle' ? 'ramp' : this.phase === 'ramp' ? 'steady' : 'idle');
    this.#began = this.#ends;
    this.#ends += this.#draw(this.phase);
  }

  /** At once, not at the end of the phase before it. */
  #begin(phase: Phase, seconds?: number): void {
    this.#enter(phase);
    this.#began = this.#now;
    this.#ends = this.#now + (seconds ?? this.#draw(phase));
  }

  #enter(phase: Phase): void {
    this.phase = phase;
    if (phase === 'ramp') this.#job = drawJob(this.#random, ++this.#jobs);
  }

  #draw(phase: Phase): number {
    const [low, high] = PHASE_SECONDS[this.#pattern][phase];
    return low === high ? low : this.#random.between(low, high);
  }

  /** 1, and for a diurnal load the share of it that this time of day brings. */
  #demand(): number {
    if (this.#pattern !== 'diurnal') return 1;
    const angle = (2 * Math.PI * (this.#timeOfDay + this.#now - BUSIEST_SECONDS)) / DAY_SECONDS;
    return NIGHT_SHARE + (1 - NIGHT_SHARE) * (0.5 + 0.5 * Math.cos(angle));
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
      this.checkpointing = true;
      this.#set(0.12, 0.06, job.memory, 0, 0, 0.3);
      return;
    }
    const demand = this.#demand();
    const reducing = 0.5 + 0.5 * Math.sin((2 * Math.PI * sinceStart) / job.stepSeconds);
    this.#set(
      0.995 * Math.min(1, 1.5 * demand),
      job.compute * (1 - 0.08 * reducing) * demand,
      job.memory,
      job.network * (0.6 + 0.4 * reducing) * demand,
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

function drawJob(random: Prng, number: number): Job {
  return {
    number,
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
