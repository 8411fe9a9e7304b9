import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { isWithin } from '../files/time-interval.ts';
import { labelOf } from '../mute/matchers.ts';
import type { Route } from './notify-settings.ts';

/**
 * The routes that an alert takes, as Alertmanager chooses them: into the first child that matches, and on to the next
 * only where that one says `continue`; a route none of whose children matches takes it itself.
 */
export function routesOf(route: Route, alert: Alert, found: Route[] = []): Route[] {
  if (!route.matches(alert)) return found;
  const before = found.length;
  for (const child of route.routes) {
    const had = found.length;
    routesOf(child, alert, found);
    if (found.length > had && !child.continue) break;
  }
  if (found.length === before) found.push(route);
  return found;
}

/** Whether the route may tell now. */
export function isOpen(route: Route, atMs: number): boolean {
  if (route.mutedIn.some((specs) => isWithin(specs, atMs))) return false;
  return route.activeIn.length === 0 || route.activeIn.some((specs) => isWithin(specs, atMs));
}

/** What the alerts of a group have in common. `...` among the names stands for every label. */
export function groupLabelsOf(route: Route, alert: Alert): Record<string, string> {
  const names = route.groupBy.includes('...')
    ? [...OWN_LABELS, ...Object.keys(alert.labels).sort()]
    : route.groupBy;
  const labels: Record<string, string> = {};
  for (const name of names) labels[name] = labelOf(alert, name);
  return labels;
}

const OWN_LABELS = ['cluster', 'node', 'gpu', 'gpu_uuid', 'gpu_model', 'rule', 'key', 'severity'];
