import { describe, expect, it } from 'vitest';
import { IsolationForest } from '../../../../aggregator/health/detect/isolation-forest.ts';
import { seededRandom } from '../../../support/random.ts';

const COLUMNS = 8;

/** Rows around 0 with a width of 1, or, for odd ones, 4 away in half of the columns. */
function toyRows(count: number, random: () => number, odd = false): Float64Array {
  return Float64Array.from({ length: count * COLUMNS }, (_, i) => {
    const noise = random() + random() + random() + random() - 2;
    return noise + (odd && i % 2 === 0 ? 4 : 0);
  });
}

function scores(forest: IsolationForest, rows: Float64Array): number[] {
  return Array.from({ length: rows.length / COLUMNS }, (_, i) => forest.score(rows, i * COLUMNS));
}

/** Share of pairs in which the odd one scores higher. */
function areaUnderCurve(usual: readonly number[], odd: readonly number[]): number {
  let won = 0;
  for (const high of odd) for (const low of usual) won += high > low ? 1 : high === low ? 0.5 : 0;
  return won / (usual.length * odd.length);
}

// Whoever switches the forest on relies on it to tell rows that few others are like.
describe('isolation forest', () => {
  it('tells odd rows from usual ones that it was not fitted to: area under the curve above 0.99', () => {
    const random = seededRandom(5);
    const forest = new IsolationForest({ random });
    forest.fit(toyRows(2000, random), COLUMNS);
    const usual = scores(forest, toyRows(500, random));
    const odd = scores(forest, toyRows(50, random, true));
    expect(areaUnderCurve(usual, odd)).toBeGreaterThan(0.99);
  });

  it('also where the odd ones are among the rows it was fitted to, and not for rows of one kind', () => {
    const random = seededRandom(6);
    const odd = toyRows(20, random, true);
    const usual = toyRows(1000, random);
    const both = new Float64Array(odd.length + usual.length);
    both.set(odd);
    both.set(usual, odd.length);
    const forest = new IsolationForest({ random });
    forest.fit(both, COLUMNS);
    expect(areaUnderCurve(scores(forest, usual), scores(forest, odd))).toBeGreaterThan(0.97);
    const same = areaUnderCurve(scores(forest, toyRows(300, random)), scores(forest, toyRows(300, random)));
    expect(Math.abs(same - 0.5)).toBeLessThan(0.06);
  });

  it('gives the same scores for the same seed', () => {
    const fitted = () => {
      const random = seededRandom(9);
      const forest = new IsolationForest({ random });
      forest.fit(toyRows(600, random), COLUMNS);
      return scores(forest, toyRows(20, seededRandom(1)));
    };
    expect(fitted()).toEqual(fitted());
  });

  it('stands rows that are all alike, and says nothing before it has rows', () => {
    const forest = new IsolationForest({ random: seededRandom(2) });
    expect(forest.score(new Float64Array(COLUMNS))).toBeNaN();
    forest.fit(new Float64Array(COLUMNS), COLUMNS);
    expect(forest.fitted).toBe(false);
    forest.fit(new Float64Array(500 * COLUMNS).fill(3), COLUMNS);
    expect(forest.score(new Float64Array(COLUMNS).fill(3))).toBeCloseTo(0.5, 6);
  });
});
