import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { AlertTable } from './alert-table.ts';
import type { Rule } from './rules/rules.ts';

const KINDS = ['threshold', 'absent', 'aggregate', 'event'] as const;

/** What the engine counts. */
export class AlertInstruments {
  readonly transitions: Counter<'rule' | 'state'>;
  readonly refused: Counter<'rule'>;
  /** Since the last scrape: counted in plain numbers, as each tick comes by here. */
  readonly evaluations: Record<Rule['kind'], number> = { threshold: 0, absent: 0, aggregate: 0, event: 0 };

  constructor(registry: Registry, table: AlertTable) {
    this.transitions = counter(registry, {
      name: 'gpufleet_alert_transitions_total',
      help: 'Alerts that began to fire, changed severity, were acknowledged or resolved, by rule and the state they came to.',
      labelNames: ['rule', 'state'],
    });
    const { evaluations } = this;
    counter(registry, {
      name: 'gpufleet_alert_rule_evaluations_total',
      help: 'Rules looked at, on a series, a group or an event.',
      labelNames: ['kind'],
      collect() {
        for (const kind of KINDS) {
          this.inc({ kind }, evaluations[kind]);
          evaluations[kind] = 0;
        }
      },
    });
    this.refused = counter(registry, {
      name: 'gpufleet_alerts_refused_total',
      help: 'Alerts not raised because the limit of active alerts, in all or of the node, was reached.',
      labelNames: ['rule'],
    });
    gauge(registry, {
      name: 'gpufleet_alerts_active',
      help: 'Alerts that fire, by severity.',
      labelNames: ['severity'],
      collect() {
        for (const severity of ['info', 'warning', 'critical'] as const) {
          this.set({ severity }, table.firing(severity));
        }
      },
    });
  }
}
