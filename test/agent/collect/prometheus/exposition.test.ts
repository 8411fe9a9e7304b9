import { describe, expect, test } from 'vitest';
import { ExpositionParser, MAX_LINE_BYTES } from '../../../../agent/collect/prometheus/exposition.ts';
import { seededRandom } from '../../../support/random.ts';

/** What a body says, in words that can be compared. */
function read(body: string | Buffer, parser = new ExpositionParser()) {
  const { heads, values, families, malformed } = parser.parse(Buffer.from(body));
  return {
    samples: heads.map(({ name, labels }, i) => [name, Object.fromEntries(labels), values[i]]),
    families: Object.fromEntries(families),
    malformed,
  };
}

// Lost without it: samples of exporters that write the format with other spaces, escapes or line ends.
describe('a line is read', () => {
  test.each<[string, string, unknown[]]>([
    ['bare', 'up 1', ['up', {}, 1]],
    ['with labels', 'a{b="c",d="e"} 2', ['a', { b: 'c', d: 'e' }, 2]],
    ['with spaces after commas', 'a{b="c", d="e"} 2', ['a', { b: 'c', d: 'e' }, 2]],
    ['with spaces everywhere', ' a { b = "c" , d = "e" , } \t 2 ', ['a', { b: 'c', d: 'e' }, 2]],
    ['with empty braces', 'a{} 2', ['a', {}, 2]],
    ['without a space before the value', 'a{b="c"}2', ['a', { b: 'c' }, 2]],
    ['with a timestamp, which is passed over', 'a 2 1700000000000', ['a', {}, 2]],
    ['with a negative timestamp', 'a 2 -5', ['a', {}, 2]],
    ['with braces, commas and quotes in a value', 'a{b="x}, \\"y"} 2', ['a', { b: 'x}, "y' }, 2]],
    ['with escapes', 'a{b="1\\\\2\\n3\\t"} 2', ['a', { b: '1\\2\n3\\t' }, 2]],
    ['with an escaped backslash before n', 'a{b="\\\\n"} 2', ['a', { b: '\\n' }, 2]],
    ['with UTF-8', 'a{b="Zürich ✓"} 2', ['a', { b: 'Zürich ✓' }, 2]],
    ['without labels that are empty', 'a{b="",c="d"} 2', ['a', { c: 'd' }, 2]],
    ['with labels in another order', 'a{z="1",b="2"} 2', ['a', { b: '2', z: '1' }, 2]],
    ['with a colon in its name', 'job:a:rate 2', ['job:a:rate', {}, 2]],
    ['with NaN', 'a NaN', ['a', {}, Number.NaN]],
    ['with +Inf', 'a +Inf', ['a', {}, Number.POSITIVE_INFINITY]],
    ['with -Inf', 'a{b="c"} -Inf', ['a', { b: 'c' }, Number.NEGATIVE_INFINITY]],
    ['with an exponent', 'a 9.223372036854776e+18', ['a', {}, 2 ** 63]],
    ['at the end of a line in DOS style', 'a{b="c"} 2\r', ['a', { b: 'c' }, 2]],
  ])('%s', (_, line, sample) => {
    for (const body of [line, `${line}\n`, `before 1\n${line}\nafter 3\n`]) {
      const parser = new ExpositionParser();
      const first = read(body, parser);
      expect(first.samples).toContainEqual(sample);
      expect(first.malformed).toBe(0);
      expect(read(body, parser), 'again').toEqual(first);
    }
  });
});

// Lost without it: one bad line costs the whole page, or is taken for a sample.
describe('a line is malformed, counted, and the others are kept', () => {
  test.each([
    ['without a value', 'a'],
    ['without a value after labels', 'a{b="c"}'],
    ['with a word as value', 'a b'],
    ['with hexadecimal', 'a 0x10'],
    ['with two values and a word', 'a 1 2 three'],
    ['with a name that begins with a digit', '1a 1'],
    ['with a dash in its name', 'a-b 1'],
    ['with an open brace', 'a{b="c" 1'],
    ['with an open quote', 'a{b="c} 1'],
    ['with a label without quotes', 'a{b=c} 1'],
    ['with a label twice', 'a{b="1",b="2"} 1'],
    ['with a reserved label', 'a{__name__="b"} 1'],
    ['with no comma between labels', 'a{b="1"c="2"} 1'],
    ['with two commas', 'a{b="1",,c="2"} 1'],
    ['with an exemplar', 'a 1 # {b="c"} 2'],
    ['with an unknown type', '# TYPE a charm'],
    ['of HTML', '<html><body>Sign in</body></html>'],
    ['of UTF-8 cut short', Buffer.from([0x61, 0x7b, 0x62, 0x3d, 0x22, 0xc3, 0x22, 0x7d, 0x20, 0x31])],
    ['of bytes that are no text', Buffer.from([0xff, 0xfe, 0x00, 0x20, 0x31])],
    ['longer than the limit', `a{b="${'x'.repeat(MAX_LINE_BYTES)}"} 1`],
  ])('%s', (_, line) => {
    const body = Buffer.concat([
      Buffer.from('first 1\n'),
      Buffer.from(line),
      Buffer.from('\nlast{a="b"} 2\n'),
    ]);
    const parser = new ExpositionParser();
    const expected = {
      samples: [
        ['first', {}, 1],
        ['last', { a: 'b' }, 2],
      ],
      families: {},
      malformed: 1,
    };
    expect(read(body, parser)).toEqual(expected);
    expect(read(body, parser), 'again').toEqual(expected);
  });
});

// Lost without it: help and units in the product, and counters that are taken for gauges.
test('metadata is kept by family', () => {
  const body = [
    '# HELP a_total Things \\\\ and\\nmore.',
    '# TYPE a_total counter',
    '# UNIT a_total things',
    'a_total 1',
    '#HELP is a comment without its space',
    '# NOTE a comment',
    '# HELP b',
    '',
    '# TYPE b gauge',
    'b 2',
    '# EOF',
  ].join('\n');
  expect(read(body)).toEqual({
    samples: [
      ['a_total', {}, 1],
      ['b', {}, 2],
    ],
    families: {
      a_total: { help: 'Things \\ and\nmore.', type: 'counter', unit: 'things' },
      b: { help: '', type: 'gauge', unit: '' },
    },
    malformed: 0,
  });
});

test('decimals are those of the first value', () => {
  const parser = new ExpositionParser();
  const first = parser.parse(Buffer.from('a 0.000000\nb 7\n')).heads;
  expect(first.map(({ decimals }) => decimals)).toEqual([6, 0]);
  expect(parser.parse(Buffer.from('a 3\nb 7.5\n')).heads).toBe(first);
});

describe('consecutive bodies', () => {
  // Lost without it: every scrape makes a new dictionary, which is sent, stored and indexed anew.
  test('with the same lines have the same heads, as one array', () => {
    const parser = new ExpositionParser();
    const { heads } = parser.parse(Buffer.from('# TYPE a gauge\na{b="c"} 1\na{b="d"} 2\n'));
    const again = parser.parse(Buffer.from('# TYPE a gauge\na{b="c"} 3\na{b="d"} 4e0\n'));
    expect(again.heads).toBe(heads);
    expect([...again.values.subarray(0, 2)]).toEqual([3, 4]);
  });

  test('with changed metadata have another array of the same heads', () => {
    const parser = new ExpositionParser();
    const before = parser.parse(Buffer.from('# TYPE a gauge\na 1\n'));
    const after = parser.parse(Buffer.from('# TYPE a counter\na 1\n'));
    expect(after.heads).not.toBe(before.heads);
    expect(after.heads[0]).toBe(before.heads[0]);
    expect(after.families.get('a')?.type).toBe('counter');
  });

  // Lost without it: a value of one series written under another when a page changes.
  test('read the same as each read alone, however lines come, go and move', () => {
    const random = seededRandom(42);
    const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;
    const names = ['a', 'ab', 'abc', 'a_total', 'b'];
    const values = [
      '0',
      '1',
      '67.433000',
      '-3.5',
      '1e3',
      'NaN',
      '+Inf',
      '123456789012345678',
      '5 17000',
      '0x1',
      '',
    ];
    const line = (): string => {
      const kind = random();
      if (kind < 0.08) return pick(['', '# NOTE x', '# TYPE a gauge', '# HELP ab text', 'rubbish', 'a{b="']);
      const labels = kind < 0.3 ? '' : `{x="${pick(['1', '2', 'ä', '}'])}",y="${pick(['1', '11'])}"}`;
      return `${pick(names)}${labels} ${pick(values)}`;
    };
    let lines = Array.from({ length: 40 }, line);
    const parser = new ExpositionParser();
    for (let round = 0; round < 400; round++) {
      const change = random();
      const at = Math.floor(random() * lines.length);
      if (change < 0.2) lines.splice(at, 0, line());
      else if (change < 0.4 && lines.length > 5) lines.splice(at, 1 + Math.floor(random() * 3));
      else if (change < 0.5) lines = [...lines.slice(at), ...lines.slice(0, at)];
      else lines[at] = (lines[at] ?? '').replace(/[\d.]+$/, () => pick(values));
      const body = lines.join(random() < 0.1 ? '\r\n' : '\n') + pick(['', '\n']);
      expect(read(body, parser)).toEqual(read(body));
    }
  });

  // Lost without it: a page of a million short lines, well under the body's limit, takes a gigabyte.
  test('are read to the most lines, and what is behind is counted', () => {
    const parser = new ExpositionParser(4);
    for (let i = 0; i < 2; i++) {
      const { heads, unread } = parser.parse(Buffer.from('# c\na 1\nb 2\nrubbish\nc 3\nd 4\n\n# c\ne 5\nf'));
      expect(heads.map(({ name }) => name)).toEqual(['a', 'b', 'c']);
      expect(unread).toBe(3);
    }
  });

  test('grow to any number of samples', () => {
    const parser = new ExpositionParser();
    const body = Array.from({ length: 3000 }, (_, i) => `a{i="${i}"} ${i}`).join('\n');
    for (let i = 0; i < 2; i++) {
      const { heads, values } = parser.parse(Buffer.from(body));
      expect(heads).toHaveLength(3000);
      expect(values[2999]).toBe(2999);
    }
  });
});
