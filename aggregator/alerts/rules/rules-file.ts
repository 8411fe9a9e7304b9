import * as v from 'valibot';
import { LineCounter, parseDocument } from 'yaml';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { isRecord, takeIssues } from '../files/take-issues.ts';
import { type Path, YamlFaults } from '../files/yaml-faults.ts';
import { compileTemplate } from './annotations.ts';
import { readLevels } from './read-levels.ts';
import { readGroup, readOperands } from './read-values.ts';
import { doubtsOf } from './rule-doubts.ts';
import {
  absentSchema,
  aggregateSchema,
  code,
  eventSchema,
  fileSchema,
  SEVERITIES,
  thresholdSchema,
} from './rule-schema.ts';
import type {
  AbsentRule,
  AggregateRule,
  EventRule,
  Rule,
  RuleSet,
  RuleTexts,
  ThresholdRule,
} from './rules.ts';

/** Rule names are label values of counters and tokens of subjects: so they are few. */
const MAX_RULES = 500;
/** A rules file larger than this is not one. */
const MAX_RULES_BYTES = 1024 * 1024;

export interface RulesText {
  readonly text: string;
  /** Of the file, for faults. */
  readonly source: string;
}

interface Entry {
  readonly rule: Rule;
  readonly enabled: boolean;
  readonly at: Path;
  readonly faults: YamlFaults;
  readonly source: string;
}

/**
 * Reads a rules file. Throws `invalid_config` with every fault, its place and its path, such as
 * `rules.yaml:12:7: rules[2].severities[0].above: must be a number`.
 */
export function parseRules(text: string, source: string): RuleSet {
  return parseRuleTexts([{ text, source }], source);
}

/** Reads several files as one set of rules; `source` names them together. */
export function parseRuleTexts(files: readonly RulesText[], source: string): RuleSet {
  const all: YamlFaults[] = [];
  const entries: Entry[] = [];
  for (const file of files) {
    const { faults, document } = openFile(file);
    all.push(faults);
    if (faults.count > 0) continue;
    for (const entry of readEntries(document, file.source, faults, MAX_RULES - entries.length)) {
      entries.push(entry);
    }
  }
  checkNames(entries);
  checkCounted(entries);
  const faults = all.flatMap((one) => one.list());
  if (faults.length > 0) {
    throw new FleetError('invalid_config', `Cannot read alert rules ${source}:\n  ${faults.join('\n  ')}`);
  }
  const enabled = entries.filter((entry) => entry.enabled).map((entry) => entry.rule);
  return {
    rules: enabled,
    disabled: entries.filter((entry) => !entry.enabled).map((entry) => entry.rule.name),
    warnings: doubtsOf(enabled),
  };
}

function openFile({ text, source }: RulesText): { faults: YamlFaults; document: unknown } {
  if (Buffer.byteLength(text) > MAX_RULES_BYTES) {
    const faults = new YamlFaults(source);
    faults.add([], `is larger than ${MAX_RULES_BYTES} bytes`);
    return { faults, document: undefined };
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { prettyErrors: false, lineCounter: lines });
  const faults = new YamlFaults(source, { text, document, lines });
  for (const error of document.errors) faults.addAt(error.pos[0], error.message);
  if (faults.count > 0) return { faults, document: undefined };
  try {
    return { faults, document: document.toJS({ maxAliasCount: 100 }) ?? {} };
  } catch (error) {
    // Aliases that multiply, or that name nothing.
    faults.addAt(0, (error as Error).message);
    return { faults, document: undefined };
  }
}

function readEntries(document: unknown, source: string, faults: YamlFaults, room: number): Entry[] {
  const outer = v.safeParse(fileSchema, document);
  if (!outer.success) {
    takeIssues(outer.issues, [], faults);
    return [];
  }
  const { rules } = outer.output;
  if (rules.length > room) faults.add(['rules'], `must be at most ${MAX_RULES}`);
  return rules.slice(0, room).flatMap((raw, index) => {
    const at: Path = ['rules', index];
    if (!isRecord(raw)) faults.add(at, 'must be settings with their values');
    const made = isRecord(raw) ? readRule(raw, at, faults) : undefined;
    return made === undefined ? [] : [{ ...made, at, faults, source }];
  });
}

type Made = Pick<Entry, 'rule' | 'enabled'> | undefined;

function readRule(record: Record<string, unknown>, at: Path, faults: YamlFaults): Made {
  checkTemplates(record.annotations, [...at, 'annotations'], faults);
  if ('event' in record) return readEvent(record, at, faults);
  if ('absent' in record) return readAbsent(record, at, faults);
  if ('aggregate' in record) return readAggregate(record, at, faults);
  return readThreshold(record, at, faults);
}

// The parts of several shapes are read by hand, so that their faults are named as exactly as the rest and at the
// same time, also where another part of the rule is wrong.

function readThreshold(record: Record<string, unknown>, at: Path, faults: YamlFaults): Made {
  const before = faults.count;
  const parsed = v.safeParse(thresholdSchema, record);
  if (!parsed.success) takeIssues(parsed.issues, at, faults);
  const values = readOperands(record, at, faults);
  const levels = readLevels('threshold', record, at, faults);
  if (!parsed.success || levels === undefined || faults.count > before) return undefined;
  const one = parsed.output;
  const rule: ThresholdRule = {
    kind: 'threshold',
    ...textsOf(one, values[0]!.metric),
    ...{ values, clear: one.clear, keepFiringMs: one.keep_firing_for },
    ...levels,
  };
  return { rule, enabled: one.enabled };
}

function readAbsent(record: Record<string, unknown>, at: Path, faults: YamlFaults): Made {
  const before = faults.count;
  const parsed = v.safeParse(absentSchema, record);
  if (!parsed.success) takeIssues(parsed.issues, at, faults);
  const levels = readLevels('absent', record, at, faults);
  if (!parsed.success || levels === undefined || faults.count > before) return undefined;
  const one = parsed.output;
  const rule: AbsentRule = {
    kind: 'absent',
    ...textsOf(one, one.absent),
    ...{ metric: one.absent, labels: one.labels, clear: 0, keepFiringMs: one.keep_firing_for },
    ...levels,
  };
  return { rule, enabled: one.enabled };
}

function readAggregate(record: Record<string, unknown>, at: Path, faults: YamlFaults): Made {
  const before = faults.count;
  const parsed = v.safeParse(aggregateSchema, record);
  if (!parsed.success) takeIssues(parsed.issues, at, faults);
  const group = readGroup(record.aggregate, [...at, 'aggregate'], faults);
  const kind = group?.of.fn === 'share_of' ? 'share' : 'aggregate';
  const levels = readLevels(kind, record, at, faults);
  if (!parsed.success || group === undefined || levels === undefined || faults.count > before)
    return undefined;
  const one = parsed.output;
  const of = group.of;
  const rule: AggregateRule = {
    kind: 'aggregate',
    ...textsOf(one, 'rule' in of ? of.rule : of.metric),
    ...{ of, by: group.by, clear: one.clear, keepFiringMs: one.keep_firing_for },
    ...levels,
  };
  return { rule, enabled: one.enabled };
}

function readEvent(record: Record<string, unknown>, at: Path, faults: YamlFaults): Made {
  const before = faults.count;
  const parsed = v.safeParse(eventSchema, record);
  if (!parsed.success) takeIssues(parsed.issues, at, faults);
  const codes = readCodes(record.codes, [...at, 'codes'], faults);
  if (codes !== 'any' && record.event !== 'xid') faults.add([...at, 'codes'], 'is only for the event xid');
  if (!parsed.success || faults.count > before) return undefined;
  const one = parsed.output;
  const rule: EventRule = {
    kind: 'event',
    ...textsOf(one, one.event),
    ...{ event: one.event, codes, key: one.key, where: one.where },
    // Another type says that it is over by coming at all.
    until: one.until ?? (one.until_event === undefined ? undefined : {}),
    ...(one.until_event === undefined ? {} : { untilEvent: one.until_event }),
    severity: SEVERITIES[one.severity],
    expiresMs: one.expires,
  };
  return { rule, enabled: one.enabled };
}

interface Texts {
  readonly name: string;
  readonly summary?: string | undefined;
  readonly annotations: Readonly<Record<string, string>>;
  readonly runbook?: string | undefined;
  readonly add_labels: Readonly<Record<string, string>>;
}

function textsOf(one: Texts, about: string): RuleTexts {
  const runbook = one.runbook === undefined ? {} : { runbook_url: one.runbook };
  return {
    name: one.name,
    summary: one.summary ?? about,
    annotations: { ...one.annotations, ...runbook },
    addLabels: one.add_labels,
  };
}

function readCodes(raw: unknown, at: Path, faults: YamlFaults): EventRule['codes'] {
  if (raw === undefined) return 'any';
  if (raw === 'critical' || raw === 'any') return raw;
  if (!Array.isArray(raw)) {
    faults.add(at, 'must be critical, any or a list of codes');
    return 'any';
  }
  const parsed = v.safeParse(v.array(code), raw);
  if (parsed.success) return new Set(parsed.output);
  takeIssues(parsed.issues, at, faults);
  return 'any';
}

function checkTemplates(raw: unknown, at: Path, faults: YamlFaults): void {
  if (!isRecord(raw)) return;
  for (const [name, text] of Object.entries(raw)) {
    if (typeof text !== 'string') continue;
    const template = compileTemplate(text);
    if (!('fault' in template)) continue;
    const end = text.indexOf('}}', template.offset);
    const inside = text.slice(template.offset, end < 0 ? undefined : end + 2);
    faults.add([...at, name], template.fault, { inside });
  }
}

function checkNames(entries: readonly Entry[]): void {
  const first = new Map<string, string>();
  for (const { rule, at, faults, source } of entries) {
    const other = first.get(rule.name);
    if (other === undefined) {
      first.set(rule.name, source);
      continue;
    }
    const where = other === source ? '' : `, also in ${other}`;
    faults.add([...at, 'name'], `"${rule.name}" is there twice${where}`);
  }
}

/** What is counted must be a rule whose alerts are about GPUs or nodes; one that is switched off counts nothing. */
function checkCounted(entries: readonly Entry[]): void {
  const kinds = new Map(entries.map(({ rule }) => [rule.name, rule.kind]));
  for (const { rule, at, faults } of entries) {
    if (rule.kind !== 'aggregate' || !('rule' in rule.of)) continue;
    const kind = kinds.get(rule.of.rule);
    const path = [...at, 'aggregate', rule.of.fn];
    if (kind === undefined) faults.add(path, `there is no rule "${rule.of.rule}"`);
    else if (kind === 'aggregate') faults.add(path, 'must be a rule about GPUs or nodes');
  }
}
