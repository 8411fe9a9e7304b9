import { existsSync, readdirSync } from 'node:fs';
import type { StartOptions } from './options.ts';
import type { Source } from './stack-config.ts';

/** Where dcgm-exporter answers unless told otherwise. */
export const DCGM_EXPORTER_URL = 'http://127.0.0.1:9400/metrics';

/** What to watch: what was asked for, else a dcgm-exporter of this host, else one simulated node. Says which. */
export async function chooseSource(options: StartOptions, log: (line: string) => void): Promise<Source> {
  if (options.source !== undefined) return { url: options.source };
  if (options.nodes !== undefined) return { nodes: options.nodes };
  if (await isDcgmExporter(DCGM_EXPORTER_URL)) {
    log(`found a dcgm-exporter at ${DCGM_EXPORTER_URL}: watching its GPUs`);
    return { url: DCGM_EXPORTER_URL };
  }
  const gpus = countNvidiaGpus('/proc/driver/nvidia/gpus');
  if (gpus > 0) {
    log(
      `this host has ${gpus} NVIDIA GPUs, but no dcgm-exporter answers at ${DCGM_EXPORTER_URL}: simulating a node`,
    );
    log('to watch the real ones, run a dcgm-exporter and give --source URL');
  }
  return { nodes: 1 };
}

/** The driver keeps one folder per GPU here. */
function countNvidiaGpus(folder: string): number {
  return existsSync(folder) ? readdirSync(folder).length : 0;
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
