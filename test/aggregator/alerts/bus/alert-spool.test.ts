import { readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Level } from 'level';
import { describe, expect, it } from 'vitest';
import { AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import {
  type AlertSpool,
  type AlertSpoolOptions,
  openAlertSpool,
} from '../../../../aggregator/alerts/bus/alert-spool.ts';
import { tempDir } from '../../../support/temp.ts';
import { alertOf } from '../alert-of.ts';
import { START_MS } from '../block-of.ts';

const DAY_MS = 86_400_000;

function open(folder: string, more: Partial<AlertSpoolOptions> = {}) {
  return openAlertSpool(folder, { logger: silentLogger, registry: createRegistry(), ...more });
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

const seqs = async (spool: AlertSpool) => (await spool.waiting(0, 100)).map((entry) => entry.seq);

describe('the spool', () => {
  it('keeps over a restart what waits, in order, and the last state of each alert', async () => {
    await using temp = tempDir('spool');
    const folder = join(temp.path, 'spool');
    {
      await using spool = await open(folder);
      await spool.append([alertOf('0', 1), alertOf('1', 1)], START_MS, true);
      await spool.append([alertOf('0', 2)], START_MS, true);
      await spool.sent([1], { created: 'then', seq: 9, messageId: 'x:1' });
    }
    await using spool = await open(folder);
    expect(spool.waitingCount).toBe(2);
    expect(await spool.waiting(0, 10)).toEqual([
      { seq: 2, atMs: START_MS, alert: alertOf('1', 1) },
      { seq: 3, atMs: START_MS, alert: alertOf('0', 2) },
    ]);
    expect(await spool.tail()).toEqual({ created: 'then', seq: 9, messageId: 'x:1' });
    expect((await all(spool.states())).map(({ gpu, state }) => [gpu, state]).sort()).toEqual([
      ['0', AlertState.RESOLVED],
      ['1', AlertState.FIRING],
    ]);
    const [next] = await spool.append([alertOf('2', 1)], START_MS, true);
    expect(next!.seq).toBe(4);
  });

  it('keeps a day of transitions, sent or not, for a stream that lost its end, and counts what it drops unsent', async () => {
    await using temp = tempDir('spool');
    const registry = createRegistry();
    await using spool = await open(join(temp.path, 'spool'), { registry });
    await spool.append([alertOf('0', 1), alertOf('1', 1)], START_MS, true);
    await spool.append([alertOf('0', 2)], START_MS + DAY_MS, true);
    await spool.sent([1], undefined);
    await spool.trim(START_MS + DAY_MS);
    expect(await all(spool.entries())).toHaveLength(3);
    await spool.trim(START_MS + DAY_MS + 1);
    expect((await all(spool.entries())).map((entry) => entry.seq)).toEqual([3]);
    expect(spool.waitingCount).toBe(1);
    expect(await registry.metrics()).toContain('gpufleet_alert_spool_dropped_total{reason="unsent"} 1');
  });

  it('stays within its limit while NATS is away: the oldest go, counted', async () => {
    await using temp = tempDir('spool');
    const registry = createRegistry();
    await using spool = await open(join(temp.path, 'spool'), { registry, maxEntries: 100 });
    for (let i = 0; i < 150; i++) await spool.append([alertOf('0', i + 1)], START_MS, true);
    const kept = await all(spool.entries());
    expect(kept.length).toBeLessThanOrEqual(100);
    expect(kept.at(-1)!.alert.transition).toBe(150n);
    expect(spool.waitingCount).toBe(kept.length);
    expect(await registry.metrics()).toContain(
      `gpufleet_alert_spool_dropped_total{reason="unsent"} ${150 - kept.length}`,
    );
  });

  it('counts what it drops once, though it is asked to twice at a time', async () => {
    await using temp = tempDir('spool');
    const registry = createRegistry();
    await using spool = await open(join(temp.path, 'spool'), { registry });
    const old = Array.from({ length: 20 }, (_, i) => alertOf(String(i), 1));
    await spool.append(old, START_MS, true);
    await spool.append([alertOf('20', 1)], START_MS + 2 * DAY_MS, true);
    await Promise.all([spool.trim(START_MS + 2 * DAY_MS), spool.trim(START_MS + 2 * DAY_MS)]);
    expect(spool.waitingCount).toBe(1);
    expect(await registry.metrics()).toContain('gpufleet_alert_spool_dropped_total{reason="unsent"} 20');
  });

  it('forgets resolved states in time or over the limit, never one that fires', async () => {
    await using temp = tempDir('spool');
    await using spool = await open(join(temp.path, 'spool'), { maxStates: 2 });
    await spool.append([alertOf('0', 1), alertOf('1', 2), alertOf('2', 4), alertOf('3', 1)], START_MS, false);
    await spool.trim(START_MS);
    expect((await all(spool.states())).map((alert) => alert.gpu).sort()).toEqual(['0', '3']);
    await spool.trim(START_MS + 30 * DAY_MS);
    expect((await all(spool.states())).map((alert) => alert.gpu).sort()).toEqual(['0', '3']);
  });

  it('skips a damaged record, counted, and goes on with the rest', async () => {
    await using temp = tempDir('spool');
    const folder = join(temp.path, 'spool');
    {
      await using spool = await open(folder);
      await spool.append([alertOf('0', 1), alertOf('1', 1)], START_MS, true);
    }
    {
      const level = new Level<string, Uint8Array>(folder, { valueEncoding: 'view' });
      const news = level.sublevel<string, Uint8Array>('news', { valueEncoding: 'view' });
      const [key] = await news.keys({ limit: 1 }).all();
      const record = Uint8Array.from((await news.get(key!))!);
      record[20]! ^= 1;
      await news.put(key!, record);
      await level.close();
    }
    const registry = createRegistry();
    await using spool = await open(folder, { registry });
    expect(await seqs(spool)).toEqual([2]);
    expect(await registry.metrics()).toContain('gpufleet_alert_spool_dropped_total{reason="damaged"} 1');
  });

  it('that is ruined is set aside and begun anew: alerts go on', async () => {
    await using temp = tempDir('spool');
    const folder = join(temp.path, 'spool');
    await (await open(folder))[Symbol.asyncDispose]();
    const manifest = readFileSync(join(folder, 'CURRENT'), 'utf8').trim();
    await writeFile(join(folder, manifest), 'not a manifest');
    await using spool = await open(folder);
    await spool.append([alertOf('0', 1)], START_MS, true);
    expect(await seqs(spool)).toEqual([1]);
    expect(readdirSync(temp.path).some((name) => name.startsWith('spool.damaged-'))).toBe(true);
  });

  it('that another process holds is refused, not set aside', async () => {
    await using temp = tempDir('spool');
    await using first = await open(join(temp.path, 'spool'));
    await expect(open(join(temp.path, 'spool'))).rejects.toThrow('another process uses it');
    expect(await seqs(first)).toEqual([]);
  });
});
