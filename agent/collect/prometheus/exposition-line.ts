import type { Labels } from '#shared/model/dictionary.ts';
import { parseValue } from './sample-value.ts';

/** One line of Prometheus text 0.0.4 or OpenMetrics 1.0, taken apart. */
export type ParsedLine =
  | { readonly kind: 'help' | 'type' | 'unit'; readonly name: string; readonly text: string }
  | { readonly kind: 'comment' }
  | {
      readonly kind: 'sample';
      readonly name: string;
      /** Sorted by name; empty values, which mean no label, left out. */
      readonly labels: Labels;
      /** As printed. */
      readonly token: string;
      readonly value: number;
      /** Characters before the value. */
      readonly prefix: number;
    };

const METADATA = /^#[ \t]+(HELP|TYPE|UNIT)[ \t]+([a-zA-Z_:][a-zA-Z0-9_:]*)(?:[ \t]+(.*))?$/;
const TYPES = new Set([
  ...['counter', 'gauge', 'histogram', 'summary', 'untyped'],
  ...['unknown', 'info', 'stateset', 'gaugehistogram'],
]);
const NAME = /[a-zA-Z_:][a-zA-Z0-9_:]*/y;
const LABEL_NAME = /[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"/y;
/** Everything up to the closing quote. No nested repetition: linear on any input. */
const LABEL_VALUE = /([^"\\]*(?:\\.[^"\\]*)*)"[ \t]*(,|(?=\}))/y;
const CLOSE = /[ \t]*\}[ \t]*/y;
const SPACES = /[ \t]*/y;
/** The timestamp is milliseconds; seconds with a fraction in OpenMetrics. Read over: a tick has one time. */
const REST = /^([^ \t]+)(?:[ \t]+(-?\d{1,19}(?:\.\d+)?))?[ \t]*$/;
/** The same, and an exemplar: `17 # {trace_id="KOO5S4vxi0o"} 0.67 1700000000.5`. It is read over too. */
const OPEN_METRICS_REST =
  /^([^ \t]+)(?:[ \t]+(-?\d{1,19}(?:\.\d+)?(?:[eE][+-]?\d{1,3})?))?(?:[ \t]+#[ \t]+\{[^\n]*\}[ \t]+[^ \t}]+(?:[ \t]+[-+.\deE]+)?)?[ \t]*$/;

/**
 * Takes a line apart; undefined where it is not Prometheus text:
 *
 *     DCGM_FI_DEV_SM_CLOCK{gpu="0", UUID="GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52"} 139
 *
 * Spaces around names, commas and braces and a comma after the last label are allowed, as Prometheus does.
 */
export function parseLine(line: string, openMetrics = false): ParsedLine | undefined {
  const start = match(SPACES, line, 0)![0].length;
  if (line[start] === '#') return parseComment(line.slice(start));
  const name = match(NAME, line, start)?.[0];
  if (name === undefined) return undefined;
  let at = start + name.length;
  at += match(SPACES, line, at)![0].length;
  let labels: Labels = [];
  if (line[at] === '{') {
    const parsed = parseLabels(line, at + 1);
    if (parsed === undefined) return undefined;
    labels = parsed.labels;
    at = parsed.end;
  } else if (at === start + name.length) {
    return undefined;
  }
  const rest = (openMetrics ? OPEN_METRICS_REST : REST).exec(line.slice(at));
  const value = rest ? parseValue(rest[1]!) : undefined;
  if (!rest || value === undefined) return undefined;
  return { kind: 'sample', name, labels, token: rest[1]!, value, prefix: at };
}

function parseComment(line: string): ParsedLine | undefined {
  const found = METADATA.exec(line);
  // `# EOF`, `# NOTE ...` and the like.
  if (!found) return { kind: 'comment' };
  const [, keyword, name, text = ''] = found;
  if (keyword === 'HELP') return { kind: 'help', name: name!, text: unescaped(text) };
  if (keyword === 'UNIT') return { kind: 'unit', name: name!, text: text.trim() };
  const type = text.trim().toLowerCase();
  return TYPES.has(type) ? { kind: 'type', name: name!, text: type } : undefined;
}

function parseLabels(line: string, from: number): { labels: Labels; end: number } | undefined {
  const labels: [string, string][] = [];
  const seen = new Set<string>();
  let at = from;
  for (;;) {
    const close = match(CLOSE, line, at);
    if (close) {
      labels.sort(([a], [b]) => (a < b ? -1 : 1));
      return { labels, end: at + close[0].length };
    }
    const name = match(LABEL_NAME, line, at);
    const value = name && match(LABEL_VALUE, line, at + name[0].length);
    if (!name || !value) return undefined;
    const label = name[1]!;
    // Names that begin with two underscores are Prometheus's own.
    if (seen.has(label) || label.startsWith('__')) return undefined;
    seen.add(label);
    if (value[1] !== '') labels.push([label, unescaped(value[1]!)]);
    at += name[0].length + value[0].length;
  }
}

/** Other escapes than these stay as they are, as in Prometheus. */
function unescaped(text: string): string {
  if (!text.includes('\\')) return text;
  return text.replace(/\\([\\"n])/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped));
}

function match(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at;
  return pattern.exec(text);
}
