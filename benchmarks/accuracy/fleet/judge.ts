import type { GpuModel } from '../../../agent/collect/simulated/profiles.ts';
import type { LoadPattern } from '../../../agent/collect/simulated/workload.ts';
import { GRACE_SECONDS, INTERVAL_MS, type PlannedFault, type PlannedNode } from './fleet-plan.ts';
import type { Alarm } from './watch.ts';

/** What became of one injected fault. */
export interface Finding {
  readonly node: string;
  readonly model: GpuModel;
  readonly load: LoadPattern;
  readonly fault: PlannedFault;
  /** From the last read before the fault to the first alarm on the right GPU; undefined where there was none in time. */
  readonly delaySeconds: number | undefined;
  /** That alarm. */
  readonly by: Alarm | undefined;
  /** On GPUs of the node that did not have it, meanwhile. */
  readonly elsewhere: readonly Alarm[];
}

export interface Verdict {
  readonly falseAlarms: readonly Alarm[];
  readonly finding: Finding | undefined;
}

/**
 * A fault counts as found by an alarm on its GPU (for a fault of the node: on any) from its begin to GRACE_SECONDS after
 * its end. What is raised before it, or on a node without one, is a false alarm; on another GPU of the node while it
 * lasts it is told apart, as the fault does reach there: a job waits for its slowest GPU. The delay counts from the read
 * before the fault, as the simulation lets a fault act on all of the time since then: at least one interval.
 */
export function judge(
  { name, model, load, fault }: PlannedNode,
  alarms: readonly Alarm[],
  startMs: number,
): Verdict {
  const own = alarms.filter(({ node }) => node === name);
  if (fault === undefined) return { falseAlarms: own, finding: undefined };
  const beganMs = startMs + lastReadBefore(fault.begins * 1000);
  const lastMs = startMs + (fault.ends + GRACE_SECONDS) * 1000;
  const meanwhile = own.filter(({ atMs }) => atMs > beganMs && atMs <= lastMs);
  const right = ({ gpu }: Alarm): boolean => fault.ofNode || gpu === String(fault.gpu);
  const by = meanwhile.find(right);
  return {
    falseAlarms: own.filter(({ atMs }) => atMs <= beganMs),
    finding: {
      node: name,
      model,
      load,
      fault,
      delaySeconds: by && (by.atMs - beganMs) / 1000,
      by,
      elsewhere: meanwhile.filter((one) => !right(one)),
    },
  };
}

function lastReadBefore(afterMs: number): number {
  return (Math.ceil(afterMs / INTERVAL_MS) - 1) * INTERVAL_MS;
}
