import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Silence, SilenceSchema, SilenceState } from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import { namesOf, plain } from './format.ts';
import { timeText } from './losses.ts';
import { allPages, type CommandContext, jsonOf, writeJson, writeTable } from './output.ts';

const silenceState = namesOf(SilenceState);

export interface SilenceOptions {
  /** Unix ms. */
  readonly from?: number;
  readonly until: number;
  readonly why: string;
  readonly id?: string;
}

/** `gpufleet silences`. */
export async function silences(
  { alerting, output }: CommandContext,
  { expired = false, limit }: { readonly expired?: boolean; readonly limit?: number },
): Promise<void> {
  const found = await allPages(async (page) => {
    const { silences: rows, nextPageToken } = await alerting.listSilences({ ...page, expired });
    return { rows, nextPageToken };
  }, limit);
  if (output.json) return writeJson(output, { silences: found.map((one) => jsonOf(SilenceSchema, one)) });
  if (found.length === 0) return output.write('nothing is silenced\n');
  writeTable<Silence>(
    output,
    [
      { title: 'ID', cell: ({ id }) => id },
      { title: 'STATE', cell: ({ state }) => silenceState(state) },
      { title: 'UNTIL', cell: ({ endsAt }) => timeText(endsAt) },
      { title: 'ALERTS', cell: ({ alerts }) => String(alerts), align: 'right' },
      { title: 'BY', cell: ({ createdBy }) => createdBy },
      { title: 'MATCHERS', cell: ({ matchers }) => matchers.join(' ') },
      { title: 'WHY', cell: ({ comment }) => comment },
    ],
    found,
  );
}

/** `gpufleet silence <matchers...>`. */
export async function silence(
  { alerting, output }: CommandContext,
  matchers: readonly string[],
  { from, until, why, id = '' }: SilenceOptions,
): Promise<void> {
  const { silence: made } = await alerting.setSilence({
    ...{ id, matchers: [...matchers], comment: why, endsAt: timestampFromMs(until) },
    ...(from !== undefined && { startsAt: timestampFromMs(from) }),
  });
  if (output.json) return writeJson(output, { silence: jsonOf(SilenceSchema, made!) });
  const covers = made!.alerts === 1 ? '1 firing alert' : `${made!.alerts} firing alerts`;
  output.write(`silence ${plain(made!.id)} until ${timeText(made!.endsAt)}: it covers ${covers}\n`);
}

/** `gpufleet silence-end <id>`. */
export async function endSilence({ alerting, output }: CommandContext, id: string): Promise<void> {
  const { silence: ended } = await alerting.expireSilence({ id });
  if (output.json) return writeJson(output, { silence: jsonOf(SilenceSchema, ended!) });
  output.write(`silence ${plain(id)} has ended\n`);
}
