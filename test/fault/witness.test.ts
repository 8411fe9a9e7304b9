import { expect, test } from 'vitest';
import { mutate } from './mutations.ts';
import { dictionaryOf, GROUPS, sampleAt, tickNumber } from './oracle-source.ts';
import { parseExportLine } from './real-store.ts';
import { parseWitness } from './witness.ts';

// Lost without these: the oracle compares with something else than what was recorded, or with nothing.

test('a tick is recorded once its line says so; a line that a kill cut off never was', () => {
  const text =
    '["produced","fast",1,100,null]\n["produced","slow",1,101,"e"]\n["recorded","fast",1,99]\n' +
    '["produced","fast",2,200,null]\n["forgotten","fast",2]\n["recorded","slow"';
  const node = 'oracle-0';
  expect(parseWitness(node, text)).toEqual([
    { node, group: 'fast', n: 1, beganMs: 100, timestampMs: 99, event: undefined },
    { node, group: 'slow', n: 1, beganMs: 101, timestampMs: undefined, event: 'e' },
    { node, group: 'fast', n: 2, beganMs: 200, timestampMs: undefined, event: undefined, forgotten: true },
  ]);
});

test('the source has every shape that the wire treats differently', () => {
  for (const { name } of GROUPS) {
    const values = Array.from({ length: 200 }, (_, count) => tickNumber(1, count + 1)).flatMap((n) =>
      dictionaryOf(name, n).slots.map((slot) => sampleAt(1, 'oracle-0', name, slot, n)),
    );
    const holds = (what: (value: number | undefined) => boolean): boolean => values.some(what);
    expect(holds((value) => value === undefined)).toBe(true);
    expect(holds((value) => value === Number.POSITIVE_INFINITY)).toBe(true);
    expect(holds((value) => value === Number.NEGATIVE_INFINITY)).toBe(true);
    expect(holds((value) => value !== undefined && value > 1e279 && Number.isFinite(value))).toBe(true);
    expect(holds((value) => value !== undefined && value < 0 && !Number.isInteger(value))).toBe(true);
    expect(holds(Number.isNaN as (value: number | undefined) => boolean)).toBe(false);
  }
});

test('what the store writes beside JSON is read: infinities, and null for the marker of an ended series', () => {
  const line =
    '{"metric":{"__name__":"a","b":"null +Inf"},"values":[1.5,+Inf,-Inf,null,NaN,2e+280],"timestamps":[1,2,3,4,5,6]}';
  expect(parseExportLine(line)).toEqual({
    metric: { __name__: 'a', b: 'null +Inf' },
    values: [1.5, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN, Number.NaN, 2e280],
    timestamps: [1, 2, 3, 4, 5, 6],
  });
});

test('a mutation whose text is not there, or there twice, is refused', () => {
  const mutation = { file: 'a.ts', search: 'x', replace: 'y' };
  expect(mutate('a x b', mutation)).toBe('a y b');
  expect(() => mutate('a b', mutation)).toThrow('Cannot mutate a.ts: "x" is there 0 times');
  expect(() => mutate('x x', mutation)).toThrow('2 times');
});
