import { jetstreamManager } from '@nats-io/jetstream';
import { Level } from 'level';
import { describe, expect, it } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { AUDIT_STREAM } from '../../../../aggregator/alerts/audit/audit-copies.ts';
import type { AuditFact } from '../../../../aggregator/alerts/audit/audit-entry.ts';
import { AuditLog, type AuditLogOptions } from '../../../../aggregator/alerts/audit/audit-log.ts';
import type { ControlShelf } from '../../../../aggregator/alerts/control/control-shelf.ts';
import { startNats } from '../../../support/nats-server.ts';
import { tempDir } from '../../../support/temp.ts';
import { until } from '../../../support/wait.ts';
import { FakeShelf, shelfIn } from '../../ledger/open-shelf.ts';
import { ManualClock, START_MS } from '../block-of.ts';
import { isState, openStore, stranger } from '../control/opened.ts';

const DAY_MS = 86_400_000;

function openLog(shelf: ControlShelf, more: Partial<AuditLogOptions> = {}): Promise<AuditLog> {
  return AuditLog.open({
    shelf,
    clock: new ManualClock(),
    logger: silentLogger,
    registry: createRegistry(),
    shard: 'shard-a',
    ...more,
  });
}

function factOf(n: number, more: Partial<AuditFact> = {}): AuditFact {
  return {
    ...{ atMs: START_MS + n * 1000, who: 'ann', what: 'action.step', why: 'hot', cluster: 'east' },
    ...{ node: `n${n % 3}`, gpu: '0', subject: `s${n}`, result: 'done', after: { b: 1, a: [n] } },
    ...more,
  };
}

async function fill(log: AuditLog, count: number, from = 0): Promise<void> {
  await Promise.all(Array.from({ length: count }, (_, i) => log.write(factOf(from + i))));
}

describe('the audit log', { timeout: 60_000 }, () => {
  it('has every entry after a restart, newest first, by node, person, subject and time', async () => {
    await using dir = tempDir('audit');
    const path = `${dir.path}/shelf`;
    {
      await using opened = await shelfIn(path);
      await using log = await openLog(opened.shelf);
      await fill(log, 9);
      await log.write(factOf(9, { who: 'bob', before: { was: 1 } }));
    }
    await using opened = await shelfIn(path);
    await using log = await openLog(opened.shelf);
    const subjects = async (filter: Parameters<AuditLog['list']>[0]): Promise<string[]> =>
      (await log.list(filter)).map(({ subject }) => subject);
    expect(await subjects({})).toEqual(['s9', 's8', 's7', 's6', 's5', 's4', 's3', 's2', 's1', 's0']);
    expect(await subjects({ node: 'n1' })).toEqual(['s7', 's4', 's1']);
    expect(await subjects({ who: 'bob' })).toEqual(['s9']);
    expect(await subjects({ subject: 's3' })).toEqual(['s3']);
    expect(await subjects({ fromMs: START_MS + 2_000, toMs: START_MS + 4_000 })).toEqual(['s3', 's2']);
    expect((await log.list({ who: 'bob' }))[0]).toMatchObject({
      ...{ before: { was: 1 }, after: { a: [9], b: 1 }, shard: 'shard-a' },
    });
    expect(await log.verify()).toBeUndefined();
  });

  it('is paged without a gap or a repeat, over thousands', async () => {
    await using log = await openLog(new FakeShelf());
    await fill(log, 2_500);
    const seen: string[] = [];
    for (let before: string | undefined; ; ) {
      const page = await log.list({ limit: 400, ...(before === undefined ? {} : { before }) });
      if (page.length === 0) break;
      seen.push(...page.map(({ subject }) => subject));
      before = page.at(-1)!.id;
    }
    expect(seen).toEqual(Array.from({ length: 2_500 }, (_, i) => `s${2_499 - i}`));
  });

  it('names the entry whose text was changed behind its back, with its checksum made right', async () => {
    const shelf = new FakeShelf();
    {
      await using log = await openLog(shelf);
      await fill(log, 5);
    }
    const [key, value] = [...shelf.values].find(([name]) => name.endsWith('3')) as [string, { why: string }];
    shelf.values.set(key, { ...value, why: 'cold' });
    await using log = await openLog(shelf);
    expect(await log.verify()).toEqual({
      ...{ seq: 3, id: expect.stringContaining('-shard-a-0000000003'), why: 'its text was changed' },
    });
  });

  it('names the entry of which one byte was flipped in the database', async () => {
    await using dir = tempDir('audit');
    const path = `${dir.path}/shelf`;
    {
      await using opened = await shelfIn(path);
      await using log = await openLog(opened.shelf);
      await fill(log, 5);
    }
    const level = new Level<string, Uint8Array>(path, { valueEncoding: 'view' });
    const key = (await level.keys({ gte: 'audit/', lt: 'audit0' }).all())[1]!;
    const bytes = Uint8Array.from((await level.get(key))!);
    bytes[bytes.length - 20]! ^= 1;
    await level.put(key, bytes);
    await level.close();
    await using opened = await shelfIn(path);
    const registry = createRegistry();
    await using log = await openLog(opened.shelf, { registry });
    expect(await log.verify()).toMatchObject({ seq: 2, why: 'it is missing or unreadable' });
    expect(await registry.getSingleMetricAsString('gpufleet_audit_chain_broken')).toContain(' 1');
    // It goes on all the same.
    await log.write(factOf(6));
    expect((await log.list()).map(({ subject }) => subject)).toEqual(['s6', 's4', 's3', 's2', 's0']);
  });

  it.each([
    ['an entry in the middle', 3, { seq: 3 }],
    ['the oldest entry', 1, { seq: 1 }],
    ['the newest entry', 5, { seq: 5 }],
  ])('notices that %s was taken away', async (_, seq, fault) => {
    const shelf = new FakeShelf();
    {
      await using log = await openLog(shelf);
      await fill(log, 5);
    }
    shelf.values.delete(`audit/${String(seq).padStart(16, '0')}`);
    await using log = await openLog(shelf);
    expect(await log.verify()).toMatchObject(fault);
  });

  it('lets the oldest go beyond its limit, says so in an entry, and still verifies', async () => {
    const shelf = new FakeShelf();
    await using log = await openLog(shelf, { maxEntries: 2_000 });
    for (let from = 0; from < 6_000; from += 500) await fill(log, 500, from);
    const kept = [...shelf.values.keys()].filter((key) => key.startsWith('audit/')).length;
    expect(kept).toBeLessThanOrEqual(3_000);
    expect(await log.verify()).toBeUndefined();
    expect((await log.list({ who: 'gpufleet' }))[0]).toMatchObject({ what: 'audit.trim' });
    expect((await log.list())[0]!.subject === 's5999' || (await log.list())[1]!.subject === 's5999').toBe(
      true,
    );

    // Taking away more than the anchor says is noticed.
    const first = [...shelf.values.keys()].filter((key) => key.startsWith('audit/')).sort()[0]!;
    shelf.values.delete(first);
    await using again = await openLog(shelf);
    expect(await again.verify()).toMatchObject({ why: expect.stringContaining('missing') });
  });

  it('lets entries of more than 400 days go', async () => {
    const clock = new ManualClock();
    await using log = await openLog(new FakeShelf(), { clock });
    await fill(log, 500);
    clock.ms += 401 * DAY_MS;
    for (let i = 0; i < 999; i++) await log.write(factOf(i, { atMs: clock.ms }));
    await log.write(factOf(1, { atMs: clock.ms }));
    const oldest = (await log.list({ limit: 1_000 })).at(-1)!;
    expect(oldest.atMs).toBe(clock.ms);
    expect(await log.verify()).toBeUndefined();
  });

  it('keeps its order when the clock steps back', async () => {
    await using log = await openLog(new FakeShelf());
    await log.write(factOf(10));
    await log.write(factOf(3));
    expect((await log.list()).map(({ subject }) => subject)).toEqual(['s3', 's10']);
    expect(await log.verify()).toBeUndefined();
  });

  it('refuses rather than loses what the disk does not take, and cuts what is too long', async () => {
    const shelf = new FakeShelf();
    await using log = await openLog(shelf);
    shelf.refuses = true;
    await expect(log.write(factOf(1))).rejects.toMatchObject({ code: 'unavailable' });
    shelf.refuses = false;
    const entry = await log.write(factOf(2, { why: 'x'.repeat(5_000), after: { text: 'x'.repeat(20_000) } }));
    expect(entry.why).toHaveLength(1_000);
    expect(entry.after).toEqual({ too_large_bytes: 20_011 });
    expect(await log.verify()).toBeUndefined();
  });
});

describe('copies of the audit log in NATS', { timeout: 60_000 }, () => {
  it('are there for the other shards, once each, also those written while NATS was away', async () => {
    await using nats = await startNats();
    await using a = await openLog(new FakeShelf(), { shard: 'a' });
    await using b = await openLog(new FakeShelf(), { shard: 'b' });
    await using storeA = await openStore(new FakeShelf(), nats.url, { riders: [a] });
    await using storeB = await openStore(new FakeShelf(), nats.url, { riders: [b] });
    await a.write(factOf(1));
    await b.write(factOf(2));
    const both = async (count: number): Promise<void> => {
      for (const log of [a, b])
        await until(async () => (await log.list()).length === count, {
          timeoutMs: 20_000,
          what: `${count} in both`,
        });
    };
    await both(2);
    await nats.kill9();
    await isState(storeA, 'away');
    await a.write(factOf(3));
    await nats.restart();
    await both(3);
    expect((await b.list()).map(({ subject, shard }) => [subject, shard])).toEqual([
      ['s3', 'a'],
      ['s2', 'b'],
      ['s1', 'a'],
    ]);
    expect(storeB.state).toBe('shared');
    const connection = await stranger(nats.url);
    const jsm = await jetstreamManager(connection);
    expect((await jsm.streams.info(AUDIT_STREAM)).state.messages).toBe(3);
    await connection.close();
  });

  it('cannot be deleted or purged, not by an administrator of the stream either', async () => {
    await using nats = await startNats();
    await using log = await openLog(new FakeShelf());
    await using _ = await openStore(new FakeShelf(), nats.url, { riders: [log] });
    await log.write(factOf(1));
    const connection = await stranger(nats.url);
    const jsm = await jetstreamManager(connection);
    await until(async () => (await jsm.streams.info(AUDIT_STREAM)).state.messages === 1, {
      timeoutMs: 10_000,
      what: 'the copy is there',
    });
    await expect(jsm.streams.deleteMessage(AUDIT_STREAM, 1)).rejects.toThrow(/not permitted|denied/);
    await expect(jsm.streams.purge(AUDIT_STREAM)).rejects.toThrow(/not permitted|denied/);
    const { config } = await jsm.streams.info(AUDIT_STREAM);
    await expect(
      jsm.streams.update(AUDIT_STREAM, { ...config, deny_delete: false, deny_purge: false }),
    ).rejects.toThrow(/deny/);
    await connection.close();
  });

  it('show what a shard wrote before its disk was lost, and leave out what was tampered with', async () => {
    await using nats = await startNats();
    {
      await using log = await openLog(new FakeShelf(), { shard: 'a' });
      await using _ = await openStore(new FakeShelf(), nats.url, { riders: [log] });
      await log.write(factOf(1));
      const connection = await stranger(nats.url);
      const jsm = await jetstreamManager(connection);
      await until(async () => (await jsm.streams.info(AUDIT_STREAM)).state.messages === 1, {
        timeoutMs: 10_000,
        what: 'the copy is there',
      });
      const [entry] = await log.list();
      connection.publish('gpufleet.audit.east.n1.forged', JSON.stringify({ ...entry, id: '9', who: 'eve' }));
      await connection.flush();
      await connection.close();
    }
    await using log = await openLog(new FakeShelf(), { shard: 'a' });
    await using _ = await openStore(new FakeShelf(), nats.url, { riders: [log] });
    await log.write(factOf(2));
    await until(async () => (await log.list()).length === 2, { timeoutMs: 10_000, what: 'both are listed' });
    expect((await log.list()).map(({ subject, who }) => [subject, who])).toEqual([
      ['s2', 'ann'],
      ['s1', 'ann'],
    ]);
  });
});
