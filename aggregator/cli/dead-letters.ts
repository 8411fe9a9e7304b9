import { type DeadLetter, DeadLetterSchema } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { timeText } from './losses.ts';
import { allPages, type CommandContext, jsonOf, writeJson, writeTable } from './output.ts';

export interface DeadLetterFilter {
  readonly node?: string;
  readonly limit?: number;
}

/** Letters that one call replays: each is a request to the store, and a call has its time. */
const REPLAYED_AT_ONCE = 50;

function listDeadLetters(
  { client }: CommandContext,
  { node = '', limit }: DeadLetterFilter,
): Promise<DeadLetter[]> {
  return allPages(async (page) => {
    const answer = await client.listDeadLetters({ ...page, node });
    return { rows: answer.deadLetters, nextPageToken: answer.nextPageToken };
  }, limit);
}

/** `gpufleet dead-letters` */
export async function deadLetters(context: CommandContext, filter: DeadLetterFilter): Promise<void> {
  const { output } = context;
  const found = await listDeadLetters(context, filter);
  if (output.json)
    return writeJson(output, { dead_letters: found.map((letter) => jsonOf(DeadLetterSchema, letter)) });
  if (found.length === 0) return output.write('no dead letters\n');
  writeTable<DeadLetter>(
    output,
    [
      { title: 'ID', cell: ({ id }) => id },
      { title: 'RECORDED', cell: ({ recordedAt }) => timeText(recordedAt) },
      { title: 'NODE', cell: ({ node }) => node },
      { title: 'SAMPLES', cell: ({ samples }) => String(samples), align: 'right' },
      { title: 'FROM', cell: ({ from }) => timeText(from) },
      { title: 'TO', cell: ({ to }) => timeText(to) },
      { title: 'SERIES', cell: ({ series }) => series },
      { title: 'ANSWER', cell: ({ status, answer }) => `${status} ${answer}` },
    ],
    found,
  );
}

/** `gpufleet dead-letters replay` */
export async function replayDeadLetters(
  context: CommandContext,
  ids: readonly string[],
  all: boolean,
): Promise<void> {
  if (all === ids.length > 0)
    throw new FleetError('invalid_config', 'Cannot replay: name the ids of dead letters, or say --all');
  const { client, output, signal } = context;
  // Oldest first. Named one by one: more may come meanwhile, and one call would outlast its deadline.
  const wanted = all ? (await listDeadLetters(context, {})).map(({ id }) => id).reverse() : ids;
  let accepted = 0;
  let refused = 0;
  for (let at = 0; at < wanted.length && !signal.aborted; at += REPLAYED_AT_ONCE) {
    const answer = await client.replayDeadLetters({ ids: wanted.slice(at, at + REPLAYED_AT_ONCE) });
    accepted += answer.accepted;
    refused += answer.refused;
  }
  if (output.json) return writeJson(output, { accepted, refused });
  output.write(`the store took ${accepted} and refused ${refused} again\n`);
}
