import type * as v from 'valibot';
import { type Document, LineCounter, parseDocument } from 'yaml';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';

type Path = readonly (string | number)[];

/** Beyond this many faults the rest is not named. */
const MAX_FAULTS = 50;

/** A YAML document that says of each fault where it is: `notify.yaml:12:7: route.group_wait: must be ...`. */
export class LocatedYaml {
  readonly content: unknown;
  readonly #source: string;
  readonly #document: Document;
  readonly #lines = new LineCounter();
  readonly #faults: string[] = [];

  constructor(text: string, source: string) {
    this.#source = source;
    this.#document = parseDocument(text, { prettyErrors: false, lineCounter: this.#lines });
    for (const error of this.#document.errors) {
      const { line, col } = this.#lines.linePos(error.pos[0]);
      this.#faults.push(`${source}:${line}:${col}: ${error.message}`);
    }
    this.content = this.#read();
  }

  fault(path: Path, message: string): void {
    const { line, col } = this.#positionOf(path);
    this.#faults.push(`${this.#source}:${line}:${col}: ${wordsOf(path)}: ${message}`);
  }

  issues(at: Path, issues: readonly v.BaseIssue<unknown>[]): void {
    for (const issue of issues) {
      const path = [...at, ...(issue.path ?? []).map((item) => item.key as string | number)];
      this.fault(path, wordsFor(issue));
    }
  }

  /** Throws `invalid_config` with every fault, a line each, where there is any. */
  check(what: string): void {
    if (this.#faults.length === 0) return;
    const named = this.#faults.slice(0, MAX_FAULTS);
    const more = this.#faults.length - named.length;
    if (more > 0) named.push(`and ${more} more`);
    throw new FleetError('invalid_config', `Cannot read ${what} ${this.#source}:\n  ${named.join('\n  ')}`);
  }

  #read(): unknown {
    if (this.#document.errors.length > 0) return {};
    try {
      // Aliases are refused past a few: a small file must not become a large one.
      return this.#document.toJS({ maxAliasCount: 100 }) ?? {};
    } catch (thrown) {
      this.#faults.push(`${this.#source}:1:1: ${describeError(thrown)}`);
      return {};
    }
  }

  /** Of the nearest part of the path that is there. */
  #positionOf(path: Path): { line: number; col: number } {
    for (let length = path.length; length > 0; length--) {
      const node: unknown = this.#document.getIn(path.slice(0, length), true);
      const range = (node as { range?: readonly number[] } | undefined)?.range;
      if (range) return this.#lines.linePos(range[0]!);
    }
    return { line: 1, col: 1 };
  }
}

function wordsOf(path: Path): string {
  let words = '';
  for (const key of path) words += typeof key === 'number' ? `[${key}]` : `${words === '' ? '' : '.'}${key}`;
  return words === '' ? '(top level)' : words;
}

/** Words for what a strict object finds: a setting that it does not know, or one that is missing. */
function wordsFor(issue: v.BaseIssue<unknown>): string {
  if (issue.type !== 'strict_object') return issue.message;
  if (issue.expected === 'never') return 'is not a setting';
  return issue.received === 'undefined' ? 'is missing' : 'must be settings with their values';
}
