import { type Alert, AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { severityName } from '../../summary.ts';
import type { ExpectedAlert } from './trial-file.ts';

/** What differs between the alerts that there are of one rule and those that should be, a line each; empty if nothing. */
export function differences(alerts: readonly Alert[], expected: readonly ExpectedAlert[]): string[] {
  const pending = expected.some(({ state }) => state === 'pending');
  const there = alerts.filter(
    ({ state }) => state === AlertState.FIRING || (pending && state === AlertState.PENDING),
  );
  const left = new Set(there);
  const lines: string[] = [];
  // Those that say most first: what fits many must not take the only one of another.
  for (const one of [...expected].sort((a, b) => sizeOf(b) - sizeOf(a))) {
    const found = [...left].find((alert) => fits(alert, one));
    if (found !== undefined) left.delete(found);
    else lines.push(`missing: ${one.state} ${shown({ ...one.labels, ...one.annotations })}`);
  }
  for (const alert of left) {
    lines.push(`not expected: ${stateName(alert)} ${shown({ ...labelsOf(alert), ...alert.annotations })}`);
  }
  return lines;
}

function fits(alert: Alert, { labels, annotations, state }: ExpectedAlert): boolean {
  const own = labelsOf(alert);
  return (
    stateName(alert) === state &&
    Object.entries(labels).every(([name, value]) => (own[name] ?? '') === value) &&
    Object.entries(annotations).every(([name, value]) => (alert.annotations[name] ?? '') === value)
  );
}

/** As matchers of routes and silences see them, empty ones left out. */
function labelsOf(alert: Alert): Record<string, string> {
  const { rule, cluster, node, gpu, gpuUuid, gpuModel, key, summary } = alert;
  const all = {
    ...alert.labels,
    ...{ alertname: rule, rule, severity: severityName(alert.severity), cluster, node, gpu, key, summary },
    gpu_uuid: gpuUuid,
    gpu_model: gpuModel,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== ''));
}

function stateName({ state }: Alert): 'firing' | 'pending' {
  return state === AlertState.PENDING ? 'pending' : 'firing';
}

function sizeOf({ labels, annotations }: ExpectedAlert): number {
  return Object.keys(labels).length + Object.keys(annotations).length;
}

function shown(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).filter(([name]) => name !== 'alertname' && name !== 'rule');
  return `{${pairs.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(', ')}}`;
}
