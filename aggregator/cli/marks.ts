import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  ClearGpuResponseSchema,
  ListNodeMarksResponseSchema,
  MarkNodeResponseSchema,
  type NodeMark,
} from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { healthState, plain } from './format.ts';
import { timeText } from './losses.ts';
import { type CommandContext, jsonOf, writeJson, writeTable } from './output.ts';

export interface MarkOptions {
  readonly why: string;
  /** Unix ms. */
  readonly until?: number;
}

export interface ClearOptions {
  readonly cause: string;
  readonly why: string;
}

/** `gpufleet marks`. */
export async function marks({ health, output }: CommandContext): Promise<void> {
  const answer = await health.listNodeMarks({});
  if (output.json) return writeJson(output, jsonOf(ListNodeMarksResponseSchema, answer));
  if (answer.marks.length === 0) return output.write('no node is marked\n');
  writeTable<NodeMark>(
    output,
    [
      { title: 'NODE', cell: ({ node }) => node },
      { title: 'MARK', cell: ({ mark: what }) => what },
      { title: 'SINCE', cell: ({ since }) => timeText(since) },
      { title: 'UNTIL', cell: ({ until }) => (until === undefined ? 'unmarked' : timeText(until)) },
      { title: 'BY', cell: ({ by }) => by },
      { title: 'WHY', cell: ({ why }) => why },
    ],
    answer.marks,
  );
}

/** `gpufleet mark`: says what a node is fit for. */
export async function mark(
  { health, output }: CommandContext,
  node: string,
  what: string,
  { why, until }: MarkOptions,
): Promise<void> {
  const answer = await health.markNode({
    ...{ node, mark: what, why },
    ...(until !== undefined && { until: timestampFromMs(until) }),
  });
  if (output.json) return writeJson(output, jsonOf(MarkNodeResponseSchema, answer));
  const { node: name, mark: state, until: end } = answer.mark!;
  const ends = end === undefined ? 'it is unmarked' : timeText(end);
  output.write(`${plain(name)} is marked ${plain(state)} until ${ends}\n`);
}

/** `gpufleet unmark`. */
export async function unmark({ health, output }: CommandContext, node: string, why: string): Promise<void> {
  await health.unmarkNode({ node, why });
  if (output.json) return writeJson(output, {});
  output.write(`${plain(node)} is no longer marked\n`);
}

/** `gpufleet clear`: a GPU was looked at. */
export async function clear(
  { health, output }: CommandContext,
  uuid: string,
  { cause, why }: ClearOptions,
): Promise<void> {
  const answer = await health.clearGpu({ uuid, cause, why });
  if (output.json) return writeJson(output, jsonOf(ClearGpuResponseSchema, answer));
  output.write(
    `${plain(uuid)} is cleared: ${answer.health!.score.toFixed(1)}, ${healthState(answer.health!.state)}\n`,
  );
}
