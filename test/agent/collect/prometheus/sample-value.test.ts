import { describe, expect, test } from 'vitest';
import {
  parseValue,
  printedDecimals,
  readDecimal,
} from '../../../../agent/collect/prometheus/sample-value.ts';
import { seededRandom } from '../../../support/random.ts';

function fast(token: string, end = '\n'): number | undefined {
  const body = Buffer.from(`x ${token}${end}`);
  const values = new Float64Array(1);
  const stop = readDecimal(body, 2, values, 0);
  if (stop === -1) return undefined;
  expect(stop).toBe(body.length - (end.endsWith('\n') ? 1 : 0));
  return values[0];
}

// Lost without it: the last digits of a counter, differently on the two ways of reading it.
test('the fast way reads the same float64 as Number() on any plain decimal', () => {
  const random = seededRandom(7);
  for (let i = 0; i < 20_000; i++) {
    const digits = Math.floor(random() * 10 ** (1 + Math.floor(random() * 15))).toString();
    const point = Math.floor(random() * (digits.length + 1));
    const sign = random() < 0.2 ? '-' : '';
    const token = sign + (random() < 0.7 ? `${digits.slice(0, point)}.${digits.slice(point)}` : digits);
    const value = fast(token);
    if (value === undefined) expect(token, 'too long, or only a point').toMatch(/\d{16}|^-?\.?$/);
    else expect(value, token).toBe(Number(token));
  }
});

describe('the fast way leaves alone', () => {
  test.each(['', '-', '.', '-.', '1e5', 'NaN', '+Inf', '1 2', '0x10', '1.2.3', '9223372036854775794', '12a'])(
    '"%s"',
    (token) => {
      expect(fast(token)).toBeUndefined();
    },
  );
});

test.each(['\n', '\r\n', ''])('a number ends at %j', (end) => {
  expect(fast('67.433000', end)).toBe(67.433);
});

// Lost without it: infinities of a histogram, or a word taken for a number.
test.each([
  ['1', 1],
  ['-1.5', -1.5],
  ['+3', 3],
  ['.5', 0.5],
  ['5.', 5],
  ['9.223372036854776e+18', 2 ** 63],
  ['1E-3', 0.001],
  ['NaN', Number.NaN],
  ['nan', Number.NaN],
  ['+Inf', Number.POSITIVE_INFINITY],
  ['-Inf', Number.NEGATIVE_INFINITY],
  ['inf', Number.POSITIVE_INFINITY],
  ['', undefined],
  ['.', undefined],
  ['0x10', undefined],
  ['1_000', undefined],
  ['1,5', undefined],
  ['constructor', undefined],
  ['--1', undefined],
])('"%s" is %s', (token, value) => {
  expect(parseValue(token)).toEqual(value);
});

test.each([
  ['97', 0],
  ['67.433000', 6],
  ['1.5e-05', 6],
  ['9.2e+18', 0],
  ['0.123456789012', 9],
  ['NaN', 0],
  ['1e-400', 9],
])('%s was printed with %d decimals', (token, decimals) => {
  expect(printedDecimals(token, 9)).toBe(decimals);
});
