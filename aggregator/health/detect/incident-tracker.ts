import type { Source } from '#shared/model/block.ts';
import {
  type Anomaly,
  type AnomalyContribution,
  type DetectorName,
  type Finding,
  MAX_ANOMALY_CONTRIBUTIONS,
} from './anomaly.ts';

export type AnomalyPhase = 'begin' | 'change' | 'end';
export type AnomalyListener = (anomaly: Anomaly, phase: AnomalyPhase) => void;

export interface IncidentTrackerOptions {
  /** An incident is over when nothing was found for so long, on the aggregator's clock. */
  readonly quietMs: number;
  /** 10,000 where not given. */
  readonly maxOpen?: number;
  /** Ended ones that are kept; 10,000 where not given. */
  readonly maxEnded?: number;
}

/** Whom a finding is about. */
export interface Subject {
  readonly source: Source;
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
}

/** Told again when the strength has grown by half: not at each sample of a temperature that rises. */
const TOLD_AGAIN = 1.5;
/** What ended is not raised again unless it is stronger than it was, decayed; at most so much stronger, for 1.4 h. */
const REFRACTORY_MOST = 4;
const REFRACTORY_MS = 3_600_000;
const MAX_REFRACTORY = 20_000;

interface Incident {
  readonly subject: Subject;
  readonly test: boolean;
  readonly id: string;
  readonly startedMs: number;
  readonly contributions: Map<string, AnomalyContribution>;
  lastMs: number;
  heardMs: number;
  endedMs: number | undefined;
  strength: number;
  toldStrength: number;
  shown: Anomaly | undefined;
}

/**
 * One incident for each GPU: whatever any detector finds of a GPU while one is open joins it. A test has an incident of
 * its own: it neither hides a real one nor is taken for one. Listeners run within the call and must not throw.
 */
export class IncidentTracker {
  readonly #quietMs: number;
  readonly #maxOpen: number;
  readonly #maxEnded: number;
  readonly #open = new Map<string, Incident>();
  readonly #ended = new Map<string, Incident>();
  readonly #refractory = new Map<string, { strength: number; atMs: number }>();
  readonly #listeners = new Set<AnomalyListener>();

  constructor({ quietMs, maxOpen = 10_000, maxEnded = 10_000 }: IncidentTrackerOptions) {
    this.#quietMs = quietMs;
    this.#maxOpen = maxOpen;
    this.#maxEnded = maxEnded;
  }

  get open(): number {
    return this.#open.size;
  }

  /** Whether a real incident of this GPU is open. */
  isOpen(uuid: string): boolean {
    return this.#open.size > 0 && this.#open.has(uuid);
  }

  subscribe(listener: AnomalyListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** False where there is no room for another incident. `atMs`: time of the sample. */
  add(subject: Subject, finding: Finding, atMs: number, nowMs: number, test = false): boolean {
    if (!(finding.strength >= 1)) return true;
    const key = test ? testKey(subject.uuid) : subject.uuid;
    const incident = this.#open.get(key);
    if (incident !== undefined) {
      this.#join(incident, finding, atMs, nowMs);
      return true;
    }
    if (!test && this.#isRepeat(subject.uuid, finding, nowMs)) return true;
    if (this.#open.size >= this.#maxOpen) return false;
    this.#begin(key, subject, finding, atMs, nowMs, test);
    return true;
  }

  /** Joins what is no ground for an incident to one that is open, where there is room; keeps none open, tells nobody. */
  contribute(uuid: string, finding: Finding): void {
    const incident = this.#open.get(uuid);
    if (incident === undefined || incident.contributions.size >= MAX_ANOMALY_CONTRIBUTIONS) return;
    for (const { signal } of incident.contributions.values()) if (signal === finding.signal) return;
    incident.contributions.set(keyOf(finding), { ...finding });
    incident.shown = undefined;
  }

  /** Ends the incidents that are quiet. */
  advance(nowMs: number): void {
    for (const [key, incident] of this.#open) {
      // A clock that was set back: it would stay open until that has caught up.
      if (incident.heardMs > nowMs) incident.heardMs = nowMs;
      if (nowMs - incident.heardMs < this.#quietMs) continue;
      this.#open.delete(key);
      this.#end(incident, nowMs);
    }
  }

  /** A test ends when it was asked to: nobody waits for it to be quiet. */
  endTest(uuid: string, nowMs: number): void {
    const key = testKey(uuid);
    const incident = this.#open.get(key);
    if (incident === undefined || !this.#open.delete(key)) return;
    this.#end(incident, nowMs);
  }

  /** Those that are open, then those that ended, oldest first. */
  *anomalies(): Iterable<Anomaly> {
    for (const incident of this.#open.values()) yield shown(incident);
    for (const incident of this.#ended.values()) yield shown(incident);
  }

  *anomaliesOf(uuid: string): Iterable<Anomaly> {
    for (const anomaly of this.anomalies()) if (anomaly.uuid === uuid) yield anomaly;
  }

  #begin(key: string, subject: Subject, finding: Finding, atMs: number, nowMs: number, test: boolean): void {
    const incident: Incident = {
      subject,
      test,
      id: `${subject.uuid}/${atMs}/${finding.detector}${test ? '/test' : ''}`,
      startedMs: atMs,
      contributions: new Map([[keyOf(finding), { ...finding }]]),
      lastMs: atMs,
      heardMs: nowMs,
      endedMs: undefined,
      strength: finding.strength,
      toldStrength: finding.strength,
      shown: undefined,
    };
    this.#open.set(key, incident);
    this.#tell(incident, 'begin');
  }

  #join(incident: Incident, finding: Finding, atMs: number, nowMs: number): void {
    incident.lastMs = Math.max(incident.lastMs, atMs);
    incident.heardMs = nowMs;
    incident.shown = undefined;
    const before = incident.contributions.get(keyOf(finding));
    const isNews = before === undefined && this.#makeRoom(incident, finding.strength);
    if (isNews || (before !== undefined && finding.strength > before.strength))
      incident.contributions.set(keyOf(finding), { ...finding });
    incident.strength = Math.max(incident.strength, finding.strength);
    if (!isNews && incident.strength < TOLD_AGAIN * incident.toldStrength) return;
    incident.toldStrength = incident.strength;
    this.#tell(incident, 'change');
  }

  /** The weakest makes way for a stronger one. */
  #makeRoom({ contributions }: Incident, strength: number): boolean {
    if (contributions.size < MAX_ANOMALY_CONTRIBUTIONS) return true;
    let weakest: string | undefined;
    let least = strength;
    for (const [key, contribution] of contributions) {
      // Of two that are as strong, what only moved along goes first.
      if (contribution.strength > least) continue;
      weakest = key;
      least = contribution.strength;
    }
    return weakest !== undefined && contributions.delete(weakest);
  }

  #end(incident: Incident, nowMs: number): void {
    incident.endedMs = nowMs;
    incident.shown = undefined;
    this.#ended.set(incident.id, incident);
    if (this.#ended.size > this.#maxEnded)
      for (const oldest of this.#ended.keys()) if (this.#ended.delete(oldest)) break;
    if (!incident.test) this.#rest(incident, nowMs);
    this.#tell(incident, 'end');
  }

  #rest({ subject: { uuid }, contributions }: Incident, nowMs: number): void {
    for (const [key, { strength }] of contributions) {
      const name = `${uuid}\0${key}`;
      this.#refractory.delete(name);
      this.#refractory.set(name, { strength: Math.min(REFRACTORY_MOST, strength), atMs: nowMs });
    }
    for (const [name, { strength, atMs }] of this.#refractory) {
      if (this.#refractory.size <= MAX_REFRACTORY && decayed(strength, nowMs - atMs) > 1) break;
      this.#refractory.delete(name);
    }
  }

  #isRepeat(uuid: string, finding: Finding, nowMs: number): boolean {
    if (this.#refractory.size === 0) return false;
    const before = this.#refractory.get(`${uuid}\0${keyOf(finding)}`);
    return before !== undefined && finding.strength < decayed(before.strength, nowMs - before.atMs);
  }

  #tell(incident: Incident, phase: AnomalyPhase): void {
    const anomaly = shown(incident);
    for (const listener of this.#listeners) listener(anomaly, phase);
  }
}

function testKey(uuid: string): string {
  return `${uuid}\0test`;
}

function decayed(strength: number, ms: number): number {
  return strength * Math.exp(-Math.max(0, ms) / REFRACTORY_MS);
}

function keyOf({ detector, signal }: { readonly detector: DetectorName; readonly signal: string }): string {
  return `${detector}\0${signal}`;
}

function shown(incident: Incident): Anomaly {
  incident.shown ??= anomalyOf(incident);
  return incident.shown;
}

function anomalyOf({ subject, contributions: all, ...incident }: Incident): Anomaly {
  const contributions = [...all.values()].sort((a, b) => b.strength - a.strength);
  const { source, gpu, uuid, model } = subject;
  const { id, startedMs, lastMs, endedMs, strength, test } = incident;
  const text = textOf(gpu, contributions, test);
  return { id, source, gpu, uuid, model, startedMs, lastMs, endedMs, strength, contributions, test, text };
}

const SAYS: Readonly<Record<DetectorName, string>> = {
  level: 'is',
  shift: 'has shifted to',
  slope: 'drifts and is at',
  frozen: 'repeats the value',
  rate: 'counted',
  entropy: 'has an unusual distribution at',
  row: 'does not fit the other metrics at',
  isolation: 'is unlike all others at',
  peer: 'is unlike its peers at',
  straggler: 'is behind its job at',
};

function textOf(gpu: string, contributions: readonly AnomalyContribution[], test: boolean): string {
  const { detector, signal, value, expected } = contributions[0]!;
  if (test) return `Test: GPU ${gpu}: ${signal}, injected by an operator`;
  const usual = usually(detector, expected);
  const others = contributions.length - 1;
  const more = others === 0 ? '' : `, and ${others} more ${others === 1 ? 'sign' : 'signs'}`;
  return `GPU ${gpu}: ${signal} ${SAYS[detector]} ${figure(value)}${usual}${more}`;
}

function usually(detector: DetectorName, expected: number): string {
  if (Number.isNaN(expected)) return '';
  // What comes once in days is not expected within one interval.
  return detector === 'rate' && expected < 0.5 ? ', none expected' : `, ${figure(expected)} expected`;
}

/** Clocks and bytes are large: 1.98 G is read more easily than 1980000000. */
const LARGE = [
  [1e12, ' T'],
  [1e9, ' G'],
  [1e6, ' M'],
] as const;

function figure(value: number): string {
  if (Number.isNaN(value)) return 'no value';
  const [unit, prefix] = LARGE.find(([least]) => Math.abs(value) >= least) ?? [1, ''];
  return `${Number((value / unit).toPrecision(4))}${prefix}`;
}
