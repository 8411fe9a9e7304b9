import { access } from 'node:fs/promises';
import type { Detection, SourceKind, Surroundings } from '../source-kind.ts';
import { createHostCollectors } from './collector.ts';
import type { HostSettings } from './settings.ts';

export const kind: SourceKind<HostSettings> = {
  detect,
  create: createHostCollectors,
};

async function detect({ max_cgroups }: HostSettings, { host }: Surroundings): Promise<Detection> {
  const stat = `${host.proc}/stat`;
  if (!(await exists(stat))) return { found: false, why: `no ${stat}` };
  const what = `the host's ${host.proc} and ${host.sys}`;
  if (max_cgroups === 0 || (await exists(`${host.sys}/fs/cgroup/cgroup.controllers`)))
    return { found: true, what };
  return {
    found: true,
    what,
    hint: 'no cgroup v2 hierarchy: CPU and memory of pods, containers and jobs are not read (start the kernel with systemd.unified_cgroup_hierarchy=1)',
  };
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
