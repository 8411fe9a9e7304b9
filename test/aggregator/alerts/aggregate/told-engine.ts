import { create } from '@bufbuild/protobuf';
import { type Alert, AlertSchema, AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { AlertListener } from '../../../../aggregator/alerts/alert-change.ts';
import { alertId } from '../../../../aggregator/alerts/alert-id.ts';
import type { AbsentRule, AggregateRule } from '../../../../aggregator/alerts/rules/rules.ts';
import type { Subject } from '../../../../aggregator/alerts/subject.ts';

/** An engine without `for` or hysteresis that remembers what it was told. */
export class ToldEngine {
  readonly #alerts = new Map<string, Alert>();
  readonly #listeners = new Set<AlertListener>();
  /** The last value of each subject, by rule and subject: `rack-hot rack=r1`. NaN where it was said to be gone. */
  readonly told = new Map<string, number>();
  calls = 0;

  observe(
    rule: AbsentRule | AggregateRule,
    subject: Subject,
    value: number,
    _atMs: number,
    _intervalMs: number,
  ): void {
    this.calls++;
    this.told.set(nameOf(rule.name, subject), value);
    const limit = rule.levels[0]!.limit as number;
    this.set(rule.name, subject, rule.direction === 'above' ? value > limit : value < limit);
  }

  resolveGone(rule: AbsentRule | AggregateRule, subject: Subject, _atMs: number): void {
    this.calls++;
    this.told.set(nameOf(rule.name, subject), Number.NaN);
    this.set(rule.name, subject, false);
  }

  alerts(): Iterable<Alert> {
    return this.#alerts.values();
  }

  subscribe(listener: AlertListener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** An alert begins or ends, of whatever rule. */
  set(
    rule: string,
    subject: Pick<Subject, 'cluster' | 'node' | 'gpu' | 'gpuUuid' | 'key'>,
    firing: boolean,
  ): void {
    const { cluster, node, gpu, gpuUuid, key } = subject;
    const id = alertId(cluster, node, gpuUuid || gpu, rule, key);
    const known = this.#alerts.get(id);
    const state = firing ? AlertState.FIRING : AlertState.RESOLVED;
    if ((known?.state ?? AlertState.RESOLVED) === state) return;
    const transition = (known?.transition ?? 0n) + 1n;
    const alert = create(AlertSchema, {
      ...{ id, rule, cluster, node, gpu, gpuUuid, key, state, transition },
      severity: Severity.WARNING,
    });
    this.#alerts.set(id, alert);
    for (const listener of this.#listeners) listener(alert, firing ? 'fired' : 'resolved');
  }

  /** What fires, as `rule node/gpu key`. */
  firing(rule: string): string[] {
    return [...this.#alerts.values()]
      .filter((alert) => alert.rule === rule && alert.state === AlertState.FIRING)
      .map((alert) => nameOf('', alert).trim())
      .sort();
  }
}

/** `rule node GPU key`, without the parts that are empty. */
function nameOf(rule: string, subject: Pick<Subject, 'node' | 'gpu' | 'gpuUuid' | 'key'>): string {
  return [rule, subject.node, subject.gpuUuid || subject.gpu, subject.key]
    .filter((part) => part !== '')
    .join(' ');
}
