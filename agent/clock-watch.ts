import type { Clock } from '#shared/model/clock.ts';

/** Slewing, as NTP does it, moves a clock by 0.5 ms a second at most (adjtime(3)): this is no slewing. */
export const LEAST_STEP_MS = 100;

/** Sees the wall clock step, by comparing it with one that does not. */
export class ClockWatch {
  readonly #clock: Clock;
  #offset: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#offset = clock.now() - clock.monotonic();
  }

  /** Milliseconds by which the wall clock stepped since the last look, forwards or back; 0 where it did not. */
  look(): number {
    const offset = this.#clock.now() - this.#clock.monotonic();
    const stepMs = Math.round(offset - this.#offset);
    this.#offset = offset;
    return Math.abs(stepMs) >= LEAST_STEP_MS ? stepMs : 0;
  }
}
