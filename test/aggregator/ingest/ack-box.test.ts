import { expect, test } from 'vitest';
import { AckBox } from '../../../aggregator/ingest/ack-box.ts';

const store = { epoch: 2n, epochAgeMs: 40, backfillOpen: true };

test('what was accepted under two incarnations never shares a message: the agent would book it all under one', () => {
  const box = new AckBox(1000);
  box.add(0, 1, 1, { state: 'accepted', epoch: 1n });
  expect(box.mustSendBefore({ state: 'accepted', epoch: 1n })).toBe(false);
  expect(box.mustSendBefore({ state: 'accepted', epoch: 2n })).toBe(true);
  expect(box.mustSendBefore({ state: 'deferred' })).toBe(false);
});

test('an incarnation that is over proves nothing durable, however fresh the reading of its successor', () => {
  const box = new AckBox(1000);
  box.add(0, 7, 7, { state: 'accepted', epoch: 1n });
  const old = box.take(store, 500);
  expect(old).toMatchObject({ storeEpoch: 1n, epochAgeMs: 0xffffffff });
  expect(box.take(store, 500)).toMatchObject({ storeEpoch: 2n, epochAgeMs: 40, accepted: [] });
});

test('one message for many: ranges by run, deferred and refused beside them, and an empty box after it', () => {
  const box = new AckBox(1000);
  for (const sequence of [3, 1, 2, 9]) box.add(0, sequence, sequence, { state: 'accepted', epoch: 2n });
  box.add(1, 4, 4, { state: 'deferred' });
  box.add(1, 5, 5, { state: 'refused', reason: 'too_old', detail: 'd' });
  expect(box.isEmpty).toBe(false);
  const ack = box.take(store, 500);
  expect(ack.accepted.map(({ run, first, last }) => [run, first, last])).toEqual([
    [0, 1n, 3n],
    [0, 9n, 9n],
  ]);
  expect(ack.deferred).toMatchObject([{ run: 1, first: 4n, last: 4n }]);
  expect(ack.refused).toMatchObject([{ range: { run: 1, first: 5n, last: 5n }, reason: 'too_old' }]);
  expect(box.isEmpty).toBe(true);
});

test('refusals of neighbours for one reason are one entry: a day of backlog must not fill the message', () => {
  const box = new AckBox(1000);
  for (let sequence = 1; sequence <= 5000; sequence++)
    box.add(0, sequence, sequence, { state: 'refused', reason: 'too_old', detail: `d${sequence}` });
  box.add(0, 5002, 5003, { state: 'refused', reason: 'too_old', detail: 'after a gap' });
  expect(box.take(store, 500).refused.map(({ range }) => [range!.first, range!.last])).toEqual([
    [1n, 5000n],
    [5002n, 5003n],
  ]);
});
