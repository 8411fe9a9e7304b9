import { xidNamed } from '#shared/catalogue/xid.ts';
import type { EventRules } from './profiles/profile.ts';

export type IncidentType = 'xid' | 'sxid' | 'ras' | 'diagnostic';

/** One kind of event of one GPU: an Xid code, an SXid code, a class of RAS event, a failed diagnostic. */
export interface Incident {
  readonly type: IncidentType;
  /** Code as the event has it. */
  readonly code: string;
  readonly name: string;
  /** Newest time, Unix ms. */
  atMs: number;
  /** What all of them together weighed at `atMs`, in fatal ones. */
  weight: number;
  /** Begin and end of the newest bursts that were counted, oldest first: one that is told again is none. */
  readonly bursts: Burst[];
}

type Burst = [fromMs: number, toMs: number];

/** Bursts kept of one code. What is older than all of them was most likely told before. */
export const MAX_BURSTS = 8;
/** Kinds kept of one GPU: the lightest goes, and one that holds the score last. NVIDIA's catalogue has 173 codes, a GPU shows a handful. */
export const MAX_INCIDENTS = 32;
/** One code within three minutes is one burst (NVIDIA Fleet Intelligence: a burst lasts until three minutes of silence). */
const BURST_MS = 180_000;
/** Below this weight an incident no longer costs anything that one could see. Own judgement. */
const FORGOTTEN = 0.005;

/** What happened to one GPU. Nothing is allocated while nothing happened. */
export class Incidents {
  #all: Map<string, Incident> | undefined;

  get size(): number {
    return this.#all?.size ?? 0;
  }

  /** Adds one that weighs `weight` at `atMs`; a burst of one code counts once. */
  note(
    type: IncidentType,
    code: string,
    name: string,
    weight: number,
    atMs: number,
    rules: EventRules,
  ): void {
    this.#all ??= new Map();
    const key = `${type}/${code}`;
    const known = this.#all.get(key);
    if (known === undefined) {
      if (this.#all.size >= MAX_INCIDENTS) this.#dropLightest(atMs, rules);
      this.#all.set(key, { type, code, name, atMs, weight, bursts: [[atMs, atMs]] });
      return;
    }
    const isNew = isNewBurst(known.bursts, atMs);
    const gapMs = atMs - known.atMs;
    if (gapMs < 0) {
      // Late: it decayed since.
      if (isNew) known.weight += weight * 2 ** (gapMs / rules.halfLifeMs);
      return;
    }
    known.weight = known.weight * 2 ** (-gapMs / rules.halfLifeMs) + (isNew ? weight : 0);
    known.weight = Math.max(known.weight, weight);
    known.atMs = atMs;
  }

  /** Takes up one that was kept. */
  restore(incident: Incident): void {
    this.#all ??= new Map();
    if (this.#all.size < MAX_INCIDENTS) this.#all.set(`${incident.type}/${incident.code}`, incident);
  }

  forget(type: IncidentType, code: string): void {
    this.#all?.delete(`${type}/${code}`);
  }

  /** Drops everything up to a moment: what a repair, a passed check or an operator has cleared. */
  clear(untilMs: number): void {
    for (const [key, { atMs }] of this.#all ?? []) if (atMs <= untilMs) this.#all!.delete(key);
  }

  /** What all incidents of a type weigh now, in fatal ones. */
  weight(type: IncidentType, nowMs: number, rules: EventRules): number {
    if (this.#all === undefined || this.#all.size === 0) return 0;
    let sum = 0;
    for (const [key, one] of this.#all) {
      const now = weightOf(one, nowMs, rules);
      // One that weighs nothing may still cap, for its window.
      if (now < FORGOTTEN && nowMs - one.atMs > Math.max(rules.halfLifeMs, capWindow(one, rules)))
        this.#all.delete(key);
      else if (one.type === type) sum += now;
    }
    return sum;
  }

  /** Newest time of one kind, Unix ms; -Infinity where it never happened. */
  newest(type: IncidentType, code: string): number {
    return this.#all?.get(`${type}/${code}`)?.atMs ?? Number.NEGATIVE_INFINITY;
  }

  /** Everything, in no order: to be kept. */
  all(): readonly Incident[] {
    return [...(this.#all?.values() ?? [])];
  }

  /** The heaviest of a type first. */
  list(type: IncidentType, nowMs: number, rules: EventRules): Incident[] {
    return [...(this.#all?.values() ?? [])]
      .filter((one) => one.type === type)
      .sort((a, b) => weightOf(b, nowMs, rules) - weightOf(a, nowMs, rules));
  }

  #dropLightest(nowMs: number, rules: EventRules): void {
    let lightest: string | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const [key, one] of this.#all!) {
      const holds = nowMs - one.atMs <= capWindow(one, rules);
      const weight = weightOf(one, nowMs, rules) + (holds ? HOLDS_SCORE : 0);
      if (weight >= least) continue;
      lightest = key;
      least = weight;
    }
    if (lightest !== undefined) this.#all!.delete(lightest);
  }
}

/** More than any weight. */
const HOLDS_SCORE = 1e9;

/** For how long one holds the score, ms; -Infinity where its code does not. */
function capWindow({ type, code }: Incident, { xidCaps }: EventRules): number {
  return (type === 'xid' ? xidCaps.get(Number(code))?.windowMs : undefined) ?? Number.NEGATIVE_INFINITY;
}

/** Whether a burst begins with an event at `atMs`; enters it in the list, whose end it may move. */
function isNewBurst(bursts: Burst[], atMs: number): boolean {
  let after = bursts.length;
  while (after > 0 && bursts[after - 1]![0] > atMs) after--;
  const before = bursts[after - 1];
  if (before !== undefined && atMs - before[1] <= BURST_MS) {
    before[1] = Math.max(before[1], atMs);
    return false;
  }
  const next = bursts[after];
  if (next !== undefined && next[0] - atMs <= BURST_MS) {
    next[0] = atMs;
    return false;
  }
  if (after === 0 && bursts.length === MAX_BURSTS) return false;
  bursts.splice(after, 0, [atMs, atMs]);
  if (bursts.length > MAX_BURSTS) bursts.shift();
  return true;
}

function weightOf({ weight, atMs }: Incident, nowMs: number, rules: EventRules): number {
  return weight * 2 ** (-Math.max(0, nowMs - atMs) / rules.halfLifeMs);
}

/** Preemptive cleanup: harmless where a process is named, as it then ended. */
const CLEANUP = 45;

/**
 * What an Xid weighs, in fatal ones. The catalogue's severity, or the profile's own weight for the code; the event's
 * severity wins where it is another than the catalogue's: then a site or the kernel line said so.
 */
export function xidWeight(
  code: number,
  attributes: Readonly<Record<string, string>>,
  text: string,
  rules: EventRules,
): number {
  if (attributes.follows) return 0;
  const catalogued = xidNamed(code).severity;
  const said = attributes.severity;
  if (said !== undefined && said !== catalogued && isSeverity(said, rules)) return rules.severities[said];
  if (code === CLEANUP && (attributes.pid !== undefined || /\bpid='?\d/.test(text) || text === '')) return 0;
  return rules.xids.get(code) ?? rules.severities[catalogued];
}

/** What any other event weighs, by the severity that it names; `error` where it names none. */
export function severityWeight(attributes: Readonly<Record<string, string>>, rules: EventRules): number {
  if (attributes.follows) return 0;
  const said = attributes.severity ?? 'error';
  return isSeverity(said, rules) ? rules.severities[said] : rules.severities.error;
}

function isSeverity(name: string, { severities }: EventRules): name is keyof EventRules['severities'] {
  return Object.hasOwn(severities, name);
}
