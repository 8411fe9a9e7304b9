import { type Gpu, GpuSchema } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import type { FleetClient } from './connection.ts';
import { healthColour, healthState, memory, number, percent, power, score } from './format.ts';
import { allPages, type CommandContext, jsonOf, writeJson, writeTable } from './output.ts';

export interface GpuFilter {
  readonly node?: string;
  readonly model?: string;
  readonly limit?: number;
}

export function listGpus(client: FleetClient, { node = '', model = '', limit }: GpuFilter): Promise<Gpu[]> {
  return allPages(async (page) => {
    const { gpus: rows, nextPageToken } = await client.listGpus({ ...page, node, model });
    return { rows, nextPageToken };
  }, limit);
}

/** `gpufleet gpus` */
export async function gpus({ client, output }: CommandContext, filter: GpuFilter): Promise<void> {
  const found = await listGpus(client, filter);
  if (output.json) return writeJson(output, { gpus: found.map((gpu) => jsonOf(GpuSchema, gpu)) });
  writeTable<Gpu>(
    output,
    [
      { title: 'NODE', cell: (gpu) => gpu.node },
      { title: 'GPU', cell: (gpu) => gpu.index, align: 'right' },
      { title: 'MODEL', cell: (gpu) => gpu.model, spare: 1 },
      {
        title: 'HEALTH',
        cell: (gpu) => `${score(gpu).padStart(3)} ${healthState(gpu.health?.state)}`,
        style: (gpu, text) => output.paint(healthColour(gpu.health?.state), text),
      },
      { title: '°C', cell: (gpu) => number(gpu.temperatureCelsius), align: 'right' },
      { title: 'WATT/LIMIT', cell: power, align: 'right' },
      { title: 'UTIL%', cell: (gpu) => percent(gpu.utilizationRatio), align: 'right' },
      { title: 'MEMORY GiB', cell: memory, align: 'right', spare: 3 },
      { title: 'ALERTS', cell: (gpu) => String(gpu.firingAlerts), align: 'right' },
      { title: 'UUID', cell: (gpu) => gpu.uuid, spare: 2 },
    ],
    found,
  );
}
