import * as v from 'valibot';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { LocatedYaml } from './located-yaml.ts';
import {
  checkLocation,
  parseDaysOfMonth,
  parseMinute,
  parseMonths,
  parseWeekdays,
  parseYears,
  type Span,
  type TimeSpec,
} from './time-interval.ts';

/** Entries of all intervals together: each is looked at when a group is due. */
const MAX_SPECS = 200;

const texts = v.optional(
  v.array(v.pipe(v.union([v.string(), v.number()], 'must be a text'), v.transform(String)), 'must be a list'),
  [],
);
const specSchema = v.strictObject({
  times: v.optional(
    v.array(
      v.strictObject({ start_time: v.string('must be HH:MM'), end_time: v.string('must be HH:MM') }),
      'must be a list of start_time and end_time',
    ),
    [],
  ),
  weekdays: texts,
  days_of_month: texts,
  months: texts,
  years: texts,
  location: v.optional(v.string('must be a time zone such as Europe/Berlin'), 'UTC'),
});
const intervalSchema = v.strictObject({
  name: v.pipe(v.string('must be a name'), v.nonEmpty('must be a name')),
  time_intervals: v.array(specSchema, 'must be a list'),
});

type Path = (string | number)[];
type GivenSpec = v.InferOutput<typeof specSchema>;

/** The named intervals of a file; what is wrong goes to its faults. */
export function readTimeIntervals(
  list: readonly unknown[],
  yaml: LocatedYaml,
): Map<string, readonly TimeSpec[]> {
  const intervals = new Map<string, readonly TimeSpec[]>();
  let count = 0;
  for (const [index, raw] of list.entries()) {
    const path = ['time_intervals', index];
    const parsed = v.safeParse(intervalSchema, raw);
    if (!parsed.success) {
      yaml.issues(path, parsed.issues);
      continue;
    }
    const { name, time_intervals: specs } = parsed.output;
    if (intervals.has(name)) yaml.fault([...path, 'name'], `"${name}" is there twice`);
    count += specs.length;
    intervals.set(
      name,
      specs.map((spec, at) => readSpec(spec, [...path, 'time_intervals', at], yaml)),
    );
  }
  if (count > MAX_SPECS) yaml.fault(['time_intervals'], `must be at most ${MAX_SPECS} entries in all`);
  return intervals;
}

function readSpec(spec: GivenSpec, path: Path, yaml: LocatedYaml): TimeSpec {
  const spans = (name: 'weekdays' | 'days_of_month' | 'months' | 'years', read: typeof parseYears): Span[] =>
    spec[name].flatMap((text, index) => {
      const span = read(text);
      if (span === undefined) yaml.fault([...path, name, index], `"${text}" is no range of ${name}`);
      return span ?? [];
    });
  try {
    checkLocation(spec.location);
  } catch (thrown) {
    yaml.fault([...path, 'location'], describeError(thrown));
  }
  return {
    times: spec.times.flatMap((one, index) => {
      const from = parseMinute(one.start_time);
      const to = parseMinute(one.end_time);
      if (from !== undefined && to !== undefined && from < to) return { from, to };
      yaml.fault([...path, 'times', index], 'must be HH:MM to a later HH:MM of the same day, at most 24:00');
      return [];
    }),
    weekdays: spans('weekdays', parseWeekdays),
    daysOfMonth: spans('days_of_month', parseDaysOfMonth),
    months: spans('months', parseMonths),
    years: spans('years', parseYears),
    location: spec.location,
  };
}
