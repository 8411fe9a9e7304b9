import { readFileSync } from 'node:fs';
import { AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Block, Source, Tick } from '#shared/model/block.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { RuleWatch } from '../../../../aggregator/alerts/aggregate/rule-watch.ts';
import { AlertEngine } from '../../../../aggregator/alerts/alert-engine.ts';
import { parseRules } from '../../../../aggregator/alerts/rules/rules-file.ts';
import { severityName } from '../../../../aggregator/alerts/summary.ts';
import { ManualClock } from '../block-of.ts';

export const PACK_FILE = new URL('../../../../aggregator/alerts/rules/default-rules.yaml', import.meta.url);
export const PACK = parseRules(readFileSync(PACK_FILE, 'utf8'), 'default-rules.yaml').rules;

/** One alert of a run, from its first transition to its last. */
export interface Told {
  readonly rule: string;
  readonly node: string;
  readonly gpu: string;
  readonly key: string;
  /** The worst that it came to. */
  severity: string;
  action: string;
  description: string;
  fired: number;
  resolved: number;
}

const RANK = ['info', 'warning', 'critical'];
/** The engine and the watch are asked as often as this, as in the aggregator. */
const STEP_MS = 5_000;

/** The shipped rules over blocks and events, and what subscribers were told. Time is the test's own. */
export class PackRun implements Disposable {
  readonly clock = new ManualClock();
  readonly engine: AlertEngine;
  readonly #watch: RuleWatch;
  readonly #told = new Map<string, Told>();

  constructor(groups: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {}) {
    const registry = createRegistry();
    this.engine = new AlertEngine({ rules: PACK, clock: this.clock, registry });
    this.engine.subscribe((alert, change) => {
      if (change !== 'fired' && change !== 'resolved' && change !== 'severity') return;
      const { id, rule, node, gpu, key } = alert;
      const severity = severityName(alert.severity);
      const { description = '' } = alert.annotations;
      const told = this.#told.get(id) ?? {
        ...{ rule, node, gpu, key, severity, description, fired: 0, resolved: 0 },
        action: alert.labels.action ?? '',
      };
      this.#told.set(id, told);
      if (RANK.indexOf(severity) > RANK.indexOf(told.severity)) told.severity = severity;
      if (change === 'fired') told.fired++;
      if (alert.state === AlertState.RESOLVED) told.resolved++;
    });
    this.#watch = new RuleWatch({
      engine: this.engine,
      groupsOf: (cluster, node) => ({ ...groups[node], node: [node], cluster: [cluster], fleet: ['fleet'] }),
      connected: () => true,
      clock: this.clock,
      registry,
      warmUpMs: 0,
    });
    this.#watch.setRules(PACK);
  }

  /** In order of their first transition. */
  get told(): readonly Told[] {
    return [...this.#told.values()];
  }

  /** `rule severity gpu`, sorted; twice where it fired twice, and marked where it has not resolved. */
  get lines(): string[] {
    return this.told
      .map((one) => {
        const { rule, severity, gpu, key, fired, resolved } = one;
        const open = fired > resolved ? ' firing' : '';
        return `${rule} ${severity} gpu=${gpu}${key === '' ? '' : ` ${key}`}${fired > 1 ? ` x${fired}` : ''}${open}`;
      })
      .sort();
  }

  block(source: Source, tick: Pick<Tick, 'dictionary' | 'values' | 'states'>): void {
    const block: Block = { source, live: true, timestampMs: this.clock.ms, ...tick };
    this.engine.evaluate(block);
    this.#watch.evaluate(block);
  }

  event(source: Source, event: FleetEvent): void {
    this.engine.event(source, event, false);
  }

  pass(ms: number): void {
    const end = this.clock.ms + ms;
    while (this.clock.ms < end) {
      this.clock.ms = Math.min(end, this.clock.ms + STEP_MS);
      this.engine.advance(this.clock.ms);
      this.#watch.advance(this.clock.ms);
    }
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
  }
}
