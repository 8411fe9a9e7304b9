import { describe, expect, it } from 'vitest';
import type { ControlChange } from '../../../../aggregator/alerts/control/control-store.ts';
import { tempDir } from '../../../support/temp.ts';
import { FakeShelf, shelfIn } from '../../ledger/open-shelf.ts';
import { change, openStore } from './opened.ts';

describe('documents without NATS', () => {
  it('come back after a restart, with revisions that go on rising: else a silence is gone, or an old writer wins', async () => {
    await using dir = tempDir('control');
    const path = `${dir.path}/shelf`;
    let last: number | undefined;
    {
      await using opened = await shelfIn(path);
      await using store = await openStore(opened.shelf, undefined);
      expect(store.state).toBe('local');
      const first = await store.put('silence/a.b *>', { n: 1 }, 0);
      await store.put('silence/b', { n: 2 }, 0);
      last = await store.put('silence/c', { n: 3 }, 0);
      expect(await store.delete('silence/c', last!)).toBe(true);
      expect(first).toBeLessThan(last!);
    }
    await using opened = await shelfIn(path);
    await using store = await openStore(opened.shelf, undefined);
    expect(store.entries('silence/').map(({ key, value }) => [key, value])).toEqual([
      ['silence/a.b *>', { n: 1 }],
      ['silence/b', { n: 2 }],
    ]);
    expect(await store.put('silence/c', { n: 4 }, 0)).toBeGreaterThan(last! + 1);
  });

  it('lose no increment of 1,000 that race: else two actions would share one place', async () => {
    const store = await openStore(new FakeShelf(), undefined);
    await using _ = store;
    await Promise.all(
      Array.from({ length: 1_000 }, () => change(store, 'share/a', (value) => Number(value ?? 0) + 1)),
    );
    expect(store.get('share/a')?.value).toBe(1_000);
  });

  it('are changed by one of two that race, and the other learns it', async () => {
    await using store = await openStore(new FakeShelf(), undefined);
    const results = await Promise.all([store.put('lease/x', 'a', 0), store.put('lease/x', 'b', 0)]);
    expect(results.map((revision) => revision !== undefined)).toEqual([true, false]);
    expect(store.get('lease/x')?.value).toBe('a');
    expect(await store.delete('lease/x', results[0]! + 7)).toBe(false);
    expect(await store.delete('lease/x', results[0]!)).toBe(true);
    expect(await store.delete('lease/x', 0)).toBe(true);
    expect(await store.put('lease/x', 'c', 0)).toBeGreaterThan(results[0]!);
  });

  it('are not kept by a part of them that the writer changes later', async () => {
    await using store = await openStore(new FakeShelf(), undefined);
    const value = { nodes: ['a'] };
    await store.put('share/p', value, 0);
    value.nodes.push('b');
    expect(store.get('share/p')?.value).toEqual({ nodes: ['a'] });
  });

  it('tell of each change once, in order, before the write resolves, and only below the prefix', async () => {
    await using store = await openStore(new FakeShelf(), undefined);
    const heard: ControlChange[] = [];
    const watch = store.watch('a/', (told) => heard.push(told));
    const one = await store.put('a/1', 1, 0);
    expect(heard).toHaveLength(1);
    await store.put('b/1', 1, 0);
    const two = await store.put('a/1', 2, one!);
    await store.delete('a/1', two!);
    watch[Symbol.dispose]();
    await store.put('a/1', 3, 0);
    expect(heard.map(({ key, value }) => [key, value])).toEqual([
      ['a/1', 1],
      ['a/1', 2],
      ['a/1', undefined],
    ]);
  });

  it('that a full disk refuses are not there, and the next write can be: else memory and disk part ways', async () => {
    const shelf = new FakeShelf();
    await using store = await openStore(shelf, undefined);
    shelf.refuses = true;
    await expect(store.put('a/1', 1, 0)).rejects.toMatchObject({ code: 'unavailable' });
    expect(store.get('a/1')).toBeUndefined();
    shelf.refuses = false;
    expect(await store.put('a/1', 2, 0)).toBeDefined();
  });

  it('of more than 64 KiB, without a value or with too long a key are refused', async () => {
    await using store = await openStore(new FakeShelf(), undefined);
    const refused = { code: 'invalid_input' };
    await expect(store.put('a/1', 'x'.repeat(64 * 1024), 0)).rejects.toMatchObject(refused);
    await expect(store.put('a/1', undefined, 0)).rejects.toMatchObject(refused);
    await expect(store.put('', 1, 0)).rejects.toMatchObject(refused);
    await expect(store.put('é'.repeat(257), 1, 0)).rejects.toMatchObject(refused);
    expect(await store.put('a/1', 'x'.repeat(64 * 1024 - 2), 0)).toBeDefined();
  });

  it('are at most 100,000: a writer gone wild fills no memory', async () => {
    await using store = await openStore(new FakeShelf(), undefined);
    for (let i = 0; i < 100_000; i += 5_000)
      await Promise.all(Array.from({ length: 5_000 }, (_, k) => store.put(`a/${i + k}`, 1, 0)));
    await expect(store.put('a/more', 1, 0)).rejects.toMatchObject({ code: 'resource_exhausted' });
    const one = store.get('a/0')!;
    expect(await store.put('a/0', 2, one.revision)).toBeDefined();
    expect(await store.delete('a/1', store.get('a/1')!.revision)).toBe(true);
    expect(await store.put('a/more', 1, 0)).toBeDefined();
  });
});
