import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { ReplayResponseSchema } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { type CommandContext, jsonOf, writeJson } from './output.ts';

export interface ReplayOptions {
  /** Unix ms. */
  readonly from: number;
  readonly to?: number;
  readonly node?: string;
  readonly comment: string;
}

/** `gpufleet replay`: agents send again what they recorded since a time. */
export async function replay(
  { client, output }: CommandContext,
  { from, to, node = '', comment }: ReplayOptions,
): Promise<void> {
  const answer = await client.replay({
    from: timestampFromMs(from),
    ...(to !== undefined && { to: timestampFromMs(to) }),
    ...{ node, comment },
  });
  if (output.json) return writeJson(output, jsonOf(ReplayResponseSchema, answer));
  const agents = answer.agents === 1 ? '1 agent was' : `${answer.agents} agents were`;
  output.write(
    `${agents} asked to send again since ${new Date(from).toISOString()}; whoever is away is asked when it is back, for 24 hours\n`,
  );
}
