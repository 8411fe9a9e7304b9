import { timestampMs } from '@bufbuild/protobuf/wkt';
import { type Alert, AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { InhibitRule } from './inhibit-rules.ts';
import { labelOf, matchesAll } from './matchers.ts';

/** Sources of one rule with the same `equal` labels, by id. */
interface Sources {
  /** Those that could not be held back by the same rule. */
  readonly pure: Map<string, Alert>;
  /** Those that match its target side as well. */
  readonly both: Map<string, Alert>;
}

interface Compiled extends InhibitRule {
  readonly sources: Map<string, Sources>;
}

/** A firing alert that some rule takes as a source, and where it is filed. */
interface Held {
  readonly alert: Alert;
  readonly places: readonly { readonly rule: Compiled; readonly key: string; readonly side: keyof Sources }[];
}

/** Firing sources; what comes beyond holds nobody back. */
const MAX_SOURCES = 100_000;
/** Sources that have ended and whose last transition is remembered, so that a late message does not revive them. */
const MAX_ENDED = 10_000;
/** Sources that are named. */
const MAX_NAMED = 8;
/** Sources of one rule that are looked at for one alert; the first one is nearly always the answer. */
const MAX_TRIED = 64;
/** Alerts that are looked at to find a circle. */
const MAX_VISITED = 256;

/**
 * Which alerts others make needless to send, as Alertmanager does it: an alert never holds back itself, and one that
 * matches both sides of a rule is not held back by others that do. Beyond that, alerts whose rules hold
 * each other back in a circle are never all silent: in a circle only a more severe, else older alert holds back another.
 * Where the limits are reached an alert is sent rather than held back.
 *
 * An answer takes a few look-ups per rule, whatever number of alerts there are.
 */
export class Inhibitions {
  #rules: Compiled[] = [];
  readonly #held = new Map<string, Held>();
  readonly #ended = new Map<string, bigint>();

  constructor({ rules, alerts }: { rules: readonly InhibitRule[]; alerts: Iterable<Alert> }) {
    this.setRules(rules, alerts);
  }

  /** Other rules from here on, with all alerts that there are. */
  setRules(rules: readonly InhibitRule[], alerts: Iterable<Alert>): void {
    this.#rules = rules.map((rule) => ({ ...rule, sources: new Map() }));
    this.#held.clear();
    for (const alert of alerts) this.note(alert);
  }

  /** To be told of each transition. One that is older than what is known of its alert is left out. */
  note(alert: Alert): void {
    const held = this.#held.get(alert.id);
    const known = held?.alert.transition ?? this.#ended.get(alert.id);
    if (known !== undefined && alert.transition < known) return;
    if (held !== undefined) this.#take(held);
    const places = alert.state === AlertState.FIRING ? this.#placesOf(alert) : [];
    if (places.length > 0 && this.#held.size < MAX_SOURCES) this.#file({ alert, places });
    else if (held !== undefined || (alert.state === AlertState.RESOLVED && this.#placesOf(alert).length > 0))
      this.#remember(alert);
  }

  /** Ids of alerts that hold this one back now, at most 8. */
  inhibiting(alert: Alert): string[] {
    const ids: string[] = [];
    for (const rule of this.#rules) {
      let tried = 0;
      for (const source of sourcesOf(rule, alert)) {
        if (++tried > MAX_TRIED) break;
        if (ids.includes(source.id) || !this.#holdsBack(source, alert)) continue;
        ids.push(source.id);
        if (ids.length >= MAX_NAMED) return ids;
      }
    }
    return ids;
  }

  /** Not where the alert itself holds back the source, by whatever way, unless the source goes before it. */
  #holdsBack(source: Alert, alert: Alert): boolean {
    return goesBefore(source, alert) || !this.#isHeldBackBy(source, alert.id);
  }

  /** Whether one could be held back by the other, by any number of steps; also where that is too much to find out. */
  #isHeldBackBy(alert: Alert, id: string): boolean {
    const visited = new Set([alert.id]);
    const waiting = [alert];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      for (const rule of this.#rules) {
        let tried = 0;
        for (const source of sourcesOf(rule, next)) {
          if (source.id === id || ++tried > MAX_TRIED || visited.size >= MAX_VISITED) return true;
          if (visited.has(source.id)) continue;
          visited.add(source.id);
          waiting.push(source);
        }
      }
    }
    return false;
  }

  #placesOf(alert: Alert): Held['places'] {
    const places: { rule: Compiled; key: string; side: keyof Sources }[] = [];
    for (const rule of this.#rules) {
      if (!matchesAll(rule.source, alert)) continue;
      const side = matchesAll(rule.target, alert) ? 'both' : 'pure';
      places.push({ rule, key: equalKey(rule, alert), side });
    }
    return places;
  }

  #file(held: Held): void {
    this.#held.set(held.alert.id, held);
    this.#ended.delete(held.alert.id);
    for (const { rule, key, side } of held.places) {
      let sources = rule.sources.get(key);
      if (sources === undefined) {
        sources = { pure: new Map(), both: new Map() };
        rule.sources.set(key, sources);
      }
      sources[side].set(held.alert.id, held.alert);
    }
  }

  #take({ alert, places }: Held): void {
    this.#held.delete(alert.id);
    for (const { rule, key, side } of places) {
      const sources = rule.sources.get(key)!;
      sources[side].delete(alert.id);
      if (sources.pure.size + sources.both.size === 0) rule.sources.delete(key);
    }
  }

  #remember({ id, transition }: Alert): void {
    this.#ended.delete(id);
    this.#ended.set(id, transition);
    if (this.#ended.size > MAX_ENDED) this.#ended.delete(this.#ended.keys().next().value!);
  }
}

/** Whom the rule lets hold the alert back, itself left out. */
function* sourcesOf(rule: Compiled, alert: Alert): IterableIterator<Alert> {
  if (rule.sources.size === 0 || !matchesAll(rule.target, alert)) return;
  const sources = rule.sources.get(equalKey(rule, alert));
  if (sources === undefined) return;
  for (const source of sources.pure.values()) if (source.id !== alert.id) yield source;
  if (sources.both.size === 0 || matchesAll(rule.source, alert)) return;
  for (const source of sources.both.values()) if (source.id !== alert.id) yield source;
}

/** Labels that neither has are equal, as in Alertmanager. */
function equalKey({ equal }: InhibitRule, alert: Alert): string {
  return equal.length === 1
    ? labelOf(alert, equal[0]!)
    : JSON.stringify(equal.map((label) => labelOf(alert, label)));
}

/** An order of all alerts, so that no circle can close. */
function goesBefore(a: Alert, b: Alert): boolean {
  if (a.severity !== b.severity) return a.severity > b.severity;
  const startedA = a.startedAt ? timestampMs(a.startedAt) : 0;
  const startedB = b.startedAt ? timestampMs(b.startedAt) : 0;
  return startedA === startedB ? a.id < b.id : startedA < startedB;
}
