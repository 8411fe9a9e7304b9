import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  AcknowledgementSchema,
  type Alert,
  AlertSchema,
  AlertState,
  Resolution,
} from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { Registry } from '#shared/instruments/registry.ts';
import type { Block, Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { type AlertChange, type AlertListener, isTransition } from './alert-change.ts';
import { alertId } from './alert-id.ts';
import { AlertInstruments } from './alert-instruments.ts';
import { type ContextOf, joinLabels, type Place } from './alert-labels.ts';
import { AlertTable } from './alert-table.ts';
import { detailsOf, ends, eventAlertId, keyOf, raises } from './event-match.ts';
import { changeOf, firingFrom } from './level-change.ts';
import { conditionHolds, isBeyond, isBeyondAny, stepLevels, topActive } from './level-steps.ts';
import { ProgramCache } from './program-cache.ts';
import { annotate } from './rules/annotations.ts';
import { diffRules, type RuleDiff } from './rules/rule-diff.ts';
import type {
  AbsentRule,
  AggregateRule,
  EventRule,
  LevelledRule,
  Rule,
  ThresholdRule,
} from './rules/rules.ts';
import { stillLooksAt } from './rules/still-looks.ts';
import type { Subject } from './subject.ts';
import { eventSummary, withComment, withReason } from './summary.ts';
import {
  adoptRule,
  forgetLevels,
  orphanRule,
  restoreAlert,
  type TrackedAlert,
  trackAlert,
} from './tracked-alert.ts';

export interface AlertEngineOptions {
  readonly rules: readonly Rule[];
  readonly clock: Clock;
  readonly registry: Registry;
  /** Most alerts kept, resolved ones included; 250,000 by default (about 560 MB where all fire). */
  readonly maxAlerts?: number;
  /** Most alerts kept of one node; 2,000 by default. */
  readonly maxAlertsPerNode?: number;
  readonly contextOf?: ContextOf;
  /** Whether this process has heard of a node since its start; of every node where not given. */
  readonly hears?: (cluster: string, node: string) => boolean;
  /** Which silences cover an alert and which alerts inhibit it: asked at each transition. */
  readonly stamp?: (alert: Alert) => { readonly silencedBy: string[]; readonly inhibitedBy: string[] };
}

/** `suppressed`: resolved while the condition still holds, silent until it clears. */
export type ResolveOutcome = 'resolved' | 'suppressed' | 'not_found' | 'not_active';
export type AcknowledgeOutcome = 'acknowledged' | 'not_found' | 'not_active';
/** `not_active`: it does not fire, or nobody has acknowledged it. */
export type WithdrawOutcome = 'withdrawn' | 'not_found' | 'not_active';

/** Holding for `for` survives a gap of this many intervals: one lost tick and a late one are not a recovery. */
const GAP_INTERVALS = 3;
/** A condition not seen for this long is not known to hold: resolving it does not suppress it. */
const UNHEARD_MS = 60_000;
/**
 * An event alert of a node that this process has not heard of ends so much later: were it nobody's, it would never end.
 */
const FOREIGN_MS = 86_400_000;
/** A sample this much older than the last is no repeat: the node's clock was set back, and goes on from there. */
const CLOCK_STEP_MS = 60_000;
/** A storm of events expires as it came, all at once; measured: 50 µs each, so 100 ms in which no tick is looked at. */
const MOST_EXPIRED = 2_000;
/** Why an alert ends that no sample can judge any more. */
const LOOKS_ELSEWHERE = 'Its rule no longer looks at it';
/** A rule has at most three levels: info, warning, critical. */
const MAX_LEVELS = 3;

/**
 * States of an alert: *pending* (a level holds, not yet for its `for`), *firing* (at least one level has held for
 * its `for`; the severity is that of the highest), *resolved* (no level holds, an operator said so, or an event's
 * time was up). Silence resolves nothing: an alert whose node died, whose GPU was lost or whose series ended stays
 * as it was, with its age in `updated_at`. Somebody may have acknowledged a firing one, until it fires anew.
 *
 * `transition` counts what subscribers are told: firing, changes of severity, acknowledging, resolving. Pending is not
 * told. All calls are synchronous; listeners run within them.
 */
export class AlertEngine {
  readonly #clock: Clock;
  readonly #table: AlertTable;
  readonly #instruments: AlertInstruments;
  readonly #contextOf: AlertEngineOptions['contextOf'];
  readonly #stamp: AlertEngineOptions['stamp'];
  readonly #hears: AlertEngineOptions['hears'];
  readonly #listeners = new Set<AlertListener>();
  /** Firing alerts of event rules: those that `advance` looks at. */
  readonly #expiring = new Set<TrackedAlert>();
  readonly #programs = new ProgramCache();
  /** Of the sample that is judged: reused. */
  readonly #limits = new Float64Array(MAX_LEVELS);
  /** Ids of the alerts of observed subjects, as each is a hash. */
  #observed = new WeakMap<Subject, { readonly rule: string; readonly id: string }>();
  #rules: ReadonlyMap<string, Rule> = new Map();
  #events: readonly EventRule[] = [];

  constructor(options: AlertEngineOptions) {
    this.#clock = options.clock;
    this.#contextOf = options.contextOf;
    this.#stamp = options.stamp;
    this.#hears = options.hears;
    this.#table = new AlertTable(options.maxAlerts ?? 250_000, options.maxAlertsPerNode ?? 2_000);
    this.#instruments = new AlertInstruments(options.registry, this.#table);
    this.#take(options.rules);
  }

  rules(): readonly Rule[] {
    return [...this.#rules.values()];
  }

  /**
   * Goes on with other rules. Alerts of a rule that is the same or changed live on under their id, and the next sample
   * judges them by what it says now; those of a rule that is gone, is of another kind now or looks elsewhere, resolve.
   */
  setRules(rules: readonly Rule[]): RuleDiff {
    const before = this.#rules;
    const diff = diffRules([...before.values()], rules);
    const touched = new Set([...diff.added, ...diff.changed]);
    this.#take(rules.map((rule) => (touched.has(rule.name) ? rule : before.get(rule.name)!)));
    const nowMs = this.#clock.now();
    for (const tracked of this.#table.values()) this.#rebase(tracked, nowMs);
    return diff;
  }

  /** Evaluates the threshold rules. Backlog is not evaluated: what was hot an hour ago is history. */
  evaluate(block: Block): void {
    if (!block.live) return;
    const { program, growth } = this.#programs.of(block, this.#table);
    this.#instruments.evaluations.threshold += program.count;
    const limits = this.#limits;
    for (let check = program.next(0, block); check < program.count; check = program.next(check + 1, block)) {
      let value = program.read(check, block);
      if (Number.isNaN(value)) continue;
      const rule = program.rule(check);
      const counter = program.counter(check);
      if (counter >= 0) {
        value = growth.measure(counter, value, block.timestampMs) / program.per(check);
        if (Number.isNaN(value)) continue;
      }
      program.readLimits(check, block, limits);
      const beyond = isBeyondAny(rule, value, limits);
      if (!beyond && !program.watches(check)) continue;
      const subject = program.subject(check);
      const tracked = this.#table.get(subject.id);
      // One that has resolved waits for the next breach, as one that never was.
      program.watch(check, beyond || (tracked !== undefined && !isAtRest(tracked.alert)));
      if (counter >= 0 && !growth.covers(counter) && !isCertain(rule, tracked, value, limits)) continue;
      this.#judge(tracked, subject.id, rule, subject, value, block.timestampMs, block.dictionary.intervalMs);
    }
  }

  /**
   * Takes a value of an absent or aggregate rule, with the same life cycle as a series has. NaN is no value; a rule
   * that is not (or no longer) among the rules is ignored. Give the same `subject` object each time: the id of its alert
   * is kept with it.
   */
  observe(
    rule: AbsentRule | AggregateRule,
    subject: Subject,
    value: number,
    atMs: number,
    intervalMs: number,
  ): void {
    const current = this.#rules.get(rule.name);
    if (Number.isNaN(value) || current?.kind !== rule.kind) return;
    this.#instruments.evaluations[rule.kind]++;
    for (const [level, { limit }] of current.levels.entries()) {
      this.#limits[level] = typeof limit === 'number' ? limit : Number.NaN;
    }
    const id = this.#observedId(rule, subject);
    this.#judge(this.#table.get(id), id, current, subject, value, atMs, intervalMs);
  }

  /** Ends the alert of an observed subject that is there no more, such as a group that has no members left. */
  resolveGone(rule: AbsentRule | AggregateRule, subject: Subject, atMs: number): void {
    const tracked = this.#table.get(this.#observedId(rule, subject));
    if (tracked !== undefined && tracked.rule.kind === rule.kind)
      this.#drop(tracked, 'Nothing left to watch', atMs);
  }

  /**
   * Evaluates the event rules, whatever lane brought the event. An event not newer than the last one of the same
   * alert is a repeat and changes nothing: agents send again what a restored store has lost.
   */
  event(source: Source, event: FleetEvent, late: boolean): void {
    for (const rule of this.#events) {
      if (rule.event !== event.type && rule.untilEvent !== event.type) continue;
      this.#instruments.evaluations.event++;
      if (ends(rule, event)) this.#end(rule, source, event);
      if (raises(rule, event)) this.#raise(rule, source, event, late);
    }
  }

  /** Ends the event alerts whose time is up, 2,000 at a time. To be called about once a second. */
  advance(nowMs: number): void {
    let left = MOST_EXPIRED;
    for (const tracked of this.#expiring) {
      if (nowMs < tracked.expiresMs) continue;
      const { cluster, node } = tracked.alert;
      // Another aggregator hears what raises it: only that one knows of its repeats.
      const foreign = node !== '' && this.#hears?.(cluster, node) === false;
      if (foreign && nowMs < tracked.expiresMs + FOREIGN_MS) continue;
      this.#resolve(tracked, Resolution.EXPIRED, nowMs);
      if (--left === 0) return;
    }
  }

  /** All alerts, resolved ones included. The messages are never written to again. */
  *alerts(): Iterable<Alert> {
    for (const { alert } of this.#table.values()) yield alert;
  }

  get(id: string): Alert | undefined {
    return this.#table.get(id)?.alert;
  }

  /** Resolves a firing alert for an operator; the comment becomes part of the summary. */
  resolve(id: string, comment: string, nowMs: number): ResolveOutcome {
    const tracked = this.#table.get(id);
    if (tracked === undefined) return 'not_found';
    if (tracked.alert.state !== AlertState.FIRING) return 'not_active';
    const suppressed = isHeld(tracked, this.#clock.now());
    if (!suppressed) forgetLevels(tracked);
    const summary = withComment(tracked.alert.summary, comment);
    this.#resolve(tracked, Resolution.OPERATOR, nowMs, { suppressed, summary });
    return suppressed ? 'suppressed' : 'resolved';
  }

  /** Says who works on a firing alert, until it fires anew; of two, the later counts. */
  acknowledge(id: string, by: string, comment: string, nowMs: number): AcknowledgeOutcome {
    const tracked = this.#table.get(id);
    if (tracked === undefined) return 'not_found';
    if (tracked.alert.state !== AlertState.FIRING) return 'not_active';
    const at = timestampFromMs(nowMs);
    this.#change(tracked, 'acknowledged', {
      acknowledged: create(AcknowledgementSchema, { by, comment, at }),
    });
    return 'acknowledged';
  }

  /** Takes an acknowledgement back. */
  withdrawAcknowledgement(id: string): WithdrawOutcome {
    const tracked = this.#table.get(id);
    if (tracked === undefined) return 'not_found';
    const { state, acknowledged } = tracked.alert;
    if (state !== AlertState.FIRING || acknowledged === undefined) return 'not_active';
    this.#change(tracked, 'unacknowledged', { acknowledged: undefined });
    return 'withdrawn';
  }

  /** Tells of every change from now on, until disposed. */
  subscribe(listener: AlertListener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /**
   * Takes over alerts of an earlier run, before the first block. Firing ones go on firing under their id and count;
   * one whose rule is gone resolves. Listeners that are to hear of that must have subscribed before.
   */
  restore(alerts: Iterable<Alert>): void {
    const nowMs = this.#clock.now();
    for (const alert of alerts) {
      const rule = this.#rules.get(alert.rule);
      if (this.#table.get(alert.id) !== undefined) continue;
      const tracked = restoreAlert(alert, rule ?? orphanRule(alert), nowMs);
      if (!this.#table.add(tracked)) {
        this.#instruments.refused.inc({ rule: rule?.name ?? '' });
        continue;
      }
      if (rule === undefined) this.#drop(tracked, 'Its rule was removed', nowMs);
      else if (rule.kind === 'threshold' && !stillLooksAt(rule, alert))
        this.#drop(tracked, LOOKS_ELSEWHERE, nowMs);
      else if (rule.kind === 'event' && alert.state === AlertState.FIRING) this.#expiring.add(tracked);
    }
  }

  #take(rules: readonly Rule[]): void {
    this.#rules = new Map(rules.map((rule) => [rule.name, rule]));
    this.#events = rules.filter((rule) => rule.kind === 'event');
    this.#programs.setRules(rules.filter((rule) => rule.kind === 'threshold'));
  }

  /** Puts an alert under what its rule says now. */
  #rebase(tracked: TrackedAlert, nowMs: number): void {
    const earlier = tracked.rule;
    const rule = this.#rules.get(tracked.alert.rule);
    if (rule === earlier) return;
    if (rule === undefined) {
      this.#drop(tracked, 'Its rule was removed', nowMs);
      return;
    }
    if (rule.kind !== earlier.kind) this.#drop(tracked, 'Its rule was replaced', nowMs);
    else if (
      rule.kind === 'threshold' &&
      earlier.kind === 'threshold' &&
      !stillLooksAt(rule, tracked.alert, earlier)
    )
      this.#drop(tracked, LOOKS_ELSEWHERE, nowMs);
    adoptRule(tracked, rule, nowMs);
    // No sample will judge it: an event was what it was.
    const firing = tracked.alert.state === AlertState.FIRING;
    if (rule.kind === 'event' && firing && tracked.alert.severity !== rule.severity) {
      this.#change(tracked, 'severity', { severity: rule.severity });
    }
  }

  /** Ends an alert that nothing will judge any more. */
  #drop(tracked: TrackedAlert, why: string, atMs: number): void {
    const { state, suppressed, summary } = tracked.alert;
    forgetLevels(tracked);
    if (state === AlertState.FIRING) {
      this.#resolve(tracked, Resolution.CLEARED, atMs, { summary: withReason(why, summary) });
    } else if (state === AlertState.PENDING) {
      this.#withdraw(tracked);
    } else if (suppressed) {
      this.#change(tracked, 'released', { suppressed: false });
    }
  }

  #observedId(rule: Rule, subject: Subject): string {
    const kept = this.#observed.get(subject);
    if (kept?.rule === rule.name) return kept.id;
    const { cluster, node, gpu, gpuUuid, key } = subject;
    const id = alertId(cluster, node, gpuUuid || gpu, rule.name, key);
    this.#observed.set(subject, { rule: rule.name, id });
    return id;
  }

  /** Takes a sample of a levelled rule, whose limits are in `#limits`. One that breaches nothing costs nothing. */
  #judge(
    known: TrackedAlert | undefined,
    id: string,
    rule: LevelledRule,
    subject: Subject,
    value: number,
    t: number,
    intervalMs: number,
  ): void {
    const limits = this.#limits;
    if (known === undefined && !isBeyondAny(rule, value, limits)) return;
    const tracked = known ?? this.#begin(id, rule, subject);
    if (tracked === undefined || (t <= tracked.seenMs && t > tracked.seenMs - CLOCK_STEP_MS)) return;
    // Set back, the clock says as little of how long something held.
    const afterGap = t < tracked.seenMs || t - tracked.seenMs > GAP_INTERVALS * intervalMs;
    tracked.seenMs = t;
    tracked.heardMs = this.#clock.now();
    tracked.intervalMs = intervalMs;
    stepLevels(tracked, rule, value, limits, t, afterGap);
    const made = changeOf(tracked, rule, subject, value, limits, t);
    if (made === undefined) return;
    const { change, patch } = made;
    if (change === 'withdrawn') {
      this.#withdraw(tracked);
      return;
    }
    if (change === 'pending') tracked.beforePending = tracked.alert;
    if (change === 'pending' || change === 'fired')
      patch.labels = this.#labelsOf(rule, subject, subject.labels);
    this.#change(tracked, change, patch);
  }

  /** Starts to track an alert at its first breach; undefined where there is no room. */
  #begin(id: string, rule: Rule, subject: Omit<Subject, 'unit' | 'labels'>): TrackedAlert | undefined {
    const { key, cluster, node, gpu, gpuUuid, gpuModel } = subject;
    const alert = create(AlertSchema, { id, rule: rule.name, key, cluster, node, gpu, gpuUuid, gpuModel });
    const tracked = trackAlert(rule, alert);
    if (this.#table.add(tracked)) return tracked;
    this.#instruments.refused.inc({ rule: rule.name });
    return undefined;
  }

  #labelsOf(rule: Rule, subject: Place, own: Readonly<Record<string, string>>): Record<string, string> {
    return joinLabels(rule, subject, own, this.#contextOf);
  }

  /** The event says that what raised the alert is over. */
  #end(rule: EventRule, source: Source, event: FleetEvent): void {
    const tracked = this.#table.get(eventAlertId(rule, source, event));
    if (tracked?.alert.state !== AlertState.FIRING || event.timestampMs < tracked.seenMs) return;
    tracked.seenMs = Math.min(event.timestampMs, this.#clock.now());
    const summary = eventSummary(rule, event, source.node, 'is over');
    this.#resolve(tracked, Resolution.CLEARED, event.timestampMs, { summary });
  }

  #raise(rule: EventRule, source: Source, event: FleetEvent, late: boolean): void {
    const id = eventAlertId(rule, source, event);
    const { gpu, gpuUuid } = event;
    const place = { cluster: source.cluster, node: source.node, gpu, gpuUuid, gpuModel: '' };
    const tracked = this.#table.get(id) ?? this.#begin(id, rule, { ...place, key: keyOf(rule, event) });
    if (tracked === undefined || event.timestampMs <= tracked.seenMs) return;
    tracked.heardMs = this.#clock.now();
    // A stamp from the future must not hide what really comes until then.
    tracked.seenMs = Math.min(event.timestampMs, tracked.heardMs);
    // From its arrival: an event from the backlog must be seen for as long as one that came at once.
    tracked.expiresMs = tracked.heardMs + rule.expiresMs;
    if (tracked.alert.state === AlertState.FIRING) return;
    const at = timestampFromMs(event.timestampMs);
    const { value, known, labels } = detailsOf(event);
    this.#change(tracked, 'fired', {
      ...firingFrom(event.timestampMs, at),
      ...{ severity: rule.severity, value, updatedAt: at, late },
      summary: eventSummary(rule, event, source.node, known),
      labels: this.#labelsOf(rule, place, labels),
    });
  }

  #resolve(tracked: TrackedAlert, resolution: Resolution, atMs: number, more: Partial<Alert> = {}): void {
    const at = timestampFromMs(atMs);
    this.#change(tracked, 'resolved', {
      ...{ state: AlertState.RESOLVED, resolution, resolvedAt: at, updatedAt: at },
      ...more,
    });
  }

  #withdraw(tracked: TrackedAlert): void {
    const ended = tracked.alert;
    if (tracked.beforePending === undefined || tracked.beforePending.state === AlertState.UNSPECIFIED) {
      this.#table.delete(ended.id);
    } else {
      tracked.alert = tracked.beforePending;
      this.#table.settle(tracked);
    }
    tracked.beforePending = undefined;
    this.#tell({ ...ended, state: AlertState.RESOLVED }, 'withdrawn');
  }

  #change(tracked: TrackedAlert, change: AlertChange, patch: Partial<Alert>): void {
    const alert: Alert = { ...tracked.alert, ...patch };
    const { rule } = tracked;
    const begins = change === 'pending' || change === 'fired';
    // A rule that is gone says nothing any more: its alert keeps what it said.
    if (begins || ((change === 'severity' || change === 'resolved') && this.#rules.get(rule.name) === rule)) {
      alert.annotations = annotate(rule, alert);
    }
    if (isTransition(change)) {
      alert.transition++;
      if (this.#stamp !== undefined) Object.assign(alert, this.#stamp(alert));
      this.#instruments.transitions.inc({ rule: alert.rule, state: stateOf(change) });
    }
    if (change !== 'pending') tracked.beforePending = undefined;
    tracked.alert = alert;
    this.#table.settle(tracked);
    if (rule.kind === 'event') {
      if (alert.state === AlertState.FIRING) this.#expiring.add(tracked);
      else this.#expiring.delete(tracked);
    }
    this.#tell(alert, change);
  }

  #tell(alert: Alert, change: AlertChange): void {
    for (const listener of this.#listeners) listener(alert, change);
  }
}

/**
 * Whether the growth of a counter that was not yet seen for a whole window says enough: there may have been more, so
 * that it can only be known to be above a limit. One that fires must not fall for what an aggregator just started has
 * not seen.
 */
function isCertain(
  rule: ThresholdRule,
  tracked: TrackedAlert | undefined,
  value: number,
  limits: Float64Array,
): boolean {
  if (rule.direction === 'below') return false;
  return isBeyond(rule, value, limits[Math.max(0, tracked === undefined ? 0 : topActive(tracked))]!);
}

/** Whether only another breach can change it. */
function isAtRest({ state, suppressed }: Alert): boolean {
  return state === AlertState.RESOLVED && !suppressed;
}

/** Whether the condition was seen to hold lately. An event has no condition that could go on holding. */
function isHeld(tracked: TrackedAlert, nowMs: number): boolean {
  if (tracked.rule.kind === 'event' || !conditionHolds(tracked)) return false;
  return nowMs - tracked.heardMs <= Math.max(GAP_INTERVALS * tracked.intervalMs, UNHEARD_MS);
}

/** For the counter of transitions. */
function stateOf(change: AlertChange): string {
  if (change === 'acknowledged' || change === 'unacknowledged') return change;
  return change === 'resolved' ? 'resolved' : 'firing';
}
