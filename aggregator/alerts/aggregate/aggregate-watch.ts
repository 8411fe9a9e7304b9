import type { AlertEngine } from '../alert-engine.ts';
import { isBeyond } from '../level-steps.ts';
import type { AggregateRule } from '../rules/rules.ts';
import type { Subject } from '../subject.ts';
import type { GroupTable } from './group-table.ts';
import { easiestLimit, type OpenAlerts, subjectOf } from './open-alerts.ts';
import { Rounds } from './rounds.ts';

export interface AggregateWatchOptions {
  readonly rule: AggregateRule;
  readonly engine: Pick<AlertEngine, 'observe' | 'resolveGone'>;
  readonly groups: GroupTable;
  readonly open: OpenAlerts;
  /** One for each group; NaN where it is empty. */
  readonly values: () => Float64Array;
  readonly unit: () => string;
}

/** Judges one aggregate rule on each of its groups. */
export class AggregateWatch {
  readonly #options: AggregateWatchOptions;
  readonly #rounds = new Rounds<{ readonly subject: Subject; readonly value: number }>();
  readonly #easiest: number;
  /** Of each group for this rule: one object, so that the engine finds its alert without hashing its name. */
  readonly #subjects = new WeakMap<Subject, Subject>();

  constructor(options: AggregateWatchOptions) {
    this.#options = options;
    this.#easiest = easiestLimit(options.rule);
  }

  get rule(): AggregateRule {
    return this.#options.rule;
  }

  /**
   * `partial`: after a start not all nodes have come back. A count can then only be too small, so that one that is
   * beyond its limit all the same counts; anything else waits.
   */
  judge(nowMs: number, partial: boolean): void {
    const { rule, engine } = this.#options;
    if (partial && (rule.of.fn !== 'count_of' || rule.direction !== 'above')) return;
    for (const { subject, value } of this.#rounds.take(nowMs, () => this.#candidates(partial))) {
      if (Number.isNaN(value)) engine.resolveGone(rule, subject, nowMs);
      else engine.observe(rule, subject, value, nowMs, this.#rounds.intervalMs);
    }
  }

  #candidates(partial: boolean): { subject: Subject; value: number }[] {
    const { rule, groups, open, values } = this.#options;
    const found: { subject: Subject; value: number }[] = [];
    const all = values();
    for (let group = 0; group < all.length; group++) {
      const subject = groups.subjectOf(group);
      const value = all[group]!;
      const beyond = isBeyond(rule, value, this.#easiest);
      if (!beyond && (partial || !open.has(subject.cluster, subject.node, '', subject.key))) continue;
      found.push({ subject: this.#withUnit(subject), value });
    }
    if (partial) return found;
    for (const alert of open.all()) {
      // Nothing is left of the group: its nodes went, or are called otherwise now.
      if (!groups.has(alert.cluster, alert.node, alert.key))
        found.push({ subject: subjectOf(alert), value: Number.NaN });
    }
    return found;
  }

  #withUnit(group: Subject): Subject {
    const known = this.#subjects.get(group);
    if (known !== undefined) return known;
    const subject = { ...group, unit: this.#options.unit() };
    this.#subjects.set(group, subject);
    return subject;
  }
}
