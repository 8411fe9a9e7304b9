import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Level } from 'level';
import { expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Shelf } from '../../aggregator/ledger/shelf.ts';
import { openLevelShelf } from '../../aggregator/level-shelf.ts';
import { tempDir } from '../support/temp.ts';
import { ManualClock } from './alerts/block-of.ts';

const options = () => ({ clock: new ManualClock(), logger: silentLogger, registry: createRegistry() });

async function valuesOf(shelf: Shelf, prefix = ''): Promise<(readonly [key: string, value: unknown])[]> {
  const found: (readonly [string, unknown])[] = [];
  for await (const entry of shelf.entries(prefix)) found.push(entry);
  return found;
}

test('values come back in the order of their keys, of one prefix alone, after a restart', async () => {
  await using dir = tempDir('shelf');
  {
    await using shelf = await openLevelShelf(dir.path, options());
    await shelf.write(
      [
        { key: 'b/2', value: { ü: [1] } },
        { key: 'b/1', value: 'x' },
        { key: 'a/9', value: 0 },
      ],
      true,
    );
    await shelf.write([{ key: 'c/1', value: 1 }, { key: 'a/9' }], false);
  }
  await using shelf = await openLevelShelf(dir.path, options());
  expect(await valuesOf(shelf, 'b/')).toEqual([
    ['b/1', 'x'],
    ['b/2', { ü: [1] }],
  ]);
  expect((await valuesOf(shelf)).map(([key]) => key)).toEqual(['b/1', 'b/2', 'c/1']);
});

// LevelDB reads a flipped byte back as it is: a count of lost samples would be another one, and nobody would know.
test.each([
  ['a flipped byte', (bytes: Buffer) => bytes.map((byte, at) => (at === bytes.length - 2 ? byte ^ 1 : byte))],
  ['a cut value', (bytes: Buffer) => bytes.subarray(0, 3)],
])('%s costs one value, counted, and not the rest', async (_, damage) => {
  await using dir = tempDir('shelf');
  {
    await using shelf = await openLevelShelf(dir.path, options());
    await shelf.write(
      ['a', 'b', 'c'].map((key) => ({ key, value: { samples: 10 } })),
      true,
    );
  }
  const level = new Level<string, Buffer>(dir.path, { valueEncoding: 'buffer' });
  await level.put('b', Buffer.from(damage(Buffer.from((await level.get('b'))!))));
  await level.close();
  const opened = options();
  await using shelf = await openLevelShelf(dir.path, opened);
  expect((await valuesOf(shelf)).map(([key]) => key)).toEqual(['a', 'c']);
  expect(await opened.registry.metrics()).toContain('gpufleet_ledger_damaged_values_total 1');
});

test('a database that cannot be opened is moved aside and a new one begun; a locked one is not touched', async () => {
  await using dir = tempDir('shelf');
  const folder = join(dir.path, 'ledger');
  {
    await using shelf = await openLevelShelf(folder, options());
    await shelf.write([{ key: 'a', value: 1 }], true);
    await expect(openLevelShelf(folder, options())).rejects.toThrow(/another process uses it/);
  }
  writeFileSync(join(folder, 'CURRENT'), 'MANIFEST-999999\n');
  await using shelf = await openLevelShelf(folder, options());
  expect(await valuesOf(shelf)).toEqual([]);
  expect(readdirSync(dir.path).filter((name) => name.startsWith('ledger.damaged-'))).toHaveLength(1);
});

test('a folder that cannot be made is said, and nothing is moved', async () => {
  await using dir = tempDir('shelf');
  writeFileSync(join(dir.path, 'file'), '');
  await expect(openLevelShelf(join(dir.path, 'file', 'ledger'), options())).rejects.toMatchObject({
    code: 'unavailable',
  });
  expect(readdirSync(dir.path)).toEqual(['file']);
});
