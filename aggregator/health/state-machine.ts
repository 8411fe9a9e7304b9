import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import {
  CRITICAL_AFTER_MS,
  CRITICAL_BELOW,
  CRITICAL_CAP,
  DEGRADED_AFTER_MS,
  DEGRADED_BELOW,
  FLAP_WINDOW_MS,
  HEALTHY_AFTER_MS,
  HEALTHY_FROM,
  KNOWN_AFTER_MS,
  LEAST_CONFIDENCE,
  LONGEST_STEP_MS,
  MAX_CHANGES,
  PIN_MS,
  RECOVERED_AFTER_MS,
  RECOVERED_FROM,
  STALE_CRITICAL_MS,
  WARNING_CAP,
} from './states/state-limits.ts';
import type { Transition } from './states/transition.ts';
import {
  type Circumstances,
  CLEARED,
  type ClearingCause,
  causeOf,
  causeOfClearing,
  STATE_WORDS,
  whyOf,
  whyRecovered,
} from './states/transition-words.ts';

export type { ClearingCause } from './states/transition-words.ts';

const { UNSPECIFIED, HEALTHY, DEGRADED, CRITICAL, UNKNOWN, FLAPPING } = HealthState;

export interface StateInput {
  /** 0 to 100. */
  readonly score: number;
  /** Lowest hard cap that holds now. */
  readonly cap: number | undefined;
  /** What it stands on, for people. */
  readonly capReason?: string;
  /** Share of the signals that is known, 0 to 1. */
  readonly confidence: number;
  /** Below this confidence nothing can be said; that of the machine where it is not given. */
  readonly leastConfidence?: number;
  /** The newest sample is at most three intervals old. */
  readonly fresh: boolean;
}

export interface StateMachineOptions {
  /** Below this confidence nothing can be said; 0.6 by default. */
  readonly leastConfidence?: number;
}

/** What of a machine survives a restart: JSON. Times in Unix milliseconds, waits in milliseconds that have passed. */
export interface MachineSnapshot {
  readonly state: HealthState;
  readonly belowDegraded?: number;
  readonly belowCritical?: number;
  readonly better?: number;
  readonly staleSinceMs?: number;
  readonly pinnedUntilMs?: number;
  readonly changesMs?: readonly number[];
  readonly owesClearing?: true;
  readonly clearing?: { readonly cause: ClearingCause; readonly by: string };
}

/**
 * *healthy*: nothing to do. *degraded*: look at it when there is time. *critical*: drain it. *unknown*: too little is
 * known to say. Worse comes after seconds, better after minutes to hours; the first good score decides at once.
 *
 * - A hard cap of 30 or less is critical at once, also for a silent GPU; it stays so until a clearing event, and
 *   silence does not pay that debt. A reset with a passed check and an operator's word also lift the wait of two
 *   hours: they are the evidence that the wait is there to gather. A repair alone does not: repaired parts fail again
 *   soonest. In any case the score must be 60 or more.
 * - A driver that was loaded again, with all GPUs of its node gone and back, clears as a passed check does; their going and
 *   coming is no change that counts: two updates in a day are no flapping.
 * - More than four changes within a day pin the worse state for a day: worse still gets through, better does not. A
 *   repair or an operator ends that; a passed check or a reload does not, as passing checks in between is what flapping is.
 *
 * Times are by the wall clock (Unix milliseconds), so that they survive a restart. A clock set back loses no wait and
 * gives none; a gap or a clock set forward counts as one minute at most. About 200 bytes; a step without a change
 * allocates nothing.
 */
export class HealthStateMachine {
  readonly #leastConfidence: number;
  #state: HealthState = UNSPECIFIED;
  /** Score of the newest step in tenths, rounded down: a small integer takes no memory of its own. -1: not good. */
  #tenths = -1;
  #lastMs = Number.NaN;
  /** For how long each condition has held without a break, in milliseconds; -1 while it does not. */
  #belowDegraded = -1;
  #belowCritical = -1;
  /** What leads out of the present state to a better one. */
  #better = -1;
  #staleSinceMs = Number.NaN;
  #pinnedUntilMs = Number.NaN;
  /** The newest changes, oldest first. */
  #changesMs: number[] | undefined;
  #owesClearing = false;
  #clearing: MachineSnapshot['clearing'];

  constructor(options: StateMachineOptions = {}) {
    this.#leastConfidence = options.leastConfidence ?? LEAST_CONFIDENCE;
  }

  /** UNSPECIFIED before the first good score or critical cap; never FLAPPING. */
  get state(): HealthState {
    return this.#state;
  }

  /** Changed too often: held in its state. */
  get flapping(): boolean {
    return !Number.isNaN(this.#pinnedUntilMs);
  }

  /** For lists: FLAPPING while it is held, but critical is critical, and UNKNOWN before the first state. */
  get shown(): HealthState {
    if (this.#state === UNSPECIFIED) return UNKNOWN;
    return this.flapping && this.#state !== CRITICAL ? FLAPPING : this.#state;
  }

  /** Critical from before it fell silent. */
  get stale(): boolean {
    return this.#state === CRITICAL && !Number.isNaN(this.#staleSinceMs);
  }

  /** Critical by a hard cap, and waits for a clearing event. */
  get owesClearing(): boolean {
    return this.#owesClearing;
  }

  /** Takes one evaluation, at any interval up to a minute. Undefined while nothing changes. */
  step(input: StateInput, nowMs: number): Transition | undefined {
    const cap = input.cap ?? 100;
    const score = Math.min(input.score, cap);
    const least = input.leastConfidence ?? this.#leastConfidence;
    const good = input.fresh && input.confidence >= least && !Number.isNaN(score);
    this.#tenths = good ? Math.max(0, Math.floor(score * 10)) : -1;
    this.#count(nowMs);
    // What a hard cap says of a silent GPU is said.
    const said = good || cap <= CRITICAL_CAP ? score : Number.NaN;
    const unpinned = nowMs >= this.#pinnedUntilMs;
    if (unpinned) this.#pinnedUntilMs = Number.NaN;
    const next = this.#next(cap, nowMs);
    const held = this.flapping && rank(next) < rank(this.#state);
    if (next !== this.#state && !held) {
      const its = this.#circumstances(next, score, cap, input);
      return this.#change(next, { cause: causeOf(its), why: whyOf(its), score: said, atMs: nowMs });
    }
    if (!unpinned) return undefined;
    const why = 'a day has passed since it changed too often';
    return this.#flag({ cause: 'flap', why, score: said, atMs: nowMs, by: '' });
  }

  /**
   * A clearing event. The state may change at once where the newest score allows it, or with the next step: the
   * caller takes away what the cap stood on first. A cap of 30 or less that still holds then takes the event back.
   */
  clear(cause: ClearingCause, nowMs: number, by: string): Transition | undefined {
    const ends = cause === 'repair' || cause === 'operator';
    const unpinned = ends && this.flapping;
    if (cause === 'reload') this.#changesMs?.pop();
    if (ends) {
      this.#pinnedUntilMs = Number.NaN;
      this.#changesMs = undefined;
    }
    this.#owesClearing = false;
    const score = this.#tenths < 0 ? Number.NaN : this.#tenths / 10;
    const said = { cause: causeOfClearing(cause), score, atMs: nowMs };
    if (this.#state === CRITICAL) {
      this.#clearing = { cause, by };
      if (this.#isRecovered() && !this.flapping) {
        const change = this.#change(DEGRADED, {
          ...said,
          why: whyRecovered({ score, wasGood: this.#wasGood, clearing: cause }),
        });
        // The wait begins with the next evaluation: the newest one was before this moment.
        this.#better = -1;
        return change;
      }
    }
    return unpinned ? this.#flag({ ...said, why: `${CLEARED[cause]}: it is no longer held`, by }) : undefined;
  }

  snapshot(): MachineSnapshot {
    return {
      state: this.#state,
      ...(this.#belowDegraded >= 0 && { belowDegraded: Math.round(this.#belowDegraded) }),
      ...(this.#belowCritical >= 0 && { belowCritical: Math.round(this.#belowCritical) }),
      ...(this.#better >= 0 && { better: Math.round(this.#better) }),
      ...(!Number.isNaN(this.#staleSinceMs) && { staleSinceMs: Math.round(this.#staleSinceMs) }),
      ...(this.flapping && { pinnedUntilMs: Math.round(this.#pinnedUntilMs) }),
      ...(this.#changesMs !== undefined && { changesMs: this.#changesMs.map(Math.round) }),
      ...(this.#owesClearing && { owesClearing: true as const }),
      ...(this.#clearing !== undefined && { clearing: this.#clearing }),
    };
  }

  /** Goes on from a snapshot: the time in between counts for no wait. */
  restore(snapshot: MachineSnapshot): void {
    this.#state = snapshot.state;
    this.#tenths = -1;
    this.#lastMs = Number.NaN;
    this.#belowDegraded = snapshot.belowDegraded ?? -1;
    this.#belowCritical = snapshot.belowCritical ?? -1;
    this.#better = snapshot.better ?? -1;
    this.#staleSinceMs = snapshot.staleSinceMs ?? Number.NaN;
    this.#pinnedUntilMs = snapshot.pinnedUntilMs ?? Number.NaN;
    this.#changesMs = snapshot.changesMs && [...snapshot.changesMs];
    this.#owesClearing = snapshot.owesClearing ?? false;
    this.#clearing = snapshot.clearing;
  }

  /** Brings every wait up to this moment; a step that is not good breaks them. */
  #count(nowMs: number): void {
    const passed = this.#passed(nowMs);
    this.#lastMs = nowMs;
    const belowDegraded = this.#state === HEALTHY && this.#isBelow(DEGRADED_BELOW);
    this.#belowDegraded = run(this.#belowDegraded, belowDegraded, passed, DEGRADED_AFTER_MS);
    this.#belowCritical = run(this.#belowCritical, this.#isBelow(CRITICAL_BELOW), passed, CRITICAL_AFTER_MS);
    this.#better = run(this.#better, this.#leadsOut(), passed, RECOVERED_AFTER_MS);
    if (this.#isFrom(0)) this.#staleSinceMs = Number.NaN;
    else if (Number.isNaN(this.#staleSinceMs)) this.#staleSinceMs = nowMs;
  }

  #isBelow(points: number): boolean {
    return this.#tenths >= 0 && this.#tenths < points * 10;
  }

  #isFrom(points: number): boolean {
    return this.#tenths >= points * 10;
  }

  /** Whether the score leads out of the state to a better one, once it has done so for long enough. */
  #leadsOut(): boolean {
    switch (this.#state) {
      case UNKNOWN:
        return this.#isFrom(0);
      case CRITICAL:
        return this.#isFrom(RECOVERED_FROM);
      case DEGRADED:
        return this.#isFrom(HEALTHY_FROM);
      default:
        return false;
    }
  }

  /** What the score says by itself. */
  #stateOfScore(cap: number): HealthState {
    if (this.#isBelow(CRITICAL_BELOW)) return CRITICAL;
    return this.#isBelow(DEGRADED_BELOW) || cap <= WARNING_CAP ? DEGRADED : HEALTHY;
  }

  /** Milliseconds since the newest step, as far as they count. */
  #passed(nowMs: number): number {
    const ms = nowMs - this.#lastMs;
    if (ms < 0) this.#shift(ms);
    return ms > 0 ? Math.min(ms, LONGEST_STEP_MS) : 0;
  }

  /** The clock was set back: what lies in the past stays as far in the past. */
  #shift(byMs: number): void {
    this.#staleSinceMs += byMs;
    this.#pinnedUntilMs += byMs;
    if (this.#changesMs) for (let i = 0; i < this.#changesMs.length; i++) this.#changesMs[i]! += byMs;
  }

  #next(cap: number, nowMs: number): HealthState {
    if (cap <= CRITICAL_CAP) {
      this.#owesClearing = true;
      this.#clearing = undefined;
      return CRITICAL;
    }
    if (this.#wasLow) {
      this.#clearing = undefined;
      return CRITICAL;
    }
    if (!this.#isFrom(0)) {
      if (this.#state === UNSPECIFIED) return UNSPECIFIED;
      const holds = this.#state === CRITICAL && nowMs - this.#staleSinceMs < STALE_CRITICAL_MS;
      return holds ? CRITICAL : UNKNOWN;
    }
    switch (this.#state) {
      case UNSPECIFIED:
        return this.#stateOfScore(cap);
      case UNKNOWN:
        if (this.#better < KNOWN_AFTER_MS) return UNKNOWN;
        return this.#owesClearing ? CRITICAL : this.#stateOfScore(cap);
      case CRITICAL:
        return this.#isRecovered() ? DEGRADED : CRITICAL;
      case DEGRADED:
        return this.#better >= HEALTHY_AFTER_MS ? HEALTHY : DEGRADED;
      default:
        return cap <= WARNING_CAP || this.#belowDegraded >= DEGRADED_AFTER_MS ? DEGRADED : this.#state;
    }
  }

  #isRecovered(): boolean {
    if (this.#owesClearing || !this.#isFrom(RECOVERED_FROM)) return false;
    const lifted = this.#clearing !== undefined && this.#clearing.cause !== 'repair';
    return lifted || this.#wasGood;
  }

  get #wasGood(): boolean {
    return this.#better >= RECOVERED_AFTER_MS;
  }

  get #wasLow(): boolean {
    return this.#belowCritical >= CRITICAL_AFTER_MS;
  }

  #circumstances(next: HealthState, score: number, cap: number, input: StateInput): Circumstances {
    const { fresh, confidence, capReason = '', leastConfidence = this.#leastConfidence } = input;
    return {
      ...{ from: this.#state, next, score, cap, fresh, confidence, leastConfidence },
      ...{ wasLow: this.#wasLow, wasGood: this.#wasGood, capReason },
      ...{ owesClearing: this.#owesClearing, clearing: this.#clearing?.cause },
    };
  }

  #change(next: HealthState, said: Pick<Transition, 'cause' | 'why' | 'score' | 'atMs'>): Transition {
    const from = this.#state;
    const by = from === CRITICAL && next === DEGRADED ? (this.#clearing?.by ?? '') : '';
    const counts = from !== UNSPECIFIED && !(from === CRITICAL && this.#clearing?.cause === 'reload');
    const flaps = counts && this.#noteChange(said.atMs);
    if (!flaps) {
      this.#enter(next);
      return { from, to: next, flapping: this.flapping, ...said, by };
    }
    this.#pinnedUntilMs = said.atMs + PIN_MS;
    const to = rank(next) > rank(from) ? next : from;
    if (to !== from) this.#enter(to);
    const why = `more than ${MAX_CHANGES} changes in 24 h: held ${STATE_WORDS[to]} for 24 h; the last: ${said.why}`;
    return { from, to, flapping: true, ...said, cause: 'flap', why, by };
  }

  #enter(state: HealthState): void {
    this.#state = state;
    this.#belowDegraded = -1;
    this.#better = this.#leadsOut() ? 0 : -1;
    if (state !== CRITICAL) this.#clearing = undefined;
  }

  /** True where it was one too many. */
  #noteChange(nowMs: number): boolean {
    this.#changesMs ??= [];
    const oldest =
      this.#changesMs.length === MAX_CHANGES ? this.#changesMs.shift()! : Number.NEGATIVE_INFINITY;
    this.#changesMs.push(nowMs);
    return !this.flapping && nowMs - oldest <= FLAP_WINDOW_MS;
  }

  /** Only the flag changed. */
  #flag(said: Pick<Transition, 'cause' | 'why' | 'score' | 'atMs' | 'by'>): Transition {
    return { from: this.#state, to: this.#state, flapping: false, ...said };
  }
}

/** How bad a state is, for the flap guard: not knowing is worse than healthy and better than a known fault. */
function rank(state: HealthState): number {
  switch (state) {
    case CRITICAL:
      return 3;
    case DEGRADED:
      return 2;
    case UNKNOWN:
      return 1;
    default:
      return 0;
  }
}

/** For how long something has held, or -1. Saturates, so that a state at rest is always the same snapshot. */
function run(before: number, holds: boolean, passed: number, most: number): number {
  if (!holds) return -1;
  return before < 0 ? 0 : Math.min(before + passed, most);
}
