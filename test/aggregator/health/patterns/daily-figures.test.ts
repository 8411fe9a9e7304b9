import { expect, test } from 'vitest';
import { DAY_MS, DailyFigures, HOUR_MS } from '../../../../aggregator/health/patterns/daily-figures.ts';
import { MAX_TREND_POINTS } from '../../../../aggregator/health/patterns/trend.ts';

const DAY = 20_000;
const at = (day: number, hour: number): number => (DAY + day) * DAY_MS + hour * HOUR_MS;

function read(figures: DailyFigures, key: string): [number, number][] {
  const days = new Float64Array(MAX_TREND_POINTS);
  const values = new Float64Array(MAX_TREND_POINTS);
  const count = figures.read(figures.row(key), days, values);
  return Array.from({ length: count }, (_, i) => [days[i]! - DAY, values[i]!]);
}

function fill(figures: DailyFigures, key: string, day: number, value: number): void {
  const row = figures.row(key);
  for (let hour = 0; hour < 24; hour++) figures.offer(row, value, at(day, hour));
}

test('a day that is over becomes the median of its hours', () => {
  const figures = new DailyFigures();
  const row = figures.row('a');
  for (let hour = 0; hour < 24; hour++) {
    expect(figures.offer(row, hour, at(0, hour))).toBe(false);
    figures.offer(row, 1000, at(0, hour) + 60_000);
  }
  figures.offer(row, Number.NaN, at(1, 0));
  expect(read(figures, 'a')).toEqual([]);
  expect(figures.offer(row, 5, at(1, 0))).toBe(true);
  expect(read(figures, 'a')).toEqual([[0, 11.5]]);
});

test('a day of a few hours has no median, and a gap of days is a gap', () => {
  const figures = new DailyFigures();
  const row = figures.row('a');
  for (let hour = 0; hour < 5; hour++) figures.offer(row, 1, at(0, hour));
  fill(figures, 'a', 1, 2);
  fill(figures, 'a', 40, 3);
  fill(figures, 'a', 41, 4);
  expect(figures.offer(row, 9, at(39, 3))).toBe(false);
  expect(read(figures, 'a')).toEqual([
    [1, 2],
    [40, 3],
  ]);
});

// Lost without it: after three months a trend mixes new days with old ones in their places.
test('90 days are kept, the oldest go', () => {
  const figures = new DailyFigures();
  for (let day = 0; day < 200; day++) fill(figures, 'a', day, day);
  const kept = read(figures, 'a');
  expect(kept).toHaveLength(MAX_TREND_POINTS);
  expect(kept[0]).toEqual([109, 109]);
  expect(kept.at(-1)).toEqual([198, 198]);
});

// Lost without it: GPUs that come and go fill the memory, or one writes into the row of another.
test('there are no more rows than allowed, and a row that is given away does not take its old figures along', () => {
  const figures = new DailyFigures(2);
  const gone = figures.row('gone');
  for (const day of [0, 1]) {
    fill(figures, 'gone', day, 7);
    fill(figures, 'stays', day, 7);
    fill(figures, 'too many', day, 7);
  }
  expect(figures.size).toBe(2);
  expect(figures.refused).toBeGreaterThan(0);
  expect(read(figures, 'too many')).toEqual([]);
  fill(figures, 'stays', 35, 8);
  fill(figures, 'new', 36, 1);
  figures.offer(gone, 99, at(36, 23));
  fill(figures, 'new', 37, 1);
  expect(figures.size).toBe(2);
  expect(read(figures, 'new')).toEqual([[36, 1]]);
  expect(read(figures, 'stays')).toHaveLength(2);
});

test('what is stored and put back is the same, and is stored once', () => {
  const before = new DailyFigures();
  for (let day = 0; day < 120; day++) if (day % 10 !== 3) fill(before, 'a', day, day / 3);
  const stored = [...before.changes()];
  expect(stored).toHaveLength(1);
  expect([...before.changes()]).toEqual([]);
  const after = new DailyFigures();
  for (const [key, row] of JSON.parse(JSON.stringify(stored))) after.restore(key, row, at(120, 0));
  expect(read(after, 'a').map(([day]) => day)).toEqual(read(before, 'a').map(([day]) => day));
  for (const [i, [, value]] of read(after, 'a').entries())
    expect(value).toBeCloseTo(read(before, 'a')[i]![1], 3);
  fill(after, 'a', 121, 50);
  fill(after, 'a', 122, 51);
  expect(read(after, 'a').at(-1)).toEqual([121, 50]);
});
