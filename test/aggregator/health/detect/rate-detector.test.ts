import { describe, expect, it } from 'vitest';
import { RateDetector } from '../../../../aggregator/health/detect/rate-detector.ts';
import { seededRandom } from '../../../support/random.ts';

const DAY_MS = 86_400_000;
const CORRECTED = { quantum: 1, perDay: 1 / 14, least: 3 };
/** Nats: what the default budget comes to. */
const THRESHOLD = 8.6;

/** A counter over days, a sample a minute: strengths of all samples, the highest of the last day apart. */
function run(days: number, eventsOn: (day: number) => number) {
  const detector = new RateDetector(1);
  detector.begin(0, CORRECTED);
  const random = seededRandom(5);
  let count = 0;
  let before = 0;
  let last = 0;
  for (let minute = 0; minute < days * 1440; minute++) {
    const day = Math.floor(minute / 1440);
    if (random() < eventsOn(day) / 1440) count++;
    const strength = detector.step(0, count, minute * 60_000, 60, THRESHOLD);
    if (day === days - 1) last = Math.max(last, strength);
    else if (day >= 10) before = Math.max(before, strength);
  }
  return { before, last };
}

describe('a counter that counts faster', () => {
  it('is news with three errors a day on a GPU that never had any', () => {
    const detector = new RateDetector(1);
    detector.begin(0, CORRECTED);
    const at = (day: number, value: number) => detector.step(0, value, day * DAY_MS, 60, THRESHOLD);
    at(0, 7);
    at(28, 8);
    at(28.1, 9);
    expect(at(28.2, 10)).toBeGreaterThan(1);
  });

  it('is no news with 300 a day on a GPU that always has them, and 14 times as many as always are', () => {
    const steady = run(21, () => 300);
    expect(steady.before).toBeLessThan(1);
    expect(steady.last).toBeLessThan(1);
    expect(run(21, (day) => (day === 20 ? 1400 : 100)).last).toBeGreaterThan(1);
  });

  it('is a restart when it falls: no rate, no alarm', () => {
    const detector = new RateDetector(1);
    detector.begin(0, CORRECTED);
    expect(detector.step(0, 5000, 0, 60, THRESHOLD)).toBe(0);
    expect(detector.step(0, 0, 60_000, 60, THRESHOLD)).toBe(0);
    expect(detector.step(0, 1, 120_000, 60, THRESHOLD)).toBe(0);
  });
});
