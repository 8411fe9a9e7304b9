import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';

/** Below this for so long: degraded. Three evaluations of 30 s. */
const DEGRADED_BELOW = 80;
const DEGRADED_AFTER_MS = 90_000;
/** Healthy again only well above, and for half an hour: a score around 80 must not chatter. */
const HEALTHY_FROM = 88;
const HEALTHY_AFTER_MS = 30 * 60_000;
/** Below this for a minute: critical. At or below the second at once: only a hard cap takes a score there so fast. */
const CRITICAL_BELOW = 50;
const CRITICAL_AFTER_MS = 60_000;
const CRITICAL_AT_ONCE = 30;
const RECOVERED_FROM = 60;
const RECOVERED_AFTER_MS = 2 * 3_600_000;

/**
 * *healthy*: nothing to do. *degraded*: look at it when there is time. *critical*: drain it. Worse comes after seconds,
 * better after minutes to hours; the first score decides at once. Times are by any one clock that does not step back.
 */
export class HealthStateMachine {
  #state: HealthState = HealthState.UNSPECIFIED;
  #belowDegraded = Number.NaN;
  #belowCritical = Number.NaN;
  #aboveHealthy = Number.NaN;
  #aboveRecovered = Number.NaN;

  /** UNSPECIFIED before the first score. */
  get state(): HealthState {
    return this.#state;
  }

  step(score: number, nowMs: number): void {
    this.#belowDegraded = since(this.#belowDegraded, score < DEGRADED_BELOW, nowMs);
    this.#belowCritical = since(this.#belowCritical, score < CRITICAL_BELOW, nowMs);
    this.#aboveHealthy = since(this.#aboveHealthy, score >= HEALTHY_FROM, nowMs);
    this.#aboveRecovered = since(this.#aboveRecovered, score >= RECOVERED_FROM, nowMs);
    this.#state = this.#next(score, nowMs);
  }

  #next(score: number, nowMs: number): HealthState {
    if (score <= CRITICAL_AT_ONCE || nowMs - this.#belowCritical >= CRITICAL_AFTER_MS)
      return HealthState.CRITICAL;
    switch (this.#state) {
      case HealthState.UNSPECIFIED:
        if (score < CRITICAL_BELOW) return HealthState.CRITICAL;
        return score < DEGRADED_BELOW ? HealthState.DEGRADED : HealthState.HEALTHY;
      case HealthState.CRITICAL:
        return nowMs - this.#aboveRecovered >= RECOVERED_AFTER_MS
          ? HealthState.DEGRADED
          : HealthState.CRITICAL;
      case HealthState.DEGRADED:
        return nowMs - this.#aboveHealthy >= HEALTHY_AFTER_MS ? HealthState.HEALTHY : HealthState.DEGRADED;
      default:
        return nowMs - this.#belowDegraded >= DEGRADED_AFTER_MS ? HealthState.DEGRADED : this.#state;
    }
  }
}

/** When a condition began to hold, or NaN while it does not: every comparison with NaN is false. */
function since(before: number, holds: boolean, nowMs: number): number {
  if (!holds) return Number.NaN;
  return Number.isNaN(before) ? nowMs : before;
}
