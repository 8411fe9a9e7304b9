import type { HealthDimension } from '#proto/gpufleet/health/v1/health_pb.ts';
import type { XidSeverity } from '#shared/catalogue/xid.ts';
import type { Breakpoints } from '../badness.ts';
import type { LimitName, SignalName } from './names.ts';

/** The score is held at or below `score` while the signal is at or past `from`. */
export interface CapRule {
  readonly from: number;
  readonly score: number;
  readonly source: string;
}

/** How one signal becomes points. */
export interface SignalRule {
  readonly name: SignalName;
  readonly dimension: HealthDimension;
  /** As the profile has them: for people. */
  readonly points: Breakpoints;
  /** As values are compared: logarithms where `log`. */
  readonly scaled: Breakpoints;
  readonly log: boolean;
  readonly source: string;
  /** How much of its dimension the signal can take, 0 to 1. */
  readonly weight: number;
  /** Missing, it lowers the coverage and the low end of the score. An optional signal only adds where it is known. */
  readonly required: boolean;
  readonly caps: readonly CapRule[];
}

/** How much events count, in fatal ones. */
export interface EventRules {
  readonly halfLifeMs: number;
  readonly severities: Readonly<Record<XidSeverity, number>>;
  /** Codes that count otherwise than their severity in the catalogue says. */
  readonly xids: ReadonlyMap<number, number>;
  readonly xidCaps: ReadonlyMap<number, XidCap>;
}

export interface XidCap {
  readonly score: number;
  readonly windowMs: number;
  readonly source: string;
}

/** What is expected of the GPUs of one model. */
export interface Profile {
  readonly name: string;
  readonly version: number;
  readonly matches: (model: string, memoryBytes: number) => boolean;
  /** Used only where the device does not report its own. NaN where nothing is known. */
  readonly limits: Readonly<Record<LimitName, number>>;
  readonly limitSources: Readonly<Partial<Record<LimitName, string>>>;
  /** In the order of SIGNAL_NAMES, without those that are switched off. */
  readonly signals: readonly SignalRule[];
  readonly events: EventRules;
}

/** Choices that are remembered: a fleet has a few models, each of one or two sizes. */
const MAX_CHOSEN = 1_000;

/** Profiles in the order in which they are asked; the last one takes any GPU. */
export class ProfileSet {
  readonly #profiles: readonly Profile[];
  readonly #chosen = new Map<string, Profile>();

  constructor(profiles: readonly Profile[]) {
    this.#profiles = profiles;
  }

  get names(): readonly string[] {
    return this.#profiles.map(({ name }) => name);
  }

  named(name: string): Profile | undefined {
    return this.#profiles.find((profile) => profile.name === name);
  }

  /** `memoryBytes` NaN where it is not known: profiles that ask for a size are then passed over. */
  choose(model: string, memoryBytes: number): Profile {
    const key = `${memoryBytes}/${model}`;
    const known = this.#chosen.get(key);
    if (known !== undefined) return known;
    const profile = this.#profiles.find((one) => one.matches(model, memoryBytes)) ?? this.#profiles.at(-1)!;
    if (this.#chosen.size >= MAX_CHOSEN) this.#chosen.clear();
    this.#chosen.set(key, profile);
    return profile;
  }
}
