import { existsSync } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { SOURCE_RANK } from '../../collector.ts';
import { GpuIdentities } from '../../gpu-identity.ts';
import { Tool } from '../../probe/tool.ts';
import type { SourceKind, Surroundings } from '../../source-kind.ts';
import { NvidiaSmiCollector } from './collector.ts';
import { gpuQuery, longReport } from './queries.ts';
import type { NvidiaSmiSettings } from './settings.ts';
import { SmiSession } from './smi-session.ts';

/** Where drivers, their containers and their operators install it. */
const FOLDERS = ['usr/bin', 'usr/local/bin', 'usr/local/nvidia/bin', 'opt/bin', 'bin'];
const NAME = 'nvidia-smi';
/** The long report tells again what --query-gpu tells more often: a rank behind it, so that it fills gaps. */
const DETAIL = { name: `${NAME}-detail`, rank: SOURCE_RANK.nvidia_smi + 1 };

export const kind: SourceKind<NvidiaSmiSettings> = {
  async detect({ command }, { host }) {
    const path = pathOf(command, host.root);
    try {
      await access(path, constants.X_OK);
      return { found: true, what: path };
    } catch {
      return { found: false, why: `no ${path} that can be run` };
    }
  },

  create(settings, { intervalMs, host, facts, clock, logger }: Surroundings) {
    const { command, interval, detail_interval, details, timeout, max_output_bytes } = settings;
    const tool = new Tool({
      name: NAME,
      command: pathOf(command, host.root),
      args: [],
      maxBytes: max_output_bytes,
      keepComplaints: true,
      proc: host.proc,
      clock,
      logger,
    });
    const session = new SmiSession(tool);
    const identities = new GpuIdentities(facts, clock);
    const shared = { session, identities, timeoutMs: timeout, clock, logger };
    const query = new NvidiaSmiCollector({
      ...shared,
      name: NAME,
      rank: SOURCE_RANK.nvidia_smi,
      intervalMs: interval ?? intervalMs,
      query: gpuQuery(!details),
      raisesLost: true,
    });
    if (!details) return [query];
    return [
      query,
      new NvidiaSmiCollector({
        ...shared,
        ...DETAIL,
        intervalMs: detail_interval,
        query: longReport(),
        raisesLost: false,
      }),
    ];
  },
};

/** The first place that has it; where none has, the name as it is, for PATH to find. */
function pathOf(command: string, root: string): string {
  if (isAbsolute(command)) return command;
  return FOLDERS.map((folder) => join(root, folder, command)).find((path) => existsSync(path)) ?? command;
}
