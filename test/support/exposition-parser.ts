/** One sample of a page. */
export interface PageSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface PageFamily {
  readonly name: string;
  type: string;
  unit: string;
  help: string;
  readonly samples: PageSample[];
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
const VALUE = /^(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]Inf|NaN)$/;
const OPENMETRICS_TYPES = ['gauge', 'counter', 'unknown'];

/**
 * A page as the two specifications have it, and nothing more lenient: Prometheus text 0.0.4, OpenMetrics 1.0. Throws
 * at the first line that breaks a rule: metadata before samples, each once; a family in one piece; no series twice;
 * names, escapes and numbers as they are defined; for OpenMetrics also suffixes, units and the end.
 */
export function parsePage(text: string, format: 'text' | 'openmetrics'): Map<string, PageFamily> {
  const fail = (why: string, line: string): never => {
    throw new Error(`${why}: ${line}`);
  };
  if (text !== '' && !text.endsWith('\n')) fail('no line feed at the end', text.slice(-80));
  const families = new Map<string, PageFamily>();
  const series = new Set<string>();
  let current: PageFamily | undefined;
  const lines = text.split('\n').slice(0, -1);
  const end = lines.indexOf('# EOF');
  if (format === 'openmetrics' && end !== lines.length - 1) fail('# EOF is not the last line', String(end));
  for (const line of format === 'openmetrics' ? lines.slice(0, -1) : lines) {
    const meta = /^# (TYPE|HELP|UNIT) (\S+)(?: (.*))?$/.exec(line);
    if (meta) {
      const [, kind, name, rest = ''] = meta as unknown as [string, 'TYPE' | 'HELP' | 'UNIT', string, string];
      if (!NAME.test(name)) fail('bad family name', line);
      if (current?.name !== name) {
        if (families.has(name)) fail('a family in two pieces', line);
        current = { name, type: '', unit: '', help: '', samples: [] };
        families.set(name, current);
      }
      if (current.samples.length > 0) fail('metadata after samples', line);
      const field = kind.toLowerCase() as 'type' | 'help' | 'unit';
      if (current[field] !== '') fail('metadata twice', line);
      current[field] = field === 'help' ? unescaped(rest, format === 'openmetrics', line) : rest;
      if (kind === 'UNIT' && format === 'text') fail('text has no UNIT', line);
      if (kind === 'UNIT' && !name.endsWith(`_${rest}`)) fail('a unit that does not end the name', line);
      if (kind === 'TYPE' && format === 'openmetrics') {
        if (!OPENMETRICS_TYPES.includes(rest)) fail('unknown type', line);
        if (rest === 'counter' && name.endsWith('_total')) fail('a counter family with its suffix', line);
      }
      continue;
    }
    if (line.startsWith('#') || line === '') {
      if (format === 'openmetrics') fail('neither metadata nor a sample', line);
      continue;
    }
    const sample = parseSample(line, fail);
    const { name } = sample;
    const expected =
      current && format === 'openmetrics' && current.type === 'counter'
        ? `${current.name}_total`
        : current?.name;
    if (current === undefined || name !== expected) fail('a sample outside its family', line);
    const key = JSON.stringify([name, Object.entries(sample.labels).sort()]);
    if (series.has(key)) fail('a series twice', line);
    series.add(key);
    if (current!.type === 'counter' && (sample.value < 0 || Number.isNaN(sample.value)))
      fail('a counter below 0', line);
    current!.samples.push(sample);
  }
  return families;
}

function parseSample(line: string, fail: (why: string, line: string) => never): PageSample {
  let at = line.search(/[{ ]/);
  const name = line.slice(0, at);
  if (!NAME.test(name)) fail('bad metric name', line);
  const labels: Record<string, string> = {};
  if (line[at] === '{') {
    at++;
    while (line[at] !== '}') {
      const pair = /^([^=]+)="((?:[^"\\\n]|\\["\\n])*)"(,(?=[^}])|(?=\}))/.exec(line.slice(at));
      if (!pair) return fail('bad label', line);
      const [whole, label, value] = pair as unknown as [string, string, string];
      if (!LABEL.test(label)) fail('bad label name', line);
      if (Object.hasOwn(labels, label)) fail('a label twice', line);
      labels[label] = unescaped(value, true, line);
      at += whole.length;
    }
    at++;
  }
  const rest = line.slice(at);
  if (!/^ [^ ]+$/.test(rest) || !VALUE.test(rest.slice(1))) fail('bad value', line);
  const value = rest.slice(1);
  return {
    name,
    labels,
    value: value.endsWith('Inf') ? Number(value.replace('Inf', 'Infinity')) : Number(value),
  };
}

function unescaped(text: string, quotes: boolean, line: string): string {
  return text.replace(/\\(.?)/g, (_, char: string) => {
    if (char === 'n') return '\n';
    if (char === '\\' || (quotes && char === '"')) return char;
    throw new Error(`a bad escape: ${line}`);
  });
}
