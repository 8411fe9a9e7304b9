import { join } from 'node:path';
import { expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { RunWatch, type RunWatchOptions } from '../../../aggregator/ledger/run-watch.ts';
import { tempDir } from '../../support/temp.ts';
import { until } from '../../support/wait.ts';
import { ManualClock, START_MS } from '../alerts/block-of.ts';
import { crashCopy, FakeShelf, shelfIn } from './open-shelf.ts';

type Run = [id: string, first: number, last: number];
const peer = (runs: Run[], node = 'a', clockSkewSeconds = 0) => ({
  source: { cluster: 'east', node },
  clockSkewSeconds,
  runs: runs.map(([id, firstSequence, lastSequence]) => ({ id, firstSequence, lastSequence })),
});
const status = (oldestUndurableMs: number, pendingSamples: number, samplesPerSecond: number) => ({
  ...{ oldestUndurableMs, pendingRecords: 1, pendingSamples, samplesPerSecond, lateMs: 0 },
});

async function watchOn(shelf = new FakeShelf(), more: Partial<RunWatchOptions> = {}) {
  const clock = new ManualClock();
  return { shelf, clock, watch: await RunWatch.open({ shelf, clock, logger: silentLogger, ...more }) };
}

// A reimaged node that comes back as if nothing had been is the loss that nobody would ever hear of.
test('a reimaged node: what it had not delivered is a loss with a range, a count and a reason', async () => {
  const { watch, clock } = await watchOn();
  expect(watch.connected(peer([['run-a', 1, 500]]))).toBeUndefined();
  clock.ms += 10_000;
  watch.status(peer([['run-a', 1, 500]]), status(START_MS - 60_000, 4_000, 100));
  clock.ms += 20_000;
  expect(watch.connected(peer([['run-b', 1, 0]]))).toEqual({
    identity: 'vanished/run-a',
    fromMs: START_MS - 60_000,
    toMs: clock.ms,
    samples: 4_000 + 20 * 100,
    reason: 'run_vanished',
    estimated: true,
    detail: expect.stringMatching(/run-a is no longer.*reimaged.*4000 of its samples/),
  });
  expect(watch.connected(peer([['run-b', 1, 9]])), 'and that once').toBeUndefined();
});

// Lost without it: an aggregator that was stopped takes what lay in its socket for news, and half a minute is not counted.
test('a status that was under way for long says nothing of what was recorded meanwhile', async () => {
  const { watch, clock } = await watchOn();
  watch.connected(peer([['run-a', 1, 500]]));
  clock.ms += 40_000;
  watch.status(peer([['run-a', 1, 500]]), { ...status(START_MS, 50, 100), lateMs: 28_000 });
  clock.ms += 100;
  expect(watch.connected(peer([['run-b', 1, 0]]))).toMatchObject({ samples: 50 + 28.1 * 100 });
});

test('a node clock that is off widens the range: samples carry the time of the node', async () => {
  const { watch, clock } = await watchOn();
  watch.connected(peer([['run-a', 1, 5]], 'a', 30));
  watch.status(peer([['run-a', 1, 5]]), status(START_MS + 29_000, 10, 1));
  expect(watch.connected(peer([['run-b', 1, 0]]))).toMatchObject({
    fromMs: START_MS + 29_000,
    toMs: clock.ms + 30_000,
  });
});

test.each<[string, Run[], Run[]]>([
  [
    'a restart that still has the run',
    [['a', 1, 9]],
    [
      ['a', 1, 9],
      ['b', 1, 0],
    ],
  ],
  ['the same run on a new stream', [['a', 1, 9]], [['a', 5, 20]]],
  ['a run that never had a record', [['a', 1, 0]], [['b', 1, 0]]],
  [
    'a run that the ring has trimmed, and part of the next one',
    [['a', 1, 9]],
    [
      ['b', 40, 90],
      ['c', 1, 0],
    ],
  ],
  [
    'an older run that was trimmed in order',
    [
      ['a', 3, 9],
      ['b', 1, 5],
    ],
    [['b', 1, 8]],
  ],
])('%s is no loss', async (_, before, after) => {
  const { watch } = await watchOn();
  watch.connected(peer(before));
  expect(watch.connected(peer(after))).toBeUndefined();
});

test('a run that vanishes before its first status: nobody knows since when, so a whole ring is in doubt', async () => {
  const { watch } = await watchOn();
  watch.connected(peer([['a', 1, 9]]));
  expect(watch.statusOf('east', 'a')).toBeUndefined();
  expect(watch.connected(peer([['b', 1, 0]]))).toMatchObject({
    fromMs: START_MS - 86_400_000,
    detail: expect.stringContaining('had not said yet'),
  });
});

test('the backlog of a run before counts until the next status: a restart and then a new disk', async () => {
  const { watch } = await watchOn();
  watch.connected(peer([['a', 1, 9]]));
  watch.status(peer([['a', 1, 9]]), status(START_MS - 5_000, 70, 0));
  watch.connected(
    peer([
      ['a', 1, 9],
      ['b', 1, 0],
    ]),
  );
  expect(watch.connected(peer([['c', 1, 0]]))).toMatchObject({
    ...{ identity: 'vanished/b', samples: 70, fromMs: START_MS - 5_000 },
  });
});

test('a status of another run, or with figures that are none, does no harm', async () => {
  const { watch } = await watchOn();
  watch.connected(peer([['a', 1, 9]], 'a', Number.NaN));
  watch.status(peer([['old', 1, 9]]), status(1, 1, 1));
  expect(watch.statusOf('east', 'a')).toBeUndefined();
  watch.status(peer([['a', 1, 9]]), status(Number.NaN, 1e300, Number.NEGATIVE_INFINITY));
  expect(watch.statusOf('east', 'a')).toMatchObject({
    ...{ oldestUndurableMs: 0, pendingSamples: Number.MAX_SAFE_INTEGER, samplesPerSecond: 0 },
  });
  const lost = watch.connected(peer([['b', 1, 0]]))!;
  expect(lost.fromMs).toBeLessThanOrEqual(lost.toMs);
  expect(watch.connected(peer([]))).toBeUndefined();
});

// Between noticing and ledgering the aggregator may die: the next one must notice the same again.
test('after a kill -9 a run is still known, and a loss that was not ledgered yet is noticed again', async () => {
  await using dir = tempDir('runs');
  const folder = join(dir.path, 'ledger');
  await using first = await shelfIn(folder);
  const watch = await RunWatch.open(first);
  watch.connected(peer([['a', 1, 9]]));
  watch.status(peer([['a', 1, 9]]), status(START_MS - 1_000, 50, 0));
  await watch.flush();
  expect(watch.connected(peer([['b', 1, 0]]))?.identity).toBe('vanished/a');
  await watch.flush();

  await using second = await shelfIn(crashCopy(dir, folder));
  const again = await RunWatch.open(second);
  expect(again.connected(peer([['b', 1, 0]]))).toMatchObject({ identity: 'vanished/a', samples: 50 });
  again.recorded(peer([['b', 1, 0]]));
  await again.flush();

  await using third = await shelfIn(crashCopy(dir, second.path));
  const last = await RunWatch.open(third);
  expect(last.connected(peer([['b', 1, 3]]))).toBeUndefined();
});

// Lost without it: of two writes at once LevelDB may take the older one last, and a vanished run is estimated as empty.
test('a write waits for the one before it', async () => {
  const shelf = new FakeShelf();
  const begun: unknown[] = [];
  const gate = Promise.withResolvers<void>();
  const slow = Object.create(shelf, {
    write: {
      value: async (changes: Parameters<FakeShelf['write']>[0], sync: boolean) => {
        begun.push(changes[0]!.value);
        await gate.promise;
        await shelf.write(changes, sync);
      },
    },
  }) as FakeShelf;
  const { watch } = await watchOn(slow);
  watch.connected(peer([['a', 1, 9]]));
  watch.status(peer([['a', 1, 9]]), status(START_MS - 1_000, 50, 0));
  const flushed = watch.flush();
  await new Promise((resolve) => setImmediate(resolve));
  expect(begun).toHaveLength(1);
  gate.resolve();
  await flushed;
  expect(begun).toMatchObject([{ pendingSamples: 0 }, { pendingSamples: 50 }]);
});

test('a new run is written down at once: one that is not could vanish unseen', async () => {
  const { watch, shelf } = await watchOn();
  watch.connected(peer([['a', 1, 9]]));
  await until(() => shelf.values.size === 1, { timeoutMs: 5_000, what: 'the run on disk' });
  watch.status(peer([['a', 1, 9]]), status(1, 1, 1));
  expect(shelf.syncs).toEqual([false]);
  shelf.refuses = true;
  await expect(watch.flush()).rejects.toThrow('disk full');
  shelf.refuses = false;
  await watch.flush();
  expect(shelf.values.get('run/east\na')).toMatchObject({ pendingSamples: 1 });
});

test('the node that was heard least lately is forgotten first, also after a restart', async () => {
  const { watch, shelf, clock } = await watchOn(new FakeShelf(), { maxNodes: 2 });
  for (const node of ['a', 'b']) {
    clock.ms += 1_000;
    watch.connected(peer([['r', 1, 9]], node));
  }
  clock.ms += 1_000;
  watch.status(peer([['r', 1, 9]], 'a'), {
    oldestUndurableMs: 0,
    pendingRecords: 0,
    pendingSamples: 0,
    samplesPerSecond: 1,
    lateMs: 0,
  });
  await watch.flush();
  const after = await RunWatch.open({ shelf, clock, logger: silentLogger, maxNodes: 2 });
  after.connected(peer([['r', 1, 9]], 'c'));
  await after.flush();
  await until(() => shelf.values.size === 2, { timeoutMs: 5_000, what: 'two nodes on disk' });
  expect([...shelf.values.keys()].sort()).toEqual(['run/east\na', 'run/east\nc']);
});

// Ticks that came may have been deferred and wait on the node's disk: only a status says what is safe.
test('what a node recorded since its last status is counted, not since it was last connected', async () => {
  await using dir = tempDir();
  await using shelf = await shelfIn(dir.path);
  let now = 1_780_000_000_000;
  const watch = await RunWatch.open({ ...shelf, clock: { now: () => now, monotonic: () => now } });
  watch.connected(peer([['a', 1, 5]]));
  watch.status(peer([['a', 1, 5]]), {
    oldestUndurableMs: 0,
    pendingRecords: 0,
    pendingSamples: 0,
    samplesPerSecond: 100,
    lateMs: 0,
  });
  now += 10_000;
  // It was back for a moment without a status: that is no word of what it recorded.
  watch.connected(peer([['a', 1, 5]]));
  expect(watch.connected(peer([['b', 1, 3]]))?.samples).toBe(1_000);
});
