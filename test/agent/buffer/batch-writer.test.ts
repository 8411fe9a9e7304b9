import { expect, test } from 'vitest';
import type { Clock } from '#shared/model/clock.ts';
import { BatchWriter, type FsyncPolicy, type Write } from '../../../agent/buffer/batch-writer.ts';
import type { OpenStore } from '../../../agent/buffer/level-database.ts';

/** Counts the batches and the fsyncs of a database that is not there. */
function writerOn(fsync: FsyncPolicy, time: { now: number }) {
  const batches: { size: number; sync: boolean }[] = [];
  const store = {
    db: {
      batch: async (writes: readonly Write[], { sync }: { sync: boolean }) => {
        batches.push({ size: writes.length, sync });
      },
      put: async (_key: Buffer, _value: Uint8Array, { sync }: { sync: boolean }) => {
        batches.push({ size: 1, sync });
      },
    },
  } as unknown as OpenStore;
  const clock: Clock = { now: () => time.now, monotonic: () => time.now };
  const mark = (): Write => ({ type: 'del', key: Buffer.of(0) });
  const writer = new BatchWriter({
    store,
    fsync,
    clock,
    syncMark: mark,
    ready: async () => true,
    written: () => {},
    failed: () => {},
  });
  return { writer, batches, add: () => writer.add(mark()) };
}

// Lost without it: an fsync for each source of a node, ten times the wear of its disk.
test('appends of one moment share one batch and one fsync', async () => {
  const { writer, batches, add } = writerOn('tick', { now: 0 });
  const flushes = [1, 2, 3].map(() => {
    add();
    return writer.flush('record');
  });
  await Promise.all(flushes);
  expect(batches).toEqual([{ size: 3, sync: true }]);
});

// Lost without it: a single tick, which is put by itself, is not on disk when its append resolves.
test('a record by itself is fsynced as several are', async () => {
  const { writer, batches } = writerOn('tick', { now: 0 });
  writer.add({ type: 'put', key: Buffer.of(1), value: Buffer.of(2) });
  await writer.flush('record');
  writer.add({ type: 'put', key: Buffer.of(2), value: Buffer.of(2) });
  await writer.flush('never');
  expect(batches).toEqual([
    { size: 1, sync: true },
    { size: 1, sync: false },
  ]);
});

// Lost without it: with `interval`, the last second before a pause is never fsynced, or each tick is.
test('interval: at most one fsync a second, and the last record before a pause gets one', async () => {
  const time = { now: 10_000 };
  const { writer, batches, add } = writerOn('interval', time);
  for (let i = 0; i < 25; i++) {
    add();
    await writer.flush('record');
    time.now += 100;
  }
  expect(batches.filter(({ sync }) => sync)).toHaveLength(3);
  expect(batches).toHaveLength(25);
  await writer.drain();
  add();
  await writer.drain();
  expect(batches.at(-1)).toEqual({ size: 1, sync: true });
});

test('what must be on disk now is fsynced with either policy', async () => {
  const { writer, batches, add } = writerOn('interval', { now: 0 });
  add();
  await writer.flush('always');
  add();
  await writer.flush('always');
  add();
  await writer.flush('never');
  expect(batches.map(({ sync }) => sync)).toEqual([true, true, false]);
});
