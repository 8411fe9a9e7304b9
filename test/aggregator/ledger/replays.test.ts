import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Replays } from '../../../aggregator/ledger/replays.ts';
import { tempDir } from '../../support/temp.ts';
import { ManualClock } from '../alerts/block-of.ts';
import { crashCopy, FakeShelf, shelfIn } from './open-shelf.ts';

const HOUR_MS = 3_600_000;

// The agent that was away during the restore is the one whose samples are missing longest.
test('an order outlives a kill -9 for a day, so that an agent which was away is told', async () => {
  await using dir = tempDir('replays');
  const folder = join(dir.path, 'ledger');
  await using first = await shelfIn(folder);
  const before = await Replays.open(first);
  const all = await before.request({ fromMs: 1_000, toMs: 2_000, reason: 'restored' });
  const one = await before.request({ fromMs: 5_000, node: 'b', reason: 'test' });
  await using second = await shelfIn(crashCopy(dir, folder), first.clock);
  const after = await Replays.open(second);
  expect(after.ordersFor('a')).toEqual([{ id: all.id, fromMs: 1_000, toMs: 2_000, reason: 'restored' }]);
  expect(after.ordersFor('b').map(({ id }) => id)).toEqual([all.id, one.id]);
  first.clock.ms += 24 * HOUR_MS;
  expect(after.ordersFor('b')).toEqual([]);
  await after.request({ fromMs: 1, reason: 'new' });
  expect((await Replays.open(second)).ordersFor('b')).toHaveLength(1);
});

test('there are at most 100: the two oldest become one that covers both, and nobody is left out', async () => {
  const shelf = new FakeShelf();
  const clock = new ManualClock();
  const replays = await Replays.open({ shelf, clock });
  await replays.request({ fromMs: 50, toMs: 60, node: 'x', reason: 'first' });
  const known = new Set(replays.ordersFor('x').map(({ id }) => id));
  for (let n = 0; n < 150; n++)
    await replays.request({ fromMs: 1_000 + n, toMs: 2_000 + n, reason: `r${n}` });
  const orders = replays.ordersFor('anyone');
  expect(orders).toHaveLength(100);
  expect(orders[0]).toMatchObject({ fromMs: 50, toMs: 2_050 });
  expect(known.has(orders[0]!.id), 'a new id: who has done a part has not done the whole').toBe(false);
  expect((await Replays.open({ shelf, clock })).ordersFor('anyone')).toEqual(orders);
});

test('an open end stays open when it is merged', async () => {
  const replays = await Replays.open({ shelf: new FakeShelf(), clock: new ManualClock() });
  await replays.request({ fromMs: 50, reason: 'open' });
  for (let n = 0; n < 100; n++) await replays.request({ fromMs: 60, toMs: 70, reason: 'r' });
  expect(replays.ordersFor('a')[0]).toMatchObject({ fromMs: 50, toMs: 0 });
});

test.each([
  ['a start that is no time', { fromMs: Number.NaN }],
  ['a negative start', { fromMs: -1 }],
  ['an infinite end', { fromMs: 1, toMs: Number.POSITIVE_INFINITY }],
  ['an end before its start', { fromMs: 5, toMs: 4 }],
])('%s is refused, and no agent hears of it', async (_, range) => {
  const replays = await Replays.open({ shelf: new FakeShelf(), clock: new ManualClock() });
  await expect(replays.request({ ...range, reason: '' })).rejects.toMatchObject({ code: 'invalid_input' });
  expect(replays.ordersFor('a')).toEqual([]);
});

test('an order that the disk refuses is none', async () => {
  const shelf = new FakeShelf();
  const replays = await Replays.open({ shelf, clock: new ManualClock() });
  shelf.refuses = true;
  await expect(replays.request({ fromMs: 1, reason: '' })).rejects.toThrow('disk full');
  expect(replays.ordersFor('a')).toEqual([]);
});
