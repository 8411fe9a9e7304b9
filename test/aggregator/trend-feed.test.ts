import { describe, expect, it } from 'vitest';
import type { Source } from '#shared/model/block.ts';
import { PatternBook } from '../../aggregator/health/patterns/pattern-book.ts';
import { TREND_SIGNALS } from '../../aggregator/health/patterns/trend-signals.ts';
import { TREND_FIGURES, type TrendFigures } from '../../aggregator/health/trend-figures.ts';
import { TrendFeed } from '../../aggregator/trend-feed.ts';
import { ManualClock, START_MS } from './alerts/block-of.ts';

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
type Name = (typeof TREND_FIGURES)[number];

const node = (name: string): Source => ({ cluster: 'prod', node: name, externalLabels: [] });

/** Health as the feed sees it: GPUs by UUID, told by one object that is filled anew. */
class GivenHealth {
  readonly gpus = new Map<
    string,
    { source: Source; figures: Partial<Record<Name, number>>; eccMs?: number }
  >();

  *trendFigures(): Iterable<TrendFigures> {
    const values = new Float64Array(TREND_FIGURES.length);
    const one = { source: node(''), uuid: '', values, uncorrectedMs: Number.NaN };
    for (const [uuid, { source, figures, eccMs = Number.NaN }] of this.gpus) {
      one.source = source;
      one.uuid = uuid;
      one.uncorrectedMs = eccMs;
      for (const [i, name] of TREND_FIGURES.entries()) values[i] = figures[name] ?? Number.NaN;
      yield one;
    }
  }
}

function open() {
  const clock = new ManualClock();
  const health = new GivenHealth();
  const sources = Array.from({ length: 40 }, (_, n) => node(`n${n}`));
  const patterns = new PatternBook({
    clock,
    nodes: () => sources.map(({ cluster, node: name }) => [`${cluster}/${name}`, {}] as const),
    gpusOf: () => 8,
    gpusWatched: () => 320,
  });
  const feed = new TrendFeed({ health, patterns, clock });
  return { clock, health, patterns, feed, sources };
}

describe('what health knows of each GPU goes to the patterns', () => {
  it.each<[Name, number, number, RegExp]>([
    [
      'core_margin',
      14,
      -0.2,
      /^Core temperature margin under load of prod\/n3\/GPU-w falls by 1\.4 °C a week/,
    ],
    ['memory_margin', 12, -0.15, /^Memory temperature margin under load of prod\/n3\/GPU-w falls/],
    ['thermal_resistance', 1, 0.008, /^Thermal resistance.* of prod\/n3\/GPU-w rises/],
    ['remapped_rows', 1, 0.12, /^Rows remapped .*prod\/n3\/GPU-w rises/],
    ['pcie_replays_per_minute', 0.5, 0.12, /^PCIe replays of prod\/n3\/GPU-w rises/],
    ['clock_of_siblings', 1, -0.002, /^SM clock relative to its siblings of prod\/n3\/GPU-w falls/],
  ])('%s, to be a sentence after weeks of wear', async (name, from, perDay, sentence) => {
    const { clock, health, patterns, feed, sources } = open();
    for (let hour = 0; hour <= 41 * 24; hour++) {
      clock.ms = START_MS + hour * HOUR_MS;
      const value = from + (perDay * hour) / 24;
      health.gpus.set('GPU-w', { source: sources[3]!, figures: { [name]: value } });
      await feed.round();
    }
    await patterns.evaluate();
    expect(patterns.patterns().map((one) => one.sentence)).toEqual([expect.stringMatching(sentence)]);
  });

  it('every figure is one that the patterns follow', () => {
    expect([...TREND_FIGURES].sort()).toEqual(TREND_SIGNALS.map(({ name }) => name).sort());
  });

  // Lost without it: half of the places are taken by boards that never had a bad row, and others have none.
  it('zeros of a sound board take no place, those after the first fault do', async () => {
    const { clock, health, patterns, feed, sources } = open();
    const figures = { remapped_rows: 0, pcie_replays_per_minute: 0, core_margin: 10 };
    health.gpus.set('GPU-0', { source: sources[0]!, figures });
    await feed.round();
    expect(patterns.counts.figures).toBe(1);
    health.gpus.set('GPU-0', { source: sources[0]!, figures: { ...figures, remapped_rows: 1 } });
    clock.ms += MINUTE_MS;
    await feed.round();
    expect(patterns.counts.figures).toBe(2);
  });

  it('goes on under its new name where a board was put into another node, and on with a new stream', async () => {
    const { clock, health, patterns, feed, sources } = open();
    for (let hour = 0; hour <= 41 * 24; hour++) {
      clock.ms = START_MS + hour * HOUR_MS;
      const source = hour < 20 * 24 ? sources[3]! : node('n7');
      health.gpus.set('GPU-w', { source, figures: { core_margin: 14 - (0.2 * hour) / 24 } });
      await feed.round();
    }
    await patterns.evaluate();
    expect(patterns.patterns().map(({ subjects }) => subjects)).toEqual([['prod/n7/GPU-w']]);
    expect(patterns.counts.figures).toBe(1);
  });

  it('lets go of a GPU that health hears no more', async () => {
    const { health, feed, sources } = open();
    for (let i = 0; i < 1200; i++)
      health.gpus.set(`GPU-${i}`, { source: sources[i % 40]!, figures: { core_margin: 10 } });
    await feed.round();
    expect(feed.size).toBe(1200);
    for (let i = 100; i < 1200; i++) health.gpus.delete(`GPU-${i}`);
    await feed.round();
    expect(feed.size).toBe(100);
  });
});

describe('uncorrected memory errors', () => {
  it('are told once each, with the time of their sample: what follows them on the same GPU is found', async () => {
    const { clock, health, patterns, feed, sources } = open();
    for (let n = 0; n < 10; n++) {
      clock.ms = START_MS + n * 24 * HOUR_MS;
      const eccMs = clock.ms;
      patterns.note(sources[n]!, `GPU-${n}`, 'xid 63', eccMs + 900);
      health.gpus.set(`GPU-${n}`, { source: sources[n]!, figures: {}, eccMs });
      clock.ms += MINUTE_MS;
      await feed.round();
      await feed.round();
    }
    expect(patterns.counts).toMatchObject({ events: 20, coalesced: 0 });
    clock.ms += 24 * HOUR_MS;
    await patterns.evaluate();
    const sentences = patterns.patterns().map(({ sentence }) => sentence);
    expect(sentences).toContainEqual(
      expect.stringMatching(/follows ecc uncorrected within 5 s on 10 of 10 GPUs/),
    );
  });
});
