import { parsePromql, Unreadable } from '../import/promql.ts';

/** A series as tests write it: `gpu_power_watts{node="n1", gpu="0"}`. */
export interface NotedSeries {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** What a series gives at one step: a value, nothing (`_`), or its end (`stale`). */
export type NotedValue = number | 'missing' | 'stale';

/** Values of one series: a week of ten-second steps. */
export const MAX_VALUES = 100_000;

const NUMBER = '[+-]?(?:\\d+(?:\\.\\d*)?|\\.\\d+)(?:[eE][+-]?\\d+)?|[+-]?[Ii]nf|NaN';
const RUN = new RegExp(`^(${NUMBER})(?:([+-])(${NUMBER.replaceAll('[+-]?', '')}))?x(\\d{1,6})$`);

/** The series, or why it is none. */
export function parseSeries(text: string): NotedSeries | string {
  try {
    const found = parsePromql(text);
    if (found.kind !== 'selector' || found.rangeMs !== undefined)
      return 'must be a series, such as up{node="n1"}';
    const unequal = found.matchers.find(({ operator }) => operator !== '=');
    if (unequal !== undefined) return `label ${unequal.label} must have one value`;
    return {
      name: found.metric,
      labels: Object.fromEntries(found.matchers.map(({ label, value }) => [label, value])),
    };
  } catch (error) {
    if (error instanceof Unreadable) return `must be a series, such as up{node="n1"}: ${error.message}`;
    throw error;
  }
}

/**
 * promtool's notation: `1 2 3`, `0+10x5` (0 10 20 30 40 50), `5-1x2` (5 4 3), `7x3` (7 7 7 7), `_` for a sample that
 * is missing and `_x4` for four of them, `stale` for the end of the series. Gives the values, or why there are none.
 */
export function parseValues(text: string): NotedValue[] | string {
  const values: NotedValue[] = [];
  for (const word of text.split(/\s+/).filter((one) => one !== '')) {
    const added = parseWord(word);
    if (added === undefined) return `"${word.slice(0, 40)}" is no value, such as 5, 0+10x5, _ or stale`;
    if (values.length + added.count > MAX_VALUES) return `must be at most ${MAX_VALUES} values`;
    for (let i = 0; i < added.count; i++) values.push(added.at(i));
  }
  return values;
}

interface Run {
  readonly count: number;
  at(i: number): NotedValue;
}

function parseWord(word: string): Run | undefined {
  if (word === 'stale') return { count: 1, at: () => 'stale' };
  const gap = /^_(?:x(\d{1,6}))?$/.exec(word);
  if (gap !== null) return { count: Number(gap[1] ?? 1), at: () => 'missing' };
  if (new RegExp(`^(?:${NUMBER})$`).test(word)) return { count: 1, at: () => numberOf(word) };
  const [, first, sign, step = '0', times] = RUN.exec(word) ?? [];
  if (first === undefined) return undefined;
  const [start, by] = [numberOf(first), numberOf(step) * (sign === '-' ? -1 : 1)];
  return { count: Number(times) + 1, at: (i) => start + i * by };
}

function numberOf(text: string): number {
  return Number(text.replace(/inf/i, 'Infinity'));
}
