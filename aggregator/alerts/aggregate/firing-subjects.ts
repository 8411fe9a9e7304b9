import { type Alert, AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { GpuTable } from './gpu-table.ts';
import type { NodeTable } from './node-table.ts';

/** A GPU or node with at least one firing alert of the rule. */
interface FiringSubject {
  readonly nodeRow: number;
  /** UUID, or the index where there is none; empty where the node itself is meant. */
  readonly gpu: string;
  readonly gpuUuid: string;
  /** Ids: a GPU may have several, such as one for each slice. */
  readonly alerts: Set<string>;
  /** What the table of GPUs said of it, and in which version: asking costs a text for each. */
  checked: number;
  isKnown: boolean;
  hasMoved: boolean;
}

/** Which GPUs and nodes have a firing alert of one rule, as the engine tells. Bounded by the engine's own limit. */
export class FiringSubjects {
  readonly #nodes: NodeTable;
  readonly #subjects = new Map<string, FiringSubject>();
  /** Rises with each change. */
  version = 0;

  constructor(nodes: NodeTable) {
    this.#nodes = nodes;
  }

  /** Takes the state of an alert of the rule; an alert of a group has no node and is not counted. */
  note(alert: Alert, nowMs: number): void {
    if (alert.node === '') return;
    const gpu = alert.gpuUuid || alert.gpu;
    const key = `${alert.cluster}\0${alert.node}\0${gpu}`;
    const subject = this.#subjects.get(key);
    if (alert.state === AlertState.FIRING) {
      if (subject !== undefined) {
        subject.alerts.add(alert.id);
        return;
      }
      const nodeRow = this.#nodes.add(alert.cluster, alert.node, nowMs);
      if (nodeRow < 0) return;
      this.#nodes.refer(nodeRow);
      const alerts = new Set([alert.id]);
      const unchecked = { checked: -1, isKnown: false, hasMoved: false };
      this.#subjects.set(key, { nodeRow, gpu, gpuUuid: alert.gpuUuid, alerts, ...unchecked });
      this.version++;
    } else if (subject?.alerts.delete(alert.id) && subject.alerts.size === 0) {
      this.#subjects.delete(key);
      this.#nodes.release(subject.nodeRow);
      this.version++;
    }
  }

  /** Nothing counts them any more. */
  clear(): void {
    for (const { nodeRow } of this.#subjects.values()) this.#nodes.release(nodeRow);
    this.#subjects.clear();
  }

  /** Calls for each; a GPU that has moved to another node counts no longer where it was. */
  each(gpus: GpuTable, take: (nodeRow: number, isGpu: boolean, isKnown: boolean) => void): void {
    for (const subject of this.#subjects.values()) {
      const { nodeRow, gpu, gpuUuid } = subject;
      if (subject.checked !== gpus.version) {
        subject.checked = gpus.version;
        subject.isKnown = gpu === '' || gpus.has(nodeRow, gpu);
        subject.hasMoved = gpuUuid !== '' && gpus.movedFrom(nodeRow, gpuUuid);
      }
      if (!subject.hasMoved) take(nodeRow, gpu !== '', subject.isKnown);
    }
  }
}
