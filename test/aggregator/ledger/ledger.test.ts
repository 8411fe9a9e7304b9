import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { Ledger, type LedgerOptions } from '../../../aggregator/ledger/ledger.ts';
import type { ToldLoss } from '../../../aggregator/ledger/ledger-entry.ts';
import { tempDir } from '../../support/temp.ts';
import { ManualClock } from '../alerts/block-of.ts';
import { crashCopy, FakeShelf, shelfIn } from './open-shelf.ts';

const SOURCE = { cluster: 'east', node: 'a' };
const loss = (more: Partial<ToldLoss> = {}): ToldLoss => ({
  ...{ fromMs: 1_000, toMs: 2_000, samples: 10, reason: 'trimmed', estimated: false, detail: 'aged out' },
  ...more,
});

async function ledgerOn(shelf = new FakeShelf(), more: Partial<LedgerOptions> = {}) {
  const registry = createRegistry();
  const clock = new ManualClock();
  return { shelf, registry, clock, ledger: await Ledger.open({ shelf, registry, clock, ...more }) };
}

const sum = (entries: readonly { samples: number }[]): number =>
  entries.reduce((total, { samples }) => total + samples, 0);

describe('an entry', () => {
  // Whoever asks the morning after a crash must find what the agents were told is kept.
  test('that was kept is there after a kill -9, once, also when its agent tells it again', async () => {
    await using dir = tempDir('ledger');
    const folder = join(dir.path, 'ledger');
    await using first = await shelfIn(folder);
    const before = await Ledger.open(first);
    await before.record(SOURCE, 'run/7', loss());
    await before.record({ ...SOURCE, node: 'b' }, 'run/7', loss({ samples: 5 }));
    await using second = await shelfIn(crashCopy(dir, folder));
    const after = await Ledger.open(second);
    await after.record(SOURCE, 'run/7', loss());
    expect(after.list()).toEqual(before.list());
    expect(after.list().map(({ node, samples }) => [node, samples])).toEqual([
      ['b', 5],
      ['a', 10],
    ]);
    // The counter is of this process: nothing new was lost since its start.
    expect(await second.registry.metrics()).not.toMatch(/gpufleet_lost_samples_total\{/);
    expect(await second.registry.metrics()).toContain('gpufleet_ledger_entries 2');
  });

  // An agent deletes its own record once it is told "kept": told so before the disk has it, the loss has no trace.
  test('is kept only when the disk has it, with fsync, also for one that comes again meanwhile', async () => {
    const { shelf, ledger } = await ledgerOn();
    const gate = Promise.withResolvers<void>();
    shelf.gate = gate.promise;
    shelf.refuses = true;
    const both = Promise.allSettled([
      ledger.record(SOURCE, 'r/1', loss()),
      ledger.record(SOURCE, 'r/1', loss()),
    ]);
    expect(ledger.knows(SOURCE, 'r/1')).toBe(true);
    gate.resolve();
    expect((await both).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(ledger.list()).toEqual([]);
    expect(ledger.knows(SOURCE, 'r/1')).toBe(false);
    shelf.refuses = false;
    await Promise.all([ledger.record(SOURCE, 'r/1', loss()), ledger.record(SOURCE, 'r/1', loss())]);
    expect(ledger.list()).toHaveLength(1);
    expect(shelf.syncs).toEqual([true]);
  });

  test.each([
    ['a negative count', { samples: -5 }, { samples: 0 }],
    ['a count that is none', { samples: Number.NaN }, { samples: 0 }],
    ['a count beyond counting', { samples: 1e300 }, { samples: Number.MAX_SAFE_INTEGER }],
    ['an infinite count', { samples: Number.POSITIVE_INFINITY }, { samples: Number.MAX_SAFE_INTEGER }],
    ['a range that is turned round', { fromMs: 9_000, toMs: 3_000 }, { fromMs: 3_000, toMs: 9_000 }],
    ['times that are none', { fromMs: Number.NaN, toMs: 1e300 }, { fromMs: 0, toMs: 253_402_300_799_999 }],
    ['times before 1970', { fromMs: -1e15, toMs: -1 }, { fromMs: 0, toMs: 0 }],
    [
      'a text that is cut within a character',
      { detail: `${'x'.repeat(1023)}😀` },
      { detail: `${'x'.repeat(1023)}\ufffd` },
    ],
  ])('with %s is kept, within bounds', async (_, odd, kept) => {
    const { ledger, registry } = await ledgerOn();
    await ledger.record(SOURCE, 'r/1', loss(odd));
    expect(ledger.list()[0]).toMatchObject(kept);
    expect(await registry.metrics()).toMatch(/gpufleet_lost_samples_total\{reason="trimmed"\} \d/);
  });

  test('of a reason that a newer agent invented is listed by its name, and counted as "other"', async () => {
    const { ledger, registry } = await ledgerOn();
    await ledger.record(SOURCE, 'r/1', loss({ reason: 'gravity' }));
    expect(ledger.list({ reason: 'gravity' })).toHaveLength(1);
    expect(await registry.metrics()).toContain('gpufleet_lost_samples_total{reason="other"} 10');
  });
});

test('lists by node, reason and overlap of time, newest first', async () => {
  const { ledger } = await ledgerOn();
  await ledger.record(SOURCE, '1', loss({ fromMs: 0, toMs: 10 }));
  await ledger.record(SOURCE, '2', loss({ fromMs: 20, toMs: 30, reason: 'corrupt' }));
  await ledger.record({ ...SOURCE, node: 'b' }, '3', loss({ fromMs: 25, toMs: 40 }));
  const found = (filter: object): string[] => ledger.list(filter).map(({ identity }) => identity);
  expect(found({})).toEqual(['3', '2', '1']);
  expect(found({ node: 'a' })).toEqual(['2', '1']);
  expect(found({ reason: 'corrupt' })).toEqual(['2']);
  expect(found({ fromMs: 10, toMs: 20 })).toEqual(['2', '1']);
  expect(found({ fromMs: 11, toMs: 19 })).toEqual([]);
  expect(found({ fromMs: 31 })).toEqual(['3']);
});

describe('bounds', () => {
  // One agent that loses without end must not push out what the others lost: that would be loss without a trace.
  test('a node with too many has its older ones folded into one for each reason; no sample is forgotten', async () => {
    const { ledger, shelf, registry, clock } = await ledgerOn(new FakeShelf(), { maxEntriesPerNode: 20 });
    await ledger.record({ ...SOURCE, node: 'quiet' }, 'q', loss({ samples: 3 }));
    for (let n = 0; n < 200; n++)
      await ledger.record(
        SOURCE,
        `r/${n}`,
        loss({ fromMs: n, toMs: n + 1, reason: n % 2 ? 'corrupt' : 'trimmed' }),
      );
    const noisy = ledger.list({ node: 'a' });
    expect(noisy.length).toBeLessThanOrEqual(20);
    expect(sum(noisy)).toBe(2_000);
    expect(sum(ledger.list({ node: 'a', reason: 'corrupt' }))).toBe(1_000);
    expect(Math.min(...noisy.map(({ fromMs }) => fromMs))).toBe(0);
    expect(noisy.at(-1)!.detail).toMatch(/^\d+ losses in one entry.*aged out$/);
    expect(noisy.at(-1)!.detail.match(/in one entry/g)).toHaveLength(1);
    expect(ledger.list({ node: 'quiet' })).toHaveLength(1);
    const reopened = await Ledger.open({ shelf, clock, registry: createRegistry() });
    expect(reopened.list()).toEqual(ledger.list());
    expect(await registry.metrics()).toContain('gpufleet_ledger_dropped_entries_total 0');
  });

  test('reasons without end, of a hostile agent, fold into "other"', async () => {
    const { ledger } = await ledgerOn(new FakeShelf(), { maxEntriesPerNode: 30 });
    for (let n = 0; n < 300; n++) await ledger.record(SOURCE, `r/${n}`, loss({ reason: `reason-${n}` }));
    expect(ledger.list().length).toBeLessThanOrEqual(30);
    expect(sum(ledger.list())).toBe(3_000);
    expect(ledger.list().at(-1)!.reason).toBe('other');
  });

  test('where all nodes together have too many, the one with most is folded', async () => {
    const { ledger } = await ledgerOn(new FakeShelf(), { maxEntries: 40 });
    for (const node of ['b', 'c', 'd']) await ledger.record({ ...SOURCE, node }, 'x', loss());
    for (let n = 0; n < 100; n++) await ledger.record(SOURCE, `r/${n}`, loss());
    expect(ledger.list().length).toBeLessThanOrEqual(40);
    expect(sum(ledger.list())).toBe(1_030);
    for (const node of ['b', 'c', 'd']) expect(ledger.list({ node })).toHaveLength(1);
  });

  test('only where there is nothing to fold, the oldest leave, and are counted', async () => {
    const { ledger, shelf, registry } = await ledgerOn(new FakeShelf(), { maxEntries: 10 });
    for (let n = 0; n < 30; n++) await ledger.record({ ...SOURCE, node: `n${n}` }, 'x', loss());
    const left = ledger.list();
    expect(left.length).toBeLessThanOrEqual(10);
    expect(left[0]!.node).toBe('n29');
    expect(shelf.values.size).toBe(left.length);
    expect(await registry.metrics()).toContain(`gpufleet_ledger_dropped_entries_total ${30 - left.length}`);
  });

  // A fold that reaches the disk by half would count the same samples twice after a restart.
  test('a fold that the disk refuses comes with the next entry', async () => {
    const { ledger, shelf, clock } = await ledgerOn(new FakeShelf(), { maxEntriesPerNode: 20 });
    for (let n = 0; n < 20; n++) await ledger.record(SOURCE, `r/${n}`, loss());
    const write = shelf.write.bind(shelf);
    shelf.write = (changes, sync) => (sync ? write(changes, sync) : Promise.reject(new Error('disk full')));
    await ledger.record(SOURCE, 'over', loss());
    expect(shelf.values.size).toBe(21);
    shelf.write = write;
    await ledger.record(SOURCE, 'next', loss());
    const reopened = await Ledger.open({ shelf, clock, registry: createRegistry() });
    expect(reopened.list()).toEqual(ledger.list());
    expect(sum(reopened.list())).toBe(220);
  });

  test('100,000 entries are kept, listed and read back, each once', async () => {
    const shelf = new FakeShelf();
    const { ledger, clock } = await ledgerOn(shelf);
    for (let n = 0; n < 100_000; n++)
      await ledger.record({ ...SOURCE, node: `n${n % 1_000}` }, `r/${n}`, loss({ samples: 1 }));
    expect(ledger.list()).toHaveLength(100_000);
    expect(ledger.list({ node: 'n7' })).toHaveLength(100);
    const reopened = await Ledger.open({ shelf, clock, registry: createRegistry() });
    expect(sum(reopened.list())).toBe(100_000);
  });
});

describe('a loss that is none any more', () => {
  test('leaves, and does not come back with a restart', async () => {
    const { ledger, shelf, clock } = await ledgerOn();
    const entry = await ledger.record(SOURCE, '1', loss());
    await ledger.record(SOURCE, '2', loss());
    await ledger.forget(entry);
    expect(ledger.list().map(({ identity }) => identity)).toEqual(['2']);
    const reopened = await Ledger.open({ shelf, clock, registry: createRegistry() });
    expect(reopened.list()).toEqual(ledger.list());
  });

  test('is taken off the sum where it was folded', async () => {
    const { ledger } = await ledgerOn(new FakeShelf(), { maxEntriesPerNode: 16 });
    const first = await ledger.record(SOURCE, 'first', loss({ samples: 7 }));
    for (let n = 0; n < 40; n++) await ledger.record(SOURCE, `r/${n}`, loss());
    await ledger.forget(first);
    expect(sum(ledger.list())).toBe(400);
  });
});
