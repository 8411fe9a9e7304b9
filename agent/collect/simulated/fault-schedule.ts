import { FleetError } from '#shared/errors/fleet-error.ts';
import {
  type Conditions,
  combine,
  effectOf,
  FAULTS,
  type FaultEffect,
  type FaultKind,
  type InjectedFault,
  type ScriptedFault,
} from './faults.ts';
import type { Prng } from './prng.ts';

/** Faults of one node, waiting and active together: more are refused. As many as a configuration may script. */
export const MAX_FAULTS = 1000;

export interface FaultScheduleOptions {
  readonly gpus: number;
  readonly script: readonly ScriptedFault[];
  /** Faults that come by chance, for each GPU and hour. */
  readonly ratePerGpuHour: number;
  readonly random: Prng;
}

interface Due {
  /** AT_ONCE, or seconds since the first read. */
  readonly at: number;
  readonly gpu: number;
  readonly effect: FaultEffect;
  readonly seconds: number;
}

interface Active {
  readonly gpu: number;
  readonly effect: FaultEffect;
  readonly endsAt: number;
}

/** A fault that began, for its events. */
export interface Onset {
  readonly gpu: number;
  readonly xid: number | undefined;
}

const BY_CHANCE = Object.entries(FAULTS as Record<FaultKind, FaultEffect>).filter(
  ([, effect]) => effect.byChanceSeconds !== undefined,
) as [FaultKind, FaultEffect & { byChanceSeconds: number }][];

/** Of an injected fault: its duration counts from the read that it begins with. */
const AT_ONCE = -Infinity;
/** Far above the highest Xid of today's drivers, 173; as many as a configuration may name. */
const MAX_XID = 1000;
const NOTHING: readonly Onset[] = [];

/** Which faults each GPU has now: from the script, from `inject`, and by chance. Time is seconds since the first read. */
export class FaultSchedule {
  readonly #options: FaultScheduleOptions;
  readonly #conditions: Conditions[];
  /** Sorted by time. */
  readonly #due: Due[];
  #active: Active[] = [];
  #nextByChance: number;

  /** Throws `invalid_config` where a scripted fault is not one. */
  constructor(options: FaultScheduleOptions) {
    this.#options = options;
    this.#conditions = Array.from({ length: options.gpus }, () => combine([]));
    if (options.script.length > MAX_FAULTS) {
      throw new FleetError(
        'invalid_config',
        `Cannot script ${options.script.length} faults: at most ${MAX_FAULTS} are allowed`,
      );
    }
    this.#due = options.script.map((fault) => this.#check(fault, fault.at, 'invalid_config')).sort(byTime);
    this.#nextByChance = this.#drawNext(0);
  }

  conditionsOf(gpu: number): Conditions {
    return this.#conditions[gpu]!;
  }

  /**
   * Begins a fault at the next `advance`. Throws `invalid_input` for a kind or GPU that does not exist, and
   * `resource_exhausted` over MAX_FAULTS.
   */
  inject(fault: InjectedFault): void {
    const due = this.#check(fault, AT_ONCE, 'invalid_input');
    if (this.#due.length + this.#active.length >= MAX_FAULTS) {
      throw new FleetError(
        'resource_exhausted',
        `Cannot inject "${fault.kind}": ${MAX_FAULTS} faults are waiting or active`,
      );
    }
    this.#due.push(due);
    this.#due.sort(byTime);
  }

  /**
   * Ends what is over and begins what is due, in this order: a fault that begins lasts at least until the next
   * call, so that no fault is too short to be read.
   */
  advance(now: number): readonly Onset[] {
    const before = this.#active.length;
    this.#active = before === 0 ? this.#active : this.#active.filter(({ endsAt }) => endsAt > now);
    const ended = this.#active.length !== before;
    const begun = this.#takeDue(now);
    if (!ended && begun.length === 0) return NOTHING;
    for (const { gpu, effect, at, seconds } of begun)
      this.#active.push({ gpu, effect, endsAt: (at === AT_ONCE ? now : at) + seconds });
    for (let gpu = 0; gpu < this.#conditions.length; gpu++) {
      this.#conditions[gpu] = combine(
        this.#active.filter((one) => one.gpu === gpu).map(({ effect }) => effect),
      );
    }
    return begun.map(({ gpu, effect }) => ({ gpu, xid: effect.xid }));
  }

  #takeDue(now: number): Due[] {
    const begun: Due[] = [];
    while (this.#due.length > 0 && this.#due[0]!.at <= now) begun.push(this.#due.shift()!);
    while (this.#nextByChance <= now) {
      const one = this.#drawFault(this.#nextByChance);
      if (this.#active.length + begun.length < MAX_FAULTS) begun.push(one);
      this.#nextByChance = this.#drawNext(this.#nextByChance);
    }
    return begun;
  }

  #drawFault(at: number): Due {
    const { random, gpus } = this.#options;
    const effect = BY_CHANCE[random.below(BY_CHANCE.length)]![1];
    return { at, gpu: random.below(gpus), effect, seconds: effect.byChanceSeconds };
  }

  #drawNext(after: number): number {
    const { ratePerGpuHour, gpus, random } = this.#options;
    return ratePerGpuHour > 0 ? after + random.exponential(3600 / (ratePerGpuHour * gpus)) : Infinity;
  }

  #check(fault: InjectedFault, at: number, code: 'invalid_config' | 'invalid_input'): Due {
    const known = effectOf(fault.kind);
    const fail = (cause: string): never => {
      throw new FleetError(
        code,
        `Cannot inject fault "${fault.kind.slice(0, 100)}" into GPU ${fault.gpu}: ${cause}`,
      );
    };
    if (!known) return fail(`the kinds are ${Object.keys(FAULTS).join(', ')}`);
    if (!Number.isInteger(fault.gpu) || fault.gpu < 0 || fault.gpu >= this.#options.gpus) {
      return fail(`the node has GPUs 0 to ${this.#options.gpus - 1}`);
    }
    if (!(at === AT_ONCE || (at >= 0 && at < Infinity))) return fail(`it begins ${at} s after the start`);
    if (fault.duration !== undefined && !(fault.duration > 0)) return fail(`it lasts ${fault.duration} ms`);
    if (
      fault.code !== undefined &&
      !(Number.isInteger(fault.code) && fault.code > 0 && fault.code <= MAX_XID)
    ) {
      return fail(`${fault.code} is not an Xid`);
    }
    const effect = fault.code === undefined ? known : { ...known, xid: fault.code };
    return { at, gpu: fault.gpu, effect, seconds: (fault.duration ?? Infinity) / 1000 };
  }
}

function byTime(a: Due, b: Due): number {
  return a.at - b.at;
}
