const SPACE = 0x20;
const TAB = 0x09;
const NEWLINE = 0x0a;
const ZERO = 0x30;
const NINE = 0x39;
const POINT = 0x2e;
const HEX = Buffer.from('0x');
/** Digits that float64 holds exactly whatever they are. */
const EXACT_DIGITS = 15;

/**
 * Walks lines and words of a small kernel file in a reused buffer, without making strings.
 *
 * A word that the data ends in, with nothing behind it, was cut off: it is not given, for a cut number is another
 * number. Files of the kernel end in a newline.
 */
export class ByteScanner {
  #bytes: Buffer = Buffer.alloc(0);
  #end = 0;
  #lineEnd = -1;
  #at = 0;
  #start = 0;
  #stop = 0;

  /** Begins again, before the first line. */
  reset(bytes: Buffer, length: number): this {
    this.#bytes = bytes;
    this.#end = length;
    this.#lineEnd = -1;
    this.#at = 0;
    return this;
  }

  /** To the begin of the next line; false where there is none. */
  line(): boolean {
    const from = this.#lineEnd + 1;
    if (from >= this.#end) return false;
    const found = this.#bytes.indexOf(NEWLINE, from);
    this.#lineEnd = found < 0 || found >= this.#end ? this.#end : found;
    this.#at = from;
    return true;
  }

  /** To the next word of the line; false where there is none. */
  word(): boolean {
    const bytes = this.#bytes;
    let at = this.#at;
    while (at < this.#lineEnd && (bytes[at] === SPACE || bytes[at] === TAB)) at++;
    this.#start = at;
    while (at < this.#lineEnd && bytes[at] !== SPACE && bytes[at] !== TAB) at++;
    this.#stop = at;
    this.#at = at;
    return at > this.#start && at < this.#end;
  }

  /** Over some words; false where the line has not so many. */
  skip(words: number): boolean {
    for (let i = 0; i < words; i++) if (!this.word()) return false;
    return true;
  }

  /** How many words are left in the line; does not move. */
  remaining(): number {
    const [at, start, stop] = [this.#at, this.#start, this.#stop];
    let count = 0;
    while (this.word()) count++;
    this.#at = at;
    this.#start = start;
    this.#stop = stop;
    return count;
  }

  /** Which of these the word is; -1 for none. */
  match(words: readonly Buffer[]): number {
    const length = this.#stop - this.#start;
    for (let i = 0; i < words.length; i++) {
      const word = words[i]!;
      if (
        word.length === length &&
        word[0] === this.#bytes[this.#start] &&
        word.compare(this.#bytes, this.#start, this.#stop) === 0
      )
        return i;
    }
    return -1;
  }

  /** The word begins so; and what follows becomes the word. */
  strip(prefix: Buffer): boolean {
    const to = this.#start + prefix.length;
    if (to > this.#stop || prefix.compare(this.#bytes, this.#start, to) !== 0) return false;
    this.#start = to;
    return true;
  }

  /** The word as a number, digits with at most one point, or 0x and hexadecimal ones; NaN where it is anything else. */
  number(): number {
    const bytes = this.#bytes;
    if (bytes[this.#start + 1] === HEX[1] && this.strip(HEX)) {
      const text = this.text();
      return /^[0-9a-f]{1,16}$/i.test(text) ? Number.parseInt(text, 16) : Number.NaN;
    }
    let value = 0;
    let digits = 0;
    let scale = 0;
    for (let at = this.#start; at < this.#stop; at++) {
      const byte = bytes[at]!;
      if (byte >= ZERO && byte <= NINE) {
        value = value * 10 + (byte - ZERO);
        digits++;
        if (scale > 0) scale *= 10;
      } else if (byte === POINT && scale === 0) scale = 1;
      else return Number.NaN;
    }
    if (digits === 0) return Number.NaN;
    if (digits > EXACT_DIGITS) return Number(this.text());
    return scale > 1 ? value / scale : value;
  }

  /** The word. */
  text(): string {
    return this.#bytes.toString('utf8', this.#start, this.#stop);
  }

  /** What is left of the line, without the blanks around it. Empty where the data was cut off in it. */
  rest(): string {
    return this.#lineEnd < this.#end ? this.#bytes.toString('utf8', this.#at, this.#lineEnd).trim() : '';
  }
}

/** Words to compare with. */
export function words(...texts: readonly string[]): readonly Buffer[] {
  return texts.map((text) => Buffer.from(text));
}

/**
 * The number of columns of a table. A kernel does not change it while it runs, so the first line that has enough
 * tells; a line with another number lost or got some, and its values would be in the wrong places.
 */
export class ColumnCount {
  readonly #least: number;
  #count = 0;

  constructor(least: number) {
    this.#least = least;
  }

  /** Whether the rest of the line has the right number of words. */
  fits(scanner: ByteScanner): boolean {
    const count = scanner.remaining();
    if (this.#count === 0 && count >= this.#least) this.#count = count;
    return count === this.#count;
  }
}
