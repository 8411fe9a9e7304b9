import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import { describe, expect, it } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { CONTROL_BUCKET } from '../../../../aggregator/alerts/control/control-bucket.ts';
import type { ControlChange } from '../../../../aggregator/alerts/control/control-store.ts';
import { encodeDocument, toKvKey } from '../../../../aggregator/alerts/control/kv-key.ts';
import { startNats } from '../../../support/nats-server.ts';
import { tempDir } from '../../../support/temp.ts';
import { until } from '../../../support/wait.ts';
import { FakeShelf, shelfIn } from '../../ledger/open-shelf.ts';
import { change, isState, openStore, stranger } from './opened.ts';

describe('documents over NATS', { timeout: 60_000 }, () => {
  it('lose no increment of 1,000 by two aggregators: else more nodes are drained than allowed', async () => {
    await using nats = await startNats();
    await using a = await openStore(new FakeShelf(), nats.url);
    await using b = await openStore(new FakeShelf(), nats.url);
    const heard: number[] = [];
    using _ = a.watch('share/', ({ value }) => heard.push(Number(value)));
    const count = async (store: typeof a): Promise<void> => {
      for (let i = 0; i < 500; i++) await change(store, 'share/p', (value) => Number(value ?? 0) + 1);
    };
    await Promise.all([count(a), count(b)]);
    await until(async () => a.get('share/p')?.value === 1_000 && b.get('share/p')?.value === 1_000, {
      timeoutMs: 10_000,
      what: 'both have the last',
    });
    // In order, none twice, and the last: one that was overwritten before it was read is not kept by the bucket.
    expect(heard).toEqual([...new Set(heard)].sort((x, y) => x - y));
    expect(heard.at(-1)).toBe(1_000);
  });

  it('are there for the other at once, keys of any text, deletes and all', async () => {
    await using nats = await startNats();
    await using a = await openStore(new FakeShelf(), nats.url);
    await using b = await openStore(new FakeShelf(), nats.url);
    expect([a.state, b.state]).toEqual(['shared', 'shared']);
    const keys = ['silence/n1.rack *>', 'silence/', `silence/${'ä'.repeat(200)}`, 'silence/_', 'silence/a/b'];
    for (const key of keys) await a.put(key, { key }, 0);
    await until(async () => b.entries('silence/').length === keys.length, {
      timeoutMs: 5_000,
      what: 'b has all',
    });
    for (const key of keys) {
      expect(b.get(key)?.value).toEqual({ key });
      expect(await b.delete(key, b.get(key)!.revision)).toBe(true);
      expect(b.get(key)).toBeUndefined();
    }
    await until(async () => a.entries('').length === 0, { timeoutMs: 5_000, what: 'a has none' });
    // Over the mark of the deletion.
    expect(await a.put(keys[0]!, 'again', 0)).toBeDefined();
    expect(await b.put(keys[0]!, 'lost', 0)).toBeUndefined();
    expect(b.get(keys[0]!)?.value).toBe('again');
  });

  it('are readable while NATS is away, refuse to be changed, and catch up, deletes too', async () => {
    await using nats = await startNats();
    await using a = await openStore(new FakeShelf(), nats.url);
    const states: string[] = [];
    using _states = a.onState((state) => states.push(state));
    const kept = await a.put('silence/kept', 1, 0);
    await a.put('silence/changed', 1, 0);
    await a.put('silence/gone', 1, 0);
    await nats.kill9();
    await isState(a, 'away');
    expect(a.get('silence/kept')).toMatchObject({ value: 1, revision: kept });
    await expect(a.put('silence/kept', 2, kept!)).rejects.toMatchObject({ code: 'unavailable' });
    await expect(a.delete('silence/kept', kept!)).rejects.toMatchObject({ code: 'unavailable' });

    const heard: ControlChange[] = [];
    using _watch = a.watch('', (told) => heard.push(told));
    await nats.restart();
    // Another changes things before the first is back, as far as that can be had.
    await using b = await openStore(new FakeShelf(), nats.url);
    await change(b, 'silence/changed', () => 2);
    await b.delete('silence/gone', b.get('silence/gone')!.revision);
    await b.put('silence/new', 1, 0);
    await isState(a, 'shared');
    await until(async () => a.get('silence/new') !== undefined && a.get('silence/gone') === undefined, {
      timeoutMs: 10_000,
      what: 'a has caught up',
    });
    expect(a.get('silence/changed')?.value).toBe(2);
    expect(heard.map(({ key, value }) => [key, value]).sort()).toEqual([
      ['silence/changed', 2],
      ['silence/gone', undefined],
      ['silence/new', 1],
    ]);
    expect(states).toEqual(['away', 'shared']);
    expect(await a.put('silence/kept', 2, kept!)).toBeDefined();
  });

  it('notices what was deleted while away even where the mark of the deletion is gone', async () => {
    await using nats = await startNats();
    const shelf = new FakeShelf();
    {
      await using a = await openStore(shelf, nats.url);
      await a.put('silence/gone', 1, 0);
      await a.put('silence/kept', 1, 0);
    }
    const connection = await stranger(nats.url);
    const jsm = await jetstreamManager(connection);
    await jsm.streams.purge(`KV_${CONTROL_BUCKET}`, {
      filter: `$KV.${CONTROL_BUCKET}.${toKvKey('silence/gone')}`,
    });
    await connection.close();
    await using a = await openStore(shelf, nats.url);
    expect(a.entries('').map(({ key }) => key)).toEqual(['silence/kept']);
  });

  it('are known after a restart while NATS is away: else every alert that was silenced pages again', async () => {
    await using nats = await startNats();
    await using dir = tempDir('control');
    const path = `${dir.path}/shelf`;
    {
      await using opened = await shelfIn(path);
      await using store = await openStore(opened.shelf, nats.url);
      const first = await store.put('silence/a', { n: 1 }, 0);
      await store.put('silence/a', { n: 2 }, first!);
      const gone = await store.put('silence/b', { n: 1 }, 0);
      await store.delete('silence/b', gone!);
    }
    await nats.stop();
    await using opened = await shelfIn(path);
    await using store = await openStore(opened.shelf, nats.url, { waitMs: 50 });
    expect(store.state).toBe('away');
    expect(store.entries('').map(({ key, value }) => [key, value])).toEqual([['silence/a', { n: 2 }]]);
    await nats.restart();
    await isState(store, 'shared');
    expect(await store.put('silence/a', { n: 3 }, store.get('silence/a')!.revision)).toBeDefined();
  });

  it('survive a bucket that is deleted, or a server that lost its disk: silences and shares are put back', async () => {
    await using nats = await startNats();
    await using a = await openStore(new FakeShelf(), nats.url);
    await using b = await openStore(new FakeShelf(), nats.url);
    for (let i = 0; i < 200; i++) await a.put(`silence/${i}`, { i }, 0);
    await until(async () => b.entries('').length === 200, { timeoutMs: 5_000, what: 'b has all' });
    const connection = await stranger(nats.url);
    const jsm = await jetstreamManager(connection);
    await jsm.streams.delete(`KV_${CONTROL_BUCKET}`);
    const written = async (store: typeof a): Promise<boolean> => {
      const entry = store.get('silence/7');
      const revision = await store
        .put('silence/7', { i: 7, by: 'x' }, entry?.revision ?? 0)
        .catch(() => undefined);
      return revision !== undefined;
    };
    await until(() => written(a), { timeoutMs: 30_000, what: 'a writes again' });
    await until(() => written(b), { timeoutMs: 30_000, what: 'b writes again' });
    expect(a.entries('')).toHaveLength(200);
    expect(b.entries('')).toHaveLength(200);
    await using c = await openStore(new FakeShelf(), nats.url);
    expect(c.entries('')).toHaveLength(200);
    await connection.close();
  });

  it('are kept apart from what strangers write into the bucket', async () => {
    await using nats = await startNats();
    const registry = createRegistry();
    await using store = await openStore(new FakeShelf(), nats.url, { registry });
    const connection = await stranger(nats.url);
    const kv = await new Kvm(jetstream(connection)).open(CONTROL_BUCKET);
    await store.put('silence/a', 1, 0);
    await kv.put('somebody.else', 'not JSON');
    await kv.put('silence.b', JSON.stringify({ key: 'silence/other', value: 1 }));
    await kv.put('silence.a', 'written over');
    await until(async () => store.get('silence/a') === undefined, {
      timeoutMs: 5_000,
      what: 'a is unreadable',
    });
    expect(store.entries('')).toEqual([]);
    expect(await registry.getSingleMetricAsString('gpufleet_control_foreign_documents_total')).toContain(
      ' 3',
    );
    // The key is usable all the same.
    expect(await store.put('silence/a', 2, 0)).toBeDefined();
    expect(await store.put('silence/b', 3, 0)).toBeDefined();
    await using other = await openStore(new FakeShelf(), nats.url);
    expect(other.entries('').map(({ key, value }) => [key, value])).toEqual([
      ['silence/a', 2],
      ['silence/b', 3],
    ]);
    await connection.close();
  });

  it('are there before the store opens, 20,000 of them; too large a one is refused', async () => {
    await using nats = await startNats();
    await using first = await openStore(new FakeShelf(), nats.url);
    const connection = await stranger(nats.url);
    const js = jetstream(connection);
    for (let i = 0; i < 20_000; i += 500) {
      await Promise.all(
        Array.from({ length: 500 }, (_, k) => {
          const key = `sent/${i + k}`;
          const body = encodeDocument(key, { at: i, text: 'x'.repeat(200) });
          return js.publish(`$KV.${CONTROL_BUCKET}.${toKvKey(key)}`, body);
        }),
      );
    }
    await connection.close();
    await using store = await openStore(new FakeShelf(), nats.url, { waitMs: 30_000 });
    expect(store.entries('sent/')).toHaveLength(20_000);
    await expect(store.put('a', 'x'.repeat(64 * 1024), 0)).rejects.toMatchObject({ code: 'invalid_input' });
    expect(await store.put('a', '\u0001'.repeat(10_000), 0)).toBeDefined();
    await until(async () => first.get('a') !== undefined, { timeoutMs: 20_000, what: 'the other has it' });
  });

  it('of an aggregator that was alone go into a bucket that is new', async () => {
    await using nats = await startNats();
    const shelf = new FakeShelf();
    {
      await using alone = await openStore(shelf, undefined);
      await alone.put('silence/a', 1, 0);
    }
    await using store = await openStore(shelf, nats.url);
    expect(store.get('silence/a')?.value).toBe(1);
    await using other = await openStore(new FakeShelf(), nats.url);
    expect(other.get('silence/a')?.value).toBe(1);
  });

  // Lost without it: for half a minute nobody learns that nothing is agreed on, and nobody tells people instead.
  it('are known to be away where NATS vanished without a word, and are there again when it answers', {
    timeout: 60_000,
  }, async () => {
    await using nats = await startNats();
    const sockets: Socket[] = [];
    const proxy = createServer((client) => {
      const server = connect(nats.port, '127.0.0.1');
      for (const [one, other] of [
        [client, server],
        [server, client],
      ] as const) {
        sockets.push(one);
        one.on('error', () => {});
        one.on('close', () => other.destroy());
        one.on('data', (data) => other.write(data));
      }
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const url = `nats://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    const warned: string[] = [];
    const logger = { ...silentLogger, warn: (_: object, text: string) => warned.push(text) };
    await using store = await openStore(new FakeShelf(), url, { logger: logger as never });
    try {
      await isState(store, 'shared');
      await store.put('a', 1, 0);
      for (const socket of sockets) socket.pause();
      await isState(store, 'away');
      // Not by the end of the connection, which comes later.
      expect(warned.at(-1)).toMatch(/does not answer/);
      expect(store.get('a')?.value).toBe(1);
      for (const socket of sockets) socket.resume();
      await isState(store, 'shared');
      expect(await store.put('b', 2, 0)).toBeGreaterThan(0);
    } finally {
      for (const socket of sockets) socket.destroy();
      proxy.close();
    }
  });
});
