import { readdir } from 'node:fs/promises';
import type { Detection, SourceKind, Surroundings } from '../source-kind.ts';
import { createNetworkCollector } from './collector.ts';
import type { NetworkSettings } from './settings.ts';

export const kind: SourceKind<NetworkSettings> = {
  detect,
  create: (settings, surroundings) => [createNetworkCollector(settings, surroundings)],
};

async function detect(_: NetworkSettings, { host: { sys } }: Surroundings): Promise<Detection> {
  const infiniband = await names(`${sys}/class/infiniband`);
  const interfaces = (await names(`${sys}/class/net`)).filter((name) => name !== 'lo');
  if (infiniband.length + interfaces.length === 0)
    return { found: false, why: `no network device in ${sys}/class/infiniband or ${sys}/class/net` };
  return {
    found: true,
    what: `${infiniband.length} InfiniBand devices and ${interfaces.length} network interfaces in ${sys}/class`,
  };
}

async function names(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}
