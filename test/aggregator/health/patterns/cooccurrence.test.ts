import { expect, test } from 'vitest';
import {
  byGpu,
  type Cooccurrence,
  CooccurrenceCount,
} from '../../../../aggregator/health/patterns/cooccurrence.ts';
import type { PatternEvent } from '../../../../aggregator/health/patterns/event-journal.ts';
import { atOnce } from '../../../../aggregator/health/work.ts';
import { seededRandom } from '../../../support/random.ts';

const DAY = 86_400_000;
const MONTH = 30 * DAY;
const fleet = { unitsWatched: 1000, watchedMs: MONTH };

const event = (unit: number, code: string, ms: number): PatternEvent => ({
  ms,
  cluster: 'prod',
  node: `n${unit >> 3}`,
  gpu: `GPU-${unit}`,
  code,
});
function cooccurrences(events: PatternEvent[], watched: typeof fleet): Cooccurrence[] {
  const count = new CooccurrenceCount();
  for (const unit of atOnce(byGpu(events))) count.add(unit);
  return atOnce(count.found(watched));
}
const ordered = (events: PatternEvent[]): PatternEvent[] => events.sort((a, b) => a.ms - b.ms);

test('a double-bit error that is followed by a remap within seconds on 9 of 12 GPUs', () => {
  const events: PatternEvent[] = [];
  for (let unit = 0; unit < 12; unit++) {
    events.push(event(unit, 'xid 48', unit * DAY));
    if (unit < 9) events.push(event(unit, 'xid 63', unit * DAY + 1500));
  }
  const [found, ...others] = cooccurrences(ordered(events), fleet);
  expect(others).toEqual([]);
  expect(found).toMatchObject({ first: 'xid 48', second: 'xid 63', windowMs: 5000, units: 12, followed: 9 });
  expect(found!.probability).toBe(0.75);
  // Wilson's interval of 9 in 12, by scipy.
  expect(found!.interval.low).toBeCloseTo(0.4677, 4);
  expect(found!.interval.high).toBeCloseTo(0.9111, 4);
  // 9 days with the second among 30,000 days of GPUs, one window of 5 s.
  expect(found!.chance).toBeCloseTo(1 - Math.exp((-9 / 30_000) * (5 / 86_400)), 12);
});

// Lost without it: Summit's one node with 97 % of all NVLink errors makes a law for 27,000 GPUs.
test('one GPU that repeats a pair a thousand times is one GPU', () => {
  const events: PatternEvent[] = [];
  for (let i = 0; i < 1000; i++) {
    events.push(event(0, 'xid 74', i * 2_000_000), event(0, 'xid 45', i * 2_000_000 + 1000));
  }
  expect(cooccurrences(ordered(events), fleet)).toEqual([]);
});

test('what follows within the hour but not within seconds is said of the hour', () => {
  const events: PatternEvent[] = [];
  for (let unit = 0; unit < 10; unit++)
    events.push(event(unit, 'xid 119', unit * DAY), event(unit, 'xid 79', unit * DAY + 1_200_000));
  expect(cooccurrences(ordered(events), fleet)).toMatchObject([
    { first: 'xid 119', second: 'xid 79', windowMs: 3_600_000, followed: 10, reversed: 0 },
  ]);
});

// Lost without it: two frequent errors "cause" each other.
test('independent errors, frequent ones too, are not paired', () => {
  const random = seededRandom(3);
  let claims = 0;
  for (let fleetNumber = 0; fleetNumber < 20; fleetNumber++) {
    const events: PatternEvent[] = [];
    for (let i = 0; i < 4000; i++)
      events.push(
        event(Math.floor(random() * 1000), `xid ${Math.floor(random() * 6) + 1}`, random() * MONTH),
      );
    claims += cooccurrences(ordered(events), fleet).length;
  }
  expect(claims).toBe(0);
});

test('a source that makes up codes does not fill the memory', () => {
  const events: PatternEvent[] = [];
  for (let i = 0; i < 3000; i++) events.push(event(i % 3, `made up ${i}`, i * 100));
  const begin = process.memoryUsage().heapUsed;
  expect(cooccurrences(events, fleet)).toEqual([]);
  expect(process.memoryUsage().heapUsed - begin).toBeLessThan(200e6);
});
