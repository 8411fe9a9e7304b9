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
import type { Vendor } from './profiles.ts';

/** Faults of one node, waiting and active together: more are refused. As many as a configuration may script. */
export const MAX_FAULTS = 1000;

export interface FaultScheduleOptions {
  readonly gpus: number;
  /** Of the boards: not every fault is one of both. */
  readonly vendor: Vendor;
  readonly script: readonly ScriptedFault[];
  /** Faults that come by chance, for each GPU and hour. */
  readonly ratePerGpuHour: number;
  readonly random: Prng;
}

interface Due {
  /** AT_ONCE, or seconds since the first read. */
  readonly at: number;
  readonly kind: string;
  readonly gpu: number;
  readonly effect: FaultEffect;
  readonly seconds: number;
}

interface Active {
  readonly fault: Due;
  readonly beganAt: number;
  readonly endsAt: number;
  /** Of one that flaps: it is there now. */
  on: boolean;
  readonly applied: AppliedFault;
}

/** A fault that began, or came again, for its events. */
export interface Onset {
  readonly gpu: number;
  readonly effect: FaultEffect;
  readonly xid: number | undefined;
}

/** A fault as it came to pass: what a log of what was reported is compared with. */
export interface AppliedFault {
  readonly kind: string;
  readonly gpu: number;
  readonly xid: number | undefined;
  /** Seconds after the first read: of the read that it began with, and of the first one without it. */
  readonly began: number;
  ended: number | undefined;
}

/** Of an injected fault: its duration counts from the read that it begins with. */
const AT_ONCE = -Infinity;
/** Far above the highest Xid of today's drivers, 173; as many as a configuration may name. */
const MAX_XID = 1000;
const NOTHING: readonly Onset[] = [];

/** Which faults each GPU has now: from the script, from `inject`, and by chance. Time is seconds since the first read. */
export class FaultSchedule {
  readonly #options: FaultScheduleOptions;
  readonly #conditions: Conditions[];
  readonly #chances: readonly [FaultKind, FaultEffect & { byChanceSeconds: number }][];
  /** Sorted by time. */
  readonly #due: Due[];
  #active: Active[] = [];
  readonly #applied: AppliedFault[] = [];
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
    this.#chances = chancesOf(options.vendor);
    this.#due = options.script.map((fault) => this.#check(fault, fault.at, 'invalid_config')).sort(byTime);
    this.#nextByChance = this.#drawNext(0);
  }

  conditionsOf(gpu: number): Conditions {
    return this.#conditions[gpu]!;
  }

  /** What began so far, the newest MAX_FAULTS, in order. */
  get applied(): readonly AppliedFault[] {
    return this.#applied;
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
    const ended = this.#end(now);
    const again = this.#flap(now);
    const begun = this.#takeDue(now).map((fault) => this.#begin(fault, now));
    if (!ended && again === undefined && begun.length === 0) return NOTHING;
    for (let gpu = 0; gpu < this.#conditions.length; gpu++) this.#conditions[gpu] = this.#combined(gpu);
    return [...(again ?? []), ...begun].map(({ fault: { gpu, effect } }) => ({
      gpu,
      effect,
      xid: effect.xid,
    }));
  }

  #combined(gpu: number): Conditions {
    const there = this.#active.filter(({ on }) => on);
    return combine(
      there.map(({ fault }) =>
        fault.gpu === gpu ? fault.effect.conditions : (fault.effect.elsewhere ?? {}),
      ),
    );
  }

  #end(now: number): boolean {
    const before = this.#active.length;
    if (before === 0) return false;
    for (const { endsAt, applied } of this.#active) if (endsAt <= now) applied.ended = now;
    this.#active = this.#active.filter(({ endsAt }) => endsAt > now);
    return this.#active.length !== before;
  }

  /** Those that came again; undefined where nothing came or went. */
  #flap(now: number): Active[] | undefined {
    let came: Active[] | undefined;
    for (const one of this.#active) {
      const { flapSeconds } = one.fault.effect;
      if (flapSeconds === undefined) continue;
      const on = Math.floor((now - one.beganAt) / flapSeconds) % 2 === 0;
      if (on === one.on) continue;
      one.on = on;
      came ??= [];
      if (on) came.push(one);
    }
    return came;
  }

  #begin(fault: Due, now: number): Active {
    const { kind, gpu, effect, at, seconds } = fault;
    const beganAt = at === AT_ONCE ? now : at;
    const applied: AppliedFault = { kind, gpu, xid: effect.xid, began: now, ended: undefined };
    this.#applied.push(applied);
    if (this.#applied.length > MAX_FAULTS) this.#applied.shift();
    const active = { fault, beganAt, endsAt: beganAt + seconds, on: true, applied };
    this.#active.push(active);
    return active;
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
    const [kind, effect] = this.#chances[random.below(this.#chances.length)]!;
    return { at, kind, gpu: random.below(gpus), effect, seconds: effect.byChanceSeconds };
  }

  #drawNext(after: number): number {
    const { ratePerGpuHour, gpus, random } = this.#options;
    return ratePerGpuHour > 0 ? after + random.exponential(3600 / (ratePerGpuHour * gpus)) : Infinity;
  }

  #check(fault: InjectedFault, at: number, code: 'invalid_config' | 'invalid_input'): Due {
    const { kind, duration } = fault;
    const known = effectOf(kind);
    const gpu = fault.gpu ?? (known?.elsewhere ? 0 : Number.NaN);
    const cause = this.#faultOf(fault, known, gpu, at);
    if (!known || cause !== undefined) {
      throw new FleetError(
        code,
        `Cannot inject fault "${kind.slice(0, 100)}" into GPU ${fault.gpu ?? '(none)'}: ${cause}`,
      );
    }
    const effect = fault.code === undefined ? known : { ...known, xid: fault.code };
    return { at, kind, gpu, effect, seconds: duration === undefined ? lastsOf(effect) : duration / 1000 };
  }

  /** Why it cannot be. */
  #faultOf(
    { duration, code }: InjectedFault,
    effect: FaultEffect | undefined,
    gpu: number,
    at: number,
  ): string | undefined {
    const { gpus, vendor } = this.#options;
    if (!effect) return `the kinds are ${Object.keys(FAULTS).join(', ')}`;
    if (effect.vendor !== undefined && effect.vendor !== vendor) return `boards of ${vendor} do not have it`;
    if (!Number.isInteger(gpu) || gpu < 0 || gpu >= gpus) return `the node has GPUs 0 to ${gpus - 1}`;
    if (!(at === AT_ONCE || (at >= 0 && at < Infinity))) return `it begins ${at} s after the start`;
    if (duration !== undefined && !(duration > 0)) return `it lasts ${duration} ms`;
    if (code !== undefined && !(Number.isInteger(code) && code > 0 && code <= MAX_XID)) {
      return `${code} is not an Xid`;
    }
    return undefined;
  }
}

/** One that changes nothing is over with the read that it begins with. */
function lastsOf({ seconds, conditions }: FaultEffect): number {
  return seconds ?? (Object.keys(conditions).length > 0 ? Infinity : 0);
}

function chancesOf(vendor: Vendor): [FaultKind, FaultEffect & { byChanceSeconds: number }][] {
  return (Object.entries(FAULTS) as [FaultKind, FaultEffect][]).filter(
    (entry): entry is [FaultKind, FaultEffect & { byChanceSeconds: number }] =>
      entry[1].byChanceSeconds !== undefined && (entry[1].vendor ?? vendor) === vendor,
  );
}

function byTime(a: Due, b: Due): number {
  return a.at - b.at;
}
