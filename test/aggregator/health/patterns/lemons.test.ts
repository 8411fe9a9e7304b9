import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { PatternEvent } from '../../../../aggregator/health/patterns/event-journal.ts';
import {
  isLemon,
  type LemonSignal,
  lemonScores,
  lemonWords,
} from '../../../../aggregator/health/patterns/lemons.ts';
import { atOnce } from '../../../../aggregator/health/work.ts';
import { sharedData } from '../../../support/data.ts';
import { seededRandom } from '../../../support/random.ts';

const DAY = 86_400_000;
const T0 = 1_760_000_000_000;

const happened = (node: string, what: LemonSignal, day: number): PatternEvent => ({
  ms: T0 + day * DAY,
  cluster: 'prod',
  node,
  gpu: '',
  code: what,
});
const signalOf = ({ code }: PatternEvent): LemonSignal => code as LemonSignal;

test('points halve in two weeks, a burst is one incident, and what is older than 28 days is forgotten', () => {
  const events = [
    happened('a', 'out', -29),
    happened('a', 'out', -14),
    happened('a', 'out', -14 + 0.001),
    happened('b', 'hardware_xid', 0),
  ];
  const scores = atOnce(lemonScores(events, signalOf, T0));
  expect(scores.map(({ node, score }) => [node, score])).toEqual([
    ['prod/a', 0.5],
    ['prod/b', 0.5],
  ]);
  expect(scores[0]!.reasons).toEqual([{ signal: 'out', count: 1, points: 0.5 }]);
});

test('a fault within a week after a repair is a repeat, said in words', () => {
  const events = [happened('a', 'out', -10), happened('a', 'repair', -8), happened('a', 'out', -3)];
  const [score] = atOnce(lemonScores(events, signalOf, T0));
  expect(score).toMatchObject({ repeats: 1, repairedMs: T0 - 8 * DAY });
  expect(isLemon(score!)).toBe(true);
  expect(lemonWords(score!)).toBe(
    'Node prod/a had 2 outages, 1 repair in 28 days; once within a week of a repair.',
  );
});

test('one bad day is no lemon', () => {
  const [score] = atOnce(lemonScores([happened('a', 'out', -1), happened('a', 'drain', -1)], signalOf, T0));
  expect(isLemon(score!)).toBe(false);
});

test('one kind counts five times at most: an endless stream of Xids does not outweigh everything', () => {
  const events = Array.from({ length: 500 }, (_, i) => happened('a', 'hardware_xid', -1 + i * 0.002));
  expect(atOnce(lemonScores(events, signalOf, T0))[0]!.score).toBeLessThanOrEqual(2.5);
});

interface TraceEvent {
  readonly node_id: string;
  readonly event_time: number;
  readonly event_type: 'fault_start' | 'fault_end';
}

const trace = sharedData('infinitehbd-gpu-faults/fault_trace.json.gz');

/**
 * 400 GPU servers over 348 days, real. Each week from day 60 on: the ten worst nodes that are not in repair, against
 * who faults in the next 7 days. Baselines: ten at random, and the ten with the most faults so far.
 */
describe.skipIf(trace === undefined)('on the public fault trace of 400 servers', () => {
  const raw =
    trace === undefined ? [] : (JSON.parse(gunzipSync(readFileSync(trace)).toString()) as TraceEvent[]);
  const events = raw.map((one) =>
    happened(one.node_id, one.event_type === 'fault_start' ? 'out' : 'repair', one.event_time),
  );
  const seen = [...new Set(raw.map((one) => one.node_id))];
  const nodes = [...seen, ...Array.from({ length: 400 - seen.length }, (_, i) => `never-${i}`)];

  function precision(score: (node: string, nowMs: number) => number): { hit: number; base: number } {
    const random = seededRandom(1);
    const sum = { named: 0, hit: 0, at: 0, faulted: 0 };
    for (let day = 60; day < 320; day += 7) {
      const now = T0 + day * DAY;
      const past = events.filter((one) => one.ms <= now);
      const newest = new Map(past.map((one) => [one.node, one.code]));
      const up = nodes.filter((node) => newest.get(node) !== 'out');
      const next = new Set(
        events
          .filter((one) => one.code === 'out' && one.ms > now && one.ms <= now + 7 * DAY)
          .map((one) => one.node),
      );
      const ranked = up
        .map((node) => ({ node, score: score(node, now), tie: random() }))
        .sort((a, b) => b.score - a.score || a.tie - b.tie);
      sum.named += 10;
      sum.hit += ranked.slice(0, 10).filter(({ node }) => next.has(node)).length;
      sum.at += up.length;
      sum.faulted += up.filter((node) => next.has(node)).length;
    }
    return { hit: sum.hit / sum.named, base: sum.faulted / sum.at };
  }

  // Lost without it: the list of offenders is no better than a draw, or than a tally sheet.
  test('the ten worst fault in the next week at least four times as often as ten at random', () => {
    const cache = new Map<number, Map<string, number>>();
    const scored = precision((node, now) => {
      let scores = cache.get(now);
      if (scores === undefined) {
        scores = new Map(atOnce(lemonScores(events, signalOf, now)).map((one) => [one.node, one.score]));
        cache.set(now, scores);
      }
      return scores.get(`prod/${node}`) ?? 0;
    });
    const tally = precision(
      (node, now) => events.filter((one) => one.node === node && one.code === 'out' && one.ms <= now).length,
    );
    const draw = precision(() => 0);
    console.log(
      `repeat offenders: of ten named, faulted within 7 days ${(scored.hit * 100).toFixed(1)} % (all nodes ${(scored.base * 100).toFixed(1)} %, at random ${(draw.hit * 100).toFixed(1)} %, by count alone ${(tally.hit * 100).toFixed(1)} %)`,
    );
    expect(scored.hit / scored.base).toBeGreaterThanOrEqual(4);
    expect(scored.hit).toBeGreaterThan(1.5 * tally.hit);
    expect(draw.hit / draw.base).toBeLessThan(2);
  });

  test('faults within a week of a repair are counted as the trace has them', () => {
    let repeats = 0;
    // Window by window: each fault after its repair is in one of them.
    for (let day = 28; day < 360; day += 28)
      for (const one of atOnce(lemonScores(events, signalOf, T0 + day * DAY))) repeats += one.repeats;
    expect(repeats).toBeGreaterThan(120);
    expect(repeats).toBeLessThan(180);
  });
});
