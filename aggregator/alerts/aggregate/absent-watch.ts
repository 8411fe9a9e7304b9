import { labelOf } from '#shared/model/dictionary.ts';
import type { AlertEngine } from '../alert-engine.ts';
import { isBeyond } from '../level-steps.ts';
import type { AbsentRule } from '../rules/rules.ts';
import type { Subject } from '../subject.ts';
import type { GpuTable } from './gpu-table.ts';
import { GIVEN_UP_MS, GONE_MS } from './limits.ts';
import type { NodeTable } from './node-table.ts';
import { easiestLimit, type OpenAlerts, subjectOf } from './open-alerts.ts';
import { Rounds } from './rounds.ts';
import { alertLabels } from './series-labels.ts';
import type { SeriesTable } from './series-table.ts';

export interface AbsentWatchOptions {
  readonly rule: AbsentRule;
  readonly engine: Pick<AlertEngine, 'observe' | 'resolveGone'>;
  readonly table: SeriesTable;
  readonly nodes: NodeTable;
  readonly gpus: GpuTable;
  readonly open: OpenAlerts;
  /** Monotonic ms since when an alert of an earlier run can have been waiting for its series. */
  readonly sinceMs: number;
}

/**
 * Judges one absent rule: how long each series that was seen is missing, counted from when its node was connected and
 * this process awake. Nothing is said of a node that is not connected.
 */
export class AbsentWatch {
  readonly #options: AbsentWatchOptions;
  readonly #rounds = new Rounds<number>();
  readonly #easiest: number;

  constructor(options: AbsentWatchOptions) {
    this.#options = options;
    this.#easiest = easiestLimit(options.rule);
  }

  get rule(): AbsentRule {
    return this.#options.rule;
  }

  get table(): SeriesTable {
    return this.#options.table;
  }

  /** `steadyMs` is the monotonic time, `awakeMs` since when this process has run without a long stop. */
  judge(nowMs: number, steadyMs: number, awakeMs: number): void {
    const { rule, engine, table } = this.#options;
    for (const row of this.#rounds.take(nowMs, () => this.#candidates(steadyMs, awakeMs))) {
      if (table.nodeRows[row]! < 0 || !this.#isCandidate(row, steadyMs, awakeMs)) continue;
      const missingS = this.#missingMs(row, steadyMs, awakeMs) / 1000;
      engine.observe(rule, this.#subjectOf(row), missingS, nowMs, this.#rounds.intervalMs);
    }
  }

  /**
   * Whether a series that no dictionary has any more is still expected: of a GPU that its node has, for a day;
   * of one that went, for GONE_MS, so that a reset is no end. Not decided while the node is away.
   */
  expects(row: number, steadyMs: number): boolean {
    const { table, nodes, gpus, open } = this.#options;
    const nodeRow = table.nodeRows[row]!;
    const { gpu, key } = table.identityOf(row);
    const since = nodes.connectedMs[nodeRow]!;
    if (Number.isNaN(since)) return open.has(nodes.clusterOf(nodeRow), nodes.nodeOf(nodeRow), gpu, key);
    const untouchedMs = steadyMs - Math.max(table.touchedMs[row]!, since);
    const isThere = gpu === '' || gpus.has(nodeRow, gpu);
    return untouchedMs <= (isThere ? GIVEN_UP_MS : GONE_MS);
  }

  /** Resolves alerts whose series is not known here: it was given up, or did not come back since the start. */
  resolveGone(nowMs: number, steadyMs: number): void {
    const { rule, engine, table, nodes, open, sinceMs } = this.#options;
    for (const alert of open.all()) {
      const nodeRow = nodes.find(alert.cluster, alert.node);
      if (nodeRow < 0 || table.find(nodeRow, alert.gpuUuid || alert.gpu, alert.key) >= 0) continue;
      // Not where the node is away: its time is no number.
      if (steadyMs - Math.max(sinceMs, nodes.connectedMs[nodeRow]!) > GONE_MS)
        engine.resolveGone(rule, subjectOf(alert), nowMs);
    }
  }

  #candidates(steadyMs: number, awakeMs: number): number[] {
    const { table } = this.#options;
    const rows: number[] = [];
    for (let row = 0; row < table.size; row++) {
      if (table.nodeRows[row]! >= 0 && this.#isCandidate(row, steadyMs, awakeMs)) rows.push(row);
    }
    return rows;
  }

  #isCandidate(row: number, steadyMs: number, awakeMs: number): boolean {
    const { rule, table, nodes, open } = this.#options;
    const missingMs = this.#missingMs(row, steadyMs, awakeMs);
    // Never seen, or its node is away.
    if (Number.isNaN(missingMs)) return false;
    if (isBeyond(rule, missingMs / 1000, this.#easiest)) return true;
    const nodeRow = table.nodeRows[row]!;
    const { gpu, key } = table.identityOf(row);
    return !open.isEmpty && open.has(nodes.clusterOf(nodeRow), nodes.nodeOf(nodeRow), gpu, key);
  }

  #missingMs(row: number, steadyMs: number, awakeMs: number): number {
    const { table, nodes } = this.#options;
    return steadyMs - Math.max(table.seenMs[row]!, nodes.connectedMs[table.nodeRows[row]!]!, awakeMs);
  }

  #subjectOf(row: number): Subject {
    const { table, nodes } = this.#options;
    const { nodeRow, key, labels } = table.identityOf(row);
    return {
      cluster: nodes.clusterOf(nodeRow),
      node: nodes.nodeOf(nodeRow),
      gpu: labelOf(labels, 'gpu') ?? '',
      gpuUuid: labelOf(labels, 'uuid') ?? '',
      gpuModel: labelOf(labels, 'model') ?? '',
      key,
      unit: 's',
      labels: alertLabels(labels),
    };
  }
}
