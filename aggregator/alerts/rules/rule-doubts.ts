import { metricNamed } from '#shared/catalogue/metrics.ts';
import type { Rule } from './rules.ts';

/** What is not wrong with rules, but is most likely not meant: each a sentence. */
export function doubtsOf(rules: readonly Rule[]): string[] {
  const names = new Set(rules.map((rule) => rule.name));
  return rules.flatMap((rule) => [
    ...[...metricsOf(rule)]
      .filter((metric) => metricNamed(metric) === undefined)
      .map(
        (metric) =>
          `rule ${rule.name}: ${metric} is not in the catalogue, it matches only series that pass through`,
      ),
    ...windowsOverGauges(rule),
    ...(rule.kind === 'aggregate' && 'rule' in rule.of && !names.has(rule.of.rule)
      ? [`rule ${rule.name}: counts alerts of ${rule.of.rule}, which is switched off`]
      : []),
  ]);
}

function metricsOf(rule: Rule): ReadonlySet<string> {
  const names = new Set<string>();
  if (rule.kind === 'absent') names.add(rule.metric);
  if (rule.kind === 'aggregate' && 'metric' in rule.of) names.add(rule.of.metric);
  if (rule.kind !== 'threshold') return names;
  for (const value of rule.values) {
    names.add(value.metric);
    if (value.over) names.add(value.over.metric);
  }
  for (const { limit } of rule.levels) if (typeof limit !== 'number') names.add(limit.metric);
  return names;
}

function windowsOverGauges(rule: Rule): string[] {
  if (rule.kind !== 'threshold') return [];
  return rule.values
    .filter(({ metric, window }) => window !== undefined && metricNamed(metric)?.kind === 'gauge')
    .map(
      ({ metric, window }) =>
        `rule ${rule.name}: ${metric} is no counter, its ${window!.fn} counts each rise and no fall`,
    );
}
