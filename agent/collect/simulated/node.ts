import { type Response, responseOf, SimulatedGpu } from './gpu.ts';
import { Prng } from './prng.ts';
import type { GpuProfile } from './profiles.ts';
import { Training } from './training.ts';
import { type LoadPattern, Workload } from './workload.ts';

/** The physics move in steps of at most this where not told otherwise, so that a checkpoint of seconds is felt at any interval ... */
const STEP_SECONDS = 1;
/** ... but in no more steps than these: a long pause is walked in longer ones, which the responses allow. */
const MAX_STEPS = 600;
const DAY_SECONDS = 86_400;
/** Fans of the chassis: their share of full speed when cool, the core's temperature from which they speed up, and by how much for each °C. */
const FAN_IDLE = 0.3;
const FAN_FROM_CELSIUS = 40;
const FAN_PER_CELSIUS = 0.015;

/** The boards of one chassis: one job, one stream of air. */
export class SimulatedNode {
  readonly gpus: readonly SimulatedGpu[];
  readonly workload: Workload;
  readonly training: Training;
  /** Seconds simulated. */
  #now = 0;
  readonly #inletCelsius: number;
  readonly #dayPhase: number;
  readonly #stepSeconds: number;
  #response: Response;

  /** `stepSeconds`: longest step of the physics; a second where not given. */
  constructor(
    profile: GpuProfile,
    gpus: number,
    seed: number,
    name: string,
    load: LoadPattern = 'jobs',
    stepSeconds: number = STEP_SECONDS,
  ) {
    this.#stepSeconds = stepSeconds;
    this.#response = responseOf(stepSeconds);
    const random = new Prng(seed, name, 'chassis');
    this.#inletCelsius = random.between(22.5, 25);
    this.#dayPhase = random.between(0, 2 * Math.PI);
    this.workload = new Workload(new Prng(seed, name, 'workload'), load);
    this.training = new Training(new Prng(seed, name, 'training'));
    const inlet = this.#inlet();
    this.gpus = Array.from({ length: gpus }, (_, i) => {
      const place = gpus > 1 ? i / (gpus - 1) : 0;
      return new SimulatedGpu(profile, place, inlet, new Prng(seed, name, 'physics', i));
    });
  }

  advance(seconds: number): void {
    if (seconds <= 0) return;
    const steps = Math.min(MAX_STEPS, Math.ceil(seconds / this.#stepSeconds));
    const step = seconds / steps;
    if (step !== this.#response.seconds) this.#response = responseOf(step);
    for (let i = 0; i < steps; i++) {
      this.#now += step;
      this.workload.advance(step);
      const inlet = this.#inlet();
      // Of the step before: what is slow now is waited for in the next one.
      const slowest = this.#slowest();
      for (const gpu of this.gpus) gpu.step(this.workload, inlet, slowest, this.#response);
      this.training.advance(step, this.workload, slowest);
    }
  }

  /** Of the fan before a GPU, 0 to 1. They all follow the hottest core; one that stands still, the others make up for. */
  fanRatio(index: number): number {
    if (this.gpus[index]!.conditions.fanStopped) return 0;
    let hottest = 0;
    for (const { coreCelsius, conditions } of this.gpus) {
      if (conditions.fanStopped) return 1;
      hottest = Math.max(hottest, coreCelsius);
    }
    return Math.min(1, Math.max(FAN_IDLE, FAN_IDLE + FAN_PER_CELSIUS * (hottest - FAN_FROM_CELSIUS)));
  }

  #slowest(): number {
    let slowest = 1;
    for (const { pace } of this.gpus) if (pace < slowest) slowest = pace;
    return slowest;
  }

  /** The hall is 1.5 °C warmer in the afternoon than on average. */
  #inlet(): number {
    return this.#inletCelsius + 1.5 * Math.sin((2 * Math.PI * this.#now) / DAY_SECONDS + this.#dayPhase);
  }
}
