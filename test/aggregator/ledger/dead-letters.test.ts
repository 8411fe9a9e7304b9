import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import {
  DeadLetters,
  type DeadLettersOptions,
  type RefusedSeries,
} from '../../../aggregator/ledger/dead-letters.ts';
import { Ledger } from '../../../aggregator/ledger/ledger.ts';
import type { Shelf } from '../../../aggregator/ledger/shelf.ts';
import { tempDir } from '../../support/temp.ts';
import { ManualClock } from '../alerts/block-of.ts';
import { crashCopy, FakeShelf, shelfIn } from './open-shelf.ts';

const refused = (more: Partial<RefusedSeries> = {}): RefusedSeries => ({
  ...{ cluster: 'east', node: 'a', series: 'power{gpu="0"}', samples: 3, fromMs: 1_000, toMs: 3_000 },
  ...{ status: 400, answer: 'label too long', body: Uint8Array.of(0, 255, 1) },
  ...more,
});

async function lettersOn(shelf: Shelf = new FakeShelf(), more: Partial<DeadLettersOptions> = {}) {
  const registry = createRegistry();
  const clock = new ManualClock();
  const offered: Uint8Array[] = [];
  const ledger = await Ledger.open({ shelf, registry, clock });
  const letters = await DeadLetters.open({
    ...{ shelf, registry, clock, ledger },
    offer: async (body) => {
      offered.push(body);
      return 'accepted';
    },
    ...more,
  });
  return { shelf, registry, ledger, letters, offered };
}

describe('a dead letter', () => {
  test('is there after a kill -9 with its bytes, and is a loss of an exact count', async () => {
    await using dir = tempDir('letters');
    const folder = join(dir.path, 'ledger');
    await using first = await shelfIn(folder);
    const before = await lettersOn(first.shelf);
    await before.letters.add(refused());
    await using second = await shelfIn(crashCopy(dir, folder));
    const after = await lettersOn(second.shelf);
    expect(after.letters.list()).toEqual(before.letters.list());
    expect(after.letters.list()[0]).toMatchObject({ series: 'power{gpu="0"}', status: 400, samples: 3 });
    expect(after.ledger.list()).toMatchObject([
      {
        reason: 'refused',
        samples: 3,
        estimated: false,
        detail: expect.stringMatching(/power.*400.*label too/),
      },
    ]);
    expect(await after.letters.replay([])).toEqual({ accepted: 1, refused: 0 });
    expect([...after.offered[0]!]).toEqual([0, 255, 1]);
  });

  // `gpufleet losses` tells what is lost: once the store has taken a letter, nothing of it is.
  test('that the store takes leaves the list and the ledger, for good; one that it refuses stays in both', async () => {
    const shelf = new FakeShelf();
    const { letters, ledger } = await lettersOn(shelf, {
      offer: async (body) => (body[0] === 1 ? 'accepted' : { refused: 'still too long' }),
    });
    await letters.add(refused({ series: 'bad', body: Uint8Array.of(0) }));
    await letters.add(refused({ series: 'cured', body: Uint8Array.of(1) }));
    expect(await letters.replay([])).toEqual({ accepted: 1, refused: 1 });
    const reopened = await lettersOn(shelf);
    for (const one of [{ letters, ledger }, reopened]) {
      expect(one.letters.list().map(({ series }) => series)).toEqual(['bad']);
      expect(one.ledger.list()).toHaveLength(1);
    }
  });

  // A store that was set back is sent the same poison again: it is the same loss.
  test('of the same samples comes once, however often they are refused', async () => {
    const { letters, ledger } = await lettersOn();
    await Promise.all([letters.add(refused()), letters.add(refused())]);
    await letters.add(refused());
    expect(letters.list()).toHaveLength(1);
    expect(ledger.list()).toHaveLength(1);
    await letters.add(refused({ toMs: 4_000, samples: 4 }));
    expect(letters.list()).toHaveLength(2);
  });

  test('whose fact is on disk but which the disk then refuses is told, and can come again', async () => {
    const shelf = new FakeShelf();
    const { letters, ledger } = await lettersOn(shelf);
    const write = shelf.write.bind(shelf);
    shelf.write = (changes, sync) =>
      changes[0]!.key.startsWith('dead/') ? Promise.reject(new Error('disk full')) : write(changes, sync);
    await expect(letters.add(refused())).rejects.toThrow('disk full');
    expect([letters.list().length, ledger.list().length]).toEqual([0, 1]);
    shelf.write = write;
    await letters.add(refused());
    expect([letters.list().length, ledger.list().length]).toEqual([1, 1]);
  });

  test('with odd figures and endless texts is kept within bounds', async () => {
    const { letters } = await lettersOn();
    await letters.add(
      refused({
        ...{ samples: -1, fromMs: 9_000, toMs: Number.NaN, status: Number.NaN },
        ...{ series: 'x'.repeat(1e6), answer: 'y'.repeat(1e6) },
      }),
    );
    const [letter] = letters.list();
    expect(letter).toMatchObject({ samples: 0, fromMs: 0, toMs: 9_000, status: 0 });
    expect(letter!.series.length + letter!.answer.length).toBeLessThanOrEqual(8_192);
  });
});

describe('a replay', () => {
  test('by id offers those alone; an id that is not there offers nothing', async () => {
    const { letters, offered } = await lettersOn();
    await letters.add(refused({ series: 'one' }));
    await letters.add(refused({ series: 'two' }));
    const [newest] = letters.list();
    await expect(letters.replay([newest!.id, 'nobody'])).rejects.toThrow(/dead letter nobody.*no such/);
    expect(offered).toHaveLength(0);
    expect(await letters.replay([newest!.id, newest!.id])).toEqual({ accepted: 1, refused: 0 });
    expect(letters.list().map(({ series }) => series)).toEqual(['one']);
  });

  test('that the store cannot answer stops, and keeps what is left', async () => {
    let calls = 0;
    const { letters } = await lettersOn(new FakeShelf(), {
      offer: async () => {
        calls++;
        if (calls > 1) throw new Error('store is away');
        return 'accepted';
      },
    });
    for (const series of ['one', 'two', 'three']) await letters.add(refused({ series }));
    await expect(letters.replay([])).rejects.toThrow('store is away');
    expect(letters.list().map(({ series }) => series)).toEqual(['three', 'two']);
  });

  test('by two operators at once counts no letter twice', async () => {
    const { letters, ledger } = await lettersOn();
    for (const series of ['one', 'two']) await letters.add(refused({ series }));
    await Promise.all([letters.replay([]), letters.replay([])]);
    expect([letters.list(), ledger.list()]).toEqual([[], []]);
  });
});

describe('bounds: what leaves the list stays a loss', () => {
  const fill = async (letters: DeadLetters, count: number, more: Partial<RefusedSeries> = {}) => {
    for (let n = 0; n < count; n++) await letters.add(refused({ series: `s${n}`, ...more }));
  };

  test('the oldest letters leave when there are too many', async () => {
    const shelf = new FakeShelf();
    const { letters, ledger, registry } = await lettersOn(shelf, { maxLetters: 5 });
    await fill(letters, 8);
    expect(letters.list().map(({ series }) => series)).toEqual(['s7', 's6', 's5', 's4', 's3']);
    expect(ledger.list()).toHaveLength(8);
    expect((await lettersOn(shelf)).letters.list()).toEqual(letters.list());
    expect(await registry.metrics()).toContain('gpufleet_dead_letters_dropped_total 3');
    expect(await registry.metrics()).toContain('gpufleet_dead_letters 5');
  });

  test('the oldest leave when they are too large together', async () => {
    const { letters } = await lettersOn(new FakeShelf(), { maxBytes: 5_000 });
    await fill(letters, 8, { body: new Uint8Array(750) });
    expect(letters.list()).toHaveLength(4);
  });

  test('one node of poison pushes out its own letters, not those of others', async () => {
    const { letters } = await lettersOn(new FakeShelf(), { maxLettersPerNode: 3 });
    await letters.add(refused({ node: 'quiet' }));
    await fill(letters, 10);
    expect(letters.list('quiet')).toHaveLength(1);
    expect(letters.list('a').map(({ series }) => series)).toEqual(['s9', 's8', 's7']);
  });
});
