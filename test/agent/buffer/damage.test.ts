import { cpSync } from 'node:fs';
import { readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openLevel } from '../../../agent/buffer/level-database.ts';
import { type TempDir, tempDir } from '../../support/temp.ts';
import { clockAt, dictionaryOf, lossesOf, openBuffer, START, tickOf, ticksOf } from './test-buffer.ts';

const G = dictionaryOf('g', ['a', 'b']);
const TICKS = 40;

/** A buffer of an earlier run: half of its ticks durable, its records in a table and in a log. */
async function written(dir: TempDir): Promise<void> {
  const time = { now: START };
  await using buffer = await openBuffer(dir.path, { clock: clockAt(time) });
  for (let i = 0; i < TICKS; i++) {
    time.now += 1000;
    await buffer.appendTick(tickOf(G, START + i, i, -i)).stored;
  }
  buffer.live.durable.add(1, 1 + TICKS / 2);
  await buffer.saveMarks(buffer.live);
}

async function filesOf(dir: TempDir, pattern: RegExp): Promise<string[]> {
  const path = join(dir.path, 'buffer');
  return (await readdir(path)).filter((name) => pattern.test(name)).map((name) => join(path, name));
}

/** Moves everything from the log into a table. */
async function intoTable(dir: TempDir): Promise<void> {
  const db = await openLevel(join(dir.path, 'buffer'));
  await db.compactRange(Buffer.of(0), Buffer.of(255));
  await db.close();
}

const asides = async (dir: TempDir): Promise<string[]> =>
  (await readdir(dir.path)).filter((name) => name.startsWith('buffer.aside-'));

const UNDURABLE = Array.from({ length: TICKS / 2 }, (_, i) => START + TICKS / 2 + i);

// Lost without these: a node whose disk or power failed starts with an empty buffer, and nobody hears of it.
describe('what a damaged database still holds is delivered', () => {
  test.each<[string, (dir: TempDir) => Promise<void>]>([
    ['its CURRENT is missing', async (dir) => rm(join(dir.path, 'buffer', 'CURRENT'))],
    ['its CURRENT is empty', async (dir) => writeFile(join(dir.path, 'buffer', 'CURRENT'), '')],
    [
      'its MANIFEST is missing',
      async (dir) => {
        for (const file of await filesOf(dir, /^MANIFEST/)) await rm(file);
      },
    ],
    [
      'its MANIFEST is cut',
      async (dir) => {
        for (const file of await filesOf(dir, /^MANIFEST/)) await truncate(file, 20);
      },
    ],
  ])('%s', async (_, damage) => {
    await using dir = tempDir();
    await written(dir);
    await intoTable(dir);
    await damage(dir);
    await using again = await openBuffer(dir.path);
    const run = again.runs[0]!;
    expect(again.runs.length).toBe(2);
    // The store has the rest for good: it stays in the folder aside.
    expect((await ticksOf(again, run)).map(([at]) => at)).toEqual(UNDURABLE);
    expect(run.durable.gaps(run.first, run.last)).toEqual([{ first: TICKS / 2 + 2, last: TICKS + 1 }]);
    expect(await lossesOf(again)).toEqual([]);
    expect(await asides(dir)).toHaveLength(1);
  });

  test('a flipped byte in a table, after a crash: the other blocks are saved, and each lost record is named', async () => {
    await using dir = tempDir();
    const time = { now: START };
    const wide = dictionaryOf(
      'wide',
      Array.from({ length: 60 }, (_, i) => `m_${i}`),
    );
    const ticks = 400;
    {
      await using buffer = await openBuffer(dir.path, { clock: clockAt(time) });
      for (let i = 0; i < ticks; i++) {
        time.now += 1000;
        const values = wide.series.map((_, slot) => (i * 7919 + slot * 104_729) % 1_000_003);
        void buffer.appendTick(tickOf(wide, START + i, ...values)).stored;
      }
      await buffer.saveMarks(buffer.live);
    }
    await intoTable(dir);
    const tables = await filesOf(dir, /\.ldb$/);
    const bytes = await readFile(tables.at(-1)!);
    bytes[Math.floor(bytes.length / 2)]! ^= 1;
    await writeFile(tables.at(-1)!, bytes);
    // As a process that was killed leaves it.
    const tail = (await readFile(join(dir.path, 'buffer.tail'), 'utf8')).trim().split('\n')[0]!;
    expect(JSON.parse(tail)).toMatchObject({ clean: true });
    await rm(join(dir.path, 'buffer.tail'));

    await using again = await openBuffer(dir.path);
    const run = again.runs[0]!;
    const records = await again.read(run, run.first, run.last, 1e9);
    const missing = records.filter(({ ok }) => !ok);
    expect(records).toHaveLength(ticks + 1);
    expect(missing.length).toBeGreaterThan(0);
    expect(missing.length).toBeLessThan(60);
    expect(await asides(dir)).toHaveLength(1);
  });

  test('the database is gone altogether: the loss says since when and about how much', async () => {
    await using dir = tempDir();
    await written(dir);
    await rm(join(dir.path, 'buffer'), { recursive: true });
    await using again = await openBuffer(dir.path, { clock: clockAt({ now: START + 99_000 }) });
    const [loss] = await lossesOf(again);
    expect(loss).toMatchObject({ reason: 'corrupt', estimated: true, toMs: START + 99_000 });
    expect(loss!.fromMs).toBe(UNDURABLE[0]);
    expect(loss!.samples).toBeGreaterThanOrEqual(TICKS - 2);
    expect(loss!.samples).toBeLessThanOrEqual(TICKS + 2);
    // No number is given out twice.
    expect(again.live.counter).toBe(2);
  });
});

test('a log that was cut: what is gone is missing by name, so that it is ledgered', async () => {
  await using dir = tempDir();
  await using copy = tempDir();
  const time = { now: START };
  await using buffer = await openBuffer(dir.path, { clock: clockAt(time) });
  for (let i = 0; i < 20; i++) {
    time.now += 1000;
    await buffer.appendTick(tickOf(G, START + i, i, i)).stored;
  }
  await buffer.saveMarks(buffer.live);
  // As a power cut leaves it, when the disk had said that it was written.
  cpSync(dir.path, copy.path, { recursive: true });
  for (const log of await filesOf(copy, /\.log$/)) await truncate(log, 900);
  await using again = await openBuffer(copy.path);
  const run = again.runs[0]!;
  const records = await again.read(run, 1, run.last, 1e9);
  expect(run.last).toBeGreaterThanOrEqual(20);
  expect(records.filter(({ ok }) => ok).length).toBeGreaterThan(2);
  expect(records.filter(({ ok }) => !ok).length).toBeGreaterThan(2);
});

test('what belongs to another machine is set aside as it is, and never sent: a cloned disk', async () => {
  await using dir = tempDir();
  await written(dir);
  await using again = await openBuffer(dir.path, { machineId: 'machine-2' });
  expect(again.runs).toHaveLength(1);
  expect(await lossesOf(again)).toMatchObject([
    { reason: 'corrupt', samples: 0, detail: expect.stringMatching(/another machine/) },
  ]);
  expect(await asides(dir)).toHaveLength(1);
});

test('a newer format is set aside as it is, for the version that can read it', async () => {
  await using dir = tempDir();
  await written(dir);
  await writeFile(join(dir.path, 'buffer.json'), '{"format":99,"machineId":"machine-1"}');
  await using again = await openBuffer(dir.path);
  const [loss] = await lossesOf(again);
  expect(loss).toMatchObject({ reason: 'corrupt', detail: expect.stringMatching(/format 99/) });
  expect(loss!.samples).toBeGreaterThan(0);
});

test('at most three databases are kept aside: damage again and again must not fill the disk', async () => {
  await using dir = tempDir();
  for (let i = 0; i < 6; i++) {
    await using buffer = await openBuffer(dir.path, { clock: clockAt({ now: START + i }) });
    await buffer.appendTick(tickOf(G, START + i, i, i)).stored;
    await rm(join(dir.path, 'buffer', 'CURRENT'));
  }
  await (await openBuffer(dir.path))[Symbol.asyncDispose]();
  expect(await asides(dir)).toHaveLength(3);
});

describe('a run whose own entry is damaged', () => {
  async function flipRun(dir: TempDir): Promise<void> {
    const db = await openLevel(join(dir.path, 'buffer'));
    for await (const [key, value] of db.iterator({ gte: Buffer.from('u'), lt: Buffer.from('v') })) {
      value[10]! ^= 1;
      await db.put(key, value);
    }
    await db.close();
  }

  test('is known by the tail file: it goes on as the same run', async () => {
    await using dir = tempDir();
    await written(dir);
    await flipRun(dir);
    await using again = await openBuffer(dir.path);
    expect((await ticksOf(again, again.runs[0]!)).map(([at]) => at)).toEqual(UNDURABLE);
    expect(await lossesOf(again)).toEqual([]);
  });

  test('and the tail file is gone too: its records are delivered under a new id, and the loss of its end is said', async () => {
    await using dir = tempDir();
    await written(dir);
    await flipRun(dir);
    await rm(join(dir.path, 'buffer.tail'));
    await using again = await openBuffer(dir.path);
    expect(await ticksOf(again, again.runs[0]!)).toHaveLength(TICKS);
    expect(await lossesOf(again)).toMatchObject([{ reason: 'corrupt', estimated: true }]);
  });
});
