import { severityName } from '../../summary.ts';
import type { Notification } from '../notification.ts';
import { isFiring, whereOf } from './alert-facts.ts';
import { headline } from './headline.ts';
import { printable, shortened, webLink } from './short-text.ts';

/** Slack's documentation, "Reference: blocks" and "text object": longest section, URL and button text. */
const MAX_SECTION = 3_000;
const MAX_URL = 3_000;
const MAX_BUTTON_TEXT = 75;
/** Own judgement: two screens of text at most; the console has the rest. */
const MAX_SECTIONS = 3;
const MAX_TITLE = 400;
/** Buttons of a row; Slack takes 25, and people fewer. */
const MAX_BUTTONS = 5;
/** Own judgement; contrast on light and dark backgrounds. */
const COLOURS = { critical: '#c62828', warning: '#e08600', info: '#1565c0', resolved: '#2e7d32' };

/** What both ways into Slack take: a text for the phone's lock screen, and blocks beside a bar in colour. */
export interface SlackMessage {
  readonly text: string;
  readonly attachments: readonly [{ readonly color: string; readonly blocks: readonly object[] }];
}

export function slackMessage(notification: Notification): SlackMessage {
  const { status, severity } = notification;
  const title = escaped(headline(notification), MAX_TITLE);
  const blocks = [
    section(`*${title}*`),
    ...sections(notification),
    { type: 'context', elements: [mrkdwn(escaped(contextOf(notification), MAX_SECTION))] },
    ...buttons(notification),
  ];
  return {
    text: title,
    attachments: [{ color: COLOURS[status === 'resolved' ? 'resolved' : severity], blocks }],
  };
}

/** The text, or a line for each alert where there is none, in blocks that Slack takes. */
function sections(notification: Notification): object[] {
  const lines = printable(notification.text, true).trim().split('\n');
  const said = lines.some((line) => line !== '') ? lines : alertLines(notification);
  const blocks: string[] = [];
  for (const line of said) {
    const text = escaped(line, MAX_SECTION - 2);
    const last = blocks.at(-1);
    if (last !== undefined && last.length + text.length + 1 < MAX_SECTION)
      blocks[blocks.length - 1] = `${last}\n${text}`;
    else if (blocks.length < MAX_SECTIONS) blocks.push(text);
    else break;
  }
  return blocks.filter((text) => text.trim() !== '').map(section);
}

function alertLines({ firing, resolved }: Notification): string[] {
  return [...firing, ...resolved].map((alert) => {
    const state = isFiring(alert) ? severityName(alert.severity) : 'resolved';
    return printable(`${state}: ${whereOf(alert)}: ${alert.summary || alert.rule}`);
  });
}

function contextOf({ cluster, groupLabels, firingCount, resolvedCount, kind, flaps }: Notification): string {
  const group = Object.entries(groupLabels).map(([name, value]) => printable(`${name}=${value}`));
  return [
    `${firingCount} firing, ${resolvedCount} resolved`,
    `cluster ${printable(cluster)}`,
    ...group,
    ...(kind === 'reminder' ? ['reminder'] : []),
    ...(flaps > 0 ? [`fired ${flaps} times within the damping window`] : []),
  ].join(' · ');
}

function buttons({ link, firing }: Notification): object[] {
  const links = new Map<string, string>();
  const add = (text: string, href: string | undefined): void => {
    if (href !== undefined && href.length <= MAX_URL && links.size < MAX_BUTTONS && !links.has(href))
      links.set(href, text);
  };
  add('Open console', webLink(link));
  for (const { rule, annotations } of firing)
    add(`Runbook: ${printable(rule)}`, webLink(annotations.runbook_url ?? ''));
  const elements = [...links].map(([url, text], index) => ({
    type: 'button',
    action_id: `link-${index}`,
    text: { type: 'plain_text', text: shortened(text, MAX_BUTTON_TEXT), emoji: false },
    url,
  }));
  return elements.length === 0 ? [] : [{ type: 'actions', elements }];
}

function section(text: string): object {
  return { type: 'section', text: mrkdwn(text) };
}

/** `verbatim`: a label that reads @channel or #general must not call anybody. */
function mrkdwn(text: string): object {
  return { type: 'mrkdwn', text, verbatim: true };
}

/** `&`, `<` and `>` as Slack asks, at most `max` characters with the escapes, none of which is cut in two. */
function escaped(text: string, max: number): string {
  for (let room = max; ; room = Math.floor(room * 0.8)) {
    const safe = shortened(text, room)
      .replaceAll('&', '&amp;')
      .replaceAll('<', '&lt;')
      .replaceAll('>', '&gt;');
    if (safe.length <= max) return safe;
  }
}
