import type { Clock } from '#shared/model/clock.ts';

/** Resolution of /proc/uptime, and slack for what is logged while it is read. */
const SLACK_MS = 20;

/**
 * Turns the kernel's stamps (microseconds since boot, by a clock of its own that nobody disciplines) into wall time.
 *
 * The wall clock is asked at each use, so that a step of it is followed at once. The kernel's clock drifts from the
 * system's by seconds a day, and stops while the machine sleeps: a line that came between two looks must have been
 * logged between them, and what contradicts that is drift.
 */
export class KernelClock {
  readonly #clock: Clock;
  readonly #bootedAt: number;
  /** Added to a stamp, ms. */
  driftMs: number;
  #drainedAt: number | undefined;

  /** `uptimeMs`: since boot, now. */
  constructor(clock: Clock, uptimeMs: number, driftMs = 0) {
    this.#clock = clock;
    this.#bootedAt = clock.monotonic() - uptimeMs;
    this.driftMs = driftMs;
  }

  /** Milliseconds since boot. */
  now(): number {
    return this.#clock.monotonic() - this.#bootedAt;
  }

  /** Milliseconds since boot at which a line with this stamp was logged. */
  bootMs(usec: number): number {
    return usec / 1000 + this.driftMs;
  }

  /** Unix ms; never after now. */
  wallMs(usec: number): number {
    return this.#clock.now() - Math.max(0, this.now() - this.bootMs(usec));
  }

  /** A line with this stamp was just read. */
  saw(usec: number): void {
    const at = this.bootMs(usec);
    const latest = this.now() + SLACK_MS;
    const earliest = (this.#drainedAt ?? Number.NEGATIVE_INFINITY) - SLACK_MS;
    if (at > latest) this.driftMs += latest - at;
    else if (at < earliest) this.driftMs += earliest - at;
  }

  /** Everything that was there has been read; what is read from now on is new. */
  drained(): void {
    this.#drainedAt = this.now();
  }

  /** Lines are waiting: what is read next may be older than this look. */
  behind(): void {
    this.#drainedAt = undefined;
  }
}
