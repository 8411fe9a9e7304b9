import { Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Source } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { RuleWatch, type RuleWatchOptions } from '../../../../aggregator/alerts/aggregate/rule-watch.ts';
import type { AbsentRule, AggregateRule, GroupBy } from '../../../../aggregator/alerts/rules/rules.ts';
import { blockOf, dictionaryOf, gpuLabels, ManualClock, series } from '../block-of.ts';
import { ToldEngine } from './told-engine.ts';

const TEXTS = { summary: 'something', annotations: {}, addLabels: {}, clear: 0, keepFiringMs: 0 };

export function absentRule(metric: string, aboveS: number, more: Partial<AbsentRule> = {}): AbsentRule {
  return {
    kind: 'absent',
    name: 'absent',
    ...TEXTS,
    direction: 'above',
    levels: [{ severity: Severity.WARNING, limit: aboveS, forMs: 0 }],
    metric,
    labels: {},
    ...more,
  };
}

export function aggregateRule(
  of: AggregateRule['of'],
  by: GroupBy,
  limit: number,
  more: Partial<AggregateRule> = {},
): AggregateRule {
  return {
    kind: 'aggregate',
    name: 'aggregate',
    ...TEXTS,
    direction: 'above',
    levels: [{ severity: Severity.WARNING, limit, forMs: 0 }],
    of,
    by,
    ...more,
  };
}

/** Nodes with GPUs that report one metric, a watch over them, and time that moves when told to. */
export class WatchedFleet {
  readonly clock = new ManualClock();
  readonly engine = new ToldEngine();
  readonly registry = createRegistry();
  /** Groups by node; a test changes them as the inventory does. */
  readonly groups = new Map<string, Partial<Record<GroupBy, readonly string[]>>>();
  readonly away = new Set<string>();
  readonly watch: RuleWatch;
  readonly #sources = new Map<string, Source>();
  readonly #dictionaries = new Map<string, Dictionary>();

  constructor(rules: readonly (AbsentRule | AggregateRule)[], more: Partial<RuleWatchOptions> = {}) {
    this.watch = new RuleWatch({
      engine: this.engine,
      groupsOf: (_, node) => this.groups.get(node) ?? {},
      connected: (_, node) => !this.away.has(node),
      clock: this.clock,
      registry: this.registry,
      warmUpMs: 0,
      ...more,
    });
    this.watch.setRules(rules);
  }

  /** One live tick of a node: the value of each GPU, undefined where there is none. The dictionary has just these GPUs. */
  tick(
    node: string,
    values: Readonly<Record<string, number | undefined>>,
    metric = 'gpu_power_watts',
    live = true,
  ): void {
    const source = this.#sources.get(node) ?? { cluster: 'east', node, externalLabels: [] };
    this.#sources.set(node, source);
    const name = `${node} ${metric} ${Object.keys(values).join()}`;
    const dictionary =
      this.#dictionaries.get(name) ??
      dictionaryOf(
        Object.keys(values).map((uuid, gpu) => series(metric, gpuLabels(gpu, { uuid }), 'W')),
        10_000,
      );
    this.#dictionaries.set(name, dictionary);
    this.watch.evaluate(blockOf(dictionary, this.clock.ms, Object.values(values), { source, live }));
  }

  /** Second by second, with what happens in each. */
  pass(seconds: number, each: () => void = () => {}): void {
    for (let i = 0; i < seconds; i++) {
      this.clock.ms += 1000;
      each();
      this.watch.advance(this.clock.ms);
    }
  }

  gpu(node: string, gpuUuid: string, key = '') {
    return { cluster: 'east', node, gpu: '0', gpuUuid, key };
  }
}
