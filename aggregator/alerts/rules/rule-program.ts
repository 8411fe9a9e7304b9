import type { Block } from '#shared/model/block.ts';
import { type Dictionary, type Labels, labelOf } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { alertId } from '../alert-id.ts';
import type { LabelMatch, Limit, Operand, ThresholdRule } from './rules.ts';

/** One rule on one series of one dictionary: which slots to read. Compiled once, then only indexed. */
export interface Check {
  readonly rule: ThresholdRule;
  readonly id: string;
  readonly key: string;
  readonly gpu: string;
  readonly gpuUuid: string;
  readonly gpuModel: string;
  readonly unit: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly slot: number;
  /** The divisor's slot, or -1. */
  readonly over: number;
  /** For each level the slot of its limit, or -1 where the limit is a number. */
  readonly limitSlots: readonly number[];
}

/** Labels that say which GPU a series belongs to; the rest tells series of one GPU apart. */
const IDENTITY = new Set(['gpu', 'uuid', 'model', 'mig_profile']);

/**
 * Finds the series that each rule looks at. A limit or divisor that the dictionary does not hold leaves the
 * check out: both must come from the same read, or a quotient of two moments could alert.
 */
export function compileChecks(
  cluster: string,
  node: string,
  dictionary: Dictionary,
  rules: readonly ThresholdRule[],
): Check[] {
  const slotsByMetric = new Map<string, number[]>();
  for (const [slot, series] of dictionary.series.entries()) {
    const slots = slotsByMetric.get(series.name);
    if (slots) slots.push(slot);
    else slotsByMetric.set(series.name, [slot]);
  }
  const find = (metric: string, match: LabelMatch, subject: Labels): number => {
    for (const slot of slotsByMetric.get(metric) ?? []) {
      const labels = dictionary.series[slot]!.labels;
      if (matches(labels, match) && sameSubject(labels, subject)) return slot;
    }
    return -1;
  };

  const checks: Check[] = [];
  for (const rule of rules) {
    const taken = new Set<string>();
    for (const operand of rule.values) {
      const found: string[] = [];
      for (const slot of slotsByMetric.get(operand.metric) ?? []) {
        const { labels, unit } = dictionary.series[slot]!;
        const subject = subjectOf(labels);
        if (taken.has(subject) || !matches(labels, operand.labels)) continue;
        const over = operand.over ? find(operand.over.metric, operand.over.labels, labels) : -1;
        if (operand.over && over < 0) continue;
        const limitSlots = rule.levels.map(({ limit }) =>
          typeof limit === 'number' ? -1 : find(limit.metric, limit.labels, labels),
        );
        if (limitSlots.some((at, index) => at < 0 && typeof rule.levels[index]!.limit !== 'number')) continue;
        found.push(subject);
        const gpuUuid = labelOf(labels, 'uuid') ?? '';
        const gpu = labelOf(labels, 'gpu') ?? '';
        const key = keyOf(labels, operand);
        checks.push({
          rule,
          id: alertId(cluster, node, gpuUuid || gpu, rule.name, key),
          key,
          gpu,
          gpuUuid,
          gpuModel: labelOf(labels, 'model') ?? '',
          unit: operand.over ? '' : unit,
          labels: Object.fromEntries(labels.filter(([label]) => !IDENTITY.has(label))),
          slot,
          over,
          limitSlots,
        });
      }
      for (const subject of found) taken.add(subject);
    }
  }
  return checks;
}

/** The value that a check looks at, or NaN where the block does not hold it. */
export function readValue(check: Check, block: Block): number {
  const { states, values } = block;
  if (states[check.slot] !== SlotState.Present) return Number.NaN;
  if (check.over < 0) return values[check.slot]!;
  if (states[check.over] !== SlotState.Present || values[check.over] === 0) return Number.NaN;
  return values[check.slot]! / values[check.over]!;
}

/** The limit of one level, or NaN where the block does not hold it. */
export function readLimit(check: Check, level: number, block: Block): number {
  const limit: Limit = check.rule.levels[level]!.limit;
  if (typeof limit === 'number') return limit;
  const slot = check.limitSlots[level]!;
  return block.states[slot] === SlotState.Present ? block.values[slot]! * limit.times : Number.NaN;
}

function matches(labels: Labels, match: LabelMatch): boolean {
  for (const name in match) if (labelOf(labels, name) !== match[name]) return false;
  return true;
}

/** Same GPU and slice; a limit of the whole GPU also counts for its slices. */
function sameSubject(candidate: Labels, subject: Labels): boolean {
  const slice = labelOf(candidate, 'mig_id');
  return (
    labelOf(candidate, 'uuid') === labelOf(subject, 'uuid') &&
    labelOf(candidate, 'gpu') === labelOf(subject, 'gpu') &&
    (slice === undefined || slice === labelOf(subject, 'mig_id'))
  );
}

function subjectOf(labels: Labels): string {
  return JSON.stringify([labelOf(labels, 'uuid'), labelOf(labels, 'gpu'), labelOf(labels, 'mig_id')]);
}

/** What tells alerts of one rule on one GPU apart: the slice, or labels that the rule leaves free. */
function keyOf(labels: Labels, operand: Operand): string {
  return labels
    .filter(([name]) => !IDENTITY.has(name) && !(name in operand.labels))
    .map(([name, value]) => `${name}=${value}`)
    .join(',');
}
