import { describe, expect, test } from 'vitest';
import { LinearRegex } from '../../../shared/regex/linear-regex.ts';
import { seededRandom } from '../../support/random.ts';

// Lost without it: rules that people bring from Prometheus choose other series here.
describe('an expression', () => {
  test.each<[string, string, string[] | undefined]>([
    ['node_.*', 'node_cpu', []],
    ['node_.*', 'a_node_cpu', undefined],
    ['a|ab', 'ab', []],
    ['(a|ab)(c|bcd)?', 'abcd', ['a', 'bcd']],
    ['(.*)-(.*)', 'a-b-c', ['a-b', 'c']],
    ['(.*?)-(.*)', 'a-b-c', ['a', 'b-c']],
    ['(?P<x>\\d+)\\.(\\w+)', '12.ab_', ['12', 'ab_']],
    ['(?i)ABC', 'aBc', []],
    ['(?i:a)b', 'Ab', []],
    ['(?i:a)b', 'AB', undefined],
    ['.', '\n', []],
    ['(?-s:.)', '\n', undefined],
    ['[[:alpha:]_]+', 'aZ_', []],
    ['[^[:digit:]]', '7', undefined],
    ['[]a]', ']', []],
    ['[\\]\\-a]+', ']-a', []],
    ['[a\\d]{2,3}', 'a1', []],
    ['[a\\d]{2,3}', 'a', undefined],
    ['a{0}b', 'b', []],
    ['\\x41\\x{1F600}', 'A😀', []],
    ['\\p{Greek}+\\pL', 'αβc', []],
    ['\\P{Lu}', 'a', []],
    ['\\s\\S', '\ta', []],
    ['\\s', '\v', undefined],
    ['^a$', 'a', []],
    ['a\\b.*', 'a b', []],
    ['\\Aa\\z', 'a', []],
    ['', '', []],
    ['()', '', ['']],
    ['(a)|b', 'b', ['']],
    ['(a*)*', 'aaa', ['aaa']],
    ['(?:a?){3}a', 'aa', []],
    ['a\\.b', 'axb', undefined],
    ['😀.', '😀😀', []],
  ])('%s on %j', (pattern, text, groups) => {
    const found = new LinearRegex(pattern).match(text);
    expect(found?.groups.slice(1)).toEqual(groups);
  });

  test('is the same as JavaScript finds it, for thousands of pairs', () => {
    const random = seededRandom(7);
    const pick = (from: readonly string[]): string => from[Math.floor(random() * from.length)]!;
    const piece = (depth: number): string => {
      const kind = random();
      const atom =
        kind < 0.5 || depth === 0
          ? pick(['a', 'b', 'ab', '.', '[ab]', '[^a]', '\\w', '\\.'])
          : `(${piece(depth - 1)}${random() < 0.4 ? `|${piece(depth - 1)}` : ''})`;
      // Groups are not repeated: JavaScript, unlike RE2, refuses a round that takes no character.
      const sign = kind < 0.5 ? pick(['', '', '*', '+', '?', '*?', '+?', '{1,2}']) : '';
      return atom.length > 1 && atom[0] !== '(' && atom[0] !== '[' && atom[0] !== '\\'
        ? `${atom}`
        : `${atom}${sign}${random() < 0.4 ? piece(depth) : ''}`;
    };
    for (let i = 0; i < 3000; i++) {
      const pattern = piece(3);
      const text = Array.from({ length: Math.floor(random() * 7) }, () => pick(['a', 'b', '.', 'c'])).join(
        '',
      );
      const expected = new RegExp(`^(?:${pattern})$`, 'su').exec(text);
      const groups = expected ? [...expected].map((group) => group ?? '') : undefined;
      expect(new LinearRegex(pattern).match(text)?.groups, `${pattern} on ${text}`).toEqual(groups);
    }
  });

  // Lost without it: a page chooses a label that stops the agent.
  test.each(['(a|a)*b', '(a*)*b', '(.*a){12}b', '(a+)+$', '.*.*.*.*.*=x'])(
    '%s on 4,000 characters that tempt it takes no more steps than characters times its size',
    (pattern) => {
      expect(new LinearRegex(pattern).match('a'.repeat(4000))).toEqual(
        pattern === '(a+)+$' ? expect.anything() : undefined,
      );
    },
  );

  test.each([
    ...['(', ')', '[a', 'a{3,2}', 'a{2000}', '*', 'a**', 'a\\', '\\1', '(?=a)', '(?<!a)', '\\Qa\\E'],
    ...['[z-a]', '[[:nope:]]', '\\p{Nope}', '(?P<a>x)(?P<a>y)', '((a{100}){100}){100}'],
    ...[
      '(?:(?:(?:(?:){1000}){1000}){1000}){1000}',
      `${'('.repeat(200)}a${')'.repeat(200)}`,
      'a'.repeat(5000),
    ],
  ])('%.40s is refused with the reason', (pattern) => {
    expect(() => new LinearRegex(pattern)).toThrow(expect.objectContaining({ code: 'invalid_config' }));
  });
});
