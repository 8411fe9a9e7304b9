import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { severityName } from '../summary.ts';
import { WholeRegex } from './whole-regex.ts';

type Operator = '=' | '!=' | '=~' | '!~';

/** A label and what it must be, as it is written down. */
export interface Matcher {
  readonly label: string;
  readonly operator: Operator;
  /** With =~ and !~ a regular expression that the whole value must match. */
  readonly value: string;
}

/** A matcher that can be asked. */
export interface CompiledMatcher extends Matcher {
  /** Of =~ and !~. */
  readonly regex?: WholeRegex;
  matches(value: string): boolean;
}

/** Of a matcher; expressions match no value of an alert that is longer. */
export const MAX_VALUE = 1_000;
const MAX_LABEL = 200;
const MATCHER = /^\s*([A-Za-z_][A-Za-z0-9_.-]*)\s*(=~|!=|!~|=)\s*/;
const PLAIN = /^[^"\\{},\s]+$/;

/**
 * Reads `node=gpu-017`, `rule=~"gpu-.*"`, `severity!=info`: the syntax of Alertmanager's matchers, without braces. A
 * value in double quotes may hold anything, with `\"`, `\\` and `\n`; one without has no white space, quotes, commas
 * and braces. Throws `invalid_input`.
 */
export function parseMatcher(text: string): Matcher {
  const head = MATCHER.exec(text);
  if (head === null) throw bad(text, 'it must be a label, one of = != =~ !~, and a value');
  const rest = text.slice(head[0].length).trimEnd();
  const matcher = { label: head[1]!, operator: head[2] as Operator, value: readValue(text, rest) };
  checkMatcher(matcher);
  return matcher;
}

/** As `parseMatcher` reads it back. */
export function showMatcher({ label, operator, value }: Matcher): string {
  const quoted = value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
  return `${label}${operator}"${quoted}"`;
}

/** Throws `invalid_input`: a label or value too long, an unknown operator, a regular expression that is none. */
export function checkMatcher(matcher: Matcher): void {
  compileMatcher(matcher);
}

/** Throws `invalid_input` as checkMatcher does. */
export function compileMatcher(matcher: Matcher): CompiledMatcher {
  const { label, operator, value } = matcher;
  const text = `${label}${operator}${value}`.slice(0, MAX_LABEL);
  if (label === '' || label.length > MAX_LABEL || value.length > MAX_VALUE)
    throw bad(text, `a label has 1 to ${MAX_LABEL} characters, and a value at most ${MAX_VALUE}`);
  switch (operator) {
    case '=':
      return { ...matcher, matches: (is) => is === value };
    case '!=':
      return { ...matcher, matches: (is) => is !== value };
    case '=~':
    case '!~': {
      const regex = compilePattern(text, value);
      const wanted = operator === '=~';
      return { ...matcher, regex, matches: (is) => (is.length <= MAX_VALUE && regex.matches(is)) === wanted };
    }
    default:
      throw bad(text, 'its operator must be one of = != =~ !~');
  }
}

/** The value of a label of an alert; empty where it has none. What the alert itself says goes before its labels. */
export function labelOf(alert: Alert, label: string): string {
  switch (label) {
    case 'rule':
    case 'alertname':
      return alert.rule;
    case 'severity':
      return severityName(alert.severity);
    case 'cluster':
      return alert.cluster;
    case 'node':
      return alert.node;
    case 'gpu':
      return alert.gpu;
    case 'gpu_uuid':
      return alert.gpuUuid;
    case 'gpu_model':
      return alert.gpuModel;
    case 'key':
      return alert.key;
    default:
      return Object.hasOwn(alert.labels, label) ? alert.labels[label]! : '';
  }
}

export function matchesAll(matchers: readonly CompiledMatcher[], alert: Alert): boolean {
  for (const matcher of matchers) if (!matcher.matches(labelOf(alert, matcher.label))) return false;
  return true;
}

function readValue(text: string, rest: string): string {
  if (!rest.startsWith('"')) {
    if (rest !== '' && !PLAIN.test(rest))
      throw bad(text, 'a value with white space, quotes, commas or braces must be in double quotes');
    return rest;
  }
  const quoted = /^"((?:[^"\\]|\\["\\n])*)"$/s.exec(rest);
  if (quoted === null) throw bad(text, 'its quotes must be closed at the end, with \\" \\\\ and \\n inside');
  return quoted[1]!.replace(/\\(["\\n])/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped));
}

function compilePattern(text: string, pattern: string): WholeRegex {
  try {
    return new WholeRegex(pattern);
  } catch (cause) {
    throw new FleetError('invalid_input', `Cannot use matcher ${text}: ${describeError(cause)}`, { cause });
  }
}

function bad(text: string, why: string): FleetError {
  return new FleetError('invalid_input', `Cannot use matcher ${text}: ${why}`);
}
