import type { FiringSubjects } from './firing-subjects.ts';
import type { GpuTable } from './gpu-table.ts';
import type { GroupTable } from './group-table.ts';
import type { NodeTable } from './node-table.ts';
import type { SeriesTable } from './series-table.ts';

/** A value older than this many intervals, and than OLD_MS, is not of now. Our own judgement, as for gaps of alerts. */
const OLD_INTERVALS = 3;
const OLD_MS = 60_000;

/** One number for each group, in the order of the groups; NaN for a group without any. */
export function seriesValues(
  fn: 'avg' | 'min' | 'max' | 'sum',
  table: SeriesTable,
  groups: GroupTable,
  nowMs: number,
): Float64Array {
  const counts = new Float64Array(groups.size);
  const results = new Float64Array(groups.size).fill(Number.NaN);
  for (let row = 0; row < table.size; row++) {
    const nodeRow = table.nodeRows[row]!;
    if (nodeRow < 0) continue;
    const age = nowMs - table.seenMs[row]!;
    // Also where it was never seen, and its age is no number.
    if (!(age <= Math.max(OLD_INTERVALS * table.intervalMs[row]!, OLD_MS))) continue;
    const value = table.values[row]!;
    if (Number.isNaN(value)) continue;
    const of = groups.ofNode(nodeRow);
    for (let i = 0; i < of.length; i++) {
      const group = of[i]!;
      results[group] = counts[group] === 0 ? value : combined(fn, results[group]!, value);
      counts[group]!++;
    }
  }
  if (fn === 'avg') for (let i = 0; i < results.length; i++) results[i]! /= counts[i]!;
  return results;
}

/** How many GPUs and nodes of each group have a firing alert. */
export function firingCounts(firing: FiringSubjects, groups: GroupTable, gpus: GpuTable): Float64Array {
  const counts = new Float64Array(groups.size);
  firing.each(gpus, (nodeRow) => {
    for (const group of groups.ofNode(nodeRow)) counts[group]!++;
  });
  return counts;
}

/**
 * The share of each group's GPUs, or of its nodes, that have a firing alert; the larger one for a rule that has alerts
 * of both. A GPU with an alert counts as known though its node has not reported since the start.
 */
export function firingShares(
  firing: FiringSubjects,
  groups: GroupTable,
  gpus: GpuTable,
  nodes: NodeTable,
): Float64Array {
  const firingGpus = new Float64Array(groups.size);
  const firingNodes = new Float64Array(groups.size);
  const knownGpus = new Float64Array(groups.size);
  const knownNodes = new Float64Array(groups.size);
  for (const nodeRow of nodes.rows()) {
    for (const group of groups.ofNode(nodeRow)) {
      knownNodes[group]!++;
      knownGpus[group]! += gpus.countOf(nodeRow);
    }
  }
  firing.each(gpus, (nodeRow, isGpu, isKnown) => {
    for (const group of groups.ofNode(nodeRow)) {
      if (!isGpu) firingNodes[group]!++;
      else firingGpus[group]!++;
      if (!isKnown) knownGpus[group]!++;
    }
  });
  const shares = new Float64Array(groups.size);
  for (let i = 0; i < shares.length; i++) {
    shares[i] = Math.max(share(firingGpus[i]!, knownGpus[i]!), share(firingNodes[i]!, knownNodes[i]!));
  }
  return shares;
}

function share(part: number, whole: number): number {
  return whole > 0 ? part / whole : 0;
}

function combined(fn: 'avg' | 'min' | 'max' | 'sum', so: number, value: number): number {
  if (fn === 'min') return Math.min(so, value);
  if (fn === 'max') return Math.max(so, value);
  return so + value;
}
