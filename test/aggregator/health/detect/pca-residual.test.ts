import { describe, expect, it } from 'vitest';
import { symmetricEigen } from '../../../../aggregator/health/detect/pca-eigen.ts';
import { PcaResidual } from '../../../../aggregator/health/detect/pca-residual.ts';
import { seededRandom } from '../../../support/random.ts';

/** Three columns that follow one load, with a little noise of their own. */
function rowsOf(count: number, random: () => number): Float64Array {
  const rows = new Float64Array(count * 3);
  for (let row = 0; row < count; row++) {
    const load = 100 + 500 * random();
    rows[row * 3] = load;
    rows[row * 3 + 1] = 25 + 0.06 * load + random();
    rows[row * 3 + 2] = 1000 + load + 10 * random();
  }
  return rows;
}

describe('eigenvectors', () => {
  it('rebuild the matrix, largest value first', () => {
    const matrix = [4, 1, -2, 1, 3, 0.5, -2, 0.5, 6];
    const { values, vectors } = symmetricEigen(Float64Array.from(matrix), 3);
    expect(values[0]!).toBeGreaterThan(values[1]!);
    expect(values[1]!).toBeGreaterThan(values[2]!);
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 3; j++) {
        let sum = 0;
        for (let k = 0; k < 3; k++) sum += values[k]! * vectors[k * 3 + i]! * vectors[k * 3 + j]!;
        expect(sum).toBeCloseTo(matrix[i * 3 + j]!, 9);
      }
    }
  });
});

// What is lost without it: 50 degrees is fine and 150 W is fine, but 50 degrees at 150 W is a heat sink that came loose.
describe('PCA residual', () => {
  it('sees a row whose columns do not go together, each of them in its usual range, and says which', () => {
    const pca = new PcaResidual(3);
    pca.fit(rowsOf(2000, seededRandom(4)), 3);
    expect(pca.components).toBe(1);
    const usual = pca.score(Float64Array.of(300, 43.5, 1305));
    const usualQ = pca.q;
    const odd = pca.score(Float64Array.of(200, 55, 1205));
    expect(odd).toBeGreaterThan(20 * usual);
    expect(pca.q).toBeGreaterThan(100 * usualQ);
    expect(pca.worst).toBe(1);
  });

  it('tells a row that is far out in the usual direction by T2 instead', () => {
    const pca = new PcaResidual(3);
    pca.fit(rowsOf(2000, seededRandom(4)), 3);
    pca.score(Float64Array.of(2500, 175.5, 3505));
    expect(pca.t2).toBeGreaterThan(50);
    expect(pca.q / pca.t2).toBeLessThan(0.1);
  });

  it('follows a fleet that changes, and forgets what was before', () => {
    const random = seededRandom(8);
    const pca = new PcaResidual(3, { halfLifeRows: 200 });
    pca.fit(rowsOf(1000, random), 3);
    const moved = rowsOf(3000, random).map((value, i) => (i % 3 === 1 ? value + 15 : value));
    const row = moved.slice(0, 3);
    const before = pca.score(row);
    pca.fit(moved, 3);
    expect(pca.score(row)).toBeLessThan(before / 10);
  });

  it('says nothing before it was fitted or of a row with a gap, which it does not learn from', () => {
    const pca = new PcaResidual(3);
    const row = Float64Array.of(300, 43.5, 1305);
    expect(pca.score(row)).toBeNaN();
    pca.fit(rowsOf(100, seededRandom(4)), 3);
    const before = pca.score(row);
    pca.learn(Float64Array.of(Number.NaN, 1, 1));
    pca.refresh();
    expect(pca.score(row)).toBe(before);
    expect(pca.score(Float64Array.of(1, Number.NaN, 1))).toBeNaN();
  });

  it('makes no news of a hair on a column that never moved', () => {
    const pca = new PcaResidual(2, { leastScale: 1 });
    const rows = new Float64Array(200);
    for (let i = 0; i < 200; i += 2) rows[i] = 10 * Math.sin(i);
    pca.fit(rows, 2);
    expect(pca.score(Float64Array.of(0, 0.1))).toBeLessThan(1);
  });
});
