import type { Detection, SourceKind, Surroundings } from '../../source-kind.ts';
import { cardNames, findCard } from '../sysfs/find-cards.ts';
import { findTool } from '../tool-path.ts';
import { createRocmSmiCollector } from './collector.ts';
import type { RocmSmiSettings } from './settings.ts';

export const kind: SourceKind<RocmSmiSettings> = {
  detect,
  create({ command, interval, max_output_bytes }, { host, clock, logger }) {
    return [
      createRocmSmiCollector({
        command: command ?? findTool(host.root, 'rocm-smi') ?? 'rocm-smi',
        intervalMs: interval,
        maxBytes: max_output_bytes,
        proc: host.proc,
        clock,
        logger,
      }),
    ];
  },
};

/** The last resort: the driver's files cost less, and amd-smi is what AMD keeps up. */
async function detect({ command }: RocmSmiSettings, { host }: Surroundings): Promise<Detection> {
  const path = command ?? findTool(host.root, 'rocm-smi');
  if (path === undefined)
    return { found: false, why: 'no rocm-smi in /opt/rocm/bin, /usr/bin or /usr/local/bin' };
  const hint = 'name rocm_smi in collectors to read it as well';
  for (const name of await cardNames(host.sys)) {
    if (await findCard(host.sys, name))
      return { found: false, why: `${path} is there, and the driver's files say the same for less`, hint };
  }
  if (findTool(host.root, 'amd-smi') !== undefined)
    return { found: false, why: `${path} is there, and amd-smi beside it says more`, hint };
  return { found: true, what: path };
}
