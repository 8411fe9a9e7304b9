import { type Timestamp, timestampDate, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Loss, LossSchema } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { UNKNOWN } from './format.ts';
import { allPages, type CommandContext, jsonOf, writeJson, writeTable } from './output.ts';

export interface LossOptions {
  readonly node?: string;
  readonly reason?: string;
  /** Unix ms. */
  readonly since?: number;
  readonly until?: number;
  readonly limit?: number;
}

/** `gpufleet losses`: what will never be in the store, and why. */
export async function losses(
  { client, output }: CommandContext,
  { node = '', reason = '', since, until, limit }: LossOptions,
): Promise<void> {
  let total = 0;
  let samples = 0n;
  const found = await allPages(async (page) => {
    const answer = await client.listLosses({
      ...{ ...page, node, reason },
      ...(since !== undefined && { from: timestampFromMs(since) }),
      ...(until !== undefined && { to: timestampFromMs(until) }),
    });
    ({ total, samples } = answer);
    return { rows: answer.losses, nextPageToken: answer.nextPageToken };
  }, limit);
  if (output.json) {
    const rows = found.map((loss) => jsonOf(LossSchema, loss));
    return writeJson(output, { losses: rows, total, samples: String(samples) });
  }
  if (found.length === 0) return output.write('nothing is lost\n');
  writeTable<Loss>(
    output,
    [
      { title: 'RECORDED', cell: (loss) => timeText(loss.recordedAt) },
      { title: 'NODE', cell: (loss) => loss.node },
      { title: 'FROM', cell: (loss) => timeText(loss.from) },
      { title: 'TO', cell: (loss) => timeText(loss.to) },
      {
        title: 'SAMPLES',
        cell: (loss) => `${loss.estimated ? '~' : ''}${loss.samples}`,
        align: 'right',
      },
      { title: 'REASON', cell: (loss) => loss.reason },
      { title: 'DETAIL', cell: (loss) => loss.detail },
    ],
    found,
  );
  const shown = found.length < total ? `, of which ${found.length} are shown` : '';
  output.write(`${samples} samples lost in ${total} ${total === 1 ? 'entry' : 'entries'}${shown}\n`);
}

/** `2026-01-31T12:00:00Z`: losses lie days back, and are compared with other logs. */
export function timeText(time: Timestamp | undefined): string {
  return time === undefined
    ? UNKNOWN
    : timestampDate(time)
        .toISOString()
        .replace(/\.\d+Z$/, 'Z');
}
