import * as v from 'valibot';
import { modelPattern } from './model-pattern.ts';
import { LIMIT_NAMES, SIGNAL_NAMES } from './names.ts';

/** Long enough for a sentence about a figure, short enough for a line of the explanation. */
const MAX_SOURCE = 300;
/** A pattern for the name of a model. */
const MAX_PATTERN = 200;
/** Codes of an Xid table. */
const MAX_CODES = 256;

const number = v.pipe(v.number('must be a number'), v.finite('must be a finite number'));
const between = (low: number, high: number) =>
  v.pipe(number, v.minValue(low, `must be at least ${low}`), v.maxValue(high, `must be at most ${high}`));
const source = v.pipe(
  v.string('must say where the figure comes from, or unverified'),
  v.minLength(1, 'must say where the figure comes from, or unverified'),
  v.maxLength(MAX_SOURCE, `must be at most ${MAX_SOURCE} characters`),
);
const sourced = (value: ReturnType<typeof between> | typeof number) => v.strictObject({ value, source });
const name = v.pipe(
  v.string('must be a name'),
  v.regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'must be 1 to 63 of a-z, 0-9, - and _'),
);
const pattern = v.pipe(
  v.string('must be a regular expression'),
  v.maxLength(MAX_PATTERN, `must be at most ${MAX_PATTERN} characters`),
  v.check(isPattern, 'is not a regular expression in RE2 syntax'),
);
const points = v.pipe(
  v.tuple([number, number, number, number], 'must be four numbers: good, warning, critical, failed'),
  v.check((four) => isOrdered(four), 'must rise or fall from good to failed'),
);
const codes = v.pipe(
  v.array(v.pipe(number, v.integer('must be whole'), v.minValue(0, 'must be at least 0'))),
  v.minLength(1, 'must name a code'),
  v.maxLength(MAX_CODES, `must be at most ${MAX_CODES} codes`),
);
const score = between(0, 100);

/** One signal: any part of it, the rest is as in the profile that it extends. */
const signal = v.pipe(
  v.strictObject({
    enabled: v.optional(v.boolean('must be true or false')),
    dimension: v.optional(
      v.picklist(
        ['memory', 'thermal', 'power', 'performance', 'reliability'],
        'must be memory, thermal, power, performance or reliability',
      ),
    ),
    points: v.optional(points),
    points_source: v.optional(source),
    scale: v.optional(v.picklist(['linear', 'log'], 'must be linear or log')),
    weight: v.optional(between(0, 1)),
    weight_source: v.optional(source),
    required: v.optional(v.boolean('must be true or false')),
    caps: v.optional(
      v.pipe(
        v.array(v.strictObject({ from: number, score, source })),
        v.maxLength(8, 'must be at most 8 caps'),
      ),
    ),
  }),
  v.check(
    (one) => (one.points === undefined) === (one.points_source === undefined),
    'points need points_source',
  ),
  v.check(
    (one) => (one.weight === undefined) === (one.weight_source === undefined),
    'weight needs weight_source',
  ),
);

const events = v.strictObject({
  half_life_days: v.optional(sourced(between(0.01, 365))),
  severities: v.optional(
    v.strictObject({
      info: v.optional(sourced(between(0, 10))),
      warning: v.optional(sourced(between(0, 10))),
      error: v.optional(sourced(between(0, 10))),
      critical: v.optional(sourced(between(0, 10))),
    }),
  ),
  /** Added to those of the profile that it extends; the last one that names a code counts. */
  xids: v.optional(
    v.pipe(
      v.array(v.strictObject({ codes, value: between(0, 10), source })),
      v.maxLength(MAX_CODES, `must be at most ${MAX_CODES} entries`),
    ),
  ),
  xid_caps: v.optional(
    v.pipe(
      v.array(v.strictObject({ codes, score, hours: between(0, 24 * 365), source })),
      v.maxLength(MAX_CODES, `must be at most ${MAX_CODES} entries`),
    ),
  ),
});

/** A profile as its file has it. `null` takes away a limit of the profile that it extends. */
export const profileFile = v.strictObject({
  name,
  version: v.pipe(number, v.integer('must be whole'), v.minValue(1, 'must be at least 1')),
  /** Every profile but `generic` extends one: `generic` where it says nothing. */
  extends: v.optional(name),
  /** The pattern is looked for anywhere in the model, in any case. Memory in GiB, both ends included. */
  match: v.optional(
    v.strictObject({
      model: pattern,
      memory_gib: v.optional(
        v.pipe(
          v.tuple([between(0, 1e6), between(0, 1e6)], 'must be two numbers: least and most GiB'),
          v.check(([least, most]) => least <= most, 'must rise'),
        ),
      ),
    }),
  ),
  limits: v.optional(
    v.strictObject(v.entriesFromList(LIMIT_NAMES, v.optional(v.nullable(sourced(between(0, 1e6)))))),
  ),
  signals: v.optional(v.strictObject(v.entriesFromList(SIGNAL_NAMES, v.optional(signal)))),
  events: v.optional(events),
});

export type ProfileFile = v.InferOutput<typeof profileFile>;

function isPattern(text: string): boolean {
  try {
    modelPattern(text);
    return true;
  } catch {
    return false;
  }
}

/** Neighbours may be equal, which makes a step; the ends may not, or no value would be good. */
function isOrdered(four: readonly number[]): boolean {
  const sign = Math.sign(four[3]! - four[0]!);
  return sign !== 0 && four.every((value, i) => i === 0 || (value - four[i - 1]!) * sign >= 0);
}
