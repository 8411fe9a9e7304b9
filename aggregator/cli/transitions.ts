import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import {
  type HealthTransition,
  HealthTransitionSchema,
} from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { healthState } from './format.ts';
import { timeText } from './losses.ts';
import { allPages, type CommandContext, jsonOf, writeJson, writeTable } from './output.ts';

/** Words of `--to`. */
export const STATES = {
  healthy: HealthState.HEALTHY,
  degraded: HealthState.DEGRADED,
  critical: HealthState.CRITICAL,
  unknown: HealthState.UNKNOWN,
} as const;

export interface TransitionOptions {
  readonly node?: string;
  readonly gpu?: string;
  readonly to?: keyof typeof STATES;
  /** Unix ms. */
  readonly since?: number;
  readonly until?: number;
  readonly limit?: number;
}

/** What is listed where nobody says how much: a screenful or two. */
const DEFAULT_LIMIT = 100;

/** `gpufleet transitions`: who changed state, when, and why. */
export async function transitions(
  { health: client, output }: CommandContext,
  { node = '', gpu = '', to, since, until, limit = DEFAULT_LIMIT }: TransitionOptions,
): Promise<void> {
  const found = await allPages(async (page) => {
    const answer = await client.listTransitions({
      ...{ ...page, node, gpuUuid: gpu, to: to === undefined ? HealthState.UNSPECIFIED : STATES[to] },
      ...(since !== undefined && { fromTime: timestampFromMs(since) }),
      ...(until !== undefined && { toTime: timestampFromMs(until) }),
    });
    return { rows: answer.transitions, nextPageToken: answer.nextPageToken };
  }, limit);
  if (output.json)
    return writeJson(output, { transitions: found.map((one) => jsonOf(HealthTransitionSchema, one)) });
  if (found.length === 0) return output.write('nothing changed\n');
  writeTable<HealthTransition>(
    output,
    [
      { title: 'TIME', cell: ({ time }) => timeText(time) },
      { title: 'GPU', cell: ({ node: name, gpu: index }) => `${name}/${index}` },
      {
        title: 'CHANGE',
        cell: ({ from, to: next, flapping }) =>
          `${from === HealthState.UNSPECIFIED ? 'new' : healthState(from)} > ${healthState(next)}${flapping ? ' (flapping)' : ''}`,
      },
      { title: 'SCORE', cell: ({ score }) => score?.toFixed(1) ?? '-', align: 'right' },
      { title: 'WHY', cell: reasons },
    ],
    found,
  );
}

/** Points below this are not worth a word: they would be written as 0.0. */
const LEAST_POINTS = 0.05;

/** The rule that applied, then what cost most, then who and whether anybody was to be told. */
function reasons({ why, by, suppressed, contributions }: HealthTransition): string {
  const costs = contributions.filter(({ points }) => points >= LEAST_POINTS);
  return [
    why,
    ...costs.map(({ signal, points }) => `-${points.toFixed(1)} ${signal}`),
    ...(by === '' ? [] : [`by ${by}`]),
    ...(suppressed ? ['no alert: its node is marked'] : []),
  ].join('; ');
}
