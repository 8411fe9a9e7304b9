import * as v from 'valibot';
import { Document, parseDocument, stringify, type YAMLMap, type YAMLSeq } from 'yaml';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { parseRules } from '../rules-file.ts';
import { parsePromql, promDurationMs, Unreadable } from './promql.ts';
import { duration, type Translated, translateExpression } from './translate-expression.ts';
import { translateTemplate } from './translate-template.ts';

/** What became of one rule of a Prometheus file, in its order. */
export interface ImportedRule {
  readonly group: string;
  /** Of the alert or the recorded series. */
  readonly name: string;
  /** Names of our rules; empty where it cannot be translated. */
  readonly rules: readonly string[];
  /** What differs, or why it cannot be translated. */
  readonly notes: readonly string[];
}

export interface ImportedFile {
  readonly imported: readonly ImportedRule[];
  /** A rules file of ours; without a rule where none could be translated. */
  readonly rules: string;
  /** A rules file for vmalert or Prometheus with what is left, as it was; undefined where nothing is. */
  readonly rest: string | undefined;
}

const MAX_BYTES = 4 * 1024 * 1024;
/** As many as a rules file may have. */
const MAX_RULES = 500;
const NAME_LENGTH = 63;
const SUMMARY_LENGTH = 200;
const SEVERITIES: Readonly<Record<string, string>> = {
  critical: 'critical',
  page: 'critical',
  error: 'critical',
  high: 'critical',
  warning: 'warning',
  warn: 'warning',
  medium: 'warning',
  info: 'info',
  low: 'info',
  none: 'info',
};

const texts = v.optional(
  v.record(v.string(), v.pipe(v.union([v.string(), v.number()]), v.transform(String))),
  {},
);
const promRule = v.object({
  alert: v.optional(v.string()),
  record: v.optional(v.string()),
  expr: v.pipe(v.union([v.string(), v.number()], 'must be an expression'), v.transform(String)),
  for: v.optional(v.string(), '0s'),
  keep_firing_for: v.optional(v.string(), '0s'),
  labels: texts,
  annotations: texts,
});
const promFile = v.object({
  groups: v.array(
    v.looseObject({ name: v.string('must be a name'), rules: v.optional(v.array(v.unknown()), []) }),
    'must be a list',
  ),
});

type PromRule = v.InferOutput<typeof promRule>;
type Settings = Record<string, unknown>;

/**
 * Translates the alerting rules of a Prometheus file that look at what the stream holds: a series, a ratio or a rate
 * compared with a number. The others are given back as they were, for vmalert, each with its reason.
 *
 * Throws `invalid_input` where the file is no rules file.
 */
export function importRules(text: string, source: string): ImportedFile {
  if (Buffer.byteLength(text) > MAX_BYTES)
    throw new FleetError('invalid_input', `Cannot import ${source}: it is larger than ${MAX_BYTES} bytes`);
  const document = parseDocument(text);
  const [error] = document.errors;
  const parsed =
    error === undefined ? v.safeParse(promFile, document.toJS({ maxAliasCount: 100 })) : undefined;
  if (!parsed?.success) {
    const why =
      error?.message ?? `${v.getDotPath(parsed!.issues![0]) ?? ''} ${parsed!.issues![0].message}`.trim();
    throw new FleetError(
      'invalid_input',
      `Cannot import ${source}: it is no rules file of Prometheus: ${why}`,
    );
  }
  const translation = new Translation();
  for (const group of parsed.output.groups) for (const rule of group.rules) translation.add(group, rule);
  return {
    imported: translation.imported,
    rules: translation.rules(source),
    rest: translation.rest(parsed.output.groups),
  };
}

class Translation {
  readonly imported: ImportedRule[] = [];
  readonly #names = new Set<string>();
  readonly #entries: { readonly settings: Settings; readonly comment: string }[] = [];
  readonly #left = new Set<unknown>();

  add(group: { readonly name: string }, raw: unknown): void {
    const parsed = v.safeParse(promRule, raw);
    const name = parsed.success ? (parsed.output.alert ?? parsed.output.record ?? '') : '';
    try {
      if (!parsed.success) throw new Unreadable(`it cannot be read: ${parsed.issues[0].message}`);
      if (parsed.output.alert === undefined) throw new Unreadable('a recording rule is for the store');
      const { settings, notes } = this.#translate(parsed.output);
      const rules = settings.map((one) => String(one.name));
      this.#check(settings);
      const comment = [
        `From ${name} of the group ${group.name}.`,
        ...notes.map((note) => `Note: ${note}.`),
      ].join('\n');
      for (const [i, one] of settings.entries())
        this.#entries.push({ settings: one, comment: i === 0 ? comment : '' });
      this.imported.push({ group: group.name, name, rules, notes });
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      this.#left.add(raw);
      this.imported.push({ group: group.name, name, rules: [], notes: [error.message] });
    }
  }

  rules(source: string): string {
    const document = new Document({ rules: this.#entries.map(({ settings }) => settings) });
    document.commentBefore = ` Translated from ${source} by gpufleet rules import. Read the notes before use.`;
    const items = (document.get('rules') as YAMLSeq<YAMLMap>).items;
    for (const [i, { comment }] of this.#entries.entries()) {
      const item = items[i]!;
      item.spaceBefore = true;
      if (comment !== '') item.commentBefore = comment.replaceAll(/^/gm, ' ');
    }
    return document.toString({ lineWidth: 0 });
  }

  rest(groups: readonly { readonly rules: readonly unknown[] }[]): string | undefined {
    const left = groups
      .map((group) => ({ ...group, rules: group.rules.filter((rule) => this.#left.has(rule)) }))
      .filter(({ rules }) => rules.length > 0);
    return left.length === 0 ? undefined : stringify({ groups: left }, { lineWidth: 0 });
  }

  #translate(rule: PromRule): { settings: Settings[]; notes: string[] } {
    const translated = translateExpression(parsePromql(rule.expr));
    const notes = [...translated.notes];
    const severity = severityOf(rule.labels, notes);
    const forMs = durationOf(rule.for, 'for') + translated.holdsMs;
    const name = this.#nameFor(rule.alert!, severity);
    const texts = textsOf(rule, notes);
    const settings: Settings[] = [];
    let shape = translated.settings;
    if (translated.counted !== undefined) {
      const member = this.#nameFor(`${rule.alert}-member`, '');
      notes.push(...translated.counted.notes);
      const summary = `Counted by ${name}`.slice(0, SUMMARY_LENGTH);
      settings.push({
        name: member,
        summary,
        ...shaped(translated.counted, 'info', translated.counted.holdsMs),
      });
      shape = { aggregate: { ...(shape.aggregate as object), count_of: member } };
    }
    const keep = durationOf(rule.keep_firing_for, 'keep_firing_for');
    const body = shaped({ ...translated, settings: shape }, severity, forMs);
    if (keep > 0 && 'event' in body) body.expires = duration(keep);
    else if (keep > 0) body.keep_firing_for = duration(keep);
    settings.push({
      name,
      ...(texts.summary === undefined ? {} : { summary: texts.summary }),
      ...body,
      ...texts.rest,
    });
    return { settings, notes };
  }

  #nameFor(alert: string, severity: string): string {
    const plain = alert
      .replaceAll(/([a-z0-9])([A-Z])/g, '$1-$2')
      .replaceAll(/([A-Z]+)([A-Z][a-z])/g, '$1-$2')
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, '-')
      .replaceAll(/^-+|-+$/g, '');
    const stem = plain === '' ? 'rule' : plain;
    const tries = [
      stem,
      `${stem}-${severity}`,
      ...Array.from({ length: MAX_RULES }, (_, i) => `${stem}-${i + 2}`),
    ];
    const name = tries
      .map((one) =>
        one.length <= NAME_LENGTH ? one : `${stem.slice(0, 40)}-${one.slice(-20)}`.replaceAll(/-+/g, '-'),
      )
      .find((one) => !one.endsWith('-') && !this.#names.has(one));
    if (name === undefined) throw new Unreadable('there are too many rules of its name');
    this.#names.add(name);
    return name;
  }

  /** The reader of rules files has the last word. */
  #check(settings: readonly Settings[]): void {
    if (this.#entries.length + settings.length > MAX_RULES)
      throw new Unreadable(`a file has at most ${MAX_RULES} rules`);
    try {
      parseRules(stringify({ rules: settings }), 'the translation');
    } catch (error) {
      const [, ...faults] = describeError(error).split('\n');
      throw new Unreadable(`its translation is not valid: ${faults.join('; ').trim()}`);
    }
  }
}

function shaped({ settings, limit }: Translated, severity: string, forMs: number): Settings {
  if ('event' in settings) return { ...settings, severity };
  if ('absent' in settings) {
    return { ...settings, severities: [{ severity, above: duration(Math.max(forMs, LEAST_ABSENT_MS)) }] };
  }
  return {
    ...settings,
    severities: [{ severity, ...limit }],
    ...(forMs > 0 ? { for: duration(forMs) } : {}),
  };
}

/** Prometheus calls a series absent five minutes after its last sample. */
const LEAST_ABSENT_MS = 300_000;

function severityOf(labels: PromRule['labels'], notes: string[]): string {
  const said = labels.severity ?? labels.priority;
  const severity = SEVERITIES[said?.toLowerCase() ?? ''];
  if (severity === undefined)
    notes.push(`severity ${said === undefined ? 'is missing' : `"${said}" is not known`}: warning`);
  else if (severity !== said) notes.push(`severity ${said} becomes ${severity}`);
  return severity ?? 'warning';
}

function durationOf(text: string, name: string): number {
  const ms = promDurationMs(text);
  if (ms === undefined) throw new Unreadable(`${name}: "${text}" is no duration`);
  return ms;
}

/** Summary, annotations, runbook and labels; what cannot be said is left out with a note. */
function textsOf(rule: PromRule, notes: string[]): { summary: string | undefined; rest: Settings } {
  const annotations: Record<string, string> = {};
  const labels: Record<string, string> = {};
  let summary: string | undefined;
  let runbook: string | undefined;
  for (const [name, text] of Object.entries(rule.annotations)) {
    const ours = translateTemplate(text);
    if (ours === undefined) notes.push(`annotation ${name} is left out: it calculates`);
    else if (name === 'runbook_url' && /^https?:\/\/\S+$/.test(ours)) runbook = ours;
    else if (name === 'summary' && !ours.includes('{{') && ours.length <= SUMMARY_LENGTH) summary = ours;
    else annotations[name] = ours;
  }
  for (const [name, text] of Object.entries(rule.labels)) {
    if (name === 'severity' || name === 'priority') continue;
    if (text.includes('{{')) notes.push(`label ${name} is left out: it calculates`);
    else labels[name] = text;
  }
  const rest: Settings = {};
  if (Object.keys(labels).length > 0) rest.add_labels = labels;
  if (Object.keys(annotations).length > 0) rest.annotations = annotations;
  if (runbook !== undefined) rest.runbook = runbook;
  return { summary, rest };
}
