import { describe, expect, it } from 'vitest';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { HealthShelf } from '../../../../aggregator/health/states/health-shelf.ts';
import {
  TransitionLog,
  type TransitionLogOptions,
} from '../../../../aggregator/health/states/transition-log.ts';
import { tempDir } from '../../../support/temp.ts';
import { until } from '../../../support/wait.ts';
import { ManualClock, START_MS } from '../../alerts/block-of.ts';
import { crashCopy, FakeShelf, shelfIn } from '../../ledger/open-shelf.ts';
import { entry } from './entries.ts';

const DAY_MS = 86_400_000;

async function openLog(shelf: HealthShelf, more: Partial<TransitionLogOptions> = {}) {
  const registry = createRegistry();
  const clock = new ManualClock();
  const log = await TransitionLog.open({ shelf, clock, logger: silentLogger, registry, ...more });
  const metric = async (name: string): Promise<number> => {
    const found = await registry.getSingleMetric(name)!.get();
    return found.values.reduce((sum, { value }) => sum + value, 0);
  };
  return { log, clock, metric };
}

const timesOf = (entries: readonly { readonly atMs: number }[]): number[] =>
  entries.map(({ atMs }) => atMs - START_MS);

describe('the log of transitions', () => {
  it('has every transition with its why after a restart, and after a kill once it was flushed', async () => {
    await using dir = tempDir('transitions');
    const first = await shelfIn(`${dir.path}/shelf`);
    const { log } = await openLog(first.shelf);
    for (let i = 0; i < 5; i++) log.add(entry({ atMs: START_MS + i }));
    await log.flush();
    const copy = crashCopy(dir, first.path);
    await first[Symbol.asyncDispose]();

    for (const path of [first.path, copy]) {
      await using again = await shelfIn(path);
      const { log: reopened } = await openLog(again.shelf);
      const { entries } = await reopened.list({});
      expect(timesOf(entries)).toEqual([4, 3, 2, 1, 0]);
      expect(entries[0]).toEqual(entry({ atMs: START_MS + 4 }));
      reopened.add(entry({ atMs: START_MS + 5 }));
      await reopened.flush();
      expect(timesOf((await reopened.list({})).entries)).toEqual([5, 4, 3, 2, 1, 0]);
    }
  });

  it('is read newest first, page by page, while new ones come', async () => {
    const { log } = await openLog(new FakeShelf());
    for (let i = 0; i < 250; i++) log.add(entry({ atMs: START_MS + i, uuid: `GPU-${i % 3}` }));
    const read: number[] = [];
    let cursor: string | undefined;
    do {
      const page = await log.list({ uuid: 'GPU-1' }, 20, cursor);
      read.push(...timesOf(page.entries));
      cursor = page.cursor;
      log.add(entry({ atMs: START_MS + 1000, uuid: 'GPU-1' }));
    } while (cursor !== undefined);
    expect(read).toEqual(Array.from({ length: 83 }, (_, i) => 247 - 3 * i));
  });

  it.each([
    ['gpu', { uuid: 'GPU-7' }, [2]],
    ['node', { node: 'n1' }, [3, 1]],
    ['cluster', { cluster: 'west' }, [3]],
    ['since and until', { sinceMs: START_MS + 1, untilMs: START_MS + 3 }, [2, 1]],
    ['state', { state: HealthState.CRITICAL }, [2, 1]],
    ['flapping', { state: HealthState.FLAPPING }, [3]],
    ['all at once', { node: 'n1', state: HealthState.CRITICAL }, [1]],
    ['nobody', { node: 'n9' }, []],
  ])('is filtered by %s', async (_, filter, times) => {
    const { log } = await openLog(new FakeShelf());
    log.add(entry({ atMs: START_MS }));
    log.add(entry({ atMs: START_MS + 1, node: 'n1', to: HealthState.CRITICAL }));
    log.add(entry({ atMs: START_MS + 2, uuid: 'GPU-7', to: HealthState.CRITICAL }));
    log.add(entry({ atMs: START_MS + 3, node: 'n1', cluster: 'west', flapping: true }));
    await log.flush();
    expect(timesOf((await log.list(filter)).entries)).toEqual(times);
  });

  it('refuses a cursor that is none', async () => {
    const { log } = await openLog(new FakeShelf());
    await expect(log.list({}, 10, 'GPU-1')).rejects.toMatchObject({ code: 'invalid_input' });
  });

  it('keeps no more than it may, in memory and on disk: a sick fleet fills no disk', async () => {
    const shelf = new FakeShelf();
    const { log, metric } = await openLog(shelf, { maxEntries: 50, maxEntriesPerGpu: 4 });
    for (let i = 0; i < 30; i++) log.add(entry({ atMs: START_MS + i, uuid: 'GPU-sick' }));
    expect(timesOf((await log.list({ uuid: 'GPU-sick' })).entries)).toEqual([29, 28, 27, 26]);
    for (let i = 0; i < 100; i++) log.add(entry({ atMs: START_MS + i, uuid: `GPU-${i}` }));
    await log.flush();
    expect(shelf.values.size).toBe(50);
    expect((await log.list({}, 1000)).entries).toHaveLength(50);
    expect(await metric('gpufleet_health_transitions')).toBe(50);
    expect(await metric('gpufleet_health_transitions_dropped_total')).toBe(80);
  });

  it('lets go of what is older than its age, also at a start', async () => {
    const shelf = new FakeShelf();
    const { log, clock } = await openLog(shelf, { maxAgeDays: 2 });
    log.add(entry({ atMs: START_MS }));
    clock.ms += 3 * DAY_MS;
    log.add(entry({ atMs: clock.now() }));
    await log.flush();
    expect(timesOf((await log.list({})).entries)).toEqual([3 * DAY_MS]);
    const late = new ManualClock();
    late.ms += 10 * DAY_MS;
    const { log: reopened } = await openLog(shelf, { maxAgeDays: 2, clock: late });
    await reopened.flush();
    expect(shelf.values.size).toBe(0);
  });

  it('keeps what the disk refuses, can be read meanwhile, and writes it when the disk is back', async () => {
    const shelf = new FakeShelf();
    const { log, metric } = await openLog(shelf, { maxWaiting: 3 });
    shelf.refuses = true;
    for (let i = 0; i < 5; i++) log.add(entry({ atMs: START_MS + i }));
    await expect(log.flush()).rejects.toMatchObject({ code: 'unavailable' });
    expect(timesOf((await log.list({})).entries)).toEqual([2, 1, 0]);
    expect(await metric('gpufleet_health_transitions_dropped_total')).toBe(2);
    expect(await metric('gpufleet_health_transition_write_failures_total')).toBeGreaterThan(0);
    shelf.refuses = false;
    await log.flush();
    expect(shelf.values.size).toBe(3);
    log.add(entry({ atMs: START_MS + 9 }));
    await log.flush();
    expect(timesOf((await log.list({})).entries)).toEqual([9, 2, 1, 0]);
  });

  // Lost without it: after a full disk the last changes of a fleet that is quiet again are in no log after a restart.
  it('writes by itself what the disk refused, when the disk is back', async () => {
    const shelf = new FakeShelf();
    const { log } = await openLog(shelf, { retryMs: 5 });
    const stop = new AbortController();
    const running = log.run(stop.signal);
    shelf.refuses = true;
    log.add(entry({ atMs: START_MS }));
    await expect(log.flush()).rejects.toMatchObject({ code: 'unavailable' });
    shelf.refuses = false;
    await until(() => shelf.values.size === 1, { timeoutMs: 5_000, what: 'the entry is on the shelf' });
    stop.abort();
    await running;
  });

  // Lost without it: an entry that comes in at the wrong moment waits for the next one, which may be weeks away.
  it.each([0, 1, 2, 3, 4, 5, 6, 7, 8])(
    'writes one that was added %d turns after a write ended',
    async (turns) => {
      const shelf = new FakeShelf();
      const { log } = await openLog(shelf);
      const write = shelf.write.bind(shelf);
      let left = turns;
      const later = (): void => {
        if (left-- > 0) void Promise.resolve().then(later);
        else log.add(entry({ atMs: START_MS + 1 }));
      };
      shelf.write = (...changes) => {
        const written = write(...changes);
        shelf.write = write;
        void written.then(later);
        return written;
      };
      log.add(entry({ atMs: START_MS }));
      await until(() => shelf.values.size === 2, { timeoutMs: 5_000, what: 'both are on the shelf' });
    },
  );

  it('takes off the disk what was dropped while it was being written', async () => {
    const shelf = new FakeShelf();
    const { log } = await openLog(shelf, { maxEntries: 2 });
    let open = (): void => {};
    shelf.gate = new Promise((resolve) => {
      open = resolve;
    });
    log.add(entry({ atMs: START_MS }));
    await new Promise((resolve) => setTimeout(resolve, 5));
    for (let i = 1; i < 4; i++) log.add(entry({ atMs: START_MS + i }));
    open();
    await log.flush();
    expect(timesOf([...shelf.values.values()] as { atMs: number }[])).toEqual([2, 3]);
  });
});
