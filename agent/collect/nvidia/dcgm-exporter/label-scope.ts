import type { Labels } from '#shared/model/dictionary.ts';

/**
 * The lines that a label may be a fact about: all of one GPU, or all of one job on it. A label that has one value
 * on all of them that carry it is a fact; one that varies tells lines apart and must stay on their series.
 */
export class LabelScope {
  /** Labels that name what the scope is. */
  readonly identity: Labels;
  /** Undefined for a label that varies. */
  readonly #values = new Map<string, string | undefined>();

  constructor(identity: Labels) {
    this.identity = identity;
  }

  add(labels: Labels): void {
    for (const [name, value] of labels) {
      const varies = this.#values.has(name) && this.#values.get(name) !== value;
      this.#values.set(name, varies ? undefined : value);
    }
  }

  get facts(): Labels {
    return [...this.#values].filter((entry): entry is [string, string] => entry[1] !== undefined);
  }

  /** Those of a line's labels that are not facts. */
  varying(labels: Labels): Labels {
    return labels.filter(([name]) => this.#values.get(name) === undefined);
  }
}
