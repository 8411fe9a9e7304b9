import { expect, test } from 'vitest';
import { RangeSet } from '#shared/model/range-set.ts';
import { Delivery } from '../../../agent/uplink/delivery.ts';

const run = (counter: number, first: number, last: number) => ({
  counter,
  first,
  last,
  durable: new RangeSet(),
});

// Lost without it: after a power cut the fleet waits for a day of backlog before it sees why the node died.
test('the last minutes before a crash go before older backlog, once, and then the rest in order', () => {
  const delivery = new Delivery(() => [run(1, 1, 100), run(2, 50, 90), run(3, 1, 5)]);
  delivery.prefer({ run: 2, first: 80, last: 90 });
  const order: string[] = [];
  for (let step = 0; step < 10; step++) {
    const next = delivery.nextPending(5);
    if (!next) break;
    order.push(`${next.run}: ${next.first}-${next.last}`);
    for (let sequence = next.first; sequence <= next.last; sequence++)
      delivery.sent(next.run, sequence, 1, 'backfill');
  }
  expect(order).toEqual(['2: 80-90', '1: 1-100', '2: 50-79', '3: 1-5']);
});

test('what was trimmed or delivered of them is not waited for', () => {
  const trimmed = new Delivery(() => [run(1, 1, 10), run(2, 85, 90), run(3, 1, 0)]);
  trimmed.prefer({ run: 2, first: 80, last: 90 });
  expect(trimmed.nextPending(0)).toEqual({ run: 2, first: 85, last: 90 });
  const gone = new Delivery(() => [run(1, 1, 10), run(3, 1, 0)]);
  gone.prefer({ run: 2, first: 80, last: 90 });
  expect(gone.nextPending(0)).toEqual({ run: 1, first: 1, last: 10 });
});
