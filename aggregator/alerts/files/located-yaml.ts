import type * as v from 'valibot';
import { LineCounter, parseDocument } from 'yaml';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { takeIssues } from './take-issues.ts';
import { type Path, YamlFaults } from './yaml-faults.ts';

/** A YAML document that says of each fault where it is: `notify.yaml:12:7: route.group_wait: must be ...`. */
export class LocatedYaml {
  readonly content: unknown;
  readonly #source: string;
  readonly #faults: YamlFaults;

  constructor(text: string, source: string) {
    const lines = new LineCounter();
    const document = parseDocument(text, { prettyErrors: false, lineCounter: lines });
    this.#source = source;
    this.#faults = new YamlFaults(source, { text, document, lines });
    for (const error of document.errors) this.#faults.addAt(error.pos[0], error.message);
    this.content = {};
    if (document.errors.length > 0) return;
    try {
      // Aliases are refused past a few: a small file must not become a large one.
      this.content = document.toJS({ maxAliasCount: 100 }) ?? {};
    } catch (thrown) {
      this.#faults.addAt(0, describeError(thrown));
    }
  }

  fault(path: Path, message: string): void {
    this.#faults.add(path, message);
  }

  issues(at: Path, issues: readonly v.BaseIssue<unknown>[]): void {
    takeIssues(
      issues.map((issue) => ({ ...issue, message: wordsFor(issue) })),
      at,
      this.#faults,
    );
  }

  /** Throws `invalid_config` with every fault, a line each, where there is any. */
  check(what: string): void {
    if (this.#faults.count === 0) return;
    throw new FleetError(
      'invalid_config',
      `Cannot read ${what} ${this.#source}:\n  ${this.#faults.list().join('\n  ')}`,
    );
  }
}

/** Words for what a strict object finds: a setting that it does not know, or one that is missing. */
function wordsFor(issue: v.BaseIssue<unknown>): string {
  if (issue.type !== 'strict_object') return issue.message;
  if (issue.expected === 'never') return 'is not a setting';
  return issue.received === 'undefined' ? 'is missing' : 'must be settings with their values';
}
