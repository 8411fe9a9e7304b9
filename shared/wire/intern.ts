/** Texts kept at once; beyond it the table begins anew: what is in use then is only no longer shared with the next. */
const MAX_TEXTS = 100_000;
/** Longer ones (help texts apart, that are the same on every node) are rarely the same twice. */
const MAX_LENGTH = 256;

/**
 * One copy of a text that many dictionaries bring: the names, labels and help of one collector are the same on
 * every node, and 10,000 streams would hold them 10,000 times.
 */
export class Interned {
  readonly #texts = new Map<string, string>();

  of(text: string): string {
    if (text.length > MAX_LENGTH) return text;
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    if (this.#texts.size >= MAX_TEXTS) this.#texts.clear();
    this.#texts.set(text, text);
    return text;
  }
}
