/** An expression of PromQL, as far as an alerting rule of ours can come of it. */
export type Expression =
  | { readonly kind: 'number'; readonly value: number }
  | SelectorExpression
  | { readonly kind: 'call'; readonly name: string; readonly args: readonly Expression[] }
  | AggregateExpression
  | BinaryExpression;

export interface SelectorExpression {
  readonly kind: 'selector';
  readonly metric: string;
  readonly matchers: readonly LabelMatcher[];
  /** Of a range vector. */
  readonly rangeMs: number | undefined;
}

export interface LabelMatcher {
  readonly label: string;
  readonly operator: '=' | '!=' | '=~' | '!~';
  readonly value: string;
}

export interface AggregateExpression {
  readonly kind: 'aggregate';
  readonly name: string;
  readonly by: readonly string[];
  readonly of: Expression;
}

export interface BinaryExpression {
  readonly kind: 'binary';
  readonly operator: string;
  readonly left: Expression;
  readonly right: Expression;
}

/** What is PromQL and yet not ours: the message says which part. */
export class Unreadable extends Error {}

const AGGREGATES = new Set(['sum', 'avg', 'min', 'max', 'count']);
const OTHER_AGGREGATES = new Set([
  'topk',
  'bottomk',
  'quantile',
  'stddev',
  'stdvar',
  'group',
  'count_values',
]);
/** Lowest first, as PromQL has them. */
const PRECEDENCE: readonly (readonly string[])[] = [
  ['or'],
  ['and', 'unless'],
  ['==', '!=', '<=', '<', '>=', '>'],
  ['+', '-'],
  ['*', '/', '%'],
];
const TOKEN =
  /\s*(?:#[^\n]*\n\s*)*(?:(?<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))|(?<duration>(?:\d+(?:ms|[smhdwy]))+(?!\w))|(?<word>[a-zA-Z_:][\w:]*)|(?<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)|(?<mark>==|!=|<=|>=|=~|!~|[-+*/%^<>=(){}[\],@]))/y;
const DURATION_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
  y: 31_536_000_000,
};
/** An expression longer than this is not looked at: the parser works on it recursively. */
const MAX_LENGTH = 4_000;
const MAX_DEPTH = 50;

interface Token {
  readonly kind: 'number' | 'duration' | 'word' | 'text' | 'mark' | 'end';
  readonly text: string;
}

/** Throws Unreadable, with what it met. */
export function parsePromql(text: string): Expression {
  return new Parser(tokensOf(text)).whole();
}

/** `1h30m` in milliseconds; undefined for anything else. */
export function promDurationMs(text: string): number | undefined {
  if (!/^(?:\d+(?:ms|[smhdwy]))+$/.test(text)) return text === '0' ? 0 : undefined;
  let ms = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+)(ms|[smhdwy])/g))
    ms += Number(amount) * DURATION_MS[unit!]!;
  return ms;
}

function tokensOf(text: string): Token[] {
  if (text.length > MAX_LENGTH)
    throw new Unreadable(`the expression is longer than ${MAX_LENGTH} characters`);
  const tokens: Token[] = [];
  TOKEN.lastIndex = 0;
  const end = text.trimEnd().length;
  while (TOKEN.lastIndex < end) {
    const at = TOKEN.lastIndex;
    const groups = TOKEN.exec(text)?.groups;
    const found = Object.entries(groups ?? {}).find(([, value]) => value !== undefined);
    if (found === undefined) throw new Unreadable(`"${text.slice(at, at + 20).trim()}" cannot be read`);
    tokens.push({ kind: found[0] as Token['kind'], text: found[1]! });
  }
  return tokens;
}

class Parser {
  readonly #tokens: readonly Token[];
  #at = 0;
  #depth = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  whole(): Expression {
    const found = this.#binary(0);
    if (this.#peek().kind !== 'end') throw new Unreadable(`"${this.#peek().text}" is not expected`);
    return found;
  }

  #binary(level: number): Expression {
    const operators = PRECEDENCE[level];
    if (operators === undefined) return this.#unary();
    let left = this.#binary(level + 1);
    while (operators.includes(this.#peek().text) && this.#peek().kind !== 'text') {
      const operator = this.#next().text;
      const after = this.#peek().text;
      if (['bool', 'on', 'ignoring'].includes(after)) throw new Unreadable(`${after} is not of the stream`);
      left = { kind: 'binary', operator, left, right: this.#binary(level + 1) };
    }
    return left;
  }

  #unary(): Expression {
    if (this.#skip('+')) return this.#unary();
    if (!this.#skip('-')) return this.#modified();
    return { kind: 'binary', operator: '*', left: { kind: 'number', value: -1 }, right: this.#unary() };
  }

  #modified(): Expression {
    const found = this.#primary();
    const { text } = this.#peek();
    if (text === 'offset' || text === '@') throw new Unreadable(`${text} looks into the past`);
    if (text === '[') throw new Unreadable('a subquery needs history');
    if (text === '^') throw new Unreadable('a power is not of the stream');
    return found;
  }

  #primary(): Expression {
    if (++this.#depth > MAX_DEPTH)
      throw new Unreadable(`the expression is nested more than ${MAX_DEPTH} deep`);
    const token = this.#next();
    if (token.kind === 'number') return { kind: 'number', value: Number(token.text) };
    if (token.text === '(') {
      const inner = this.#binary(0);
      this.#expect(')');
      this.#depth--;
      return inner;
    }
    if (token.text === '{') throw new Unreadable('a selector without the name of a metric');
    if (token.kind !== 'word')
      throw new Unreadable(token.kind === 'end' ? 'it ends early' : `"${token.text}" is not expected`);
    if (OTHER_AGGREGATES.has(token.text)) throw new Unreadable(`${token.text} is not of the stream`);
    const found = this.#word(token.text);
    this.#depth--;
    return found;
  }

  #word(name: string): Expression {
    const next = this.#peek().text;
    if (AGGREGATES.has(name) && (next === '(' || next === 'by' || next === 'without'))
      return this.#aggregate(name);
    if (/^(?:inf|nan)$/i.test(name))
      return { kind: 'number', value: /inf/i.test(name) ? Infinity : Number.NaN };
    if (!this.#skip('(')) return this.#selector(name);
    const args: Expression[] = [];
    while (!this.#skip(')')) {
      if (this.#peek().kind === 'text') throw new Unreadable(`${name} is not of the stream`);
      args.push(this.#binary(0));
      if (!this.#skip(',') && this.#peek().text !== ')')
        throw new Unreadable(`"${this.#peek().text}" is not expected`);
    }
    return { kind: 'call', name, args };
  }

  #aggregate(name: string): Expression {
    const before = this.#grouping();
    this.#expect('(');
    const of = this.#binary(0);
    this.#expect(')');
    return { kind: 'aggregate', name, by: before ?? this.#grouping() ?? [], of };
  }

  #grouping(): string[] | undefined {
    if (this.#peek().text === 'without') throw new Unreadable('without: name the labels with by');
    if (!this.#skip('by')) return undefined;
    this.#expect('(');
    const labels: string[] = [];
    while (!this.#skip(')')) {
      labels.push(this.#next().text);
      if (!this.#skip(',') && this.#peek().text !== ')') throw new Unreadable('labels of by cannot be read');
    }
    return labels;
  }

  #selector(metric: string): Expression {
    const matchers: LabelMatcher[] = [];
    if (this.#skip('{')) {
      while (!this.#skip('}')) {
        const label = this.#next().text;
        const operator = this.#next().text;
        const value = this.#next();
        if (!['=', '!=', '=~', '!~'].includes(operator) || value.kind !== 'text')
          throw new Unreadable(`the labels of ${metric} cannot be read`);
        matchers.push({ label, operator: operator as LabelMatcher['operator'], value: unquoted(value.text) });
        if (!this.#skip(',') && this.#peek().text !== '}')
          throw new Unreadable(`the labels of ${metric} cannot be read`);
      }
    }
    if (!this.#skip('[')) return { kind: 'selector', metric, matchers, rangeMs: undefined };
    const range = promDurationMs(this.#next().text);
    if (range === undefined) throw new Unreadable(`the range of ${metric} cannot be read`);
    if (this.#peek().kind === 'word' || this.#peek().text !== ']')
      throw new Unreadable('a subquery needs history');
    this.#expect(']');
    return { kind: 'selector', metric, matchers, rangeMs: range };
  }

  #peek(): Token {
    return this.#tokens[this.#at] ?? { kind: 'end', text: '' };
  }

  #next(): Token {
    const token = this.#peek();
    this.#at++;
    return token;
  }

  #skip(text: string): boolean {
    if (this.#peek().text !== text || this.#peek().kind === 'text') return false;
    this.#at++;
    return true;
  }

  #expect(text: string): void {
    if (!this.#skip(text)) throw new Unreadable(`"${text}" is missing before "${this.#peek().text}"`);
  }
}

function unquoted(text: string): string {
  const inner = text.slice(1, -1);
  return text.startsWith('`') ? inner : inner.replaceAll(/\\(.)/g, '$1');
}
