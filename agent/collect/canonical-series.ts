import { metricNamed } from '#shared/catalogue/metrics.ts';
import type { Labels, Series } from '#shared/model/dictionary.ts';

/**
 * A series of the catalogue. Labels are given as an object, in any order; empty and undefined values are left out.
 * Throws a TypeError for a name that the catalogue does not have: a fault of the program.
 */
export function canonicalSeries(
  name: string,
  labels: Readonly<Record<string, string | undefined>> = {},
): Series {
  const metric = metricNamed(name);
  if (!metric) throw new TypeError(`${name} is not in the catalogue`);
  const { kind, decimals, help, unit } = metric;
  return { name, labels: sortedLabels(labels), kind, decimals, help, unit };
}

/** As a dictionary wants them: sorted by name, none empty. */
export function sortedLabels(labels: Readonly<Record<string, string | undefined>>): Labels {
  return Object.entries(labels)
    .filter((pair): pair is [string, string] => pair[1] !== undefined && pair[1] !== '')
    .sort(([a], [b]) => (a < b ? -1 : 1));
}
