import { createHash } from 'node:crypto';
import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { severityName } from '../../summary.ts';
import type { Notification } from '../notification.ts';
import { isFiring, isoTime, startMs, whereOf } from './alert-facts.ts';
import { bareTitle, headline, headWord } from './headline.ts';
import { printable, shortened, webLink } from './short-text.ts';

/** What is said, without who says it to whom. */
export interface EmailMessage {
  readonly subject: string;
  /** With angle brackets: the same for each try of one notification. */
  readonly messageId: string;
  /** The same for a group: the root of its thread, a message that nobody ever sent. */
  readonly threadId: string;
  readonly urgent: boolean;
  readonly text: string;
  readonly html: string;
}

/** Own judgement: what mail programs show of a subject, and of a line. */
const MAX_SUBJECT = 200;
const MAX_FIELD = 300;
/** Those of the chat's bars; own judgement. */
const COLOURS: Readonly<Record<string, string>> = {
  critical: '#c62828',
  warning: '#e08600',
  info: '#1565c0',
  resolved: '#2e7d32',
};

interface Row {
  readonly state: string;
  readonly where: string;
  readonly rule: string;
  readonly summary: string;
  readonly since: string;
  readonly runbook: string | undefined;
}

/** @param domain of the sender, for the ids */
export function emailMessage(notification: Notification, domain: string): EmailMessage {
  const { id, groupKey, severity, status, firingCount, resolvedCount } = notification;
  const count = status === 'resolved' ? resolvedCount : firingCount;
  const subject = `[${headWord(notification)}:${count}] ${bareTitle(notification)}`;
  return {
    subject: shortened(subject, MAX_SUBJECT),
    messageId: `<${digest(id)}@${domain}>`,
    threadId: `<group-${digest(groupKey)}@${domain}>`,
    urgent: status === 'firing' && severity === 'critical',
    text: plainText(notification),
    html: htmlText(notification),
  };
}

/** Ids come from elsewhere and may hold anything. */
function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}

function plainText(notification: Notification): string {
  const lines = [headline(notification), '', printable(notification.text, true), ''];
  for (const row of rowsOf(notification)) {
    lines.push(`- ${row.state}: ${row.where}: ${row.summary} (${row.rule}, since ${row.since})`);
    if (row.runbook !== undefined) lines.push(`  ${row.runbook}`);
  }
  lines.push(...unlisted(notification));
  const link = webLink(notification.link);
  if (link !== undefined) lines.push('', link);
  lines.push('', footer(notification));
  return `${lines.join('\n')}\n`;
}

function htmlText(notification: Notification): string {
  const { text, status, severity } = notification;
  const colour = COLOURS[status === 'resolved' ? 'resolved' : severity] ?? COLOURS.info;
  const link = webLink(notification.link);
  const body = [
    `<h2 style="margin:0 0 8px;padding-left:10px;border-left:6px solid ${colour}">${escapeHtml(headline(notification))}</h2>`,
    `<p style="white-space:pre-wrap">${escapeHtml(printable(text, true))}</p>`,
    tableHtml(rowsOf(notification)),
    ...unlisted(notification).map((line) => `<p>${escapeHtml(line)}</p>`),
    link === undefined ? '' : `<p>${anchor(link, 'Open the console')}</p>`,
    `<p style="color:#666;font-size:12px">${escapeHtml(footer(notification))}</p>`,
  ];
  return `<!doctype html><html><head><meta charset="utf-8"></head><body style="font-family:sans-serif;font-size:14px">\n${body.join('\n')}\n</body></html>\n`;
}

function tableHtml(rows: readonly Row[]): string {
  if (rows.length === 0) return '';
  const cell = (content: string): string => `<td style="padding:2px 8px;vertical-align:top">${content}</td>`;
  const lines = rows.map(({ state, where, rule, summary, since, runbook }) => {
    const named = runbook === undefined ? escapeHtml(rule) : anchor(runbook, rule);
    const mark = `<b style="color:${COLOURS[state] ?? '#333'}">${escapeHtml(state)}</b>`;
    const cells = [mark, escapeHtml(where), escapeHtml(summary), named, escapeHtml(since)];
    return `<tr>${cells.map(cell).join('')}</tr>`;
  });
  return `<table style="border-collapse:collapse">\n${lines.join('\n')}\n</table>`;
}

function rowsOf({ firing, resolved }: Notification): Row[] {
  return [...firing, ...resolved].map((alert: Alert) => ({
    state: isFiring(alert) ? severityName(alert.severity) : 'resolved',
    where: field(whereOf(alert)),
    rule: field(alert.rule),
    summary: field(alert.summary),
    since: isoTime(startMs(alert)),
    runbook: webLink(alert.annotations.runbook_url ?? ''),
  }));
}

function unlisted({ firing, firingCount, resolved, resolvedCount }: Notification): string[] {
  const more = firingCount - firing.length + resolvedCount - resolved.length;
  return more > 0 ? [`… and ${more} more, which the console lists.`] : [];
}

function footer({ kind, cluster, groupLabels, flaps }: Notification): string {
  const group = Object.entries(groupLabels).map(([name, value]) => `${name}=${value}`);
  const flapping = flaps > 0 ? [`fired ${flaps} times within the damping window`] : [];
  const said = kind === 'reminder' ? ['reminder'] : [];
  return field(['gpufleet', `cluster ${cluster}`, ...group, ...said, ...flapping].join(' · '));
}

function field(text: string): string {
  return shortened(printable(text), MAX_FIELD);
}

function anchor(href: string, text: string): string {
  return `<a href="${escapeHtml(href)}">${escapeHtml(text)}</a>`;
}

function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
