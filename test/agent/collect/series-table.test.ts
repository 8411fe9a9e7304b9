import { expect, test } from 'vitest';
import type { Series } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { encodeDictionary } from '#shared/wire/dictionary.ts';
import { KEPT_SCRAPES, SeriesTable } from '../../../agent/collect/series-table.ts';

const series = (name: string, help = ''): Series => ({
  name,
  labels: [['gpu', '0']],
  kind: 'gauge',
  decimals: 0,
  help,
  unit: '',
});
const names = (table: SeriesTable): string[] => table.dictionary.series.map(({ name }) => name);

// Lost without it: a dictionary and stale markers for each tick.
test('the same series keep the dictionary and the arrays', () => {
  const table = new SeriesTable('test', 1000, 10);
  table.assign([series('a'), series('b')]);
  const { dictionary, values, states } = table;
  expect([...table.assign([series('b'), series('a'), series('b')])]).toEqual([1, 0, 1]);
  expect(table.dictionary).toBe(dictionary);
  expect(table.values).toBe(values);
  expect(table.states).toBe(states);
  expect(table.waiting).toBe(false);
});

test('a new series makes a new dictionary at once, with all slots absent', () => {
  const table = new SeriesTable('test', 1000, 10);
  table.assign([series('a')]);
  table.states.fill(SlotState.Present);
  table.assign([series('a'), series('b')]);
  expect(names(table)).toEqual(['a', 'b']);
  expect([...table.states]).toEqual([SlotState.Absent, SlotState.Absent]);
});

test('changed metadata makes a new dictionary, another guess of decimals does not', () => {
  const table = new SeriesTable('test', 1000, 10);
  table.assign([series('a')]);
  const { dictionary } = table;
  table.assign([{ ...series('a'), decimals: 6 }]);
  expect(table.dictionary).toBe(dictionary);
  table.assign([series('a', 'help')]);
  expect(table.dictionary.series[0]?.help).toBe('help');
});

// Lost without it: an exporter that restarts ends every series of the node.
test(`a series that is gone leaves after ${KEPT_SCRAPES} scrapes, and one that is back stays`, () => {
  const table = new SeriesTable('test', 1000, 10);
  table.assign([series('a'), series('b')]);
  const { dictionary } = table;
  for (let i = 1; i < KEPT_SCRAPES; i++) {
    table.assign([series('a')]);
    expect(table.dictionary).toBe(dictionary);
    expect(table.waiting).toBe(true);
  }
  table.assign([series('a'), series('b')]);
  expect(table.waiting).toBe(false);
  for (let i = 0; i < KEPT_SCRAPES; i++) table.assign([series('a')]);
  expect(names(table)).toEqual(['a']);
  expect(table.waiting).toBe(false);
});

test('a new series does not end one that is gone for a moment', () => {
  const table = new SeriesTable('test', 1000, 10);
  table.assign([series('a'), series('b')]);
  table.assign([series('a'), series('c')]);
  expect(names(table)).toEqual(['a', 'c', 'b']);
});

// Lost without it: a cardinality bomb of one source takes the node's memory, or pushes out its GPUs.
test('the limit refuses those that come last, and what is gone makes room', () => {
  const table = new SeriesTable('test', 1000, 2);
  expect([...table.assign([series('a'), series('b'), series('c')])]).toEqual([0, 1, -1]);
  const { dictionary } = table;
  expect([...table.assign([series('a'), series('b'), series('d')])]).toEqual([0, 1, -1]);
  expect(table.dictionary).toBe(dictionary);
  expect([...table.assign([series('a'), series('d')])]).toEqual([0, 1]);
  expect(names(table)).toEqual(['a', 'd']);
});

// Lost without it: an exporter with other long labels at each scrape makes a dictionary that cannot be recorded.
test('what is gone is kept only as far as one dictionary message takes it', () => {
  const table = new SeriesTable('test', 1000, 10_000);
  const page = (scrape: number): Series[] =>
    Array.from({ length: 1000 }, (_, i) => ({
      ...series(`m${i}`),
      labels: [['text', `${scrape} ${i} ${'x'.repeat(1200)}`]],
    }));
  for (let scrape = 0; scrape < 4; scrape++) {
    expect([...table.assign(page(scrape))]).not.toContain(-1);
    expect(encodeDictionary(table.dictionary).length).toBeGreaterThan(1e6);
  }
  expect(table.dictionary.series.length).toBeGreaterThan(1000);
});
