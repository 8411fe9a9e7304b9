import { readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { decodeLossWire, lossFromWire, RecordKind, splitTick } from '#shared/wire/record.ts';
import { recordKey } from '../../../agent/buffer/keys.ts';
import { openLevel } from '../../../agent/buffer/level-database.ts';
import { RecordBuffer } from '../../../agent/buffer/record-buffer.ts';
import { tempDir } from '../../support/temp.ts';

const dictionaryOf = (group: string, names: string[]): Dictionary =>
  createDictionary(
    group,
    1000,
    names.map((name) => ({ name, labels: [], kind: 'gauge', decimals: 0, help: '', unit: '' })),
  );
const G = dictionaryOf('g', ['a', 'b']);
const clockAt = (time: { now: number }): Clock => ({ now: () => time.now, monotonic: () => time.now });
const START = 1_780_000_000_000;

function open(
  directory: string,
  overrides: Partial<Parameters<typeof RecordBuffer.open>[0]> = {},
): Promise<RecordBuffer> {
  return RecordBuffer.open({
    directory,
    machineId: 'machine-1',
    maxAgeMs: 86_400_000,
    maxBytes: 2 ** 30,
    clock: clockAt({ now: START }),
    logger: silentLogger,
    registry: createRegistry(),
    ...overrides,
  });
}

function tick(dictionary: Dictionary, timestampMs: number, ...values: number[]) {
  return {
    dictionary,
    timestampMs,
    values: Float64Array.from(values),
    states: new Uint8Array(values.length),
  };
}

async function ticksOf(buffer: RecordBuffer, run = buffer.runs[0]!): Promise<[number, number[]][]> {
  const found: [number, number[]][] = [];
  for (const record of await buffer.read(run, run.first, run.last, 1e9)) {
    if (!record.ok || record.kind !== RecordKind.Tick) continue;
    const { hash, frame } = splitTick(record.body);
    const decoder = new FrameDecoder(buffer.dictionaries.get(hash)!);
    found.push([decoder.decode(frame), [...decoder.values]]);
  }
  return found;
}

async function lossesOf(buffer: RecordBuffer) {
  const records = await buffer.read(buffer.live, 1, buffer.live.last, 1e9);
  return records.flatMap((record) =>
    record.ok && record.kind === RecordKind.Loss ? [lossFromWire(decodeLossWire(record.body))] : [],
  );
}

test('what was appended is there after a restart, run by run, with its dictionary', async () => {
  await using dir = tempDir();
  {
    await using buffer = await open(dir.path);
    await buffer.appendTick(tick(G, START, 1, 2)).stored;
    await buffer.appendTick(tick(G, START + 1000, 3, 4)).stored;
    buffer.saveFact('xid/GPU-1', '79');
  }
  await using again = await open(dir.path);
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
    await using buffer = await open(dir.path);
    for (let i = 0; i < 5; i++) await buffer.appendTick(tick(G, START + i, i, i)).stored;
    buffer.live.durable.add(1, 4);
    await buffer.saveMarks(buffer.live);
  }
  await using again = await open(dir.path);
  expect(again.runs[0]!.durable.ranges).toEqual([{ first: 1, last: 4 }]);
});

describe('what LevelDB would hide is said', () => {
  test('a flipped byte and a missing record come back as such, their neighbours whole', async () => {
    await using dir = tempDir();
    {
      await using buffer = await open(dir.path);
      for (let i = 0; i < 5; i++) await buffer.appendTick(tick(G, START + i, i, i)).stored;
    }
    const db = await openLevel(join(dir.path, 'buffer'));
    const flipped = Buffer.from((await db.get(recordKey(1, 3)))!);
    flipped[flipped.length - 1]! ^= 4;
    await db.put(recordKey(1, 3), flipped);
    await db.del(recordKey(1, 5));
    await db.close();
    await using again = await open(dir.path);
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

  test.each([
    ['a cloned disk', async () => {}, { machineId: 'machine-2' }, /another machine/],
    [
      'a newer format',
      (path: string) => writeFile(join(path, 'buffer.json'), '{"format":99,"machineId":"machine-1"}'),
      {},
      /format 99/,
    ],
    [
      'a database that is damaged',
      async (path: string) => {
        for (const file of await readdir(join(path, 'buffer'))) {
          if (file.startsWith('MANIFEST')) await writeFile(join(path, 'buffer', file), 'garbage');
        }
      },
      {},
      /set aside/,
    ],
  ])('%s is set aside, kept, and recorded as a loss', async (_, damage, overrides, detail) => {
    await using dir = tempDir();
    {
      await using buffer = await open(dir.path);
      await buffer.appendTick(tick(G, START, 1, 2)).stored;
    }
    await damage(dir.path);
    await using again = await open(dir.path, overrides);
    expect(again.runs.length).toBe(1);
    expect(await lossesOf(again)).toMatchObject([
      { reason: 'corrupt', estimated: true, detail: expect.stringMatching(detail) },
    ]);
    expect((await readdir(dir.path)).some((file) => file.startsWith('buffer.aside-'))).toBe(true);
  });

  test('two agents on one folder: the second says so and touches nothing', async () => {
    await using dir = tempDir();
    await using buffer = await open(dir.path);
    await expect(open(dir.path)).rejects.toThrow(/another agent has it open/);
    await buffer.appendTick(tick(G, START, 1, 2)).stored;
  });
});

describe('the ring', () => {
  test('by age: durable records go silently, others as a loss with their time and count', async () => {
    await using dir = tempDir();
    const time = { now: START };
    await using buffer = await open(dir.path, { clock: clockAt(time), maxAgeMs: 60_000 });
    for (let i = 0; i < 10; i++) await buffer.appendTick(tick(G, START + i * 1000, i, i)).stored;
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

  test('by size: it goes down to nine tenths and stays bounded', async () => {
    await using dir = tempDir();
    await using buffer = await open(dir.path, { maxBytes: 20_000 });
    for (let i = 0; i < 2_000; i++) void buffer.appendTick(tick(G, START + i, i * 1e9, i * 1e9)).stored;
    await buffer.appendTick(tick(G, START + 2_000, 1, 1)).stored;
    expect(buffer.bytes).toBeGreaterThan(40_000);
    for (let i = 0; i < 5; i++) await buffer.trim();
    expect(buffer.bytes).toBeLessThanOrEqual(20_000);
    expect((await lossesOf(buffer)).reduce((sum, { samples }) => sum + samples, 0)).toBeGreaterThan(2_000);
    expect((await ticksOf(buffer, buffer.live)).length).toBeGreaterThan(100);
  });

  test('dictionaries leave with the last record that uses them: churning series must not fill the disk', async () => {
    await using dir = tempDir();
    const time = { now: START };
    await using buffer = await open(dir.path, { clock: clockAt(time), maxAgeMs: 60_000 });
    for (let i = 0; i < 50; i++)
      await buffer.appendTick(tick(dictionaryOf('g', [`m_${i}`]), START + i * 1000, i)).stored;
    expect(buffer.dictionaries.size).toBe(50);
    time.now = START + 100_000;
    await buffer.trim();
    expect(buffer.dictionaries.size).toBeLessThanOrEqual(12);
    expect((await ticksOf(buffer, buffer.live)).length).toBeGreaterThan(5);
  });
});

test('a disk that takes nothing rejects the append, says so, and works again later', async () => {
  await using dir = tempDir();
  await using buffer = await open(dir.path);
  await buffer.appendTick(tick(G, START, 1, 2)).stored;
  await rm(join(dir.path, 'buffer'), { recursive: true });
  // LevelDB still holds its open log; force a new file by filling the write buffer.
  const big = dictionaryOf(
    'big',
    Array.from({ length: 5_000 }, (_, i) => `m_${i}`),
  );
  let failed = false;
  for (let i = 0; i < 400 && !failed; i++) {
    const values = Array.from({ length: 5_000 }, (_, slot) => slot * 1e12 + i);
    await buffer.appendTick(tick(big, START + i, ...values)).stored.catch(() => {
      failed = true;
    });
  }
  expect(failed).toBe(true);
  expect(buffer.writable).toBe(false);
});
