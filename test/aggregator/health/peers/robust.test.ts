import { describe, expect, it } from 'vitest';
import { meanDistances, medianOf, robustScale } from '../../../../aggregator/health/peers/robust.ts';
import { seededRandom } from '../../../support/random.ts';

// All peers are judged by these; a wrong one shifts every z.
describe('robust statistics', () => {
  it('median and scale of a known sample', () => {
    expect(medianOf(Float64Array.of(5, 1, 9, 3), 4)).toBe(4);
    expect(medianOf(Float64Array.of(5, 1, 9, 100), 3)).toBe(5);
    expect(medianOf(new Float64Array(4), 0)).toBeNaN();
    expect(robustScale(Float64Array.of(1, 2, 3, 4, 100), 5, 3)).toBeCloseTo(1.4826, 6);
  });

  it('mean distances are those of all pairs', () => {
    const random = seededRandom(11);
    const values = Float64Array.from({ length: 40 }, () => Math.floor(random() * 20));
    const out = new Float64Array(40);
    meanDistances(values, 40, new Uint32Array(40), out);
    for (let i = 0; i < 40; i++) {
      let sum = 0;
      for (const other of values) sum += Math.abs(values[i]! - other);
      expect(out[i]).toBeCloseTo(sum / 39, 9);
    }
  });
});
