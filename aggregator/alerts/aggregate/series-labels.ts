import { type Labels, labelOf } from '#shared/model/dictionary.ts';
import type { LabelMatch } from '../rules/rules.ts';

/** Labels that say which GPU a series belongs to; the rest tells series of one GPU apart. */
export const IDENTITY: ReadonlySet<string> = new Set(['gpu', 'uuid', 'model', 'mig_profile']);

export function carries(labels: Labels, match: LabelMatch): boolean {
  for (const name in match) if (labelOf(labels, name) !== match[name]) return false;
  return true;
}

/** The UUID, or the index where there is none; empty for a series of the node. */
export function gpuOf(labels: Labels): string {
  return labelOf(labels, 'uuid') ?? labelOf(labels, 'gpu') ?? '';
}

/** What tells series of one GPU apart that a rule matches: the key of their alerts. */
export function freeKey(labels: Labels, match: LabelMatch): string {
  return labels
    .filter(([name]) => !IDENTITY.has(name) && !Object.hasOwn(match, name))
    .map(([name, value]) => `${name}=${value}`)
    .join(',');
}

/** Labels of the alert of a series: all but those that its own fields hold. */
export function alertLabels(labels: Labels): Readonly<Record<string, string>> {
  return Object.fromEntries(labels.filter(([name]) => !IDENTITY.has(name)));
}
