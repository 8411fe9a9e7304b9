import { compileRegex, type RegexProgram } from './regex-program.ts';

/** What an expression found: group 0 is the whole text. A group that took no part is empty. */
export interface RegexMatch {
  readonly groups: readonly string[];
  readonly names: ReadonlyMap<string, number>;
}

interface Thread {
  readonly step: number;
  readonly saved: readonly number[];
}

/**
 * An expression that must match a whole text, as Prometheus anchors those of its relabelling, in time that grows
 * with the length of the text times the size of the expression, whatever both say.
 *
 * Expressions come from the configuration, but the texts come from any page that is scraped, or any agent: with a
 * backtracking engine such as JavaScript's own, a page could choose a label on which `(a|a)*b` takes for ever, and with
 * it the agent. Here all ways are followed side by side, one character at a time, each step at most once a character
 * (Thompson, 1968; with submatches as Pike's sam and RE2 keep them). It is slower than a backtracking engine on
 * what that is good at; it runs only on lines that a page has not shown before.
 */
export class LinearRegex {
  readonly #program: RegexProgram;
  /** The position at which a step was last added. */
  readonly #added: Int32Array;

  /** Throws `invalid_config`. */
  constructor(pattern: string) {
    this.#program = compileRegex(pattern);
    this.#added = new Int32Array(this.#program.steps.length);
  }

  match(text: string): RegexMatch | undefined {
    const { steps, start, groups, names } = this.#program;
    const chars = [...text];
    this.#added.fill(-1);
    let threads: Thread[] = [];
    let saved: readonly number[] | undefined = this.#follow(start, [], 0, chars, threads);
    for (let at = 0; at < chars.length && threads.length > 0; at++) {
      const next: Thread[] = [];
      saved = undefined;
      for (const thread of threads) {
        const step = steps[thread.step]!;
        if (step.op !== 'char' || !step.accepts(chars[at]!)) continue;
        // In order of preference: the first that reaches the end has won.
        saved ??= this.#follow(step.next, thread.saved, at + 1, chars, next);
      }
      threads = next;
    }
    if (saved === undefined) return undefined;
    const found = [text];
    for (let group = 1; group <= groups; group++) {
      found.push(chars.slice(saved[2 * group] ?? 0, saved[2 * group + 1] ?? 0).join(''));
    }
    return { groups: found, names };
  }

  /**
   * Adds the characters that a way may go on with. Gives what it saved where it reaches the end of the expression
   * at the end of the text; what is less preferred is not followed then. Recursion is as deep as the program is
   * long, at most.
   */
  #follow(
    step: number,
    saved: readonly number[],
    at: number,
    chars: readonly string[],
    threads: Thread[],
  ): readonly number[] | undefined {
    if (this.#added[step] === at) return undefined;
    this.#added[step] = at;
    const one = this.#program.steps[step]!;
    switch (one.op) {
      case 'char':
        threads.push({ step, saved });
        return undefined;
      case 'split':
        return (
          this.#follow(one.next, saved, at, chars, threads) ??
          this.#follow(one.other, saved, at, chars, threads)
        );
      case 'save': {
        const more = [...saved];
        more[one.slot] = at;
        return this.#follow(one.next, more, at, chars, threads);
      }
      case 'assert':
        if (!one.holds(chars[at - 1], chars[at])) return undefined;
        return this.#follow(one.next, saved, at, chars, threads);
      case 'match':
        return at === chars.length ? saved : undefined;
    }
  }
}
