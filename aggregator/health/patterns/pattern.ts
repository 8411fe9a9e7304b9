export type PatternKind = 'trend' | 'cooccurrence' | 'lemon' | 'shared_cause' | 'time_of_day';

/** Something that repeats, drifts, or goes together, in words and figures. */
export interface Pattern {
  /** The same pattern keeps its id from one evaluation to the next. */
  readonly id: string;
  readonly kind: PatternKind;
  /** What it is about: gpu, node, fleet, or a level of the topology (`pdu`, `rack` ...). */
  readonly scope: string;
  /** GPUs and nodes (`cluster/node/uuid`, `cluster/node`), groups by name, or codes; at most MAX_SUBJECTS. */
  readonly subjects: readonly string[];
  /** One sentence for people. */
  readonly sentence: string;
  readonly figures: Readonly<Record<string, number>>;
  /** Unix ms: first of what it is made of. */
  readonly sinceMs: number;
  /** 0 to 1. Of a test 1 - p; of a lemon score / (score + 1), which is an order and no probability. */
  readonly confidence: number;
}

export const MAX_SUBJECTS = 32;

/** 1 h, 40 s, 3 days. */
export function spanWords(ms: number): string {
  if (ms <= 1000) return 'a second';
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} days`;
}

/** Three digits, as people read them. */
export function figure(value: number): string {
  return String(Number(value.toPrecision(3)));
}
