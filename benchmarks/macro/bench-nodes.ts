import type { Source } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';

/** The cluster of every benchmark. */
export const BENCH_CLUSTER = 'bench';

export function benchSource(node: string): Source {
  return { cluster: BENCH_CLUSTER, node, externalLabels: [] };
}

/** The dictionary of one node: its GPUs are its own, or the aggregator would score them once for all nodes. */
export function dictionaryOf(node: string, { group, intervalMs, series }: Dictionary): Dictionary {
  const labelled = series.map((one) => ({
    ...one,
    labels: one.labels.map(([name, value]) => [name, name === 'uuid' ? `${value}-${node}` : value] as const),
  }));
  return createDictionary(group, intervalMs, labelled);
}
