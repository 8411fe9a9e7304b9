import { describe, expect, it } from 'vitest';
import type { Source } from '#shared/model/block.ts';
import type { Labels } from '#shared/model/dictionary.ts';
import { PatternBook } from '../../aggregator/health/patterns/pattern-book.ts';
import { RoomFeed } from '../../aggregator/room-feed.ts';
import { blockOf, dictionaryOf, ManualClock, START_MS, series } from './alerts/block-of.ts';

const HOUR_MS = 3_600_000;
const named = (label: string, value: string): Labels => [[label, value]];

/** Four nodes in two racks, and one that stands nowhere. */
const SOURCES = ['r1', 'r1', 'r2', 'r2', ''].map(
  (rack, n): Source => ({
    ...{ cluster: 'prod', node: `n${n}` },
    externalLabels: rack === '' ? [] : [['rack', rack]],
  }),
);

const IPMI = dictionaryOf([
  series('ipmi_temperature_celsius', named('name', 'Inlet Temp')),
  series('ipmi_temperature_celsius', named('name', 'Exhaust Temp')),
  series('ipmi_dcmi_power_consumption_watts', []),
  series('ipmi_dcmi_power_consumption_current_watts', []),
]);
const REDFISH = dictionaryOf([
  series('redfish_chassis_temperature_celsius', named('sensor', '01-Inlet Ambient')),
  series('redfish_chassis_temperature_celsius', named('sensor', 'CPU1 Temp')),
]);
const OTHER = dictionaryOf([series('gpu_temperature_celsius', named('name', 'Inlet Temp'))]);

function open(maxNodes?: number) {
  const offered: [room: string, what: string, value: number][] = [];
  const feed = new RoomFeed({
    patterns: { roomFigure: (room, what, value) => void offered.push([room, what, value]) },
    rackOf: ({ externalLabels }) => externalLabels[0]?.[1],
    ...(maxNodes !== undefined && { maxNodes }),
  });
  return { feed, offered };
}

describe('what BMCs say of a room', () => {
  it('is, by rack, the mean at the inlets and the power of all its chassis', () => {
    const { feed, offered } = open();
    for (const [n, source] of SOURCES.entries())
      feed.evaluate(blockOf(IPMI, START_MS, [20 + n, 45, 5000, 5000 + n], { source }));
    feed.round(START_MS);
    expect(offered).toEqual([
      ['rack r1', 'inlet', 20.5],
      ['rack r1', 'power', 10.001],
      ['rack r2', 'inlet', 22.5],
      ['rack r2', 'power', 10.005],
    ]);
  });

  it('is read of other exporters too, and of nothing else', () => {
    const { feed, offered } = open();
    feed.evaluate(blockOf(REDFISH, START_MS, [24, 60], { source: SOURCES[0]! }));
    feed.evaluate(blockOf(OTHER, START_MS, [70], { source: SOURCES[2]! }));
    feed.round(START_MS);
    expect(offered).toEqual([['rack r1', 'inlet', 24]]);
  });

  it('is of now: nothing of nodes that are silent for ten minutes, of backlog, or of absent sensors', () => {
    const { feed, offered } = open();
    const absent = [undefined, undefined, undefined, undefined];
    feed.evaluate(blockOf(IPMI, START_MS, [20, 45, 5000, 5000], { source: SOURCES[0]! }));
    feed.evaluate(blockOf(IPMI, START_MS, [20, 45, 5000, 5000], { source: SOURCES[2]!, live: false }));
    feed.evaluate(blockOf(IPMI, START_MS, absent, { source: SOURCES[3]! }));
    feed.round(START_MS + 600_000);
    expect(offered.map(([room]) => room)).toEqual(['rack r1', 'rack r1']);
    feed.round(START_MS + 600_001);
    expect(offered).toHaveLength(2);
  });

  it('is of so many nodes and no more', () => {
    const { feed, offered } = open(1);
    for (const source of SOURCES) feed.evaluate(blockOf(REDFISH, START_MS, [24, 60], { source }));
    feed.round(START_MS);
    expect(offered).toHaveLength(1);
  });

  // Lost without it: the evening in which the air gets warm every day is seen by nobody until something trips.
  it('is a sentence where a rack swings with the time of day', async () => {
    const clock = new ManualClock();
    const gpus = { gpusOf: () => 8, gpusWatched: () => 8 };
    const patterns = new PatternBook({ clock, nodes: () => [], ...gpus });
    const feed = new RoomFeed({ patterns, rackOf: () => 'r1' });
    for (let hour = 0; hour < 30 * 24; hour++) {
      clock.ms = START_MS + hour * HOUR_MS;
      const inlet = 22 + 3 * Math.cos((2 * Math.PI * (hour - 16)) / 24) + 0.1 * ((hour * 7) % 5);
      feed.evaluate(blockOf(REDFISH, clock.ms, [inlet, 60], { source: SOURCES[0]! }));
      feed.round(clock.ms);
    }
    await patterns.evaluate();
    const sentences = patterns.patterns().map(({ sentence }) => sentence);
    expect(sentences).toEqual([
      expect.stringMatching(/^Inlet temperature of rack r1 swings by ±3(\.\d+)? °C .*peaks around 16:/),
    ]);
  });
});
