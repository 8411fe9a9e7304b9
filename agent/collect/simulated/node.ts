import { type Response, responseOf, SimulatedGpu } from './gpu.ts';
import { Prng } from './prng.ts';
import type { GpuProfile } from './profiles.ts';
import { Workload } from './workload.ts';

/** The physics move in steps of at most this, so that a checkpoint of seconds is felt at any interval ... */
const STEP_SECONDS = 1;
/** ... but in no more steps than these: a long pause is walked in longer ones, which the responses allow. */
const MAX_STEPS = 600;
const DAY_SECONDS = 86_400;

/** The boards of one chassis: one job, one stream of air. */
export class SimulatedNode {
  readonly gpus: readonly SimulatedGpu[];
  readonly workload: Workload;
  /** Seconds simulated. */
  #now = 0;
  readonly #inletCelsius: number;
  readonly #dayPhase: number;
  #response: Response = responseOf(STEP_SECONDS);

  constructor(profile: GpuProfile, gpus: number, seed: number, name: string) {
    const random = new Prng(seed, name, 'chassis');
    this.#inletCelsius = random.between(22.5, 25);
    this.#dayPhase = random.between(0, 2 * Math.PI);
    this.workload = new Workload(new Prng(seed, name, 'workload'));
    const inlet = this.#inlet();
    this.gpus = Array.from({ length: gpus }, (_, i) => {
      const place = gpus > 1 ? i / (gpus - 1) : 0;
      return new SimulatedGpu(profile, place, inlet, new Prng(seed, name, 'physics', i));
    });
  }

  advance(seconds: number): void {
    if (seconds <= 0) return;
    const steps = Math.min(MAX_STEPS, Math.ceil(seconds / STEP_SECONDS));
    const step = seconds / steps;
    if (step !== this.#response.seconds) this.#response = responseOf(step);
    for (let i = 0; i < steps; i++) {
      this.#now += step;
      this.workload.advance(step);
      const inlet = this.#inlet();
      for (const gpu of this.gpus) gpu.step(this.workload, inlet, this.#response);
    }
  }

  /** The hall is 1.5 °C warmer in the afternoon than on average. */
  #inlet(): number {
    return this.#inletCelsius + 1.5 * Math.sin((2 * Math.PI * this.#now) / DAY_SECONDS + this.#dayPhase);
  }
}
