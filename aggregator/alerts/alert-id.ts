import { hash } from 'node:crypto';

/**
 * The stable name of an alert: 16 hex digits of SHA-256 over what it is about. `gpu` is the UUID, or the index
 * where there is none: a GPU that was renumbered keeps its alerts, a GPU that was swapped gets new ones.
 * 64 bits: among 100,000 alerts two share an id with a probability of 3e-10.
 */
export function alertId(cluster: string, node: string, gpu: string, rule: string, key: string): string {
  // Each part carries its length, so that no two lists of parts give the same text.
  const text = [cluster, node, gpu, rule, key].map((part) => `${part.length}:${part}`).join('');
  return hash('sha256', text, 'hex').slice(0, 16);
}
