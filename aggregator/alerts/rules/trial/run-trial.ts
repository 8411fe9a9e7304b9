import { metricNamed } from '#shared/catalogue/metrics.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import type { Block, Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary, Series } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { RuleWatch } from '../../aggregate/rule-watch.ts';
import { AlertEngine } from '../../alert-engine.ts';
import type { GroupBy, Rule } from '../rules.ts';
import { differences } from './expectations.ts';
import type { NotedValue } from './series-notation.ts';
import type { Trial, TrialEvent } from './trial-file.ts';

/** 2026-01-01T00:00:00Z: a test's time 0. */
const START_MS = 1_767_225_600_000;
/** The engine is to be asked about once a second; more often than every ten, or it takes itself for having slept. */
const LONGEST_STEP_MS = 5_000;
const CLUSTER = 'default';

class TrialClock implements Clock {
  atMs = 0;

  now(): number {
    return START_MS + this.atMs;
  }

  monotonic(): number {
    return this.atMs;
  }
}

interface TrialNode {
  readonly source: Source;
  readonly dictionary: Dictionary;
  readonly values: readonly (readonly NotedValue[])[];
}

/** Runs the rules over the test's series and events, and says what is not as expected: a line each, none if all is. */
export function runTrial(trial: Trial, rules: readonly Rule[]): string[] {
  const clock = new TrialClock();
  const registry = createRegistry();
  const contextOf = (_: string, node: string) => trial.groups[node] ?? {};
  const engine = new AlertEngine({ rules, clock, registry, contextOf });
  using watch = new RuleWatch({
    engine,
    groupsOf: (cluster, node) => groupsOf(trial, cluster, node),
    connected: () => true,
    clock,
    registry,
    warmUpMs: 0,
  });
  watch.setRules(rules);
  const nodes = nodesOf(trial);
  const known = new Set(rules.map(({ name }) => name));
  const waiting = [...trial.events];
  const lines: string[] = [];
  const lastMs = Math.max(0, ...trial.expectations.map(({ atMs }) => atMs));
  const stepMs = commonStep(trial.intervalMs);
  let next = 0;
  for (let atMs = 0; atMs <= lastMs; atMs += stepMs) {
    clock.atMs = atMs;
    while (waiting.length > 0 && waiting[0]!.atMs <= atMs) raise(engine, waiting.shift()!);
    if (atMs % trial.intervalMs === 0) {
      for (const node of nodes) {
        const block = blockOf(node, atMs / trial.intervalMs, clock.now());
        engine.evaluate(block);
        watch.evaluate(block);
      }
    }
    engine.advance(clock.now());
    watch.advance(clock.now());
    for (; next < trial.expectations.length && trial.expectations[next]!.atMs < atMs + stepMs; next++) {
      const { rule, alerts, atMs: evalMs } = trial.expectations[next]!;
      const found = known.has(rule)
        ? differences(
            [...engine.alerts()].filter((alert) => alert.rule === rule),
            alerts,
          )
        : ['there is no such rule'];
      lines.push(...found.map((line) => `at ${evalMs / 1000}s, rule ${rule}: ${line}`));
    }
  }
  return lines;
}

/** The longest step that meets every interval. */
function commonStep(intervalMs: number): number {
  let [a, b] = [intervalMs, LONGEST_STEP_MS];
  while (b > 0) [a, b] = [b, a % b];
  return a;
}

function raise(engine: AlertEngine, { atMs, type, node, gpu, uuid, text, attributes }: TrialEvent): void {
  const source = { cluster: CLUSTER, node, externalLabels: [] };
  engine.event(source, { type, timestampMs: START_MS + atMs, gpu, gpuUuid: uuid, text, attributes }, false);
}

function groupsOf(
  { groups }: Trial,
  cluster: string,
  node: string,
): Partial<Record<GroupBy, readonly string[]>> {
  const own = Object.entries(groups[node] ?? {}).map(([by, name]) => [by, [name]] as const);
  return { ...Object.fromEntries(own), node: [node], cluster: [cluster], fleet: ['fleet'] };
}

/** Series by the node that their label `node` names, `n1` where they have none. */
function nodesOf({ series, intervalMs }: Trial): TrialNode[] {
  const byNode = Map.groupBy(series, ({ labels }) => labels.node ?? 'n1');
  return [...byNode].map(([node, own]) => ({
    source: { cluster: CLUSTER, node, externalLabels: [] },
    dictionary: createDictionary('test', intervalMs, own.map(seriesOf)),
    values: own.map(({ values }) => values),
  }));
}

function seriesOf({ name, labels }: Trial['series'][number]): Series {
  const { node: _, cluster: __, ...rest } = labels;
  const known = metricNamed(name);
  return {
    name,
    labels: Object.entries(rest).sort(([a], [b]) => (a < b ? -1 : 1)),
    kind: known?.kind ?? (name.endsWith('_total') ? 'counter' : 'gauge'),
    decimals: known?.decimals ?? 0,
    help: '',
    unit: known?.unit ?? '',
  };
}

function blockOf({ source, dictionary, values }: TrialNode, step: number, timestampMs: number): Block {
  const at = values.map((one) => one[step] ?? 'missing');
  return {
    source,
    dictionary,
    timestampMs,
    live: true,
    values: Float64Array.from(at, (value) => (typeof value === 'number' ? value : 0)),
    states: Uint8Array.from(at, (value) =>
      typeof value === 'number' ? SlotState.Present : value === 'stale' ? SlotState.Stale : SlotState.Absent,
    ),
  };
}
