import type { Rule } from './rules/rules.ts';
import type { Subject } from './subject.ts';

/** Most labels that an alert gets from `ContextOf`, and the longest, in characters. */
const MAX_CONTEXT = 16;
const MAX_CONTEXT_VALUE = 200;

/**
 * What is known of a node or GPU beside its series, such as its rack and pool: joined to the labels of its alerts when
 * they begin, at most 16. `gpuUuid` is empty where the alert is about the node.
 */
export type ContextOf = (cluster: string, node: string, gpuUuid: string) => Readonly<Record<string, string>>;

export type Place = Pick<Subject, 'cluster' | 'node' | 'gpuUuid'>;

/** What is known of the place, then what the series or event says, then what the rule adds: the later counts. */
export function joinLabels(
  rule: Rule,
  { cluster, node, gpuUuid }: Place,
  own: Readonly<Record<string, string>>,
  contextOf: ContextOf | undefined,
): Record<string, string> {
  const labels: Record<string, string> = {};
  if (node !== '' && contextOf !== undefined) {
    const context = Object.entries(contextOf(cluster, node, gpuUuid)).slice(0, MAX_CONTEXT);
    for (const [name, value] of context) labels[name] = value.slice(0, MAX_CONTEXT_VALUE);
  }
  return Object.assign(labels, own, rule.addLabels);
}
