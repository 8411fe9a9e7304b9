import type { Detection, SourceKind, Surroundings } from '../../source-kind.ts';
import { GpuRoster } from '../gpu-roster.ts';
import { createAmdSysfsCollector } from './collector.ts';
import { cardNames, findCard } from './find-cards.ts';
import type { AmdSysfsSettings } from './settings.ts';

export const kind: SourceKind<AmdSysfsSettings> = {
  detect,
  create({ interval, ras_interval }, { intervalMs, host, facts, clock }) {
    const roster = new GpuRoster('amd-sysfs', facts, clock.now());
    const metricsMs = interval ?? intervalMs;
    const shared = { sys: host.sys, clock, roster };
    return [
      createAmdSysfsCollector({ ...shared, part: 'metrics', intervalMs: metricsMs }),
      createAmdSysfsCollector({ ...shared, part: 'ras', intervalMs: Math.max(ras_interval, metricsMs) }),
    ];
  },
};

async function detect(_: AmdSysfsSettings, { host }: Surroundings): Promise<Detection> {
  const names = await cardNames(host.sys);
  const cards = (await Promise.all(names.map((name) => findCard(host.sys, name)))).filter(
    (card) => card !== undefined,
  );
  if (cards.length === 0)
    return { found: false, why: `no GPU of the amdgpu driver in ${host.sys}/class/drm` };
  return {
    found: true,
    what: `${cards.length} GPUs of the amdgpu driver, the first ${cards[0]!.model} at ${cards[0]!.pci}`,
  };
}
