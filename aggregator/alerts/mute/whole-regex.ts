import { LinearRegex } from '#shared/regex/linear-regex.ts';
import { compileRegex, type RegexProgram } from '#shared/regex/regex-program.ts';

/** A set of places in the program where a way through the text may be. */
export interface RegexState {
  /** No two states of one expression have the same. */
  readonly id: number;
  /** Steps that take a character. */
  readonly steps: readonly number[];
  /** Whether the text may end here. */
  readonly accepts: boolean;
  readonly next: Map<string, RegexState>;
}

/** States that are remembered; beyond, all are forgotten and found again. */
const MAX_STATES = 500;
/** Characters that are remembered for a state. */
const MAX_CHARS = 256;

/**
 * Says whether an expression matches a whole text, many times over: as LinearRegex does, but each set of ways is worked
 * out once and remembered (a lazy DFA, as RE2's), so that most characters cost one look-up. Expressions that look
 * at both sides of a place, such as `\b`, are left to LinearRegex.
 */
export class WholeRegex {
  readonly #program: RegexProgram;
  readonly #other: LinearRegex | undefined;
  readonly #states = new Map<string, RegexState>();
  #start: RegexState;
  #made = 0;

  /** Throws `invalid_config`. */
  constructor(pattern: string) {
    this.#program = compileRegex(pattern);
    const looks = this.#program.steps.some(({ op }) => op === 'assert');
    this.#other = looks ? new LinearRegex(pattern) : undefined;
    this.#start = this.#stateOf([this.#program.start]);
  }

  matches(text: string): boolean {
    if (this.#other !== undefined) return this.#other.match(text) !== undefined;
    let state = this.#begin();
    for (const char of text) {
      state = this.after(state, char);
      if (isDead(state)) return false;
    }
    return state.accepts;
  }

  /** Before the first character; undefined where states are not enough, and `matches` has to be asked. */
  get start(): RegexState | undefined {
    return this.#other === undefined ? this.#begin() : undefined;
  }

  after(state: RegexState, char: string): RegexState {
    return state.next.get(char) ?? this.#step(state, char);
  }

  #begin(): RegexState {
    if (this.#states.size > MAX_STATES) {
      this.#states.clear();
      this.#start = this.#stateOf([this.#program.start]);
    }
    return this.#start;
  }

  #step(state: RegexState, char: string): RegexState {
    const to: number[] = [];
    for (const at of state.steps) {
      const step = this.#program.steps[at]!;
      if (step.op === 'char' && step.accepts(char)) to.push(step.next);
    }
    const next = this.#stateOf(to);
    if (state.next.size < MAX_CHARS) state.next.set(char, next);
    return next;
  }

  #stateOf(from: readonly number[]): RegexState {
    const seen = new Set<number>();
    const chars: number[] = [];
    let accepts = false;
    const waiting = [...from];
    for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
      if (seen.has(at)) continue;
      seen.add(at);
      const step = this.#program.steps[at]!;
      if (step.op === 'char') chars.push(at);
      else if (step.op === 'match') accepts = true;
      else waiting.push(step.next);
      if (step.op === 'split') waiting.push(step.other);
    }
    chars.sort((a, b) => a - b);
    const key = `${accepts} ${chars.join()}`;
    let state = this.#states.get(key);
    if (state === undefined) {
      state = { id: this.#made++, steps: chars, accepts, next: new Map() };
      this.#states.set(key, state);
    }
    return state;
  }
}

/** Whatever comes, the text does not match. */
export function isDead({ steps, accepts }: RegexState): boolean {
  return steps.length === 0 && !accepts;
}
