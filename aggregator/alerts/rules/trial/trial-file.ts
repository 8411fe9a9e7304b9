import * as v from 'valibot';
import { LineCounter, parseDocument } from 'yaml';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { takeIssues } from '../../files/take-issues.ts';
import { YamlFaults } from '../../files/yaml-faults.ts';
import { promDurationMs } from '../import/promql.ts';
import { type NotedSeries, type NotedValue, parseSeries, parseValues } from './series-notation.ts';

/** Unit tests of rules, as one file has them. Times are milliseconds from the start of the test. */
export interface TrialFile {
  /** Relative to the file; `default` is what ships. */
  readonly ruleFiles: readonly string[];
  readonly trials: readonly Trial[];
}

export interface Trial {
  readonly name: string;
  readonly intervalMs: number;
  readonly series: readonly (NotedSeries & { readonly values: readonly NotedValue[] })[];
  readonly events: readonly TrialEvent[];
  /** What the inventory says of a node, such as its rack. */
  readonly groups: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly expectations: readonly Expectation[];
}

export interface TrialEvent {
  readonly atMs: number;
  readonly type: string;
  readonly node: string;
  readonly gpu: string;
  readonly uuid: string;
  readonly text: string;
  readonly attributes: Readonly<Record<string, string>>;
}

/** Which alerts one rule has at a moment: these and no others. */
export interface Expectation {
  readonly atMs: number;
  readonly rule: string;
  readonly alerts: readonly ExpectedAlert[];
}

/** Only what is named is compared. `state` is firing where not given. */
export interface ExpectedAlert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly state: 'firing' | 'pending';
}

const MAX_BYTES = 4 * 1024 * 1024;
const MAX_TESTS = 1_000;
const MAX_SERIES = 10_000;
/** Steps of a test: a week, ten seconds each, is 60,480. */
export const MAX_STEPS = 200_000;
const DEFAULT_INTERVAL_MS = 10_000;

const duration = v.pipe(
  v.string('must be a duration such as 30s or 1h30m'),
  v.check((text) => promDurationMs(text) !== undefined, 'must be a duration such as 30s or 1h30m'),
  v.transform((text) => promDurationMs(text)!),
);
const interval = v.pipe(duration, v.minValue(100, 'must be at least 100ms'));
const textual = v.pipe(v.union([v.string(), v.number(), v.boolean()], 'must be a text'), v.transform(String));
const texts = v.optional(v.record(v.string(), textual, 'must be names with their texts'), {});

const series = v.strictObject(
  {
    series: v.pipe(
      v.string('must be a series'),
      v.rawTransform(({ dataset, addIssue, NEVER }) => {
        const found = parseSeries(dataset.value);
        if (typeof found !== 'string') return found;
        addIssue({ message: found });
        return NEVER;
      }),
    ),
    values: v.pipe(
      v.pipe(v.union([v.string(), v.number()], 'must be values'), v.transform(String)),
      v.rawTransform(({ dataset, addIssue, NEVER }) => {
        const found = parseValues(dataset.value);
        if (typeof found !== 'string') return found;
        addIssue({ message: found });
        return NEVER;
      }),
    ),
  },
  fault,
);
const event = v.strictObject(
  {
    at: duration,
    event: v.string('must be the type of an event'),
    node: v.optional(v.string(), 'n1'),
    gpu: v.optional(textual, ''),
    uuid: v.optional(v.string()),
    text: v.optional(v.string(), ''),
    attributes: texts,
  },
  fault,
);
const expected = v.strictObject(
  {
    exp_labels: texts,
    exp_annotations: texts,
    state: v.optional(v.picklist(['firing', 'pending'], 'must be firing or pending'), 'firing'),
  },
  fault,
);
const expectation = v.strictObject(
  {
    eval_time: duration,
    alertname: v.string('must be the name of a rule'),
    exp_alerts: v.optional(v.nullable(v.array(expected, 'must be a list')), []),
  },
  fault,
);
const trial = v.strictObject(
  {
    name: v.optional(v.string(), ''),
    interval: v.optional(interval),
    input_series: v.optional(
      v.pipe(v.array(series, 'must be a list'), v.maxLength(MAX_SERIES, `must be at most ${MAX_SERIES}`)),
      [],
    ),
    events: v.optional(v.array(event, 'must be a list'), []),
    groups: v.optional(v.record(v.string(), v.record(v.string(), textual)), {}),
    alert_rule_test: v.array(expectation, 'must be a list'),
  },
  fault,
);
const file = v.strictObject(
  {
    rule_files: v.pipe(
      v.array(v.string('must be a file'), 'must be a list'),
      v.minLength(1, 'must not be empty'),
    ),
    evaluation_interval: v.optional(interval, '10s'),
    tests: v.pipe(v.array(trial, 'must be a list'), v.maxLength(MAX_TESTS, `must be at most ${MAX_TESTS}`)),
  },
  fault,
);

/** Throws `invalid_input` with every fault and its place. */
export function readTrialFile(text: string, source: string): TrialFile {
  if (Buffer.byteLength(text) > MAX_BYTES) refuse(source, [`${source}: is larger than ${MAX_BYTES} bytes`]);
  const lines = new LineCounter();
  const document = parseDocument(text, { prettyErrors: false, lineCounter: lines });
  const faults = new YamlFaults(source, { text, document, lines });
  for (const error of document.errors) faults.addAt(error.pos[0], error.message);
  if (faults.count > 0) return refuse(source, faults.list());
  const parsed = v.safeParse(file, document.toJS({ maxAliasCount: 100 }));
  if (!parsed.success) {
    takeIssues(parsed.issues, [], faults);
    return refuse(source, faults.list());
  }
  const { rule_files: ruleFiles, evaluation_interval: usual, tests } = parsed.output;
  const trials = tests.map((one, i) => trialOf(one, one.name || `tests[${i}]`, one.interval ?? usual));
  for (const [i, { intervalMs, expectations }] of trials.entries()) {
    const lastMs = Math.max(0, ...expectations.map(({ atMs }) => atMs));
    if (lastMs / intervalMs > MAX_STEPS) faults.add(['tests', i], `lasts more than ${MAX_STEPS} intervals`);
  }
  return faults.count > 0 ? refuse(source, faults.list()) : { ruleFiles, trials };
}

function trialOf(one: v.InferOutput<typeof trial>, name: string, intervalMs = DEFAULT_INTERVAL_MS): Trial {
  return {
    name,
    intervalMs,
    series: one.input_series.map(({ series: { name: metric, labels }, values }) => ({
      name: metric,
      labels,
      values,
    })),
    events: one.events
      .map(({ at, event: type, uuid, ...rest }) => ({
        ...rest,
        atMs: at,
        type,
        uuid: uuid ?? (rest.gpu === '' ? '' : `GPU-${rest.node}-${rest.gpu}`),
      }))
      .sort((a, b) => a.atMs - b.atMs),
    groups: one.groups,
    expectations: one.alert_rule_test
      .map(({ eval_time: atMs, alertname, exp_alerts: alerts }) => ({
        atMs,
        rule: alertname,
        alerts: (alerts ?? []).map(({ exp_labels, exp_annotations, state }) => ({
          labels: exp_labels,
          annotations: exp_annotations,
          state,
        })),
      }))
      .sort((a, b) => a.atMs - b.atMs),
  };
}

function refuse(source: string, faults: readonly string[]): never {
  throw new FleetError('invalid_input', `Cannot read tests ${source}:\n  ${faults.join('\n  ')}`);
}

function fault(issue: v.StrictObjectIssue): string {
  if (issue.expected === 'never') return 'is not a setting of a test';
  return issue.path === undefined ? 'must be settings with their values' : 'is missing';
}
