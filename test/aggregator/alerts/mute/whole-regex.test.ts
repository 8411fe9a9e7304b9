import { describe, expect, it } from 'vitest';
import { LinearRegex } from '#shared/regex/linear-regex.ts';
import { WholeRegex } from '../../../../aggregator/alerts/mute/whole-regex.ts';

describe('an expression that is asked often', () => {
  it.each([
    ...[
      '',
      'a',
      'a|b',
      'a*',
      'a+b?',
      '(a|a)*b',
      '.*-7',
      '(?i)ab',
      '[a-c]{2,3}',
      'a{0}b',
      '^ab$',
      '\\bab\\b',
      'é.',
      '(?:ab)+',
    ],
  ])(
    '%s matches what LinearRegex matches: else a silence would cover other alerts than it says',
    (pattern) => {
      const whole = new WholeRegex(pattern);
      const linear = new LinearRegex(pattern);
      const texts = [
        '',
        'a',
        'b',
        'ab',
        'AB',
        'aab',
        'abab',
        'abc',
        'x-7',
        '-7',
        '-77',
        'é\u{1f600}',
        'a b',
        'aaaa',
      ];
      for (const text of [...texts, ...texts])
        expect([text, whole.matches(text)]).toEqual([text, linear.match(text) !== undefined]);
    },
  );

  it('forgets rather than grows, whatever texts it is asked', () => {
    const whole = new WholeRegex('(a|b)*a(a|b){9}');
    let seed = 7;
    for (let i = 0; i < 2_000; i++) {
      let text = '';
      for (let k = 0; k < 30; k++) {
        seed = (seed * 48_271) % 2_147_483_647;
        text += seed % 2 === 0 ? 'a' : 'b';
      }
      expect(whole.matches(text)).toBe(text.at(-10) === 'a');
    }
  });
});
