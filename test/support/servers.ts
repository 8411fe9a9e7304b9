import { inject } from 'vitest';
import type { FoundServer } from '../../deploy/local/servers.ts';
import { skipLoudly } from './data.ts';

/**
 * Whether VictoriaMetrics can be started here, for `describe.skipIf(!hasVictoriaMetrics())`. Under CI it answers
 * yes, so that a missing server fails the tests instead of skipping them.
 */
export function hasVictoriaMetrics(): boolean {
  return isThere('victoria-metrics', inject('victoriaMetrics'));
}

/** As hasVictoriaMetrics, for nats-server. */
export function hasNatsServer(): boolean {
  return isThere('nats-server', inject('natsServer'));
}

/** As hasVictoriaMetrics, for Debian's prometheus-node-exporter. */
export function hasNodeExporter(): boolean {
  return isThere('prometheus-node-exporter', inject('nodeExporter'));
}

/** As hasVictoriaMetrics, for Debian's prometheus-alertmanager. */
export function hasAlertmanager(): boolean {
  return isThere('prometheus-alertmanager', inject('alertmanager'));
}

export function alertmanagerBinary(): string {
  return required('prometheus-alertmanager', inject('alertmanager'));
}

export function nodeExporterBinary(): string {
  return required('prometheus-node-exporter', inject('nodeExporter'));
}

export function victoriaMetricsBinary(): string {
  return required('victoria-metrics', inject('victoriaMetrics'));
}

export function natsServerBinary(): string {
  return required('nats-server', inject('natsServer'));
}

function isThere(name: string, found: FoundServer): boolean {
  if (found.binary !== undefined) return true;
  if (process.env.CI) return true;
  skipLoudly(`tests that need ${name}: ${found.reason}`);
  return false;
}

function required(name: string, found: FoundServer): string {
  if (found.binary === undefined) throw new Error(`Cannot run ${name}: ${found.reason}`);
  return found.binary;
}
