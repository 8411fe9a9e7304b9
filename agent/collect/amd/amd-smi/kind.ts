import type { Detection, SourceKind, Surroundings } from '../../source-kind.ts';
import { cardNames, findCard } from '../sysfs/find-cards.ts';
import { findTool } from '../tool-path.ts';
import { createAmdSmiCollector } from './collector.ts';
import type { AmdSmiSettings } from './settings.ts';

export const kind: SourceKind<AmdSmiSettings> = {
  detect,
  create({ command, interval, max_output_bytes }, { host, clock, logger }) {
    return [
      createAmdSmiCollector({
        command: command ?? findTool(host.root, 'amd-smi') ?? 'amd-smi',
        intervalMs: interval,
        maxBytes: max_output_bytes,
        proc: host.proc,
        clock,
        logger,
      }),
    ];
  },
};

/** Where the driver's files can be read the tool adds little and costs much: it has to be asked for. */
async function detect({ command }: AmdSmiSettings, { host }: Surroundings): Promise<Detection> {
  const path = command ?? findTool(host.root, 'amd-smi');
  if (path === undefined)
    return { found: false, why: 'no amd-smi in /opt/rocm/bin, /usr/bin or /usr/local/bin' };
  for (const name of await cardNames(host.sys)) {
    if (await findCard(host.sys, name)) {
      return {
        found: false,
        why: `${path} is there, and the driver's files say the same for less`,
        hint: 'name amd_smi in collectors to read it as well, for what only the tool knows',
      };
    }
  }
  return { found: true, what: path };
}
