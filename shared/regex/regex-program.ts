import { FleetError } from '#shared/errors/fleet-error.ts';

/** One step of a compiled expression; `next` and `other` are indices in the program. */
export type Step =
  | { readonly op: 'char'; readonly accepts: (char: string) => boolean; readonly next: number }
  /** Both ways, `next` preferred. */
  | { readonly op: 'split'; readonly next: number; readonly other: number }
  | { readonly op: 'save'; readonly slot: number; readonly next: number }
  | { readonly op: 'assert'; readonly holds: Assertion; readonly next: number }
  | { readonly op: 'match' };

/** The characters before and after a position; undefined at the ends. */
export type Assertion = (before: string | undefined, after: string | undefined) => boolean;

export interface RegexProgram {
  readonly steps: readonly Step[];
  readonly start: number;
  /** Groups, the whole match not counted. */
  readonly groups: number;
  readonly names: ReadonlyMap<string, number>;
}

/** Steps: `[a-z]{1,64}` is 127. RE2's own limit on a repetition is 1,000. */
const MAX_STEPS = 2000;
const MAX_PATTERN_LENGTH = 4096;
/** Depth of nested groups: bounds the recursion of this parser. */
const MAX_DEPTH = 100;

type Node =
  | { readonly kind: 'char'; readonly accepts: (char: string) => boolean }
  | { readonly kind: 'sequence'; readonly parts: readonly Node[] }
  | { readonly kind: 'choice'; readonly parts: readonly Node[] }
  | { readonly kind: 'assert'; readonly holds: Assertion }
  | { readonly kind: 'group'; readonly index: number; readonly part: Node }
  | {
      readonly kind: 'repeat';
      readonly part: Node;
      readonly min: number;
      readonly max: number;
      readonly lazy: boolean;
    };

/**
 * Compiles an expression in RE2's syntax, without what RE2 lacks too (look-around, back references). As in
 * Prometheus, `.` takes line feeds. Left out of RE2's: `\Q..\E`, `\C`, and flags other than i, s and m.
 *
 * Throws `invalid_config` with the position.
 */
export function compileRegex(pattern: string): RegexProgram {
  if (pattern.length > MAX_PATTERN_LENGTH) {
    throw new FleetError('invalid_config', `Cannot use an expression of ${pattern.length} characters`);
  }
  const parser = new Parser(pattern);
  const tree = parser.parse();
  const emitter = new Emitter(pattern);
  const start = emitter.emit(tree, 0);
  return { steps: emitter.steps, start, groups: parser.groups, names: parser.names };
}

/** Writes a program from its end to its begin. */
class Emitter {
  readonly steps: Step[] = [{ op: 'match' }];
  readonly #pattern: string;
  /** Nodes written: an empty group makes no steps and may be repeated a thousand times in each of many groups. */
  #nodes = 0;

  constructor(pattern: string) {
    this.#pattern = pattern;
  }

  /** The steps of a node that goes on at `next`; returns where it begins. */
  emit(node: Node, next: number): number {
    if (++this.#nodes > 10 * MAX_STEPS) this.#tooLarge();
    switch (node.kind) {
      case 'char':
        return this.#add({ op: 'char', accepts: node.accepts, next });
      case 'assert':
        return this.#add({ op: 'assert', holds: node.holds, next });
      case 'sequence':
        return node.parts.reduceRight((after, part) => this.emit(part, after), next);
      case 'choice':
        return node.parts
          .map((part) => this.emit(part, next))
          .reduceRight((other, first) => this.#add({ op: 'split', next: first, other }));
      case 'group': {
        const end = this.#add({ op: 'save', slot: 2 * node.index + 1, next });
        return this.#add({ op: 'save', slot: 2 * node.index, next: this.emit(node.part, end) });
      }
      case 'repeat':
        return this.#repeat(node, next);
    }
  }

  #repeat({ part, min, max, lazy }: Node & { kind: 'repeat' }, next: number): number {
    const fork = (into: number): Step =>
      lazy ? { op: 'split', next, other: into } : { op: 'split', next: into, other: next };
    let at = next;
    if (max === Number.POSITIVE_INFINITY) {
      // The loop is known only when its body is: a place for it first.
      at = this.#add({ op: 'match' });
      this.steps[at] = fork(this.emit(part, at));
    } else {
      for (let i = min; i < max; i++) at = this.#add(fork(this.emit(part, at)));
    }
    for (let i = 0; i < min; i++) at = this.emit(part, at);
    return at;
  }

  #add(step: Step): number {
    if (this.steps.length >= MAX_STEPS) this.#tooLarge();
    return this.steps.push(step) - 1;
  }

  #tooLarge(): never {
    throw new FleetError(
      'invalid_config',
      `Cannot use the expression "${shown(this.#pattern)}": it is too large`,
    );
  }
}

const isWord = (char: string | undefined): boolean => char !== undefined && /^\w$/.test(char);
const atBegin: Assertion = (before) => before === undefined;
const atEnd: Assertion = (_, after) => after === undefined;
const atLineBegin: Assertion = (before) => before === undefined || before === '\n';
const atLineEnd: Assertion = (_, after) => after === undefined || after === '\n';
const atBoundary: Assertion = (before, after) => isWord(before) !== isWord(after);
const inside: Assertion = (before, after) => isWord(before) === isWord(after);

interface Flags {
  readonly ignoreCase: boolean;
  readonly dotAll: boolean;
  readonly multiline: boolean;
}

const POSIX: ReadonlyMap<string, string> = new Map([
  ['alnum', '0-9A-Za-z'],
  ['alpha', 'A-Za-z'],
  ['ascii', '\\x00-\\x7F'],
  ['blank', '\\t '],
  ['cntrl', '\\x00-\\x1F\\x7F'],
  ['digit', '0-9'],
  ['graph', '!-~'],
  ['lower', 'a-z'],
  ['print', ' -~'],
  ['punct', '!-\\/:-@\\[-`\\{-~'],
  ['space', '\\t\\n\\v\\f\\r '],
  ['upper', 'A-Z'],
  ['word', '0-9A-Za-z_'],
  ['xdigit', '0-9A-Fa-f'],
]);

class Parser {
  readonly #pattern: string;
  #at = 0;
  #flags: Flags = { ignoreCase: false, dotAll: true, multiline: false };
  groups = 0;
  readonly names = new Map<string, number>();

  constructor(pattern: string) {
    this.#pattern = pattern;
  }

  parse(): Node {
    const tree = this.#choice(0);
    if (this.#at < this.#pattern.length) this.#fail('an unexpected )');
    return tree;
  }

  #choice(depth: number): Node {
    if (depth > MAX_DEPTH) this.#fail('groups nested too deep');
    const parts = [this.#sequence(depth)];
    while (this.#take('|')) parts.push(this.#sequence(depth));
    return parts.length === 1 ? parts[0]! : { kind: 'choice', parts };
  }

  #sequence(depth: number): Node {
    const parts: Node[] = [];
    for (;;) {
      const char = this.#pattern[this.#at];
      if (char === undefined || char === '|' || char === ')') return { kind: 'sequence', parts };
      const atom = this.#atom(depth);
      parts.push(atom === undefined ? NOTHING : this.#repeated(atom));
    }
  }

  /** Undefined for flags, which stand for nothing. */
  #atom(depth: number): Node | undefined {
    const { ignoreCase, dotAll, multiline } = this.#flags;
    if (this.#take('(')) return this.#group(depth);
    if (this.#take('^')) return { kind: 'assert', holds: multiline ? atLineBegin : atBegin };
    if (this.#take('$')) return { kind: 'assert', holds: multiline ? atLineEnd : atEnd };
    if (this.#take('.')) return { kind: 'char', accepts: dotAll ? () => true : (char) => char !== '\n' };
    if (this.#pattern[this.#at] === '[') return this.#set(this.#class());
    if (this.#pattern[this.#at] === '\\') return this.#escape();
    if (/^[*+?]/.test(this.#pattern.slice(this.#at, this.#at + 1))) this.#fail('nothing to repeat');
    const char = String.fromCodePoint(this.#pattern.codePointAt(this.#at)!);
    this.#at += char.length;
    return literal(char, ignoreCase);
  }

  #group(depth: number): Node | undefined {
    const before = this.#flags;
    let index = 0;
    if (this.#take('?')) {
      const name = this.#match(/P?<([A-Za-z_][A-Za-z0-9_]*)>/y);
      const flags = name ? undefined : this.#match(/([ism]*)(?:-([ism]+))?([:)])/y);
      if (name) {
        index = ++this.groups;
        if (this.names.has(name[1]!)) this.#fail(`the group ${name[1]} twice`);
        this.names.set(name[1]!, index);
      } else if (flags) {
        this.#setFlags(flags[1]!, true);
        this.#setFlags(flags[2] ?? '', false);
        if (flags[3] === ')') return undefined;
      } else {
        this.#fail('a group that is not supported');
      }
    } else {
      index = ++this.groups;
    }
    const part = this.#choice(depth + 1);
    if (!this.#take(')')) this.#fail('a group that does not end');
    this.#flags = before;
    return index === 0 ? part : { kind: 'group', index, part };
  }

  #setFlags(letters: string, on: boolean): void {
    if (letters.includes('i')) this.#flags = { ...this.#flags, ignoreCase: on };
    if (letters.includes('s')) this.#flags = { ...this.#flags, dotAll: on };
    if (letters.includes('m')) this.#flags = { ...this.#flags, multiline: on };
  }

  #repeated(atom: Node): Node {
    const found = this.#match(/(?:([*+?])|\{(\d{1,4})(,(\d{1,4})?)?\})(\??)/y);
    if (!found) return atom;
    const [, sign, low, comma, high, lazy] = found;
    const min = sign === undefined ? Number(low) : sign === '+' ? 1 : 0;
    const most = sign === undefined ? (comma === undefined ? low : high) : sign === '?' ? '1' : undefined;
    const max = most === undefined ? Number.POSITIVE_INFINITY : Number(most);
    if (max < min || min > 1000 || (max > 1000 && max !== Number.POSITIVE_INFINITY)) {
      this.#fail(`a repetition of ${found[0]}`);
    }
    if (this.#match(/[*+?]|\{\d/y)) this.#fail('a repetition of a repetition');
    return { kind: 'repeat', part: atom, min, max, lazy: lazy === '?' };
  }

  #escape(): Node {
    const assertion = this.#match(/\\([AzbB])/y)?.[1];
    if (assertion !== undefined) return { kind: 'assert', holds: ASSERTIONS.get(assertion)! };
    const found = this.#match(ESCAPE);
    if (!found) return this.#fail(`the escape ${this.#pattern.slice(this.#at, this.#at + 2)}`);
    return this.#set(`[${escapeForClass(found[0])}]`);
  }

  /** A class as JavaScript writes it. */
  #class(): string {
    this.#at++;
    let text = this.#take('^') ? '[^' : '[';
    let first = true;
    for (;;) {
      if (this.#take(']')) {
        if (!first) return `${text}]`;
        text += '\\]';
      } else {
        const posix = this.#match(/\[:(\^?)([a-z]+):\]/y);
        const escaped = posix ? null : this.#match(ESCAPE);
        if (posix) {
          const set = POSIX.get(posix[2]!);
          if (set === undefined || posix[1] !== '') return this.#fail(`the class ${posix[0]}`);
          text += set;
        } else if (escaped) {
          text += escapeForClass(escaped[0]);
        } else {
          const char = this.#pattern.codePointAt(this.#at);
          if (char === undefined) return this.#fail('a class that does not end');
          const one = String.fromCodePoint(char);
          this.#at += one.length;
          if (one === '\\') return this.#fail('an escape in a class');
          text += one === '[' ? '\\[' : one;
        }
      }
      first = false;
    }
  }

  /** One character at a time: JavaScript's own engine has nothing to try again. */
  #set(source: string): Node {
    let pattern: RegExp;
    try {
      pattern = new RegExp(`^${source}$`, this.#flags.ignoreCase ? 'iu' : 'u');
    } catch {
      return this.#fail(`the class ${shown(source)}`);
    }
    return { kind: 'char', accepts: (char) => pattern.test(char) };
  }

  #take(char: string): boolean {
    if (this.#pattern[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#pattern);
    if (found) this.#at += found[0].length;
    return found;
  }

  #fail(what: string): never {
    throw new FleetError(
      'invalid_config',
      `Cannot use the expression "${shown(this.#pattern)}": ${what} at character ${this.#at}`,
    );
  }
}

const NOTHING: Node = { kind: 'sequence', parts: [] };
const ASSERTIONS: ReadonlyMap<string, Assertion> = new Map([
  ['A', atBegin],
  ['z', atEnd],
  ['b', atBoundary],
  ['B', inside],
]);
/** One character or one class: `\.`, `\n`, `\x41`, `\x{1F600}`, `\d`, `\pL`, `\p{Greek}`. */
const ESCAPE =
  /\\(?:x[0-9A-Fa-f]{2}|x\{[0-9A-Fa-f]{1,6}\}|[pP](?:[A-Z]|\{\^?[A-Za-z_]+\})|[dDwWsSafnrtv]|[!-/:-@[-`{-~])/y;

/** As JavaScript's classes in Unicode mode want it. */
function escapeForClass(escaped: string): string {
  const letter = escaped[1]!;
  if (letter === 'a') return '\\x07';
  if (letter === 'x' && escaped[2] === '{') return `\\u${escaped.slice(2)}`;
  if (letter === 'p' || letter === 'P') return propertyForClass(letter, escaped.slice(2));
  // RE2's \s is ASCII, without the vertical tab.
  if (letter === 's') return '\\t\\n\\f\\r ';
  if (letter === 'S') return '\\x00-\\x08\\x0B\\x0E-\\x1F!-\\u{10FFFF}';
  if (/[A-Za-z]/.test(letter)) return escaped;
  return `\\u{${letter.codePointAt(0)!.toString(16)}}`;
}

function propertyForClass(letter: string, written: string): string {
  const bare = written.replace(/^\{|\}$/g, '');
  const negated = bare.startsWith('^') !== (letter === 'P');
  const name = bare.replace('^', '');
  // General categories have one or two letters, scripts more.
  return `\\${negated ? 'P' : 'p'}{${name.length > 2 ? 'Script=' : ''}${name}}`;
}

function literal(char: string, ignoreCase: boolean): Node {
  if (!ignoreCase) return { kind: 'char', accepts: (other) => other === char };
  const folded = char.toLowerCase();
  return { kind: 'char', accepts: (other) => other.toLowerCase() === folded };
}

function shown(pattern: string): string {
  return pattern.length > 100 ? `${pattern.slice(0, 100)}...` : pattern;
}
