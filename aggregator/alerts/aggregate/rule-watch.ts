import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Block, Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { AlertEngine } from '../alert-engine.ts';
import type { AbsentRule, AggregateRule, GroupBy, LabelMatch, Rule } from '../rules/rules.ts';
import { AbsentWatch } from './absent-watch.ts';
import { AggregateWatch } from './aggregate-watch.ts';
import { FiringSubjects } from './firing-subjects.ts';
import { GpuTable, MOVED_MS } from './gpu-table.ts';
import { type GroupsOf, GroupTable } from './group-table.ts';
import { firingCounts, firingShares, seriesValues } from './group-values.ts';
import { DEFAULT_LIMITS, GONE_MS, type WatchLimits } from './limits.ts';
import { NodeTable } from './node-table.ts';
import { OpenAlerts } from './open-alerts.ts';
import { compileProgram, type SeriesProgram } from './series-program.ts';
import { SeriesTable } from './series-table.ts';

export interface RuleWatchOptions {
  /** Restored before the first call of setRules: what fires already counts from then on. */
  readonly engine: Pick<AlertEngine, 'observe' | 'resolveGone' | 'alerts' | 'subscribe'>;
  readonly groupsOf: GroupsOf;
  readonly connected: (cluster: string, node: string) => boolean;
  readonly clock: Clock;
  readonly registry: Registry;
  /** How long after a start, or a long stop of this process, groups wait for their nodes; two minutes by default. */
  readonly warmUpMs?: number;
  readonly limits?: Partial<WatchLimits>;
}

/** Our own judgement: agents come back within seconds, a fleet of 12,500 nodes within a minute. */
const WARM_UP_MS = 120_000;
/** Calls of advance further apart than this: the process was stopped, and nothing could be heard meanwhile. */
const STOP_MS = 10_000;
/** How often the inventory is asked anew which groups a node is in. */
const REGROUP_MS = 10_000;
const SWEEP_MS = 60_000;
/** A program that was not used for so long is made anew: its rows may have gone to others. */
const REST_MS = MOVED_MS - SWEEP_MS;

/**
 * Absent and aggregate rules: what a single tick cannot say. Ticks only leave their values in columns; `advance`
 * looks at those and tells the engine, which has the alerts. It sees the nodes of this aggregator alone.
 */
export class RuleWatch implements Disposable {
  readonly #options: RuleWatchOptions;
  readonly #limits: WatchLimits;
  readonly #nodes: NodeTable;
  readonly #gpus: GpuTable;
  readonly #refused: Counter<'what'>;
  readonly #subscription: Disposable;
  readonly #startedMs: number;
  #programs = new WeakMap<Source, WeakMap<Dictionary, SeriesProgram>>();
  #version = 0;
  #tables = new Map<string, SeriesTable>();
  #groups = new Map<GroupBy, GroupTable>();
  #firing = new Map<string, FiringSubjects>();
  #open = new Map<string, OpenAlerts>();
  #absent: AbsentWatch[] = [];
  #aggregates: AggregateWatch[] = [];
  /** Nodes that came since the last advance. */
  #unplaced: number[] = [];
  #advancedMs: number;
  #awakeMs: number;
  #regroupMs = Number.NEGATIVE_INFINITY;
  #sweptMs: number;

  constructor(options: RuleWatchOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#nodes = new NodeTable(this.#limits.nodes);
    this.#gpus = new GpuTable(this.#limits.gpus, this.#nodes);
    this.#startedMs = options.clock.monotonic();
    this.#advancedMs = this.#startedMs;
    this.#awakeMs = this.#startedMs;
    this.#sweptMs = this.#startedMs;
    this.#refused = counter(options.registry, {
      name: 'gpufleet_alert_watch_refused_total',
      help: 'Nodes, GPUs, series and places in groups that absent and aggregate rules do not see: a limit was reached.',
      labelNames: ['what'],
    });
    const kept = () => this.#kept();
    gauge(options.registry, {
      name: 'gpufleet_alert_watch_kept',
      help: 'What absent and aggregate rules look at: nodes, GPUs, series, groups.',
      labelNames: ['what'],
      collect() {
        for (const [what, count] of Object.entries(kept())) this.set({ what }, count);
      },
    });
    this.#subscription = options.engine.subscribe((alert) => this.#note(alert));
  }

  /** The rules from now on. What was seen for a metric that is still asked for stays known. */
  setRules(rules: readonly Rule[]): void {
    const absent = rules.filter((rule) => rule.kind === 'absent');
    const aggregates = rules.filter((rule) => rule.kind === 'aggregate');
    this.#version++;
    this.#setTables([...absent, ...aggregates]);
    this.#setGroups(aggregates);
    this.#setAlerts([...absent, ...aggregates]);
    this.#absent = absent.map((rule) => this.#watchAbsent(rule));
    this.#aggregates = aggregates.map((rule) => this.#watchAggregate(rule));
  }

  /** The hot path: leaves the values of one tick. */
  evaluate(block: Block): void {
    if (!block.live || (this.#absent.length === 0 && this.#aggregates.length === 0)) return;
    const nowMs = this.#options.clock.monotonic();
    const program = this.#programOf(block, nowMs);
    if (program.nodeRow < 0) return;
    program.usedMs = nowMs;
    this.#nodes.seenMs[program.nodeRow] = nowMs;
    this.#gpus.touch(program.gpus, nowMs);
    for (let i = 0; i < program.reads.length; i++) {
      const { table, slots, rows } = program.reads[i]!;
      table.take(slots, rows, block, nowMs);
    }
  }

  /** Judges. To be called about once a second. */
  advance(nowMs: number): void {
    const steadyMs = this.#options.clock.monotonic();
    if (steadyMs - this.#advancedMs > STOP_MS) this.#awakeMs = steadyMs;
    this.#advancedMs = steadyMs;
    this.#regroup(steadyMs);
    if (this.#absent.length > 0) this.#nodes.poll(this.#options.connected, steadyMs);
    for (const watch of this.#absent) watch.judge(nowMs, steadyMs, this.#awakeMs);
    const partial = steadyMs - this.#awakeMs < (this.#options.warmUpMs ?? WARM_UP_MS);
    for (const watch of this.#aggregates) watch.judge(nowMs, partial);
    if (steadyMs - this.#sweptMs >= SWEEP_MS) this.#sweep(nowMs, steadyMs);
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]();
  }

  #setTables(rules: readonly (AbsentRule | AggregateRule)[]): void {
    const tables = new Map<string, SeriesTable>();
    for (const rule of rules) {
      const read = readOf(rule);
      if (read === undefined) continue;
      const name = tableName(read.metric, read.labels);
      const table =
        tables.get(name) ??
        this.#tables.get(name) ??
        new SeriesTable(read.metric, read.labels, this.#limits.series, this.#nodes);
      tables.set(name, table);
    }
    for (const [name, table] of this.#tables) if (!tables.has(name)) table.clear();
    this.#tables = tables;
  }

  #setGroups(rules: readonly AggregateRule[]): void {
    const groups = new Map<GroupBy, GroupTable>();
    for (const { by } of rules) {
      groups.set(by, this.#groups.get(by) ?? new GroupTable(by, this.#limits.groups));
    }
    this.#groups = groups;
    this.#regroupMs = Number.NEGATIVE_INFINITY;
  }

  /** Which alerts are counted and which are open, from what the engine has. */
  #setAlerts(rules: readonly (AbsentRule | AggregateRule)[]): void {
    for (const firing of this.#firing.values()) firing.clear();
    this.#firing = new Map();
    this.#open = new Map(rules.map(({ name }) => [name, new OpenAlerts()]));
    for (const rule of rules) {
      if (rule.kind !== 'aggregate' || !('rule' in rule.of)) continue;
      const { rule: counted } = rule.of;
      if (!this.#firing.has(counted)) this.#firing.set(counted, new FiringSubjects(this.#nodes));
    }
    for (const alert of this.#options.engine.alerts()) this.#note(alert);
  }

  #note(alert: Alert): void {
    this.#open.get(alert.rule)?.note(alert);
    this.#firing.get(alert.rule)?.note(alert, this.#options.clock.monotonic());
  }

  #watchAbsent(rule: AbsentRule): AbsentWatch {
    const table = this.#tables.get(tableName(rule.metric, rule.labels))!;
    const { engine } = this.#options;
    const open = this.#open.get(rule.name)!;
    return new AbsentWatch({
      ...{ rule, engine, table, open },
      nodes: this.#nodes,
      gpus: this.#gpus,
      sinceMs: this.#startedMs,
    });
  }

  #watchAggregate(rule: AggregateRule): AggregateWatch {
    const groups = this.#groups.get(rule.by)!;
    const open = this.#open.get(rule.name)!;
    return new AggregateWatch({
      rule,
      engine: this.#options.engine,
      groups,
      open,
      ...this.#sourceOf(rule, groups),
    });
  }

  #sourceOf({ of }: AggregateRule, groups: GroupTable): { values: () => Float64Array; unit: () => string } {
    if (of.fn === 'count_of' || of.fn === 'share_of') {
      const firing = this.#firing.get(of.rule)!;
      const count = () =>
        of.fn === 'count_of'
          ? firingCounts(firing, groups, this.#gpus)
          : firingShares(firing, groups, this.#gpus, this.#nodes);
      const versions = () => [firing.version, groups.version, this.#gpus.version];
      return {
        values: unlessChanged(versions, count),
        unit: () => '',
      };
    }
    const table = this.#tables.get(tableName(of.metric, of.labels))!;
    return {
      values: () => seriesValues(of.fn, table, groups, this.#options.clock.monotonic()),
      unit: () => table.unit,
    };
  }

  #programOf({ source, dictionary }: Block, nowMs: number): SeriesProgram {
    let programs = this.#programs.get(source);
    if (programs === undefined) {
      programs = new WeakMap();
      this.#programs.set(source, programs);
    }
    let program = programs.get(dictionary);
    if (program === undefined || program.version !== this.#version || nowMs - program.usedMs > REST_MS) {
      const nodeRow = this.#nodeRow(source, nowMs);
      program = compileProgram({
        ...{ dictionary, nodeRow, nowMs },
        tables: this.#tables.values(),
        gpus: this.#gpus,
        version: this.#version,
        refused: (what) => this.#refused.inc({ what }),
      });
      programs.set(dictionary, program);
    }
    return program;
  }

  #nodeRow({ cluster, node }: Source, nowMs: number): number {
    const known = this.#nodes.find(cluster, node);
    const row = known >= 0 ? known : this.#nodes.add(cluster, node, nowMs);
    if (row < 0) this.#refused.inc({ what: 'nodes' });
    else if (known < 0) {
      this.#unplaced.push(row);
      // It has just sent something.
      this.#nodes.connectedMs[row] = nowMs;
    }
    return row;
  }

  #regroup(steadyMs: number): void {
    const { groupsOf } = this.#options;
    const refused = () => this.#refused.inc({ what: 'groups' });
    const whole = steadyMs - this.#regroupMs >= REGROUP_MS;
    for (const groups of this.#groups.values()) {
      if (whole) groups.rebuild(this.#nodes, groupsOf, refused);
      else for (const row of this.#unplaced) groups.place(row, this.#nodes, groupsOf, refused);
    }
    this.#unplaced = [];
    if (whole) this.#regroupMs = steadyMs;
  }

  #sweep(nowMs: number, steadyMs: number): void {
    this.#sweptMs = steadyMs;
    this.#gpus.sweep(steadyMs);
    for (const table of this.#tables.values()) {
      const watches = this.#absent.filter((watch) => watch.table === table);
      for (let row = 0; row < table.size; row++) {
        if (table.nodeRows[row]! < 0 || steadyMs - table.touchedMs[row]! <= GONE_MS) continue;
        if (!watches.some((watch) => watch.expects(row, steadyMs))) table.delete(row);
      }
    }
    for (const watch of this.#absent) watch.resolveGone(nowMs, steadyMs);
    this.#nodes.sweep(steadyMs);
  }

  #kept(): Record<string, number> {
    const sum = (counts: number[]) => counts.reduce((so, count) => so + count, 0);
    return {
      nodes: this.#nodes.used,
      series: sum([...this.#tables.values()].map(({ used }) => used)),
      groups: sum([...this.#groups.values()].map(({ size }) => size)),
    };
  }
}

/** What a rule reads of ticks; undefined where it counts alerts. */
function readOf(rule: AbsentRule | AggregateRule): { metric: string; labels: LabelMatch } | undefined {
  if (rule.kind === 'absent') return rule;
  return 'metric' in rule.of ? rule.of : undefined;
}

function tableName(metric: string, labels: LabelMatch): string {
  return JSON.stringify([metric, Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

/** The result of the last call, until one of the versions is another. */
function unlessChanged(versions: () => readonly number[], count: () => Float64Array): () => Float64Array {
  let seen = '';
  let counted: Float64Array = new Float64Array(0);
  return () => {
    const now = versions().join();
    if (now !== seen) {
      seen = now;
      counted = count();
    }
    return counted;
  };
}
