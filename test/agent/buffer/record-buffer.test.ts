import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { RecordKind } from '#shared/wire/record.ts';
import { recordKey } from '../../../agent/buffer/keys.ts';
import { openLevel } from '../../../agent/buffer/level-database.ts';
import { TailFile, tailPath } from '../../../agent/buffer/tail-file.ts';
import { seededRandom } from '../../support/random.ts';
import { tempDir } from '../../support/temp.ts';
import { until } from '../../support/wait.ts';
import { clockAt, dictionaryOf, lossesOf, openBuffer, START, tickOf, ticksOf } from './test-buffer.ts';

const G = dictionaryOf('g', ['a', 'b']);

test('what was appended is there after a restart, run by run, with its dictionary', async () => {
  await using dir = tempDir();
  {
    await using buffer = await openBuffer(dir.path);
    await buffer.appendTick(tickOf(G, START, 1, 2)).stored;
    await buffer.appendTick(tickOf(G, START + 1000, 3, 4)).stored;
    buffer.saveFact('xid/GPU-1', '79');
  }
  await using again = await openBuffer(dir.path);
  expect(
    again.runs.map(({ counter, first, last, cleanEnd }) => ({ counter, first, last, cleanEnd })),
  ).toEqual([
    { counter: 1, first: 1, last: 3, cleanEnd: true },
    { counter: 2, first: 1, last: 0, cleanEnd: false },
  ]);
  expect(await ticksOf(again)).toEqual([
    [START, [1, 2]],
    [START + 1000, [3, 4]],
  ]);
  expect(Buffer.from(again.runs[0]!.id).equals(Buffer.from(again.live.id))).toBe(false);
  expect(again.fact('xid/GPU-1')).toBe('79');
});

test('durable marks survive a restart', async () => {
  await using dir = tempDir();
  {
    await using buffer = await openBuffer(dir.path);
    for (let i = 0; i < 5; i++) await buffer.appendTick(tickOf(G, START + i, i, i)).stored;
    buffer.live.durable.add(1, 4);
    await buffer.saveMarks(buffer.live);
  }
  await using again = await openBuffer(dir.path);
  expect(again.runs[0]!.durable.ranges).toEqual([{ first: 1, last: 4 }]);
});

// Lost without it: what losing the whole buffer costs is told a tick late, or, of a quiet source, never.
test('the tail says what is not delivered yet as soon as the marks are saved', async () => {
  await using dir = tempDir();
  await using buffer = await openBuffer(dir.path, { clock: clockAt({ now: START }) });
  await buffer.appendTick(tickOf(G, START, 1, 2)).stored;
  await buffer.saveMarks(buffer.live);
  await until(async () => (await TailFile.read(tailPath(dir.path)))?.pendingFromMs === START, {
    timeoutMs: 5_000,
    what: 'the tail with the oldest record',
  });
});

// Lost without it: a record that settles while the agent stops ends it with an error.
test('a tail that is written after its file was closed is nothing, and no error', async () => {
  await using dir = tempDir();
  const tail = await TailFile.open(tailPath(dir.path));
  await tail[Symbol.asyncDispose]();
  tail.write({ run: 'r', counter: 1, last: 1, clean: false });
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(await TailFile.read(tailPath(dir.path))).toBeUndefined();
});

// A damaged record found right after a start, before the first tick, would be told as a loss of no samples.
test('how many samples a record holds is known after a restart, before the first tick', async () => {
  await using dir = tempDir();
  {
    await using buffer = await openBuffer(dir.path);
    expect(buffer.dictionaries.meanSeries).toBe(0);
    await buffer.appendTick(tickOf(G, START, 1, 2)).stored;
    await buffer.appendTick(tickOf(dictionaryOf('h', ['a', 'b', 'c', 'd']), START, 1, 2, 3, 4)).stored;
  }
  await using again = await openBuffer(dir.path);
  expect(again.dictionaries.meanSeries).toBe(3);
});

describe('what LevelDB would hide is said', () => {
  test('a flipped byte and a missing record come back as such, their neighbours whole', async () => {
    await using dir = tempDir();
    {
      await using buffer = await openBuffer(dir.path);
      for (let i = 0; i < 5; i++) await buffer.appendTick(tickOf(G, START + i, i, i)).stored;
    }
    const db = await openLevel(join(dir.path, 'buffer'));
    const flipped = Buffer.from((await db.get(recordKey(1, 3)))!);
    flipped[flipped.length - 1]! ^= 4;
    await db.put(recordKey(1, 3), flipped);
    await db.del(recordKey(1, 5));
    await db.close();
    await using again = await openBuffer(dir.path);
    const records = await again.read(again.runs[0]!, 1, 6, 1e9);
    expect(records.map((record) => (record.ok ? 'ok' : record.why))).toEqual([
      'ok',
      'ok',
      expect.stringContaining('checksum'),
      'ok',
      'it is missing',
      'ok',
    ]);
  });

  test('two agents on one folder: the second says so and touches nothing', async () => {
    await using dir = tempDir();
    await using buffer = await openBuffer(dir.path);
    await expect(openBuffer(dir.path)).rejects.toThrow(/another agent has it open/);
    await buffer.appendTick(tickOf(G, START, 1, 2)).stored;
  });
});

describe('the ring', () => {
  test('by age: durable records go silently, others as a loss with their time and count', async () => {
    await using dir = tempDir();
    const time = { now: START };
    await using buffer = await openBuffer(dir.path, { clock: clockAt(time), maxAgeMs: 60_000 });
    for (let i = 0; i < 10; i++) await buffer.appendTick(tickOf(G, START + i * 1000, i, i)).stored;
    buffer.live.durable.add(1, 5);
    time.now = START + 66_500;
    await buffer.trim();
    expect((await ticksOf(buffer, buffer.live)).map(([at]) => at)).toEqual(
      [7000, 8000, 9000].map((ms) => START + ms),
    );
    expect(await lossesOf(buffer)).toMatchObject([
      { reason: 'trimmed', samples: 6, fromMs: START + 4000, toMs: START + 6000, estimated: false },
    ]);
  });

  test('says the losses again that were not sent yet, and of an estimate that it is one', async () => {
    await using dir = tempDir();
    const time = { now: START };
    await using buffer = await openBuffer(dir.path, { clock: clockAt(time), maxAgeMs: 60_000 });
    const loss = { fromMs: START - 9_000, toMs: START - 8_000, reason: 'trimmed' as const, detail: '' };
    await buffer.appendLoss({ ...loss, samples: 500, estimated: true });
    await buffer.appendLoss({ ...loss, samples: 30, estimated: false });
    for (let i = 0; i < 10; i++) await buffer.appendTick(tickOf(G, START + i * 1000, i, i)).stored;
    time.now = START + 62_500;
    await buffer.trim();
    expect(await lossesOf(buffer)).toMatchObject([
      { reason: 'trimmed', samples: 36, toMs: START + 2000, estimated: false },
      { reason: 'trimmed', samples: 500, toMs: START - 8_000, estimated: true },
    ]);
  });

  test('remembers what it let go because the store had it, also over a restart, and says it once', async () => {
    await using dir = tempDir();
    const time = { now: START };
    const options = { clock: clockAt(time), maxAgeMs: 60_000 };
    let run = 0;
    {
      await using buffer = await openBuffer(dir.path, options);
      run = buffer.live.counter;
      for (let i = 0; i < 10; i++) await buffer.appendTick(tickOf(G, START + i * 1000, i, i)).stored;
      buffer.live.durable.add(1, 5);
      time.now = START + 66_500;
      await buffer.trim();
    }
    await using buffer = await openBuffer(dir.path, options);
    const [{ first }] = [buffer.runs[0]!];
    expect(first).toBeGreaterThan(5);
    // The dictionary is a record too, and holds no samples.
    expect(buffer.takeDeparted([{ run, first: 1, last: first + 100 }])).toEqual({
      ...{ records: 4, samples: 8 },
      ...{ fromMs: START, toMs: START + 3000 },
    });
    expect(buffer.takeDeparted([{ run, first: 1, last: first + 100 }])).toBeUndefined();
  });

  // Lost without it: a ring that was found to be young once is not looked at when it is old, or when the disk fills.
  test('is looked at when its oldest record is due, and every minute for what others wrote', async () => {
    await using dir = tempDir();
    const time = { now: START };
    await using buffer = await openBuffer(dir.path, { clock: clockAt(time), maxAgeMs: 40_000 });
    for (let i = 0; i < 10; i++) await buffer.appendTick(tickOf(G, START + i * 1000, i, i)).stored;
    time.now = START + 10_000;
    await buffer.trim();
    expect(await ticksOf(buffer, buffer.live)).toHaveLength(10);
    time.now = START + 42_500;
    await buffer.trim();
    expect(await ticksOf(buffer, buffer.live)).toHaveLength(7);
    writeFileSync(join(dir.path, 'buffer', 'foreign'), Buffer.alloc(100_000));
    time.now = START + 42_600 + 60_000;
    await buffer.trim();
    expect(buffer.bytes).toBeGreaterThan(100_000);
  });

  test('by size, as it lies on the disk: an outage must not fill it, and every lost sample is counted', async () => {
    await using dir = tempDir();
    const maxBytes = 2 ** 20;
    const wide = dictionaryOf(
      'wide',
      Array.from({ length: 200 }, (_, i) => `m_${i}`),
    );
    await using buffer = await openBuffer(dir.path, { maxBytes });
    let at = START;
    for (let round = 0; round < 8; round++) {
      for (let i = 0; i < 500; i++) {
        const values = wide.series.map((_, slot) => Math.imul(at + slot, 2_654_435_761) >>> 0);
        void buffer.appendTick(tickOf(wide, at++, ...values)).stored;
      }
      await buffer.appendTick(tickOf(wide, at++, ...new Array(200).fill(1))).stored;
      await buffer.trim();
      // Two logs of a write buffer, a sixteenth of the ring each.
      expect(folderBytes(join(dir.path, 'buffer'))).toBeLessThanOrEqual(maxBytes * 1.2 + maxBytes / 8);
    }
    const kept = (await ticksOf(buffer, buffer.live)).length;
    const lost = (await lossesOf(buffer)).reduce((sum, { samples }) => sum + samples, 0);
    expect(kept).toBeGreaterThan(300);
    expect(lost).toBe((8 * 501 - kept) * 200);
  });

  // Lost without it: what compaction writes beside what it replaces fills a disk that the ring alone would fit.
  test('by size while its backlog is compacted, every few seconds', async () => {
    await using dir = tempDir();
    const maxBytes = 2 ** 23;
    const random = seededRandom(1);
    const time = { now: START };
    const wide = dictionaryOf(
      'wide',
      Array.from({ length: 200 }, (_, i) => `m_${i}`),
    );
    await using buffer = await openBuffer(dir.path, { maxBytes, clock: clockAt(time) });
    await buffer.trim();
    while (buffer.bytes < maxBytes * 0.85) {
      time.now += 1000;
      // Differences of most of them are as long as they are.
      const values = wide.series.map((_, slot) => (slot < 20 ? 2 ** 31 : Math.floor(random() * 2 ** 31)));
      await buffer.appendTick(tickOf(wide, time.now, ...values)).stored;
    }
    time.now += 600_000;
    const sizes: number[] = [];
    for (let more = true; more; ) {
      time.now += 5_000;
      more = await buffer.compact();
      await buffer.trim();
      sizes.push(folderBytes(join(dir.path, 'buffer')));
    }
    expect(sizes.length).toBeGreaterThan(3);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(maxBytes * 1.2);
  });

  // Lost without it: the disk holds a backlog and what it was compacted from until the ring is next looked at.
  test('by what compaction wrote and freed, also where neither age nor size asks for a look', async () => {
    await using dir = tempDir();
    const maxBytes = 2 ** 23;
    const time = { now: START };
    const wide = dictionaryOf(
      'wide',
      Array.from({ length: 200 }, (_, i) => `m_${i}`),
    );
    await using buffer = await openBuffer(dir.path, { maxBytes, clock: clockAt(time) });
    const random = seededRandom(2);
    while (buffer.bytes < maxBytes * 0.4) {
      time.now += 1000;
      const values = wide.series.map((_, slot) => (slot < 20 ? 2 ** 31 : Math.floor(random() * 2 ** 31)));
      await buffer.appendTick(tickOf(wide, time.now, ...values)).stored;
    }
    time.now += 600_000;
    await buffer.trim();
    const ring = buffer.bytes;
    expect(await buffer.compact()).toBe(true);
    expect(buffer.bytes).toBeGreaterThan(ring * 1.1);
    await buffer.trim();
    expect(buffer.bytes).toBeLessThan(ring * 1.1);
    expect(folderBytes(join(dir.path, 'buffer'))).toBeLessThan(ring * 1.1);
  });

  test('dictionaries leave with the last record that uses them: churning series must not fill the disk', async () => {
    await using dir = tempDir();
    const time = { now: START };
    await using buffer = await openBuffer(dir.path, { clock: clockAt(time), maxAgeMs: 60_000 });
    for (let i = 0; i < 50; i++)
      await buffer.appendTick(tickOf(dictionaryOf('g', [`m_${i}`]), START + i * 1000, i)).stored;
    expect(buffer.dictionaries.size).toBe(50);
    time.now = START + 100_000;
    await buffer.trim();
    expect(buffer.dictionaries.size).toBeLessThanOrEqual(12);
    expect((await ticksOf(buffer, buffer.live)).length).toBeGreaterThan(5);
  });
});

/** As it lies on the disk. */
function folderBytes(folder: string): number {
  const sizes = readdirSync(folder).map(
    (name) => statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0,
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

// Lost without it: a tick that is refused, or finds no room, while it is being written counts as corrupt, and as lost.
test('a record that is still being written is waited for by who reads it', async () => {
  await using dir = tempDir();
  await using buffer = await openBuffer(dir.path);
  for (let i = 0; i < 50; i++) {
    const { sequence, stored } = buffer.appendTick(tickOf(G, START + i, i, i));
    const [record] = await buffer.read(buffer.live, sequence, sequence, 1);
    expect(record).toMatchObject({ sequence, ok: true });
    await stored;
  }
});

describe('a backlog', () => {
  /** 200 ticks of two groups and an event, five minutes ago. */
  async function backlog(path: string, time: { now: number }) {
    const buffer = await openBuffer(path, { clock: clockAt(time) });
    const other = dictionaryOf('h', ['c']);
    for (let i = 0; i < 200; i++) {
      time.now += 1000;
      void buffer.appendTick(tickOf(i % 2 ? other : G, time.now, ...(i % 2 ? [i] : [i, -i]))).stored;
      if (i === 50)
        await buffer.appendEvent({
          type: 'xid',
          timestampMs: time.now,
          gpu: '0',
          gpuUuid: '',
          text: 'Xid 79',
          attributes: {},
        }).stored;
    }
    await buffer.saveMarks(buffer.live);
    return buffer;
  }

  test('is compacted once it is old, and not before: what is delivered in time is not coded twice', async () => {
    await using dir = tempDir();
    const time = { now: START };
    await using buffer = await backlog(dir.path, time);
    const before = await ticksOf(buffer, buffer.live);
    time.now = START + 119_000;
    expect(await buffer.compact()).toBe(false);
    time.now = START + 600_000;
    while (await buffer.compact());
    expect(await ticksOf(buffer, buffer.live)).toEqual(before);
  });

  test('of an earlier run is compacted whole; durable records are left as they are', async () => {
    await using dir = tempDir();
    const time = { now: START };
    {
      await using buffer = await backlog(dir.path, time);
      buffer.live.durable.add(1, 100);
      await buffer.saveMarks(buffer.live);
    }
    {
      await using again = await openBuffer(dir.path, { clock: clockAt(time) });
      while (await again.compact());
      expect(await ticksOf(again)).toHaveLength(200);
    }
    const db = await openLevel(join(dir.path, 'buffer'));
    const kinds: number[] = [];
    const range = { gte: recordKey(1, 0), lt: recordKey(2, 0) };
    for await (const [, value] of db.iterator(range)) kinds.push(value[1]!);
    await db.close();
    expect(kinds.slice(0, 100)).not.toContain(RecordKind.Segment);
    expect(kinds.slice(100).every((kind) => kind === RecordKind.Segment)).toBe(true);
    expect(kinds.length).toBeLessThan(104);
  });

  test('a damaged segment costs its records and says so of each of them', async () => {
    await using dir = tempDir();
    const time = { now: START };
    {
      await using buffer = await backlog(dir.path, time);
      time.now += 600_000;
      while (await buffer.compact());
    }
    const db = await openLevel(join(dir.path, 'buffer'));
    const [[key, value] = []] = await db.iterator({ gte: recordKey(1, 0), limit: 1 }).all();
    value![30]! ^= 1;
    await db.put(key!, value!);
    await db.close();
    await using again = await openBuffer(dir.path);
    const records = await again.read(again.runs[0]!, 1, again.runs[0]!.last, 1e9);
    const lost = records.filter(({ ok }) => !ok);
    expect(lost.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 64 }, (_, i) => i + 1));
    expect(lost.every((record) => !record.ok && /checksum/.test(record.why))).toBe(true);
  });

  test('can be asked for times: a replay begins where it should, across a step of the clock', async () => {
    await using dir = tempDir();
    const time = { now: START };
    await using buffer = await openBuffer(dir.path, { clock: clockAt(time) });
    // Sequence 1 is the dictionary; the clock steps back by 30 s after 60 ticks.
    const times = Array.from({ length: 120 }, (_, i) => START + i * 1000 - (i < 60 ? 0 : 30_000));
    for (const at of times) void buffer.appendTick(tickOf(G, at, 1, 2)).stored;
    await buffer.saveMarks(buffer.live);
    expect(await buffer.timeOf(buffer.live, 1)).toBe(START);
    expect(await buffer.timeOf(buffer.live, 11)).toBe(START + 9_000);
    expect(await buffer.firstAtOrAfter(buffer.live, START + 9_000)).toBe(11);
    expect(await buffer.firstAtOrAfter(buffer.live, START + 45_000)).toBe(47);
    expect(await buffer.firstAtOrAfter(buffer.live, START + 85_500)).toBe(118);
    expect(await buffer.firstAtOrAfter(buffer.live, START + 999_000)).toBeUndefined();
    expect(buffer.samplesIn(buffer.live, 1, 121)).toBe(240);
  });
});
