import { describe, expect, test } from 'vitest';
import type { Source } from '#shared/model/block.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Anomaly } from '../../../../aggregator/health/detect/anomaly.ts';
import { PatternBook, type PatternBookOptions } from '../../../../aggregator/health/patterns/pattern-book.ts';
import type { PatternShelf } from '../../../../aggregator/health/patterns/pattern-store.ts';
import { seededRandom } from '../../../support/random.ts';

const DAY = 86_400_000;
const HOUR = 3_600_000;
const T0 = 20_000 * DAY;

const NODES = 64;
const sources = Array.from(
  { length: NODES },
  (_, n): Source => ({ cluster: 'prod', node: `n${n}`, externalLabels: [] }),
);

function open(over: Partial<PatternBookOptions> = {}): { book: PatternBook; time: { now: number } } {
  const time = { now: T0 };
  const book = new PatternBook({
    clock: { now: () => time.now, monotonic: () => time.now },
    nodes: () =>
      sources.map(({ cluster, node }, n) => [`${cluster}/${node}`, { pdu: [`p${n >> 3}`] }] as const),
    gpusOf: () => 8,
    gpusWatched: () => NODES * 8,
    ...over,
  });
  return { book, time };
}

const xid = (code: string, gpu: string, ms: number): FleetEvent => ({
  type: 'xid',
  timestampMs: ms,
  gpu: '0',
  gpuUuid: gpu,
  text: '',
  attributes: { code },
});

class MemoryShelf implements PatternShelf {
  readonly map = new Map<string, string>();
  fail = false;

  async write(changes: readonly { readonly key: string; readonly value?: unknown }[]): Promise<void> {
    if (this.fail) throw new Error('disk full');
    for (const { key, value } of changes)
      if (value === undefined) this.map.delete(key);
      else this.map.set(key, JSON.stringify(value));
  }

  async *entries(prefix: string): AsyncIterable<readonly [string, unknown]> {
    for (const [key, value] of [...this.map].sort(([a], [b]) => (a < b ? -1 : 1)))
      if (key.startsWith(prefix)) yield [key, JSON.parse(value)];
  }
}

/** A margin that falls by 0.2 °C a day from 14 °C, each hour, for 40 days. */
function wear(book: PatternBook, time: { now: number }, days: number, from = 0): void {
  const random = seededRandom(from + 1);
  const followed = book.follow('prod/n3/GPU-w', 'GPU-w', 'core_margin')!;
  for (let hour = from * 24; hour < days * 24; hour++) {
    time.now = T0 + hour * HOUR;
    book.figure(followed, 14 - (0.2 * hour) / 24 + random() - 0.5, time.now);
  }
}

describe('every kind of pattern is found from what is noted', () => {
  test('a wearing GPU: rate, level and the days that are left', async () => {
    const { book, time } = open();
    wear(book, time, 41);
    await book.evaluate();
    const [trend, ...others] = book.patterns();
    expect(others).toEqual([]);
    expect(trend).toMatchObject({ kind: 'trend', scope: 'gpu', subjects: ['prod/n3/GPU-w'] });
    expect(trend!.sentence).toMatch(
      /^Core temperature margin under load of prod\/n3\/GPU-w falls by 1\.\d+ °C a week and is 6\.\d+ °C\. At this rate it reaches 0 °C \(throttling\) in 3\d(\.\d)? days \([\d.]+ to [\d.]+\)\.$/,
    );
    expect(trend!.figures.days).toBeGreaterThan(27);
    expect(trend!.figures.days).toBeLessThan(35);
    time.now += 8 * DAY;
    await book.evaluate();
    expect(book.patterns()).toEqual([]);
  });

  test('a PDU, once, also when it is looked at again with more of it', async () => {
    const { book, time } = open();
    for (const [i, n] of [8, 9, 10, 11].entries())
      book.note(sources[n]!, `GPU-${n}`, 'power_brake', T0 + i * 1000);
    await book.evaluate();
    for (const [i, n] of [12, 13].entries())
      book.note(sources[n]!, `GPU-${n}`, 'power_brake', T0 + 8000 + i * 1000);
    time.now += 60_000;
    await book.evaluate();
    await book.evaluate();
    expect(book.patterns().map(({ sentence }) => sentence)).toEqual([
      '6 of 8 nodes on PDU p1 had power brake within 9 s: the PDU rather than the GPUs.',
    ]);
    time.now += 8 * DAY;
    await book.evaluate();
    expect(book.patterns()).toEqual([]);
  });

  test('an error that follows another, with their names', async () => {
    const { book, time } = open();
    for (let n = 0; n < 10; n++) {
      book.noteEvent(sources[n]!, xid('48', `GPU-${n}`, T0 + n * DAY));
      book.noteEvent(sources[n]!, xid('63', `GPU-${n}`, T0 + n * DAY + 900));
    }
    time.now = T0 + 12 * DAY;
    await book.evaluate();
    const found = book.patterns().filter(({ kind }) => kind === 'cooccurrence');
    expect(found.map(({ sentence }) => sentence)).toEqual([
      expect.stringMatching(
        /^Xid 63 \(row remapping or page retirement recorded\) follows Xid 48 \(uncorrectable ECC error\) within 5 s on 10 of 10 GPUs that had it \(100 %, 72 % to 100 %; by chance [\d.e-]+ %\)\.$/,
      ),
    ]);
  });

  test('a node whose repair did not hold; application Xids blame neither a node nor a PDU', async () => {
    const { book, time } = open();
    book.noteNode(sources[5]!, 'out', T0 - 9 * DAY);
    book.noteNode(sources[5]!, 'repair', T0 - 8 * DAY);
    book.noteEvent(sources[5]!, xid('79', 'GPU-5', T0 - 5 * DAY));
    for (let n = 8; n < 16; n++) book.noteEvent(sources[n]!, xid('31', `GPU-${n}`, T0 - 1000));
    for (let i = 0; i < 20; i++) book.noteEvent(sources[6]!, xid('31', 'GPU-6', T0 - i * HOUR));
    time.now = T0;
    await book.evaluate();
    expect(book.patterns().map(({ kind, sentence }) => [kind, sentence])).toEqual([
      [
        'lemon',
        'Node prod/n5 had 1 outage, 1 hardware Xid, 1 repair in 28 days; once within a week of a repair.',
      ],
    ]);
    expect(book.lemons().map(({ node }) => node)).toEqual(['prod/n5']);
  });

  test('errors and a room with a time of day', async () => {
    const { book, time } = open();
    for (let day = 0; day < 30; day++) {
      book.note(
        sources[day % NODES]!,
        `GPU-${day}`,
        'link_flap',
        T0 + day * DAY + 14 * HOUR + (day % 7) * 300_000,
      );
      for (let hour = 0; hour < 24; hour++)
        book.roomFigure(
          'hall 2',
          'inlet',
          22 + 2 * Math.cos((2 * Math.PI * (hour - 15.5)) / 24) + (day % 3) / 10,
          T0 + day * DAY + hour * HOUR,
        );
    }
    time.now = T0 + 30 * DAY;
    await book.evaluate();
    expect(book.patterns().map(({ sentence }) => sentence)).toEqual([
      expect.stringMatching(
        /^link flap comes mostly around 14:\d\d UTC, on 30 days \(strength 0\.9\d+ of 1\)\.$|^link flap .* \(strength 1 of 1\)\.$/,
      ),
      expect.stringMatching(
        /^Inlet temperature of hall 2 swings by ±2 °C through the day and peaks around 16:00 UTC/,
      ),
    ]);
  });
});

// Lost without it: a test anomaly that an operator injects shows up as a fault of a rack.
test('injected anomalies, good news and unknown signals make no pattern', () => {
  const { book } = open();
  const anomaly = { source: sources[0]!, gpu: '0', uuid: 'GPU-0', startedMs: T0 } as Anomaly;
  const contribution = {
    detector: 'level',
    signal: 'gpu_power_watts',
    value: 1,
    expected: 0,
    strength: 2,
  } as const;
  book.noteAnomaly({ ...anomaly, test: true, contributions: [contribution] });
  book.noteEvent(sources[0]!, { ...xid('79', 'GPU-0', T0), type: 'gpu_back' });
  book.noteEvent(sources[0]!, {
    ...xid('79', 'GPU-0', T0),
    type: 'diagnostic',
    attributes: { result: 'pass' },
  });
  book.noteState(sources[0]!, 'GPU-0', 'healthy', T0);
  expect(book.counts.events).toBe(0);
  expect(book.follow('prod/n0/GPU-0', 'GPU-0', 'no such signal')).toBeUndefined();
  book.noteAnomaly({ ...anomaly, test: false, contributions: [contribution] });
  expect(book.counts.events).toBe(1);
});

describe('over a restart', () => {
  // Lost without it: three months of trend and every repeat offender are forgotten with each update.
  test('events, trends and the time watched come back', async () => {
    const shelf = new MemoryShelf();
    const first = open();
    wear(first.book, first.time, 30);
    first.book.noteNode(sources[5]!, 'repair', T0 + 25 * DAY);
    first.book.noteNode(sources[5]!, 'out', T0 + 28 * DAY);
    await first.book.snapshot(shelf);
    const second = open();
    second.time.now = T0 + 30 * DAY;
    await second.book.restore(shelf);
    wear(second.book, second.time, 41, 30);
    await second.book.evaluate();
    expect(
      second.book
        .patterns()
        .map(({ kind }) => kind)
        .sort(),
    ).toEqual(['lemon', 'trend']);
    expect(
      second.book.patterns().find(({ kind }) => kind === 'trend')!.figures.points,
    ).toBeGreaterThanOrEqual(39);
  });

  test('a write that failed is made up for by the next, and damaged entries are left out', async () => {
    const shelf = new MemoryShelf();
    const { book } = open();
    book.noteNode(sources[5]!, 'out', T0 - DAY);
    shelf.fail = true;
    await expect(book.snapshot(shelf)).rejects.toThrow('disk full');
    shelf.fail = false;
    await book.snapshot(shelf);
    for (const key of [...shelf.map.keys()]) shelf.map.set(`${key}x`, JSON.stringify([['no', 'event']]));
    shelf.map.set('patterns/1/figures/core_margin\0GPU-x', JSON.stringify({ first: -4, days: 'none' }));
    const again = open();
    await again.book.restore(shelf);
    expect(again.book.counts).toMatchObject({ events: 1, figures: 0 });
  });
});
