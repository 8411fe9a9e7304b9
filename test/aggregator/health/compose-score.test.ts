import { describe, expect, it } from 'vitest';
import { HealthDimension } from '#proto/gpufleet/health/v1/health_pb.ts';
import { badness } from '../../../aggregator/health/badness.ts';
import { type Complaint, composeScore, type ScoreCap } from '../../../aggregator/health/compose-score.ts';
import { seededRandom } from '../../support/random.ts';

const { MEMORY, THERMAL, POWER, PERFORMANCE, RELIABILITY } = HealthDimension;
const DIMENSIONS = [MEMORY, THERMAL, POWER, PERFORMANCE, RELIABILITY] as const;

function complaint(dimension: HealthDimension, weight: number, u: number, signal = 's'): Complaint {
  return { dimension, signal, value: 1, threshold: 0, badness: u, weight, explanation: '' };
}

function cap(score: number): ScoreCap {
  return { dimension: MEMORY, signal: 'cap', value: 1, threshold: 0, score, explanation: '' };
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
    expect(score).toBeCloseTo(48.7834, 2);
    const points = Object.fromEntries(contributions.map((one) => [one.signal, one.points]));
    expect(points.margin).toBeCloseTo(1.8522, 2);
    expect(points.hbm).toBeCloseTo(23.53, 2);
    expect(points.ecc).toBeCloseTo(15.9222, 2);
    expect(points.clock).toBeCloseTo(9.9122, 2);
  });

  it('plus its points is 100, exactly, whatever is wrong: an explanation that does not add up explains nothing', () => {
    const random = seededRandom(11);
    for (let round = 0; round < 20_000; round++) {
      const complaints = Array.from({ length: Math.floor(random() * 12) }, () =>
        complaint(DIMENSIONS[Math.floor(random() * 5)]!, random(), random() < 0.2 ? 1 : random() ** 3 + 1e-9),
      );
      const caps = Array.from({ length: Math.floor(random() * 3) }, () => cap(Math.floor(random() * 101)));
      const { score, contributions } = composeScore(complaints, caps);
      expect(sum(contributions.map((one) => one.points))).toBe(100 - score);
      expect(score).toBeGreaterThanOrEqual(0);
      for (const one of caps) expect(score).toBeLessThanOrEqual(one.score + 1 / 1024);
      for (const { points } of contributions) expect(points).toBeGreaterThan(0);
    }
  });

  it('never rises as a signal gets worse', () => {
    const random = seededRandom(12);
    for (let round = 0; round < 5_000; round++) {
      const complaints = Array.from({ length: 1 + Math.floor(random() * 8) }, () =>
        complaint(DIMENSIONS[Math.floor(random() * 5)]!, random(), random()),
      );
      const at = Math.floor(random() * complaints.length);
      const worse = complaints.map((one, index) =>
        index === at ? { ...one, badness: one.badness + (1 - one.badness) * random() } : one,
      );
      // Each line is rounded to 1/1024 of a point.
      const slack = (complaints.length + 1) / 1024;
      expect(composeScore(worse, []).score).toBeLessThanOrEqual(composeScore(complaints, []).score + slack);
    }
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
