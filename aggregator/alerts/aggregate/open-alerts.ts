import { type Alert, AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { LevelledRule } from '../rules/rules.ts';
import type { Subject } from '../subject.ts';

/** The alerts of one rule that the engine must go on hearing of: pending, firing, or suppressed by an operator. */
export class OpenAlerts {
  readonly #alerts = new Map<string, Alert>();

  note(alert: Alert): void {
    const { state, suppressed } = alert;
    const key = keyOf(alert.cluster, alert.node, alert.gpuUuid || alert.gpu, alert.key);
    if (state === AlertState.PENDING || state === AlertState.FIRING || suppressed)
      this.#alerts.set(key, alert);
    else this.#alerts.delete(key);
  }

  get isEmpty(): boolean {
    return this.#alerts.size === 0;
  }

  /** `gpu` is the UUID, or the index where there is none. */
  has(cluster: string, node: string, gpu: string, key: string): boolean {
    return this.#alerts.has(keyOf(cluster, node, gpu, key));
  }

  /** A copy: judging them changes what is open. */
  all(): Alert[] {
    return [...this.#alerts.values()];
  }
}

export function subjectOf(alert: Alert): Subject {
  const { cluster, node, gpu, gpuUuid, gpuModel, key, labels } = alert;
  return { cluster, node, gpu, gpuUuid, gpuModel, key, unit: '', labels };
}

/** The limit that is passed first; a value that is not beyond it need not be told while no alert is open. */
export function easiestLimit({ direction, levels }: LevelledRule): number {
  const limits = levels.map(({ limit }) => limit).filter((limit) => typeof limit === 'number');
  return direction === 'above' ? Math.min(...limits) : Math.max(...limits);
}

function keyOf(cluster: string, node: string, gpu: string, key: string): string {
  return `${cluster}\0${node}\0${gpu}\0${key}`;
}
