import { describe, expect, it } from 'vitest';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { type GroupMember, rollUp, WORST_GPUS } from '../../../aggregator/health/rollup.ts';
import { seededRandom } from '../../support/random.ts';

function gpu(score: number, state: HealthState = HealthState.HEALTHY, low = score): GroupMember {
  return { uuid: `GPU-${score}`, source: { node: 'n1' }, score, low, state };
}

const many = (count: number, one: GroupMember) => Array.from({ length: count }, () => one);
const dead = gpu(10, HealthState.CRITICAL);

describe('a node', () => {
  it('with one dead GPU of eight is dead: a job that gets it stands still', () => {
    const { score, states, contributions } = rollUp([...many(7, gpu(100)), dead], 'node');
    expect(score).toBeCloseTo(10, 5);
    expect(states).toEqual({ healthy: 7, degraded: 0, critical: 1, flapping: 0, unknown: 0 });
    expect(contributions).toMatchObject([
      { uuid: 'GPU-10', explanation: 'GPU GPU-10 of n1 has a score of 10' },
    ]);
  });

  it('of good GPUs is good, and is never better than its worst', () => {
    expect(rollUp(many(8, gpu(100)), 'node').score).toBe(100);
    expect(rollUp([gpu(90), gpu(100)], 'node').score).toBeCloseTo(90, 5);
    expect(rollUp(many(8, gpu(90)), 'node').score).toBeCloseTo(80, 5);
  });
});

describe('a fleet', () => {
  it('with one dead GPU of 10,000 is well, and is not without a blemish: nobody is woken, and it is named', () => {
    const { score, contributions } = rollUp([...many(9_999, gpu(100)), dead], 'pool');
    expect(score).toBeCloseTo(99.1, 1);
    expect(contributions).toHaveLength(1);
  });

  it.each([
    [0.01, 91],
    [0.1, 71.5],
    [0.5, 36.4],
    [1, 10],
  ])('with %d of it dead has a score of %d', (share, score) => {
    const bad = 1000 * share;
    expect(rollUp([...many(1000 - bad, gpu(100)), ...many(bad, dead)], 'pool').score).toBeCloseTo(score, 0);
  });

  it('of which nothing is known has no score: silence must not look like health', () => {
    const nothing = rollUp(many(3, gpu(100, HealthState.UNKNOWN)), 'pool');
    expect(nothing).toMatchObject({ score: undefined, low: undefined, coverage: 0 });
    expect(rollUp([], 'pool')).toMatchObject({ score: undefined, gpus: 0 });
  });

  it('says how low it could be where some of it is not known', () => {
    const { score, low, coverage } = rollUp(
      [...many(99, gpu(100, HealthState.HEALTHY, 90)), gpu(100, HealthState.UNKNOWN)],
      'pool',
    );
    expect(score).toBe(100);
    expect(coverage).toBeCloseTo(0.99);
    expect(low).toBeLessThan(90);
    expect(low).toBeGreaterThan(80);
  });
});

describe.each(['node', 'pool'] as const)('a %s', (kind) => {
  it('adds up exactly, whatever its GPUs are, and names the worst and no more', () => {
    const random = seededRandom(kind === 'node' ? 3 : 4);
    for (let round = 0; round < 500; round++) {
      const members = Array.from({ length: 1 + Math.floor(random() * 60) }, () =>
        gpu(random() < 0.5 ? 100 : Math.round(random() * 1e4) / 100),
      );
      const { score, contributions } = rollUp(members, kind);
      let points = 0;
      for (const one of contributions) points += one.points;
      expect(points).toBe(100 - score!);
      expect(contributions.length).toBeLessThanOrEqual(WORST_GPUS + 1);
      for (const one of contributions) expect(one.points).toBeGreaterThan(0);
    }
  });

  it('never gets better as one of its GPUs gets worse', () => {
    const random = seededRandom(9);
    for (let round = 0; round < 500; round++) {
      const scores = Array.from({ length: 8 }, () => random() * 100);
      const worse = scores.map((score, i) => (i === 3 ? score * random() : score));
      const [before, after] = [scores, worse].map(
        (all) =>
          rollUp(
            all.map((score) => gpu(score)),
            kind,
          ).score!,
      );
      expect(after).toBeLessThanOrEqual(before! + 1e-6);
    }
  });
});
