import type { TestProject } from 'vitest/node';
import {
  ALERTMANAGER,
  type FoundServer,
  findNatsServer,
  findServer,
  findVictoriaMetrics,
  NODE_EXPORTER,
  PROMETHEUS,
} from '../../deploy/local/servers.ts';
import { type FoundSlurm, findSlurm } from './slurm-programs.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Path of the binary; undefined and a reason where it is not to be had. */
    victoriaMetrics: FoundServer;
    natsServer: FoundServer;
    nodeExporter: FoundServer;
    alertmanager: FoundServer;
    slurm: FoundSlurm;
  }
}

/** Once per run, before any worker: parallel tests find the binaries instead of fetching them side by side. */
export default async function setup(project: TestProject): Promise<void> {
  const log = (line: string): void => void process.stderr.write(`gpufleet: ${line}\n`);
  // One after the other: both download steps take the same lock.
  project.provide('victoriaMetrics', await findVictoriaMetrics(log));
  project.provide('natsServer', await findNatsServer(log));
  project.provide('nodeExporter', await findServer(NODE_EXPORTER, { log }));
  project.provide('alertmanager', await findServer(ALERTMANAGER, { log }));
  project.provide('slurm', await findSlurm(log));
  // A peer of the benchmarks, which find it in the cache, or say that they skip it.
  await findServer(PROMETHEUS, { log });
}
