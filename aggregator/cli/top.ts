import { type Gpu, GpuSchema, NodeState } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { sleep } from '#shared/lifecycle/wait.ts';
import {
  bar,
  healthColour,
  healthState,
  memory,
  memoryRatio,
  number,
  type Paint,
  percent,
  power,
  score,
} from './format.ts';
import { listGpus } from './gpus.ts';
import { allPages, type CommandContext, jsonOf, writeJson } from './output.ts';
import { type Column, renderTable } from './table.ts';

const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';
const HOME = '\x1b[H';
const CLEAR_LINE = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';
const BAR = 10;

/** What a screen shows. */
export interface Fleet {
  readonly nodes: readonly { readonly state: NodeState; readonly firingAlerts: number }[];
  readonly gpus: readonly Gpu[];
}

/** `gpufleet top`: worst first, redrawn until `q` or Ctrl-C; printed once where there is no terminal. */
export async function top(context: CommandContext, intervalMs: number): Promise<void> {
  const { output, signal } = context;
  if (output.json || !output.isTerminal) {
    const fleet = await read(context);
    if (output.json)
      return writeJson(output, { gpus: worstFirst(fleet.gpus).map((gpu) => jsonOf(GpuSchema, gpu)) });
    return output.write(renderScreen(fleet, output.paint, 200, Number.POSITIVE_INFINITY));
  }
  output.write(ENTER);
  try {
    let problem = '';
    let fleet: Fleet | undefined;
    while (!signal.aborted) {
      try {
        fleet = await read(context);
        problem = '';
      } catch (error) {
        if (fleet === undefined) throw error;
        problem = context.output.paint('red', 'no answer: showing what was last known');
      }
      const screen = `${renderScreen(fleet, output.paint, output.columns, output.rows - 1)}${problem}`;
      output.write(`${HOME}${screen.replaceAll('\n', `${CLEAR_LINE}\n`)}${CLEAR_BELOW}`);
      await sleep(intervalMs, signal);
    }
  } finally {
    output.write(LEAVE);
  }
}

async function read({ client }: CommandContext): Promise<Fleet> {
  const nodes = await allPages(async (page) => {
    const { nodes: rows, nextPageToken } = await client.listNodes(page);
    return { rows, nextPageToken };
  });
  return { nodes, gpus: await listGpus(client, {}) };
}

/** Critical before degraded and flapping before unknown before healthy; then by score, then the busiest. */
export function worstFirst(gpus: readonly Gpu[]): Gpu[] {
  const rank = ({ health }: Gpu): number => RANKS[health?.state ?? HealthState.UNKNOWN] ?? 2;
  return [...gpus].sort(
    (a, b) =>
      rank(a) - rank(b) ||
      b.firingAlerts - a.firingAlerts ||
      (a.health?.score ?? 0) - (b.health?.score ?? 0) ||
      (b.utilizationRatio ?? 0) - (a.utilizationRatio ?? 0) ||
      a.node.localeCompare(b.node) ||
      a.index.localeCompare(b.index, 'en', { numeric: true }),
  );
}

const RANKS: Partial<Record<HealthState, number>> = {
  [HealthState.CRITICAL]: 0,
  [HealthState.DEGRADED]: 1,
  [HealthState.FLAPPING]: 1,
  [HealthState.UNKNOWN]: 2,
  [HealthState.HEALTHY]: 3,
};

function columnsOf(paint: Paint): readonly Column<Gpu>[] {
  return [
    { title: 'NODE', cell: (gpu) => gpu.node },
    { title: 'GPU', cell: (gpu) => gpu.index, align: 'right' },
    {
      title: 'HEALTH',
      cell: (gpu) => `${score(gpu).padStart(3)} ${healthState(gpu.health?.state)}`,
      style: (gpu, text) => paint(healthColour(gpu.health?.state), text),
    },
    { title: '°C', cell: (gpu) => number(gpu.temperatureCelsius), align: 'right', spare: 6 },
    { title: 'WATT/LIMIT', cell: power, align: 'right', spare: 5 },
    {
      title: 'BUSY',
      spare: 4,
      cell: (gpu) => `${bar(gpu.utilizationRatio, BAR)} ${percent(gpu.utilizationRatio).padStart(3)}%`,
    },
    {
      title: 'ALERTS',
      spare: 3,
      cell: (gpu) => String(gpu.firingAlerts),
      align: 'right',
      style: (gpu, text) => (gpu.firingAlerts > 0 ? paint('red', text) : text),
    },
    { title: 'MEMORY GiB', cell: (gpu) => `${bar(memoryRatio(gpu), BAR)} ${memory(gpu)}`, spare: 2 },
    { title: 'MODEL', cell: (gpu) => gpu.model, spare: 1 },
  ];
}

/** One screen of at most `width` x `height` characters. */
export function renderScreen({ nodes, gpus }: Fleet, paint: Paint, width: number, height: number): string {
  const up = nodes.filter(({ state }) => state === NodeState.UP).length;
  const alerts = nodes.reduce((sum, { firingAlerts }) => sum + firingAlerts, 0);
  const watts = gpus.reduce((sum, { powerWatts }) => sum + (powerWatts ?? 0), 0);
  const head = `${up}/${nodes.length} nodes up  ${gpus.length} GPUs  ${alerts} alerts  ${(watts / 1000).toFixed(1)} kW`;
  const rows = worstFirst(gpus).slice(0, Math.max(0, height - 3));
  const table = renderTable(columnsOf(paint), rows, width);
  const hidden = gpus.length - rows.length;
  const more = hidden > 0 ? `and ${hidden} more, healthier\n` : '';
  return `${paint('bold', head.slice(0, width))}\n${table}${more}`;
}
