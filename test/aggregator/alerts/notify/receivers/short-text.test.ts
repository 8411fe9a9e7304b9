import { expect, test } from 'vitest';
import { parseMailAddress } from '../../../../../aggregator/alerts/notify/receivers/mail-address.ts';
import {
  printable,
  shortened,
  webLink,
} from '../../../../../aggregator/alerts/notify/receivers/short-text.ts';

test('cuts between characters, never within one: half an emoji is refused by strict servers', () => {
  expect(shortened('abc', 3)).toBe('abc');
  expect(shortened('abcd', 3)).toBe('ab…');
  expect(shortened('ab🔥d', 4)).toBe('ab…');
  for (let max = 1; max < 12; max++) {
    const short = shortened('🔥🔥🔥🔥🔥🔥', max);
    expect(short.isWellFormed()).toBe(true);
    expect(short.length).toBeLessThanOrEqual(max);
  }
});

test('leaves no control character, and lines only where lines are meant', () => {
  expect(printable('a\r\nb\0c\u2028d\u0085e')).toBe('a b c d e');
  expect(printable('a\r\nb\rc\td\0e\u001b[31m', true)).toBe('a\nb\nc\tde[31m');
  expect(printable('\ud800').isWellFormed()).toBe(true);
});

test('links to the web alone: what a label brings must not run in a console', () => {
  expect(webLink('https://a.example/x?y')).toBe('https://a.example/x?y');
  for (const text of ['javascript:alert(1)', 'data:text/html,x', 'file:///etc/passwd', 'no link', ''])
    expect(webLink(text)).toBeUndefined();
});

test.each([
  ['ops@example.org', { name: '', address: 'ops@example.org' }],
  ['GPU "night" ops <ops@example.org>', { name: 'GPU "night" ops', address: 'ops@example.org' }],
  ['"Ops" <ops+gpu@bücher.example>', { name: 'Ops', address: 'ops+gpu@xn--bcher-kva.example' }],
  ['jürgen@example.org', { name: '', address: 'jürgen@example.org' }],
  ['a@b@c', undefined],
  ['a b@example.org', undefined],
  ['<a@example.org> x', undefined],
  ['a@example.org\nBcc: b@example.org', undefined],
  ['A\r\nBcc: b <a@example.org>', undefined],
  [`${'x'.repeat(65)}@example.org`, undefined],
  ['', undefined],
])('the address %j', (text, parsed) => {
  expect(parseMailAddress(text)).toEqual(parsed);
});
