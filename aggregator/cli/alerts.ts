import { type Alert, AlertSchema, AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { age, alertState, plain, severity, severityColour } from './format.ts';
import { allPages, type CommandContext, jsonOf, writeJson, writeTable } from './output.ts';
import type { Column } from './table.ts';

export interface AlertOptions {
  readonly active?: boolean;
  readonly node?: string;
  readonly rule?: string;
  readonly severity?: keyof typeof SEVERITIES;
  readonly limit?: number;
}

export const SEVERITIES = {
  info: Severity.INFO,
  warning: Severity.WARNING,
  critical: Severity.CRITICAL,
} as const;

/** `gpufleet alerts` */
export async function alerts({ client, output, now }: CommandContext, options: AlertOptions): Promise<void> {
  const states = options.active ? [AlertState.PENDING, AlertState.FIRING] : [];
  const found = await allPages(async (page) => {
    const { alerts: rows, nextPageToken } = await client.listAlerts({
      ...page,
      ...filterOf(options),
      states,
    });
    return { rows, nextPageToken };
  }, options.limit);
  if (output.json) return writeJson(output, { alerts: found.map((alert) => jsonOf(AlertSchema, alert)) });
  if (found.length === 0) return output.write(options.active ? 'no active alerts\n' : 'no alerts\n');
  writeTable(output, alertColumns(output.paint, now()), found);
}

/** `gpufleet alerts --watch`: what is active, then each transition, until Ctrl-C. */
export async function watchAlerts(
  { client, output, signal }: CommandContext,
  options: AlertOptions,
): Promise<void> {
  try {
    // No deadline: watching ends when the person or the server does.
    for await (const { alert } of client.watchAlerts(filterOf(options), { signal, timeoutMs: 0 })) {
      if (!alert) continue;
      if (output.json) writeJson(output, jsonOf(AlertSchema, alert));
      else output.write(`${alertLine(alert, output.paint)}\n`);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** `gpufleet ack <id>` */
export async function acknowledge(
  { alerting, output }: CommandContext,
  id: string,
  { comment, withdraw = false }: { readonly comment: string; readonly withdraw?: boolean },
): Promise<void> {
  const { alert } = await alerting.acknowledgeAlert({ id, comment, withdraw });
  if (output.json) return writeJson(output, { alert: alert && jsonOf(AlertSchema, alert) });
  output.write(
    withdraw
      ? `${id} is no longer acknowledged\n`
      : `${id} is acknowledged: no reminders until it fires anew\n`,
  );
}

/** `gpufleet alerts resolve <id>` */
export async function resolveAlert(
  { client, output }: CommandContext,
  id: string,
  comment: string,
): Promise<void> {
  const { alert } = await client.resolveAlert({ id, comment });
  if (output.json) return writeJson(output, { alert: alert && jsonOf(AlertSchema, alert) });
  output.write(
    alert?.suppressed
      ? `${id} is resolved; it stays silent until its condition clears\n`
      : `${id} is resolved\n`,
  );
}

function filterOf({ node = '', rule = '', severity: least }: AlertOptions) {
  return { node, rule, minSeverity: least === undefined ? Severity.UNSPECIFIED : SEVERITIES[least] };
}

function alertColumns(paint: CommandContext['output']['paint'], nowMs: number): Column<Alert>[] {
  return [
    {
      title: 'SEVERITY',
      cell: (alert) => severity(alert.severity),
      style: (alert, text) => paint(severityColour(alert.severity), text),
    },
    { title: 'STATE', cell: stateOf },
    { title: 'NODE', cell: (alert) => alert.node },
    { title: 'GPU', cell: (alert) => alert.gpu || '-', align: 'right' },
    { title: 'RULE', cell: (alert) => alert.rule },
    { title: 'SINCE', cell: (alert) => age(alert.startedAt, nowMs), align: 'right' },
    { title: 'ID', cell: (alert) => alert.id },
    { title: 'SUMMARY', cell: (alert) => alert.summary },
  ];
}

function alertLine(alert: Alert, paint: CommandContext['output']['paint']): string {
  const time =
    alert.updatedAt === undefined ? '' : new Date(Number(alert.updatedAt.seconds) * 1000).toISOString();
  const where = alert.gpu === '' ? alert.node : `${alert.node}/${alert.gpu}`;
  return `${time}  ${paint(severityColour(alert.severity), severity(alert.severity).padEnd(8))}  ${stateOf(alert).padEnd(8)}  ${plain(`${where}  ${alert.rule}  ${alert.summary}`)}`;
}

function stateOf(alert: Alert): string {
  const marks = [
    alert.acknowledged && `acknowledged by ${alert.acknowledged.by || 'an operator'}`,
    alert.silencedBy.length > 0 && 'silenced',
    alert.inhibitedBy.length > 0 && 'inhibited',
    alert.suppressed && 'silent',
    alert.late && 'late',
  ].filter(Boolean);
  return marks.length === 0 ? alertState(alert.state) : `${alertState(alert.state)} (${marks.join(', ')})`;
}
