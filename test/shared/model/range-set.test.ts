import { expect, test } from 'vitest';
import { RangeSet } from '#shared/model/range-set.ts';
import { seededRandom } from '../../support/random.ts';

test('agrees with a plain set under random adds and deletes: an acknowledgement that is misplaced loses or repeats records', () => {
  const random = seededRandom(3);
  for (let round = 0; round < 200; round++) {
    const ranges = new RangeSet();
    const model = new Set<number>();
    for (let step = 0; step < 60; step++) {
      const first = Math.floor(random() * 60);
      const last = first + Math.floor(random() * 12) - 1;
      const adding = random() < 0.6;
      for (let value = first; value <= last; value++) adding ? model.add(value) : model.delete(value);
      adding ? ranges.add(first, last) : ranges.delete(first, last);
      expect(ranges.size).toBe(model.size);
      const wrong = Array.from({ length: 72 }, (_, value) => value).filter(
        (value) => ranges.has(value) !== model.has(value),
      );
      expect(wrong).toEqual([]);
      let missing = 5;
      while (model.has(missing)) missing++;
      expect(ranges.firstMissing(5)).toBe(missing);
      const gaps = ranges
        .gaps(3, 50)
        .flatMap(({ first, last }) => Array.from({ length: last - first + 1 }, (_, i) => first + i));
      expect(gaps).toEqual(Array.from({ length: 48 }, (_, i) => i + 3).filter((value) => !model.has(value)));
      const touching = ranges.ranges.filter(
        (range, i) => range.first > range.last || (i > 0 && range.first <= ranges.ranges[i - 1]!.last + 1),
      );
      expect(touching).toEqual([]);
    }
  }
});
