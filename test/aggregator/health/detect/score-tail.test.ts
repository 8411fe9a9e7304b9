import { describe, expect, it } from 'vitest';
import { LastingScores } from '../../../../aggregator/health/detect/lasting-score.ts';
import { ScoreTail } from '../../../../aggregator/health/detect/score-tail.ts';
import { seededRandom } from '../../../support/random.ts';

// The budget of false alarms rests on this: a threshold that is too low floods an operator, one too high finds nothing.
describe('threshold from the tail', () => {
  it('is passed as often as asked for by exponential scores, far beyond what was seen', () => {
    const random = seededRandom(12);
    const tail = new ScoreTail(random);
    for (let i = 0; i < 20_000; i++) tail.add(-Math.log(1 - random()));
    expect(tail.threshold(1e-3)).toBeCloseTo(-Math.log(1e-3), -0.5);
    expect(tail.threshold(1e-6) / -Math.log(1e-6)).toBeGreaterThan(0.75);
    expect(tail.threshold(1e-6) / -Math.log(1e-6)).toBeLessThan(1.25);
  });

  it('is out of reach until a thousand scores were seen; NaN is none', () => {
    const tail = new ScoreTail(seededRandom(1));
    for (let i = 0; i < 999; i++) tail.add(i);
    tail.add(Number.NaN);
    expect(tail.threshold(0.01)).toBe(Number.POSITIVE_INFINITY);
    tail.add(1);
    expect(tail.threshold(0.01)).toBeLessThan(2000);
  });

  it('follows scores that changed', () => {
    const random = seededRandom(2);
    const tail = new ScoreTail(random);
    for (let i = 0; i < 5000; i++) tail.add(random());
    const before = tail.threshold(1e-3);
    for (let i = 0; i < 40_000; i++) tail.add(10 * random());
    expect(tail.threshold(1e-3)).toBeGreaterThan(5 * before);
  });
});

describe('scores that last', () => {
  it('are the least of the last rows, once there are enough, and begin anew after a gap', () => {
    const lasting = new LastingScores(2, 3);
    expect([5, 9, 7, 8, 6].map((score) => lasting.push(1, score))).toEqual([Number.NaN, Number.NaN, 5, 7, 6]);
    lasting.push(1, Number.NaN);
    expect(lasting.push(1, 9)).toBeNaN();
    expect(lasting.push(0, 9)).toBeNaN();
  });
});
