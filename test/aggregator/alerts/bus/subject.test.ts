import { describe, expect, it } from 'vitest';
import { fromToken, toSubject, toToken } from '../../../../aggregator/alerts/bus/subject.ts';
import { seededRandom } from '../../../support/random.ts';

describe('a subject token', () => {
  it.each([
    ['node-7', 'node-7'],
    ['gpu_1', 'gpu_1'],
    ['a.b', 'a%2Eb'],
    ['', '_'],
    ['_', '%5F'],
    ['*', '%2A'],
    ['>', '%3E'],
    ['a b\t', 'a%20b%09'],
    ['%', '%25'],
    ['ü', '%C3%BC'],
  ])('of %j is %j', (text, token) => {
    expect(toToken(text)).toBe(token);
    expect(fromToken(token)).toBe(text);
  });

  it('reads back as the text it was, whatever the text: no two nodes share a subject', () => {
    const random = seededRandom(7);
    const alphabet = [
      '.',
      '*',
      '>',
      ' ',
      '_',
      '%',
      '~',
      '$',
      'a',
      'Z',
      '0',
      '-',
      'é',
      '中',
      '🚀',
      '\n',
      '\0',
    ];
    for (let round = 0; round < 5000; round++) {
      const text = Array.from(
        { length: Math.floor(random() * 12) },
        () => alphabet[Math.floor(random() * alphabet.length)],
      ).join('');
      const token = toToken(text);
      expect(token).toMatch(/^[A-Za-z0-9_%-]+$/);
      expect(fromToken(token)).toBe(text);
    }
  });

  it('of a text too long for the server is cut, still one for each text, and does not read back', () => {
    const long = toToken(`${'n'.repeat(1000)}1`);
    expect(long).toHaveLength(200);
    expect(long).not.toBe(toToken(`${'n'.repeat(1000)}2`));
    expect(fromToken(long)).toBeUndefined();
  });

  it('that is none of ours does not read back', () => {
    for (const token of ['a.b', '%zz', '%FF', 'a b', '']) expect(fromToken(token)).toBeUndefined();
  });
});

it('a subject has one token for each part', () => {
  expect(toSubject('gpufleet.alerts', 'east', 'n1.rack', '', 'hot', '')).toBe(
    'gpufleet.alerts.east.n1%2Erack._.hot._',
  );
});
