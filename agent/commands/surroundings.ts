import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { HostPaths, Surroundings } from '../collect/source-kind.ts';
import type { AgentConfig } from '../config.ts';

/** Where a Linux host keeps its files. */
export const HOST: HostPaths = { proc: '/proc', sys: '/sys', dev: '/dev', run: '/run', root: '/' };

/**
 * For a look at the sources beside a running agent: a folder of its own that is removed, and facts that nobody
 * keeps, so that neither disturbs the other.
 */
export async function passingSurroundings(
  config: AgentConfig,
  host: HostPaths,
  clock: Clock,
  logger: Logger,
): Promise<Surroundings & AsyncDisposable> {
  const directory = await mkdtemp(join(tmpdir(), 'gpufleet-look-'));
  const facts = new Map<string, string>();
  return {
    node: config.node,
    intervalMs: config.collection_interval,
    host,
    directory,
    facts: { get: (name) => facts.get(name), set: (name, value) => void facts.set(name, value) },
    clock,
    random: Math.random,
    logger,
    async [Symbol.asyncDispose]() {
      await rm(directory, { recursive: true, force: true });
    },
  };
}
