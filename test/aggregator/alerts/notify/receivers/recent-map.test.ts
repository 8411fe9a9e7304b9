import { expect, test } from 'vitest';
import { RecentMap } from '../../../../../aggregator/alerts/notify/receivers/recent-map.ts';

test('keeps the newest and no more: a receiver that runs for a year must not grow', () => {
  const map = new RecentMap<number>(3);
  for (let n = 0; n < 100; n++) {
    map.set(`key-${n}`, n);
    map.set('again', n);
    expect(map.size).toBeLessThanOrEqual(3);
  }
  expect([map.get('key-97'), map.get('key-98'), map.get('key-99'), map.get('again')]).toEqual([
    ...[undefined, 98, 99, 99],
  ]);
  map.delete('again');
  expect(map.size).toBe(2);
});
