import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { BenchCase, BenchMetrics, BenchOptions } from '../bench-case.ts';
import { Program } from './program.ts';
import type { WireOptions, WireResult } from './wire-ends.ts';

const run = promisify(execFile);

/**
 * A network namespace of its own, so that its loopback counts these streams and nothing else: as root, or as a
 * user who may make user namespaces.
 */
const NAMESPACES = [
  ['unshare', '--net', '--'],
  ['unshare', '--user', '--map-root-user', '--net', '--'],
] as const;

/** Agents and aggregator as they are, a tick a second, counted by the kernel in both directions. */
export const wire: BenchCase = {
  name: 'wire',
  description:
    'bytes on the network for a sample at 1 s, one-tick frames, both directions, all headers from IP on',
  async run(options: BenchOptions): Promise<BenchMetrics> {
    const { seed, tiny, dataDir, log } = options;
    const namespace = await findNamespace(log);
    if (!namespace) return {};
    const measure = async (tls: boolean): Promise<WireResult> => {
      await using ends = new Program(new URL('./wire-ends.ts', import.meta.url), namespace);
      return await ends.ask<WireResult>({ tls, bench: { seed, tiny, dataDir } } satisfies WireOptions);
    };
    // Side by side: each has a network of its own, and half a minute at 1 s takes half a minute.
    const [plain, tls] = await Promise.all([measure(false), measure(true)]);
    return {
      bytes_per_sample: plain.bytes / plain.samples,
      bytes_per_sample_tls: tls.bytes / tls.samples,
      packets_per_tick: plain.packets / plain.ticks,
      packets_per_tick_tls: tls.packets / tls.ticks,
      setup_bytes: plain.setupBytes,
      setup_bytes_tls: tls.setupBytes,
    };
  },
};

/** Undefined, said loudly, where none can be made. */
async function findNamespace(log: (line: string) => void): Promise<readonly string[] | undefined> {
  const problems: string[] = [];
  for (const namespace of NAMESPACES) {
    try {
      const [command, ...args] = [...namespace, 'ip', 'link', 'set', 'lo', 'up'];
      await run(command!, args);
      return namespace;
    } catch (error) {
      problems.push(describeError(error));
    }
  }
  log(`SKIPPED wire: no network namespace can be made here (${problems.join('; ')})`);
  return undefined;
}
