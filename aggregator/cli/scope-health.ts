import {
  GetScopeHealthResponseSchema,
  type GpuShare,
  HealthScope,
  type ScopeHealth,
} from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { healthColour, healthState, number, plain, UNKNOWN } from './format.ts';
import { type CommandContext, jsonOf, type Output, writeJson, writeTable } from './output.ts';

export interface ScopeOptions {
  readonly pool?: string;
  readonly node?: string;
}

/** Worst first; those that none is in are not named. */
const STATES = ['critical', 'degraded', 'flapping', 'unknown', 'healthy'] as const;

/** `gpufleet health`: the fleet, a pool or a node, and who takes points off it. */
export async function health(
  { health: client, output }: CommandContext,
  { pool, node }: ScopeOptions,
): Promise<void> {
  const answer = await client.getScopeHealth(
    node !== undefined
      ? { scope: HealthScope.NODE, name: node }
      : pool !== undefined
        ? { scope: HealthScope.POOL, name: pool }
        : { scope: HealthScope.FLEET },
  );
  if (output.json) return writeJson(output, jsonOf(GetScopeHealthResponseSchema, answer));
  const scope = answer.health!;
  const counts = STATES.filter((state) => scope[state] > 0).map((state) => `${scope[state]} ${state}`);
  const name = scope.name === '' ? 'fleet' : plain(scope.name);
  const gpus = scope.gpuCount === 1 ? '1 GPU' : `${scope.gpuCount} GPUs`;
  output.write(`${name}: ${scoreText(scope)}; ${[gpus, ...counts].join(', ')}\n`);
  if (scope.score < 100) writeWorst(output, scope);
  if (answer.parts.length > 0) writeParts(output, answer.parts);
}

/** Less is written as 0.0. */
const LEAST_POINTS = 0.05;

function writeWorst(output: Output, { score, worst }: ScopeHealth): void {
  const named = worst.filter(({ points }) => points >= LEAST_POINTS);
  const rest = named.reduce((left, { points }) => left - points, 100 - score);
  output.write('\n');
  writeTable<GpuShare>(
    output,
    [
      { title: 'POINTS', cell: ({ points }) => `-${points.toFixed(1)}`, align: 'right' },
      { title: 'GPU', cell: ({ node, gpu }) => `${node}/${gpu}` },
      {
        title: 'HEALTH',
        cell: ({ score, state }) => `${score.toFixed(1).padStart(5)} ${healthState(state)}`,
        style: ({ state }, text) => output.paint(healthColour(state), text),
      },
      { title: 'MODEL', cell: ({ model }) => model, spare: 1 },
      { title: 'UUID', cell: ({ uuid }) => uuid },
    ],
    named,
  );
  if (rest >= LEAST_POINTS) output.write(`all others together take ${rest.toFixed(1)}\n`);
}

function writeParts(output: Output, parts: readonly ScopeHealth[]): void {
  const isPool = parts[0]!.scope === HealthScope.POOL;
  output.write('\n');
  writeTable<ScopeHealth>(
    output,
    [
      { title: isPool ? 'POOL' : 'NODE', cell: ({ name }) => name || '(none)' },
      { title: 'SCORE', cell: scoreText, align: 'right' },
      { title: 'GPUS', cell: ({ gpuCount }) => String(gpuCount), align: 'right' },
      ...STATES.map((state) => ({
        title: state.toUpperCase(),
        cell: (part: ScopeHealth) => number(part[state] || undefined),
        align: 'right' as const,
      })),
    ],
    parts,
  );
}

/** NaN where nothing is known of any of its GPUs. */
function scoreText({ score }: ScopeHealth): string {
  return Number.isNaN(score) ? UNKNOWN : score.toFixed(1);
}
