import { execFileSync } from 'node:child_process';
import { appendFileSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { RecordBuffer } from '../../../agent/buffer/record-buffer.ts';
import { skipLoudly } from '../../support/data.ts';
import { type TempDir, tempDir } from '../../support/temp.ts';
import { until } from '../../support/wait.ts';
import { clockAt, dictionaryOf, lossesOf, openBuffer, START, tickOf, ticksOf } from './test-buffer.ts';

const [MOUNT, UNMOUNT] = ['mount', 'umount'] as const;
const G = dictionaryOf('g', ['a', 'b']);

/** A disk of three megabytes, gone after the test; undefined where this user may not mount one. */
function smallDisk(): TempDir | undefined {
  const dir = tempDir('small-disk');
  try {
    execFileSync(MOUNT, ['-t', 'tmpfs', '-o', 'size=3m', 'none', dir.path], { stdio: 'ignore' });
  } catch {
    void dir[Symbol.asyncDispose]();
    return undefined;
  }
  return {
    path: dir.path,
    async [Symbol.asyncDispose]() {
      execFileSync(UNMOUNT, ['-l', dir.path]);
      await dir[Symbol.asyncDispose]();
    },
  };
}

/** Takes all that is left. */
function fill(dir: TempDir): void {
  for (const size of [64 * 1024, 4096, 1]) {
    try {
      while (true) appendFileSync(join(dir.path, 'filler'), Buffer.alloc(size, 1));
    } catch {
      // No more of that size.
    }
  }
}

describe('a disk that is full', () => {
  const probe = smallDisk();
  void probe?.[Symbol.asyncDispose]();
  if (!probe) skipLoudly('mounting a small disk needs root: the buffer is not tried on a full one');

  /** Appends, a second apart, until the disk takes nothing even after the reserve was given up. */
  async function appendUntilFull(buffer: RecordBuffer, dir: TempDir, time: { now: number }) {
    const stored: number[] = [];
    const failed: number[] = [];
    for (let i = 0; failed.length < 5 && i < 500; i++) {
      fill(dir);
      time.now += 1_100;
      const { sequence, stored: done } = buffer.appendTick(tickOf(G, time.now, i, i));
      await done.then(
        () => stored.push(time.now),
        () => failed.push(sequence),
      );
    }
    return { stored, failed };
  }

  // Lost without it: samples while another program has filled the disk, without a word; or the buffer for good.
  test.skipIf(!probe)('samples go on from memory, and what nobody got is counted when it heals', async () => {
    await using dir = smallDisk()!;
    const time = { now: START };
    let kept: number[];
    {
      await using buffer = await openBuffer(dir.path, { clock: clockAt(time), maxBytes: 2 ** 20 });
      const { stored, failed } = await appendUntilFull(buffer, dir, time);
      expect(failed).toHaveLength(5);
      expect(buffer.writable).toBe(false);
      expect(buffer.unbuffered).toBeGreaterThanOrEqual(5);
      // The backlog can be read and sent all the while.
      expect((await ticksOf(buffer, buffer.live)).map(([at]) => at)).toEqual(stored);
      const held = await buffer.read(buffer.live, failed[0]!, failed[0]!, 1);
      expect(held).toMatchObject([{ ok: false, unbuffered: true }]);
      // Two were delivered live, three were not.
      buffer.settleUnbuffered(buffer.live, failed[0]!, failed[1]!, 'stored');
      buffer.settleUnbuffered(buffer.live, failed[2]!, failed[4]!, 'lost');

      rmSync(join(dir.path, 'filler'));
      time.now += 1_100;
      await buffer.appendTick(tickOf(G, time.now, 7, 7)).stored;
      kept = [...stored, time.now];
      expect(buffer.writable).toBe(true);
      await until(async () => (await lossesOf(buffer)).length > 0, {
        timeoutMs: 10_000,
        what: 'the loss is on disk',
      });
      expect(await lossesOf(buffer)).toMatchObject([
        { reason: 'unbuffered', samples: 6, estimated: false, fromMs: kept.at(-1)! - 3_300 },
      ]);
    }
    await using again = await openBuffer(dir.path, { clock: clockAt(time), maxBytes: 2 ** 20 });
    expect((await ticksOf(again)).map(([at]) => at)).toEqual(kept);
  });

  test.skipIf(!probe)(
    'what nobody has decided on when the agent ends is ledgered by the next one',
    async () => {
      await using dir = smallDisk()!;
      const time = { now: START };
      let failed: number[];
      {
        await using buffer = await openBuffer(dir.path, { clock: clockAt(time), maxBytes: 2 ** 20 });
        ({ failed } = await appendUntilFull(buffer, dir, time));
        rmSync(join(dir.path, 'filler'));
        time.now += 1_100;
        await buffer.appendTick(tickOf(G, time.now, 7, 7)).stored;
      }
      await using again = await openBuffer(dir.path, { clock: clockAt(time), maxBytes: 2 ** 20 });
      expect(await lossesOf(again)).toMatchObject([
        { reason: 'unbuffered', samples: 2 * failed.length, estimated: false },
      ]);
      // Settled: nobody looks for them again.
      expect(failed.every((sequence) => again.runs[0]!.durable.has(sequence))).toBe(true);
    },
  );
});

// Lost without it: everything from then on, where someone deletes the folder under a running agent.
test('a database that was deleted under the agent is begun anew, and what was in it is missing by name', async () => {
  await using dir = tempDir();
  const time = { now: START };
  await using buffer = await openBuffer(dir.path, { clock: clockAt(time), maxBytes: 2 ** 20 });
  await buffer.appendTick(tickOf(G, START, 1, 2)).stored;
  await rm(join(dir.path, 'buffer'), { recursive: true });
  const wide = dictionaryOf(
    'wide',
    Array.from({ length: 2_000 }, (_, i) => `m_${i}`),
  );
  // LevelDB still holds its open log: it fails where it needs a new file.
  let failed = false;
  for (let i = 0; i < 200 && !failed; i++) {
    const values = wide.series.map((_, slot) => slot * 1e12 + i);
    await buffer.appendTick(tickOf(wide, START + i, ...values)).stored.catch(() => {
      failed = true;
    });
  }
  expect(failed).toBe(true);
  expect(buffer.writable).toBe(false);
  time.now += 2_000;
  await buffer.appendTick(tickOf(G, time.now, 3, 4)).stored;
  expect(buffer.writable).toBe(true);
  expect((await ticksOf(buffer, buffer.live)).at(-1)).toEqual([time.now, [3, 4]]);
  const records = await buffer.read(buffer.live, 1, 2, 1e9);
  expect(records.map(({ ok }) => ok)).toEqual([false, false]);
});
