import { createHash } from 'node:crypto';
import type { Labels } from '#shared/model/dictionary.ts';
import { LinearRegex, type RegexMatch } from '#shared/regex/linear-regex.ts';
import type { RelabelSettings } from './settings.ts';

/** A series as relabelling sees it. */
export interface Labelled {
  readonly name: string;
  /** Sorted by name; none empty. */
  readonly labels: Labels;
}

/** Changes labels in place; false drops the series. */
type Rule = (labels: Map<string, string>) => boolean;

const NAME = '__name__';
const LABEL_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
/** `$1`, `${1}`, `$name`, `${name}`, `$$`: as Go's regexp.Expand reads them, the longest name first. */
const REFERENCE = /\$(?:\$|([A-Za-z0-9_]+)|\{([A-Za-z0-9_]+)\})/g;

/**
 * Compiles Prometheus' `metric_relabel_configs`. What a rule's text must match, it must match as a whole; a label
 * set to nothing is removed; labels whose names begin with two underscores, other than `__name__`, are there for
 * later rules only.
 *
 * Gives undefined for a series that is dropped, or that is left without a name. Throws `invalid_config` for an
 * expression that cannot be used.
 */
export function compileRelabel(
  settings: readonly RelabelSettings[],
): (given: Labelled) => Labelled | undefined {
  const rules = settings.map(compileRule);
  if (rules.length === 0) return (given) => given;
  return ({ name, labels }) => {
    const all = new Map(labels);
    all.set(NAME, name);
    for (const rule of rules) if (!rule(all)) return undefined;
    const newName = all.get(NAME);
    if (newName === undefined) return undefined;
    const kept = [...all].filter(([label]) => !label.startsWith('__'));
    return { name: newName, labels: kept.sort(([a], [b]) => (a < b ? -1 : 1)) };
  };
}

function compileRule(settings: RelabelSettings): Rule {
  const { source_labels, separator, target_label, modulus, replacement, action } = settings;
  const regex = new LinearRegex(settings.regex);
  const source = (labels: Map<string, string>): string =>
    source_labels.map((name) => labels.get(name) ?? '').join(separator);
  switch (action) {
    case 'keep':
      return (labels) => regex.match(source(labels)) !== undefined;
    case 'drop':
      return (labels) => regex.match(source(labels)) === undefined;
    case 'keepequal':
      return (labels) => source(labels) === (labels.get(target_label) ?? '');
    case 'dropequal':
      return (labels) => source(labels) !== (labels.get(target_label) ?? '');
    case 'replace':
      return (labels) => {
        const found = regex.match(source(labels));
        if (!found) return true;
        const target = expand(target_label, found);
        if (LABEL_NAME.test(target)) setLabel(labels, target, expand(replacement, found));
        return true;
      };
    case 'lowercase':
      return (labels) => setLabel(labels, target_label, source(labels).toLowerCase());
    case 'uppercase':
      return (labels) => setLabel(labels, target_label, source(labels).toUpperCase());
    case 'hashmod':
      return (labels) => setLabel(labels, target_label, String(hash(source(labels)) % BigInt(modulus)));
    case 'labelmap':
      return (labels) => {
        for (const [name, value] of [...labels]) {
          const found = regex.match(name);
          const target = found && expand(replacement, found);
          if (target !== undefined && LABEL_NAME.test(target)) setLabel(labels, target, value);
        }
        return true;
      };
    case 'labeldrop':
      return (labels) => filterLabels(labels, (name) => regex.match(name) === undefined);
    case 'labelkeep':
      return (labels) => filterLabels(labels, (name) => regex.match(name) !== undefined);
  }
}

function setLabel(labels: Map<string, string>, name: string, value: string): true {
  if (value === '') labels.delete(name);
  else labels.set(name, value);
  return true;
}

function filterLabels(labels: Map<string, string>, keep: (name: string) => boolean): true {
  for (const name of [...labels.keys()]) if (!keep(name)) labels.delete(name);
  return true;
}

function expand(template: string, { groups, names }: RegexMatch): string {
  if (!template.includes('$')) return template;
  return template.replace(REFERENCE, (whole, bare?: string, braced?: string) => {
    const reference = bare ?? braced;
    if (reference === undefined) return whole.slice(1);
    const group = /^\d+$/.test(reference) ? Number(reference) : names.get(reference);
    return (group === undefined ? undefined : groups[group]) ?? '';
  });
}

/** As Prometheus hashes, so that a modulus chooses the same series: the last eight bytes of the MD5. */
function hash(text: string): bigint {
  return createHash('md5').update(text).digest().readBigUInt64BE(8);
}
