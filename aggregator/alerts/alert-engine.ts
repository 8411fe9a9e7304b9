import { create } from '@bufbuild/protobuf';
import { type Timestamp, timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import {
  type Alert,
  AlertSchema,
  AlertState,
  Resolution,
  Severity,
} from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { isCriticalXid, xidNamed } from '#shared/catalogue/xid.ts';
import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Block, Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { type AlertChange, type AlertListener, isTransition } from './alert-change.ts';
import { alertId } from './alert-id.ts';
import { AlertTable, type TrackedAlert } from './alert-table.ts';
import { type Check, compileChecks, readLimit, readValue } from './rules/rule-program.ts';
import type { EventRule, LabelMatch, Rule, ThresholdRule } from './rules/rules.ts';
import { eventSummary, severityName, thresholdSummary, withComment } from './summary.ts';

export interface AlertEngineOptions {
  readonly rules: readonly Rule[];
  readonly clock: Clock;
  readonly registry: Registry;
  /** Most alerts kept, resolved ones included; 100,000 by default (about 150 MB). */
  readonly maxAlerts?: number;
  /** Most alerts kept of one node; 2,000 by default. */
  readonly maxAlertsPerNode?: number;
}

/** `suppressed`: resolved while the condition still holds, silent until it clears. */
export type ResolveOutcome = 'resolved' | 'suppressed' | 'not_found' | 'not_active';

/** Holding for `for` survives a gap of this many intervals: one lost tick and a late one are not a recovery. */
const GAP_INTERVALS = 3;
/** A condition not seen for this long is not known to hold: resolving it does not suppress it. */
const UNHEARD_MS = 60_000;
/** A sample this much older than the last is no repeat: the node's clock was set back, and goes on from there. */
const CLOCK_STEP_MS = 60_000;
/** Longest key of an event alert: it comes from the agent. */
const MAX_KEY = 100;

/**
 * States of an alert: *pending* (a level holds, not yet for its `for`), *firing* (at least one level has held for
 * its `for`; the severity is that of the highest), *resolved* (no level holds, an operator said so, or an event's
 * time was up). Silence resolves nothing: an alert whose node died, whose GPU was lost or whose series ended stays
 * as it was, with its age in `updated_at`.
 *
 * `transition` counts what subscribers are told: firing, changes of severity, resolving. Pending is not told.
 * All calls are synchronous; listeners run within them.
 */
export class AlertEngine {
  readonly #clock: Clock;
  readonly #table: AlertTable;
  readonly #rules: ReadonlyMap<string, Rule>;
  readonly #thresholds: readonly ThresholdRule[];
  readonly #events: readonly EventRule[];
  readonly #programs = new WeakMap<Source, WeakMap<Dictionary, Check[]>>();
  readonly #listeners = new Set<AlertListener>();
  /** Firing alerts of event rules: those that `advance` looks at. */
  readonly #expiring = new Set<TrackedAlert>();
  readonly #transitions: Counter<'rule' | 'state'>;
  /** Since the last scrape: counted in plain numbers, as each tick comes by here. */
  readonly #evaluations = { threshold: 0, event: 0 };
  readonly #refused: Counter<'rule'>;

  constructor(options: AlertEngineOptions) {
    this.#clock = options.clock;
    this.#table = new AlertTable(options.maxAlerts ?? 100_000, options.maxAlertsPerNode ?? 2_000);
    this.#rules = new Map(options.rules.map((rule) => [rule.name, rule]));
    this.#thresholds = options.rules.filter((rule) => rule.kind === 'threshold');
    this.#events = options.rules.filter((rule) => rule.kind === 'event');
    this.#transitions = counter(options.registry, {
      name: 'gpufleet_alert_transitions_total',
      help: 'Alerts that began to fire, changed severity or resolved, by rule and the state they came to.',
      labelNames: ['rule', 'state'],
    });
    const evaluations = this.#evaluations;
    counter(options.registry, {
      name: 'gpufleet_alert_rule_evaluations_total',
      help: 'Rules looked at, on a series or on an event.',
      labelNames: ['kind'],
      collect() {
        for (const kind of ['threshold', 'event'] as const) {
          this.inc({ kind }, evaluations[kind]);
          evaluations[kind] = 0;
        }
      },
    });
    this.#refused = counter(options.registry, {
      name: 'gpufleet_alerts_refused_total',
      help: 'Alerts not raised because the limit of active alerts, in all or of the node, was reached.',
      labelNames: ['rule'],
    });
    const table = this.#table;
    gauge(options.registry, {
      name: 'gpufleet_alerts_active',
      help: 'Alerts that fire, by severity.',
      labelNames: ['severity'],
      collect() {
        const counts = { info: 0, warning: 0, critical: 0, none: 0 };
        for (const { alert } of table.values()) {
          if (alert.state === AlertState.FIRING) counts[severityName(alert.severity)]++;
        }
        for (const severity of ['info', 'warning', 'critical'] as const)
          this.set({ severity }, counts[severity]);
      },
    });
  }

  /** Evaluates the threshold rules. Backlog is not evaluated: what was hot an hour ago is history. */
  evaluate(block: Block): void {
    if (!block.live) return;
    const checks = this.#checksOf(block);
    if (checks.length === 0) return;
    this.#evaluations.threshold += checks.length;
    for (const check of checks) {
      const value = readValue(check, block);
      if (Number.isNaN(value)) continue;
      const tracked = this.#table.get(check.id) ?? this.#begin(check, block, value);
      if (tracked !== undefined) this.#step(tracked, check, block, value);
    }
  }

  /**
   * Evaluates the event rules, whatever lane brought the event. An event not newer than the last one of the same
   * alert is a repeat and changes nothing: agents send again what a restored store has lost.
   */
  event(source: Source, event: FleetEvent, late: boolean): void {
    for (const rule of this.#events) {
      if (rule.event !== event.type) continue;
      this.#evaluations.event++;
      if (rule.until !== undefined && carries(event, rule.until)) this.#end(rule, source, event);
      if (matchesCodes(rule, event) && carries(event, rule.where)) this.#raise(rule, source, event, late);
    }
  }

  /** Ends the event alerts whose time is up. To be called about once a second. */
  advance(nowMs: number): void {
    for (const tracked of this.#expiring) {
      if (nowMs < tracked.expiresMs) continue;
      this.#change(tracked, 'resolved', {
        state: AlertState.RESOLVED,
        resolution: Resolution.EXPIRED,
        resolvedAt: timestampFromMs(nowMs),
        updatedAt: timestampFromMs(nowMs),
      });
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
    const suppressed = holds(tracked, this.#clock.now());
    if (!suppressed) forgetLevels(tracked);
    this.#change(tracked, 'resolved', {
      state: AlertState.RESOLVED,
      resolution: Resolution.OPERATOR,
      suppressed,
      summary: withComment(tracked.alert.summary, comment),
      resolvedAt: timestampFromMs(nowMs),
      updatedAt: timestampFromMs(nowMs),
    });
    return suppressed ? 'suppressed' : 'resolved';
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
      const tracked = restored(alert, rule ?? orphanRule(alert), nowMs);
      if (!this.#table.add(tracked)) {
        this.#refused.inc({ rule: rule?.name ?? '' });
        continue;
      }
      if (alert.state !== AlertState.FIRING) continue;
      if (rule === undefined) {
        this.#change(tracked, 'resolved', {
          state: AlertState.RESOLVED,
          resolution: Resolution.CLEARED,
          summary: `Its rule was removed: ${alert.summary}`.slice(0, 1000),
          resolvedAt: timestampFromMs(nowMs),
          updatedAt: timestampFromMs(nowMs),
        });
      } else if (rule.kind === 'event') {
        this.#expiring.add(tracked);
      }
    }
  }

  #checksOf(block: Block): Check[] {
    let programs = this.#programs.get(block.source);
    if (programs === undefined) {
      programs = new WeakMap();
      this.#programs.set(block.source, programs);
    }
    let checks = programs.get(block.dictionary);
    if (checks === undefined) {
      const { cluster, node } = block.source;
      checks = compileChecks(cluster, node, block.dictionary, this.#thresholds);
      programs.set(block.dictionary, checks);
    }
    return checks;
  }

  /** Starts to track an alert at its first breach; undefined where there is none, or no room. */
  #begin(check: Check, block: Block, value: number): TrackedAlert | undefined {
    const { rule } = check;
    let breached = false;
    for (let level = 0; level < rule.levels.length && !breached; level++) {
      breached = isBeyond(rule, value, readLimit(check, level, block));
    }
    if (!breached) return undefined;
    return this.#add(
      rule,
      create(AlertSchema, {
        id: check.id,
        rule: rule.name,
        key: check.key,
        cluster: block.source.cluster,
        node: block.source.node,
        gpu: check.gpu,
        gpuUuid: check.gpuUuid,
        gpuModel: check.gpuModel,
        labels: check.labels,
      }),
    );
  }

  #add(rule: Rule, alert: Alert): TrackedAlert | undefined {
    const tracked = track(rule, alert);
    if (this.#table.add(tracked)) return tracked;
    this.#refused.inc({ rule: rule.name });
    return undefined;
  }

  #step(tracked: TrackedAlert, check: Check, block: Block, value: number): void {
    const t = block.timestampMs;
    if (t <= tracked.seenMs && t > tracked.seenMs - CLOCK_STEP_MS) return;
    const afterGap = Math.abs(t - tracked.seenMs) > GAP_INTERVALS * block.dictionary.intervalMs;
    tracked.seenMs = t;
    tracked.heardMs = this.#clock.now();
    tracked.intervalMs = block.dictionary.intervalMs;

    const { rule } = check;
    let top = -1;
    let holding = -1;
    for (let level = 0; level < rule.levels.length; level++) {
      const limit = readLimit(check, level, block);
      if (!Number.isNaN(limit)) stepLevel(tracked, rule, level, value, limit, t, afterGap);
      if (tracked.active[level]) top = level;
      if (!Number.isNaN(tracked.since[level]!)) holding = level;
    }
    this.#decide(tracked, check, block, value, top, holding);
  }

  /** The one place where a threshold alert changes state. `top` fires, `holding` holds; -1 for none. */
  #decide(
    tracked: TrackedAlert,
    check: Check,
    block: Block,
    value: number,
    top: number,
    holding: number,
  ): void {
    const { alert } = tracked;
    const { rule } = check;
    const at = timestampFromMs(block.timestampMs);
    const describe = (level: number, comparison: string, back = 0) => {
      const limit = readLimit(check, level, block) - (rule.direction === 'above' ? back : -back);
      const threshold = Number.isNaN(limit) ? alert.threshold : limit;
      const summary = thresholdSummary(rule, alert, value, comparison, threshold, check.unit);
      return { value, threshold, summary, updatedAt: at };
    };
    if (alert.state === AlertState.FIRING) {
      if (top < 0) {
        this.#change(tracked, 'resolved', {
          ...describe(0, `no longer ${rule.direction}`, rule.clear),
          state: AlertState.RESOLVED,
          resolution: Resolution.CLEARED,
          resolvedAt: at,
        });
      } else if (rule.levels[top]!.severity !== alert.severity) {
        this.#change(tracked, 'severity', {
          ...describe(top, rule.direction),
          severity: rule.levels[top]!.severity,
        });
      }
      return;
    }
    if (alert.suppressed) {
      if (holding < 0) this.#change(tracked, 'released', { suppressed: false });
      return;
    }
    if (top >= 0) {
      this.#change(tracked, 'fired', {
        ...describe(top, rule.direction),
        ...firingFrom(earliest(tracked.since), at),
        severity: rule.levels[top]!.severity,
      });
    } else if (alert.state === AlertState.PENDING) {
      if (holding < 0) this.#withdraw(tracked);
    } else if (holding >= 0) {
      tracked.beforePending = alert;
      this.#change(tracked, 'pending', {
        ...describe(holding, rule.direction),
        state: AlertState.PENDING,
        severity: rule.levels[holding]!.severity,
        startedAt: timestampFromMs(earliest(tracked.since)),
      });
    }
  }

  /** The event says that what raised the alert is over. */
  #end(rule: EventRule, source: Source, event: FleetEvent): void {
    const tracked = this.#table.get(eventAlertId(rule, source, event));
    if (tracked?.alert.state !== AlertState.FIRING || event.timestampMs < tracked.seenMs) return;
    tracked.seenMs = Math.min(event.timestampMs, this.#clock.now());
    const at = timestampFromMs(event.timestampMs);
    this.#change(tracked, 'resolved', {
      state: AlertState.RESOLVED,
      resolution: Resolution.CLEARED,
      summary: eventSummary(rule, event, source.node, 'is over'),
      resolvedAt: at,
      updatedAt: at,
    });
  }

  #raise(rule: EventRule, source: Source, event: FleetEvent, late: boolean): void {
    const key = keyOf(rule, event);
    const id = eventAlertId(rule, source, event);
    const tracked =
      this.#table.get(id) ??
      this.#add(
        rule,
        create(AlertSchema, {
          id,
          rule: rule.name,
          key,
          cluster: source.cluster,
          node: source.node,
          gpu: event.gpu,
          gpuUuid: event.gpuUuid,
        }),
      );
    if (tracked === undefined || event.timestampMs <= tracked.seenMs) return;
    tracked.heardMs = this.#clock.now();
    // A stamp from the future must not hide what really comes until then.
    tracked.seenMs = Math.min(event.timestampMs, tracked.heardMs);
    // From its arrival: an event from the backlog must be seen for as long as one that came at once.
    tracked.expiresMs = tracked.heardMs + rule.expiresMs;
    if (tracked.alert.state === AlertState.FIRING) return;
    const code = codeOf(event);
    const at = timestampFromMs(event.timestampMs);
    const xid = event.type === 'xid' && code !== undefined ? xidNamed(code) : undefined;
    // What the agent says of it goes first: it knows the driver's own verdict, and the site's.
    const known = xid === undefined ? '' : `${code} (${event.attributes.name ?? xid.name})`;
    this.#change(tracked, 'fired', {
      ...firingFrom(event.timestampMs, at),
      severity: rule.severity,
      value: code ?? 1,
      summary: eventSummary(rule, event, source.node, known),
      labels: xid === undefined ? event.attributes : { action: xid.action, ...event.attributes },
      updatedAt: at,
      late,
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
    if (isTransition(change)) {
      alert.transition++;
      const state = alert.state === AlertState.FIRING ? 'firing' : 'resolved';
      this.#transitions.inc({ rule: alert.rule, state });
    }
    if (change !== 'pending') tracked.beforePending = undefined;
    tracked.alert = alert;
    this.#table.settle(tracked);
    if (tracked.rule.kind === 'event') {
      if (alert.state === AlertState.FIRING) this.#expiring.add(tracked);
      else this.#expiring.delete(tracked);
    }
    this.#tell(alert, change);
  }

  #tell(alert: Alert, change: AlertChange): void {
    for (const listener of this.#listeners) listener(alert, change);
  }
}

function isBeyond(rule: ThresholdRule, value: number, limit: number): boolean {
  return rule.direction === 'above' ? value > limit : value < limit;
}

function stepLevel(
  tracked: TrackedAlert,
  rule: ThresholdRule,
  level: number,
  value: number,
  limit: number,
  t: number,
  afterGap: boolean,
): void {
  if (tracked.active[level]) {
    // Hysteresis: an active level ends only `clear` back from its limit.
    const end = rule.direction === 'above' ? limit - rule.clear : limit + rule.clear;
    if (isBeyond(rule, value, end)) return;
    tracked.active[level] = false;
    tracked.since[level] = Number.NaN;
  } else if (isBeyond(rule, value, limit)) {
    if (Number.isNaN(tracked.since[level]!) || afterGap) tracked.since[level] = t;
    tracked.active[level] = t - tracked.since[level]! >= rule.levels[level]!.forMs;
  } else {
    tracked.since[level] = Number.NaN;
  }
}

/** Whether the condition was seen to hold lately. An event has no condition that could go on holding. */
function holds(tracked: TrackedAlert, nowMs: number): boolean {
  if (tracked.rule.kind === 'event') return false;
  return nowMs - tracked.heardMs <= Math.max(GAP_INTERVALS * tracked.intervalMs, UNHEARD_MS);
}

function forgetLevels(tracked: TrackedAlert): void {
  tracked.since.fill(Number.NaN);
  tracked.active.fill(false);
}

function firingFrom(startedMs: number, at: Timestamp): Partial<Alert> {
  return {
    state: AlertState.FIRING,
    startedAt: timestampFromMs(startedMs),
    firedAt: at,
    resolvedAt: undefined,
    resolution: Resolution.UNSPECIFIED,
    suppressed: false,
    late: false,
  };
}

function earliest(since: Float64Array): number {
  let first = Number.POSITIVE_INFINITY;
  for (const t of since) if (t < first) first = t;
  return first;
}

function track(rule: Rule, alert: Alert): TrackedAlert {
  const levels = rule.kind === 'threshold' ? rule.levels.length : 0;
  return {
    rule,
    alert,
    beforePending: undefined,
    since: new Float64Array(levels).fill(Number.NaN),
    active: new Array<boolean>(levels).fill(false),
    seenMs: Number.NEGATIVE_INFINITY,
    heardMs: Number.NEGATIVE_INFINITY,
    intervalMs: 0,
    expiresMs: Number.POSITIVE_INFINITY,
  };
}

function restored(alert: Alert, rule: Rule, nowMs: number): TrackedAlert {
  const tracked = track(rule, alert);
  const updatedMs = alert.updatedAt ? timestampMs(alert.updatedAt) : nowMs;
  if (rule.kind === 'event') {
    tracked.seenMs = updatedMs;
    // When a late event arrived is not kept: it is shown for a whole `expires` again rather than not at all.
    tracked.expiresMs = (alert.late ? nowMs : Math.min(updatedMs, nowMs)) + rule.expiresMs;
    return tracked;
  }
  if (alert.state === AlertState.FIRING || alert.suppressed) {
    const startedMs = alert.startedAt ? timestampMs(alert.startedAt) : updatedMs;
    for (const [level, { severity }] of rule.levels.entries()) {
      if (level > 0 && severity > alert.severity) continue;
      tracked.since[level] = startedMs;
      tracked.active[level] = true;
    }
  }
  return tracked;
}

/** Stands in for a rule that is no longer in the file, until its alert is dropped. */
function orphanRule(alert: Alert): Rule {
  return {
    kind: 'event',
    name: alert.rule,
    summary: alert.rule,
    event: '',
    codes: 'any',
    key: undefined,
    where: {},
    until: undefined,
    severity: Severity.UNSPECIFIED,
    expiresMs: 0,
  };
}

function keyOf({ key }: EventRule, { attributes }: FleetEvent): string {
  return key === undefined ? '' : (attributes[key] ?? '').slice(0, MAX_KEY);
}

function eventAlertId(rule: EventRule, { cluster, node }: Source, event: FleetEvent): string {
  return alertId(cluster, node, event.gpuUuid || event.gpu, rule.name, keyOf(rule, event));
}

function carries({ attributes }: FleetEvent, wanted: LabelMatch): boolean {
  for (const name in wanted) if (attributes[name] !== wanted[name]) return false;
  return true;
}

/** A follower of another error is no incident of its own; what an operator suppressed wakes nobody. */
function matchesCodes(rule: EventRule, event: FleetEvent): boolean {
  if (event.attributes.follows || event.attributes.suppressed) return false;
  if (rule.codes === 'any') return true;
  const code = codeOf(event);
  if (code === undefined) return false;
  if (rule.codes !== 'critical') return rule.codes.has(code);
  const { severity } = event.attributes;
  return severity === undefined ? isCriticalXid(code) : severity === 'critical';
}

function codeOf(event: FleetEvent): number | undefined {
  const text = event.attributes.code;
  return text !== undefined && /^\d{1,6}$/.test(text) ? Number(text) : undefined;
}
