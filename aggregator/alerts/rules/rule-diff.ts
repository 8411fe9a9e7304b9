import { isDeepStrictEqual } from 'node:util';
import type { Rule } from './rules.ts';

/** What another set of rules changes, by name. */
export interface RuleDiff {
  readonly added: string[];
  readonly changed: string[];
  readonly removed: string[];
}

export function diffRules(before: readonly Rule[], after: readonly Rule[]): RuleDiff {
  const old = new Map(before.map((rule) => [rule.name, rule]));
  const diff: RuleDiff = { added: [], changed: [], removed: [] };
  for (const rule of after) {
    const earlier = old.get(rule.name);
    old.delete(rule.name);
    if (earlier === undefined) diff.added.push(rule.name);
    else if (!isDeepStrictEqual(earlier, rule)) diff.changed.push(rule.name);
  }
  diff.removed.push(...old.keys());
  return diff;
}
