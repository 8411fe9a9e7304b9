import { timestampMs } from '@bufbuild/protobuf/wkt';
import { type Alert, AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { severityName } from '../../summary.ts';

export function isFiring(alert: Alert): boolean {
  return alert.state === AlertState.FIRING;
}

/** The alert's labels and its own fields under the names that matchers know; empty ones are left out. */
export function alertLabels(alert: Alert): Record<string, string> {
  const own = {
    rule: alert.rule,
    severity: severityName(alert.severity),
    cluster: alert.cluster,
    node: alert.node,
    gpu: alert.gpu,
    gpu_uuid: alert.gpuUuid,
    gpu_model: alert.gpuModel,
    key: alert.key,
  };
  const all = Object.entries({ ...alert.labels, ...own });
  return Object.fromEntries(all.filter(([, value]) => value !== ''));
}

/** The alert's texts with its summary among them. */
export function alertAnnotations(alert: Alert): Record<string, string> {
  return alert.summary === '' ? { ...alert.annotations } : { ...alert.annotations, summary: alert.summary };
}

/** When it began to fire, else when its condition began; Unix ms, 0 where nobody said. */
export function startMs(alert: Alert): number {
  const start = alert.firedAt ?? alert.startedAt;
  return start ? timestampMs(start) : 0;
}

/** When it ended, Unix ms; undefined while it fires. */
export function endMs(alert: Alert): number | undefined {
  if (isFiring(alert)) return undefined;
  const end = alert.resolvedAt ?? alert.updatedAt;
  return end ? timestampMs(end) : startMs(alert);
}

/** RFC 3339 in UTC. Times that no calendar has become the first. */
export function isoTime(unixMs: number): string {
  return new Date(Math.abs(unixMs) <= 8.64e15 ? unixMs : 0).toISOString();
}

/** `gpu-017 GPU 3`, or the node alone, or the cluster. */
export function whereOf(alert: Alert): string {
  const gpu = alert.gpu || alert.gpuUuid;
  return [alert.node || alert.cluster, gpu && `GPU ${gpu}`].filter(Boolean).join(' ');
}
