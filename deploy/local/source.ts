import { existsSync, readdirSync } from 'node:fs';
import type { StartOptions } from './options.ts';
import type { Source } from './stack-config.ts';

/** Where dcgm-exporter answers unless told otherwise. */
export const DCGM_EXPORTER_URL = 'http://127.0.0.1:9400/metrics';

/** Where a GPU's driver says that it is there: one entry for each NVIDIA GPU, and for each of AMD's compute devices. */
const DRIVERS = [
  { vendor: 'NVIDIA', folder: '/proc/driver/nvidia/gpus' },
  { vendor: 'AMD', folder: '/sys/bus/pci/drivers/amdgpu' },
];

/** What to watch: what was asked for, else this host where it has GPUs, else one simulated node. Says which. */
export async function chooseSource(options: StartOptions, log: (line: string) => void): Promise<Source> {
  if (options.source !== undefined) return { url: options.source };
  if (options.nodes !== undefined) return { nodes: options.nodes };
  if (await isDcgmExporter(DCGM_EXPORTER_URL)) {
    log(`found a dcgm-exporter at ${DCGM_EXPORTER_URL}: watching this host`);
    return { host: 'this host, with its dcgm-exporter' };
  }
  for (const { vendor, folder } of DRIVERS) {
    const gpus = countGpus(folder);
    if (gpus === 0) continue;
    log(`this host has ${gpus} ${vendor} GPUs: watching them`);
    return { host: `this host's ${gpus} ${vendor} GPUs` };
  }
  return { nodes: 1 };
}

/** Entries that are named by a PCI address. */
function countGpus(folder: string): number {
  if (!existsSync(folder)) return 0;
  return readdirSync(folder).filter((name) => /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]$/i.test(name))
    .length;
}

async function isDcgmExporter(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(1000) });
    const reader = response.body?.getReader();
    const first = await reader?.read();
    await reader?.cancel();
    return response.ok && Buffer.from(first?.value ?? []).includes('DCGM_FI_');
  } catch {
    return false;
  }
}
