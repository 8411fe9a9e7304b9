import type { Series } from '#shared/model/dictionary.ts';
import { MAX_DICTIONARY_BYTES } from '#shared/wire/dictionary.ts';

/** Room for what is not text: a dictionary is sent in one message. Distinct texts count once, as on the wire. */
const TEXT_BUDGET = Math.floor(MAX_DICTIONARY_BYTES * 0.8);
/** Of one label or name in its message: two indices of at most three bytes, and framing. */
const REFERENCE_BYTES = 8;

/** What a dictionary of these series takes in its message, from above. */
export class TextBudget {
  readonly #seen = new Set<string>();
  #bytes = 0;

  /** False where the series would not fit; what is behind it may. */
  takes({ name, labels, help, unit }: Series): boolean {
    const texts = [name, help, unit, ...labels.flat()];
    const fresh = texts.filter((text) => !this.#seen.has(text));
    const bytes = fresh.reduce(
      (sum, text) => sum + Buffer.byteLength(text) + REFERENCE_BYTES,
      REFERENCE_BYTES * (texts.length - 2),
    );
    if (this.#bytes + bytes > TEXT_BUDGET) return false;
    this.#bytes += bytes;
    for (const text of fresh) this.#seen.add(text);
    return true;
  }
}
