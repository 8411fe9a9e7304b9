import { describe, expect, it } from 'vitest';
import { HealthDimension } from '#proto/gpufleet/health/v1/health_pb.ts';
import { badness } from '../../../aggregator/health/badness.ts';
import { type Complaint, composeScore, type ScoreCap } from '../../../aggregator/health/compose-score.ts';
import { seededRandom } from '../../support/random.ts';

const { MEMORY, THERMAL, POWER, PERFORMANCE, RELIABILITY } = HealthDimension;
const DIMENSIONS = [MEMORY, THERMAL, POWER, PERFORMANCE, RELIABILITY] as const;

function complaint(dimension: HealthDimension, weight: number, u: number, signal = 's'): Complaint {
  return { dimension, signal, value: 1, threshold: 0, badness: u, weight, source: 'test', explanation: '' };
}

function cap(score: number): ScoreCap {
  return { dimension: MEMORY, signal: 'cap', value: 1, threshold: 0, score, source: 'test', explanation: '' };
}

const sum = (points: readonly number[]) => points.reduce((total, one) => total + one, 0);

describe('badness', () => {
  it('is linear between the breakpoints, upwards or downwards', () => {
    expect([0, 10, 15, 20, 30, 40, 99].map((value) => badness(value, [10, 20, 30, 40]))).toEqual([
      0, 0, 0.15, 0.3, 0.7, 1, 1,
    ]);
    expect([20, 15, 8, 3, 0, -5].map((value) => badness(value, [15, 8, 3, 0]))).toEqual([
      0, 0, 0.3, 0.7, 1, 1,
    ]);
  });

  it('never falls as a value gets worse', () => {
    let before = 0;
    for (let value = -1; value < 25; value += 0.01) {
      const now = badness(value, [0, 0.5, 5, 20]);
      expect(now).toBeGreaterThanOrEqual(before);
      before = now;
    }
  });
});

describe('the score', () => {
  it('of a GPU without a complaint is 100', () => {
    expect(composeScore([], [])).toEqual({ score: 100, contributions: [] });
  });

  it('of the worked example is what was computed by hand', () => {
    const { score, contributions } = composeScore(
      [
        complaint(THERMAL, 0.5, 0.3, 'margin'),
        complaint(THERMAL, 0.5, 0.7, 'hbm'),
        complaint(MEMORY, 0.4, 0.5, 'ecc'),
        complaint(PERFORMANCE, 0.6, 0.3, 'clock'),
      ],
      [],
    );
    expect(score).toBeCloseTo(48.7834, 4);
    const points = Object.fromEntries(contributions.map((one) => [one.signal, one.points]));
    expect(points.margin).toBeCloseTo(1.8522, 4);
    expect(points.hbm).toBeCloseTo(23.53, 4);
    expect(points.ecc).toBeCloseTo(15.9222, 4);
    expect(points.clock).toBeCloseTo(9.9122, 4);
  });

  it('plus its points is 100, exactly, whatever is wrong: an explanation that does not add up explains nothing', () => {
    const random = seededRandom(11);
    for (let round = 0; round < 20_000; round++) {
      const complaints = Array.from({ length: Math.floor(random() * 12) }, () =>
        complaint(DIMENSIONS[Math.floor(random() * 5)]!, random(), random() < 0.2 ? 1 : random() ** 3 + 1e-9),
      );
      const caps = Array.from({ length: Math.floor(random() * 3) }, () => cap(Math.floor(random() * 101)));
      const { score, contributions } = composeScore(complaints, caps);
      const ok =
        sum(contributions.map((one) => one.points)) === 100 - score &&
        score >= 0 &&
        caps.every((one) => score <= one.score) &&
        contributions.every(({ points }) => points > 0);
      if (!ok) expect.fail(JSON.stringify({ complaints, caps, score, contributions }));
    }
  });

  it('never rises as a signal gets worse', () => {
    const random = seededRandom(12);
    for (let round = 0; round < 20_000; round++) {
      const complaints = Array.from({ length: 1 + Math.floor(random() * 8) }, () =>
        complaint(DIMENSIONS[Math.floor(random() * 5)]!, random(), random()),
      );
      const at = Math.floor(random() * complaints.length);
      const worse = complaints.map((one, index) =>
        index === at ? { ...one, badness: one.badness + (1 - one.badness) * random() } : one,
      );
      const before = composeScore(complaints, []).score;
      const after = composeScore(worse, []).score;
      // One step of the rounding.
      if (after > before + 2 ** -20) expect.fail(JSON.stringify({ complaints, worse, before, after }));
    }
  });

  it('does not call a GPU fine whose cooling is dying: a weighted mean of these five dimensions is 80.8', () => {
    const of = (dimension: HealthDimension, score: number) => complaint(dimension, 1, 1 - score / 100);
    const { score } = composeScore(
      [of(THERMAL, 36.2), of(MEMORY, 100), of(PERFORMANCE, 97.8), of(POWER, 85), of(RELIABILITY, 94.2)],
      [],
    );
    expect(score).toBeCloseTo(37.3, 1);
  });

  it('of one dead dimension is low though all others are fine: a mean would hide it', () => {
    expect(composeScore([complaint(MEMORY, 1, 1)], []).score).toBeLessThan(1);
  });

  it('is held by the lowest cap, which is a line of its own', () => {
    const { score, contributions } = composeScore([complaint(POWER, 0.5, 0.1)], [cap(60), cap(10)]);
    expect(score).toBe(10);
    expect(contributions[0]).toMatchObject({ signal: 'cap' });
    expect(composeScore([complaint(MEMORY, 1, 1)], [cap(60)]).contributions).toHaveLength(1);
  });
});
