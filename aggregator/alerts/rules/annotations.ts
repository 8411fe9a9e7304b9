import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { amount, bytes, duration, percent } from '../figures.ts';
import { severityName } from '../summary.ts';
import type { RuleTexts } from './rules.ts';

/** Longest template and longest rendered text, in characters. */
const MAX_TEMPLATE = 4000;
const MAX_RENDERED = 1000;
/** Filters behind one name. */
const MAX_FILTERS = 4;

type Value = string | number;

/** A compiled text with places to fill in; opaque. */
export interface Template {
  readonly parts: readonly (string | Place)[];
}

interface Place {
  /** Undefined where it is one of the caller's own names. */
  readonly read: ((alert: Alert) => Value) | undefined;
  readonly name: string;
  readonly filters: readonly ((value: Value) => Value)[];
}

/** Why a text is no template, and where in it. */
export interface TemplateFault {
  readonly fault: string;
  readonly offset: number;
}

const NAMES: Readonly<Record<string, (alert: Alert) => Value>> = {
  node: (alert) => alert.node,
  gpu: (alert) => alert.gpu,
  gpu_uuid: (alert) => alert.gpuUuid,
  gpu_model: (alert) => alert.gpuModel,
  cluster: (alert) => alert.cluster,
  rule: (alert) => alert.rule,
  key: (alert) => alert.key,
  severity: (alert) => severityName(alert.severity),
  value: (alert) => alert.value,
  threshold: (alert) => alert.threshold,
  summary: (alert) => alert.summary,
};

/** Each takes numbers, and texts that are numbers (labels are texts); any other text passes through. */
const FILTERS: Readonly<Record<string, (value: number) => Value>> = {
  percent,
  round: Math.round,
  duration,
  bytes,
  celsius: (value) => `${amount(Math.round(value * 10) / 10)} °C`,
};

const LABEL = /^labels\.([a-zA-Z_][a-zA-Z0-9_]*)$/;

/**
 * Reads a text with places such as `{{ node }}`, `{{ labels.rack }}` or `{{ value | percent }}`. `names` are further
 * ones that `render` will be given values for.
 */
export function compileTemplate(text: string, names: readonly string[] = []): Template | TemplateFault {
  if (text.length > MAX_TEMPLATE) return { fault: `must be at most ${MAX_TEMPLATE} characters`, offset: 0 };
  const parts: (string | Place)[] = [];
  let from = 0;
  for (;;) {
    const open = text.indexOf('{{', from);
    if (open < 0) break;
    const close = text.indexOf('}}', open);
    if (close < 0) return { fault: '{{ has no }}', offset: open };
    if (open > from) parts.push(text.slice(from, open));
    const place = compilePlace(text.slice(open + 2, close), names);
    if (typeof place === 'string') return { fault: place, offset: open };
    parts.push(place);
    from = close + 2;
  }
  if (from < text.length) parts.push(text.slice(from));
  return { parts };
}

/** The text with the alert's values in it, cut to `limit` characters (1,000 by default). */
export function render(
  template: Template,
  alert: Alert,
  values: Readonly<Record<string, Value>> = {},
  limit = MAX_RENDERED,
): string {
  const { parts } = template;
  // The same text for each alert: one string for all of them.
  if (parts.length === 1 && typeof parts[0] === 'string') return cut(parts[0], limit);
  let text = '';
  for (const part of parts) {
    if (typeof part === 'string') {
      text += part;
      continue;
    }
    let value = part.read === undefined ? (values[part.name] ?? '') : part.read(alert);
    for (const filter of part.filters) value = filter(value);
    text += typeof value === 'number' ? amount(value) : value;
    if (text.length > limit) break;
  }
  return cut(text, limit);
}

const compiled = new WeakMap<Readonly<Record<string, string>>, [name: string, template: Template][]>();

/** The rule's annotations for one of its alerts. */
export function annotate({ annotations }: RuleTexts, alert: Alert): Record<string, string> {
  let templates = compiled.get(annotations);
  if (templates === undefined) {
    templates = [];
    for (const [name, text] of Object.entries(annotations)) {
      const template = compileTemplate(text);
      // A text that is no template was refused with its file.
      if ('parts' in template) templates.push([name, template]);
    }
    compiled.set(annotations, templates);
  }
  const texts: Record<string, string> = {};
  for (const [name, template] of templates) texts[name] = render(template, alert);
  return texts;
}

function compilePlace(inner: string, names: readonly string[]): Place | string {
  const [name = '', ...filters] = inner.split('|').map((part) => part.trim());
  if (filters.length > MAX_FILTERS) return `more than ${MAX_FILTERS} filters`;
  const chain: ((value: Value) => Value)[] = [];
  for (const filter of filters) {
    const apply = Object.hasOwn(FILTERS, filter) ? FILTERS[filter] : undefined;
    if (apply === undefined) {
      return `unknown filter "${cut(filter, 40)}", known are ${Object.keys(FILTERS).join(', ')}`;
    }
    chain.push((value) => {
      const number = typeof value === 'number' ? value : value.trim() === '' ? Number.NaN : Number(value);
      return Number.isFinite(number) ? apply(number) : value;
    });
  }
  if (names.includes(name)) return { read: undefined, name, filters: chain };
  if (Object.hasOwn(NAMES, name)) return { read: NAMES[name], name, filters: chain };
  const label = LABEL.exec(name)?.[1];
  if (label !== undefined) {
    return {
      read: ({ labels }) => (Object.hasOwn(labels, label) ? labels[label]! : ''),
      name,
      filters: chain,
    };
  }
  const known = [...names, ...Object.keys(NAMES), 'labels.<name>'];
  return `unknown name "${cut(name, 40)}", known are ${known.join(', ')}`;
}

function cut(text: string, limit: number): string {
  return text.length <= limit ? text : `${text.slice(0, limit - 1)}…`;
}
