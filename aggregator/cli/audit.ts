import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type AuditEntry, AuditEntrySchema } from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import { timeText } from './losses.ts';
import { allPages, type CommandContext, jsonOf, writeJson, writeTable } from './output.ts';

export interface AuditOptions {
  readonly node?: string;
  readonly who?: string;
  readonly subject?: string;
  /** Unix ms. */
  readonly since?: number;
  readonly until?: number;
  readonly limit?: number;
}

/** `gpufleet audit`: who did what, and why, newest first. */
export async function audit(
  { alerting, output }: CommandContext,
  { node = '', who = '', subject = '', since, until, limit = 100 }: AuditOptions,
): Promise<void> {
  const found = await allPages(async (page) => {
    const answer = await alerting.listAudit({
      ...{ ...page, node, who, subject },
      ...(since !== undefined && { from: timestampFromMs(since) }),
      ...(until !== undefined && { to: timestampFromMs(until) }),
    });
    return { rows: answer.entries, nextPageToken: answer.nextPageToken };
  }, limit);
  if (output.json) return writeJson(output, { entries: found.map((one) => jsonOf(AuditEntrySchema, one)) });
  if (found.length === 0) return output.write('the log has no such entry\n');
  writeTable<AuditEntry>(
    output,
    [
      { title: 'TIME', cell: ({ at }) => timeText(at) },
      { title: 'WHO', cell: (one) => one.who || '-' },
      { title: 'WHAT', cell: ({ what }) => what },
      { title: 'NODE', cell: ({ node: name, gpu }) => (gpu === '' ? name || '-' : `${name}/${gpu}`) },
      { title: 'RESULT', cell: ({ result }) => result },
      { title: 'SUBJECT', cell: (one) => one.subject || '-' },
      { title: 'WHY', cell: ({ why }) => why },
    ],
    found,
  );
}
