import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { describeError } from '#shared/errors/fleet-error.ts';
import { cachedBinary, fetchDebianPackages } from './debian-packages.ts';

/** A server program: where it is, or why it is not to be had. */
export type FoundServer =
  | { readonly binary: string }
  | { readonly binary: undefined; readonly reason: string };

interface ServerProgram {
  /** Names on PATH, the Debian one first: upstream's own archives call it victoria-metrics-prod. */
  readonly names: readonly string[];
  readonly debianPackage: string;
  readonly pathInPackage: string;
}

export const VICTORIA_METRICS: ServerProgram = {
  names: ['victoria-metrics', 'victoria-metrics-prod'],
  debianPackage: 'victoria-metrics',
  pathInPackage: 'usr/bin/victoria-metrics',
};

export const NATS_SERVER: ServerProgram = {
  names: ['nats-server'],
  debianPackage: 'nats-server',
  pathInPackage: 'usr/sbin/nats-server',
};

/** A peer of ours in the benchmarks; it comes in VictoriaMetrics' own package. */
export const VMAGENT: ServerProgram = {
  names: ['vmagent', 'vmagent-prod'],
  debianPackage: 'victoria-metrics',
  pathInPackage: 'usr/bin/vmagent',
};

/** Evaluates rules over the store, once an interval: what the store's history is needed for, and a peer. */
export const VMALERT: ServerProgram = {
  names: ['vmalert', 'vmalert-prod'],
  debianPackage: 'victoria-metrics',
  pathInPackage: 'usr/bin/vmalert',
};

/** The other peer. Its web pages are in packages of their own, which nobody needs here. */
export const PROMETHEUS: ServerProgram = {
  names: ['prometheus'],
  debianPackage: 'prometheus',
  pathInPackage: 'usr/bin/prometheus',
};

/** Takes our alerts over its API v2; its web pages are in a package of their own. */
export const ALERTMANAGER: ServerProgram = {
  names: ['prometheus-alertmanager', 'alertmanager'],
  debianPackage: 'prometheus-alertmanager',
  pathInPackage: 'usr/bin/prometheus-alertmanager',
};

/** A source of the agent's: what any Linux host runs. */
export const NODE_EXPORTER: ServerProgram = {
  names: ['prometheus-node-exporter', 'node_exporter'],
  debianPackage: 'prometheus-node-exporter',
  pathInPackage: 'usr/bin/prometheus-node-exporter',
};

/** The binary on PATH, else the cached one, else downloaded (`download: false`: not even tried). */
export async function findServer(
  program: ServerProgram,
  options: { log: (line: string) => void; download?: boolean },
): Promise<FoundServer> {
  const there = onPath(program.names) ?? cachedBinary(program.debianPackage, program.pathInPackage);
  if (there !== undefined) return { binary: there };
  const name = program.debianPackage;
  if (options.download === false) return { binary: undefined, reason: `${name} is not on PATH` };
  try {
    await fetchDebianPackages([name], options.log);
  } catch (error) {
    return { binary: undefined, reason: describeError(error) };
  }
  const fetched = cachedBinary(name, program.pathInPackage);
  if (fetched !== undefined) return { binary: fetched };
  return { binary: undefined, reason: `the package ${name} has no ${program.pathInPackage}` };
}

export function findVictoriaMetrics(log: (line: string) => void): Promise<FoundServer> {
  return findServer(VICTORIA_METRICS, { log });
}

export function findNatsServer(log: (line: string) => void): Promise<FoundServer> {
  return findServer(NATS_SERVER, { log });
}

function onPath(names: readonly string[]): string | undefined {
  // Debian puts servers into sbin, which is not on the PATH of a plain user.
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin'];
  for (const folder of folders) {
    for (const name of names) {
      const file = join(folder, name);
      try {
        if (folder === '') continue;
        accessSync(file, constants.X_OK);
        return file;
      } catch {}
    }
  }
  return undefined;
}
