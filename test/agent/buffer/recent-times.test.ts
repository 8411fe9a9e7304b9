import { expect, test } from 'vitest';
import { RecentTimes } from '../../../agent/buffer/recent-times.ts';

// Lost without it: a record is dated by another one, from which a loss or a replay then begins.
test('the time of a record, or of the next that has one; of those that are not kept nothing', () => {
  const times = new RecentTimes();
  expect(times.from(1)).toBeUndefined();
  for (let sequence = 1; sequence <= 3000; sequence++)
    times.note(sequence, sequence % 10 === 0 ? undefined : sequence * 1000);
  expect(times.from(2995)).toBe(2_995_000);
  expect(times.from(2990)).toBe(2_991_000);
  expect(times.from(3000)).toBeUndefined();
  expect(times.from(3001)).toBeUndefined();
  expect(times.from(3000 - 1023)).toBe(1_977_000);
  expect(times.from(3000 - 1024)).toBeUndefined();
  expect(times.from(1)).toBeUndefined();
});
