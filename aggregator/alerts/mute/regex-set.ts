import { isDead, type RegexState, type WholeRegex } from './whole-regex.ts';

/** Where each expression that may still match is, after the same characters. */
interface Joint {
  /** Places in the set, and the state of each. */
  readonly places: readonly number[];
  readonly states: readonly RegexState[];
  /** Places of those that match where the text ends here. */
  readonly matching: readonly number[];
  readonly next: Map<string, Joint>;
}

/** States in all joints that are remembered, some 10 MB; what comes beyond is asked of each expression. */
const MAX_REMEMBERED = 300_000;
/** No name begins with it: an expression that goes on after it would go on after anything. */
const UNLIKELY = '\u{10ffff}';

/**
 * Many expressions asked at once, as RE2::Set does it: which of them a value has already failed is found out once for
 * all values that begin alike, so that a value costs little more than its characters.
 */
export class RegexSet {
  readonly #expressions: readonly WholeRegex[];
  /** Places of those that are asked one by one. */
  readonly #alone: readonly number[];
  readonly #joints = new Map<string, Joint>();
  /** Those that begin with a text of their own, and those that begin with anything: they would share no joints. */
  readonly #starts: readonly Joint[];
  #remembered = 0;

  constructor(expressions: readonly WholeRegex[]) {
    this.#expressions = expressions;
    const alone: number[] = [];
    const own: number[] = [];
    const any: number[] = [];
    for (const [place, regex] of expressions.entries()) {
      const { start } = regex;
      if (start === undefined) alone.push(place);
      else (isDead(regex.after(start, UNLIKELY)) ? own : any).push(place);
    }
    this.#alone = alone;
    this.#starts = [own, any].map((places) =>
      this.#joint(
        places,
        places.map((place) => expressions[place]!.start!),
      ),
    );
  }

  /** Places of the expressions that match the whole text. */
  matching(text: string): readonly number[] {
    const found: number[] = [];
    for (const start of this.#starts) {
      const joint = this.#walk(start, text);
      if (joint !== undefined) for (const place of joint.matching) found.push(place);
      else this.#askEach(start.places, text, found);
    }
    this.#askEach(this.#alone, text, found);
    return found;
  }

  /** Undefined where too much is remembered. */
  #walk(start: Joint, text: string): Joint | undefined {
    let joint = start;
    for (const char of text) {
      const next = joint.next.get(char) ?? this.#step(joint, char);
      if (next === undefined || next.places.length === 0) return next;
      joint = next;
    }
    return joint;
  }

  #askEach(places: readonly number[], text: string, found: number[]): void {
    for (const place of places) if (this.#expressions[place]!.matches(text)) found.push(place);
  }

  /** Undefined where too much is remembered. */
  #step(joint: Joint, char: string): Joint | undefined {
    if (this.#remembered > MAX_REMEMBERED) return undefined;
    const places: number[] = [];
    const states: RegexState[] = [];
    for (const [i, place] of joint.places.entries()) {
      const state = this.#expressions[place]!.after(joint.states[i]!, char);
      if (isDead(state)) continue;
      places.push(place);
      states.push(state);
    }
    const next = this.#joint(places, states);
    this.#remembered++;
    joint.next.set(char, next);
    return next;
  }

  #joint(places: readonly number[], states: readonly RegexState[]): Joint {
    const key = places.map((place, i) => `${place}:${states[i]!.id}`).join();
    let joint = this.#joints.get(key);
    if (joint === undefined) {
      joint = { places, states, matching: places.filter((_, i) => states[i]!.accepts), next: new Map() };
      this.#joints.set(key, joint);
      this.#remembered += places.length;
    }
    return joint;
  }
}
