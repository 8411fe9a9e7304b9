import { expect, test } from 'vitest';
import { RoomFigures } from '../../../../aggregator/health/patterns/room-figures.ts';

const HOUR = 3_600_000;
const FIRST = 20_000 * 24;

test('whole days of the last four weeks, in order, with gaps', () => {
  const rooms = new RoomFigures();
  for (let hour = 0; hour < 40 * 24 + 5; hour++)
    if (hour < 900 || hour > 910) rooms.offer('hall', hour, (FIRST + hour) * HOUR);
  rooms.offer('hall', -1, (FIRST + 40 * 24) * HOUR);
  const [[name, hourly]] = [...rooms.rooms()] as [[string, Float64Array]];
  expect(name).toBe('hall');
  expect(hourly.length % 24).toBe(0);
  expect(hourly.length).toBe(27 * 24);
  expect(hourly[0]).toBe(13 * 24);
  expect(hourly.at(-1)).toBe(40 * 24 - 1);
  expect(hourly[905 - 13 * 24]).toBeNaN();
});

// Lost without it: a source that makes up rooms fills the memory.
test('2,000 rooms and no more; what is too old or no number is refused', () => {
  const rooms = new RoomFigures();
  for (let i = 0; i < 2000; i++) expect(rooms.offer(`room ${i}`, 1, FIRST * HOUR)).toBe(true);
  expect(rooms.offer('one more', 1, FIRST * HOUR)).toBe(false);
  expect(rooms.offer('room 1', 1, (FIRST - 28 * 24) * HOUR)).toBe(false);
  expect(rooms.offer('room 1', Number.NaN, FIRST * HOUR)).toBe(false);
});
