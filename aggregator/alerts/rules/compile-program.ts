import type { Source } from '#shared/model/block.ts';
import { type Dictionary, type Labels, labelOf } from '#shared/model/dictionary.ts';
import { carries } from '../aggregate/series-labels.ts';
import { type PlannedCheck, RuleProgram } from './rule-program.ts';
import type { LabelMatch, Level, Operand, ThresholdRule } from './rules.ts';

/**
 * Finds the series that each rule looks at. A limit or divisor that the dictionary does not hold leaves the
 * check out: both must come from the same read, or a quotient of two moments could alert.
 */
export function compileProgram(
  source: Source,
  dictionary: Dictionary,
  rules: readonly ThresholdRule[],
): RuleProgram {
  const series = new SeriesFinder(dictionary);
  const checks: PlannedCheck[] = [];
  for (const [index, { values, levels }] of rules.entries()) {
    const taken = new Set<string>();
    for (const [operand, value] of values.entries()) {
      const found: string[] = [];
      for (const slot of series.all(value)) {
        const { labels } = dictionary.series[slot]!;
        const subject = values.length > 1 ? subjectOf(labels) : '';
        if (taken.has(subject)) continue;
        const over = value.over ? series.find(value.over, labels) : -1;
        const limitSlots = slotsOf(levels, labels, series);
        if ((value.over && over < 0) || limitSlots === 'missing') continue;
        found.push(subject);
        checks.push({ rule: index, operand, slot, over, limitSlots });
      }
      if (values.length > 1) for (const subject of found) taken.add(subject);
    }
  }
  return new RuleProgram(source, dictionary, rules, checks);
}

interface SeriesMatch {
  readonly metric: string;
  readonly labels: LabelMatch;
}

class SeriesFinder {
  readonly #dictionary: Dictionary;
  readonly #slots = new Map<string, number[]>();

  constructor(dictionary: Dictionary) {
    this.#dictionary = dictionary;
    for (const [slot, { name }] of dictionary.series.entries()) {
      const slots = this.#slots.get(name);
      if (slots) slots.push(slot);
      else this.#slots.set(name, [slot]);
    }
  }

  all({ metric, labels }: Operand): number[] {
    return (this.#slots.get(metric) ?? []).filter((slot) => carries(this.#labels(slot), labels));
  }

  /** The series of the same GPU (of a host's series: of the same device, port or filesystem), or -1. */
  find({ metric, labels }: SeriesMatch, subject: Labels): number {
    for (const slot of this.#slots.get(metric) ?? []) {
      const candidate = this.#labels(slot);
      if (carries(candidate, labels) && sameSubject(candidate, subject) && agrees(candidate, labels, subject))
        return slot;
    }
    return -1;
  }

  #labels(slot: number): Labels {
    return this.#dictionary.series[slot]!.labels;
  }
}

function slotsOf(
  levels: readonly Level[],
  subject: Labels,
  series: SeriesFinder,
): Int32Array | undefined | 'missing' {
  if (levels.every(({ limit }) => typeof limit === 'number')) return undefined;
  const slots = new Int32Array(levels.length).fill(-1);
  for (const [level, { limit }] of levels.entries()) {
    if (typeof limit === 'number') continue;
    slots[level] = series.find(limit, subject);
    if (slots[level]! < 0) return 'missing';
  }
  return slots;
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

/** What both say and the rule leaves open is the same: the size of a filesystem is not that of another. */
function agrees(candidate: Labels, match: LabelMatch, subject: Labels): boolean {
  return candidate.every(
    ([name, value]) =>
      NOT_TOLD_APART.has(name) || Object.hasOwn(match, name) || (labelOf(subject, name) ?? value) === value,
  );
}

/** Compared as the subject is, or (of a MIG instance) not the same for the GPU as a whole. */
const NOT_TOLD_APART: ReadonlySet<string> = new Set(['gpu', 'uuid', 'model', 'mig_id', 'mig_profile']);

function subjectOf(labels: Labels): string {
  return JSON.stringify([labelOf(labels, 'uuid'), labelOf(labels, 'gpu'), labelOf(labels, 'mig_id')]);
}
