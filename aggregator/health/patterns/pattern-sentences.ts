import type { Cooccurrence } from './cooccurrence.ts';
import type { SharedCause } from './correlation.ts';
import { isLemon, type LemonScore, lemonWords } from './lemons.ts';
import { figure, MAX_SUBJECTS, type Pattern, spanWords } from './pattern.ts';
import { codeWords } from './pattern-codes.ts';
import { clockWords, type DailyRhythm } from './time-of-day.ts';
import type { TimeToThreshold, Trend } from './trend.ts';
import type { TrendSignal } from './trend-signals.ts';

export function trendPattern(
  subject: string,
  signal: TrendSignal,
  trend: Trend,
  time: TimeToThreshold,
  sinceMs: number,
): Pattern {
  const unit = signal.unit === '' ? '' : ` ${signal.unit}`;
  const week = Math.abs(trend.slope * 7);
  const latest = time.latest === Number.POSITIVE_INFINITY ? 'never' : figure(time.latest);
  const when =
    time.days === 0
      ? `It is at ${figure(signal.threshold)}${unit} already: ${signal.meaning}`
      : `At this rate it reaches ${figure(signal.threshold)}${unit} (${signal.meaning}) in ${figure(time.days)} days (${figure(time.earliest)} to ${latest})`;
  return {
    id: `trend:${signal.name}:${subject}`,
    kind: 'trend',
    scope: 'gpu',
    subjects: [subject],
    sentence: `${capital(signal.words)} of ${subject} ${signal.direction === 'rising' ? 'rises' : 'falls'} by ${figure(week)}${unit} a week and is ${figure(trend.level)}${unit}. ${when}.`,
    figures: {
      slope_per_day: trend.slope,
      slope_low: trend.slopeLow,
      slope_high: trend.slopeHigh,
      level: trend.level,
      threshold: signal.threshold,
      days: time.days,
      days_earliest: time.earliest,
      days_latest: time.latest,
      p_value: trend.pValue,
      points: trend.points,
    },
    sinceMs,
    confidence: 1 - trend.pValue,
  };
}

export function cooccurrencePattern(one: Cooccurrence, sinceMs: number): Pattern {
  const { first, second, units, followed, probability, interval } = one;
  const percent = (p: number): string => `${Math.round(p * 100)} %`;
  return {
    id: `cooccurrence:${first}:${second}:${one.windowMs}`,
    kind: 'cooccurrence',
    scope: 'fleet',
    subjects: [first, second],
    sentence: `${codeWords(second)} follows ${codeWords(first)} within ${spanWords(one.windowMs)} on ${followed} of ${units} GPUs that had it (${percent(probability)}, ${percent(interval.low)} to ${percent(interval.high)}; by chance ${figure(one.chance * 100)} %).`,
    figures: {
      window_seconds: one.windowMs / 1000,
      gpus: units,
      followed,
      probability,
      probability_low: interval.low,
      probability_high: interval.high,
      chance: one.chance,
      lift: one.lift,
      lift_low: one.liftLow,
      reversed: one.reversed,
    },
    sinceMs,
    confidence: interval.low,
  };
}

export function lemonPattern(score: LemonScore): Pattern | undefined {
  if (!isLemon(score)) return undefined;
  return {
    id: `lemon:${score.node}`,
    kind: 'lemon',
    scope: 'node',
    subjects: [score.node],
    sentence: lemonWords(score),
    figures: {
      score: score.score,
      repeats: score.repeats,
      ...Object.fromEntries(score.reasons.map(({ signal, count }) => [signal, count])),
    },
    sinceMs: score.sinceMs,
    confidence: score.score / (score.score + 1),
  };
}

const LEVEL_WORDS: Readonly<Record<SharedCause['level'], string>> = {
  node: 'node',
  switch: 'switch',
  pdu: 'PDU',
  rack: 'rack',
  cooling_zone: 'cooling zone',
  row: 'row',
  job: 'job',
  pool: 'pool',
  datacenter: 'data centre',
  fleet: 'fleet',
};

export function sharedCausePattern(cause: SharedCause): Pattern {
  const { level, name, hit, of } = cause;
  const where = level === 'fleet' ? 'the fleet' : `${LEVEL_WORDS[level]} ${name}`;
  const things = level === 'node' ? 'GPUs' : 'nodes';
  const rather =
    level === 'fleet'
      ? 'something that all share'
      : `the ${LEVEL_WORDS[level]} rather than the ${level === 'node' ? 'single GPUs' : 'GPUs'}`;
  const or = cause.alternatives.length === 0 ? '' : ` (or ${cause.alternatives.join(', ')})`;
  return {
    id: `shared_cause:${level}:${name}:${cause.code}:${cause.startedMs}`,
    kind: 'shared_cause',
    scope: level,
    subjects: cause.subjects.slice(0, MAX_SUBJECTS),
    sentence: `${hit} of ${of} ${things} ${level === 'node' ? 'of' : 'on'} ${where} had ${codeWords(cause.code)} within ${spanWords(Math.max(1000, cause.spanMs))}: ${rather}${or}.`,
    figures: { hit, of, span_seconds: cause.spanMs / 1000, p_value: cause.pValue },
    sinceMs: cause.startedMs,
    confidence: 1 - cause.pValue,
  };
}

export function eventRhythmPattern(code: string, rhythm: DailyRhythm, sinceMs: number): Pattern {
  return {
    id: `time_of_day:event:${code}`,
    kind: 'time_of_day',
    scope: 'fleet',
    subjects: [code],
    sentence: `${codeWords(code)} comes mostly around ${clockWords(rhythm.hour)} UTC, on ${rhythm.days} days (strength ${figure(rhythm.strength)} of 1).`,
    figures: rhythmFigures(rhythm),
    sinceMs,
    confidence: 1 - rhythm.pValue,
  };
}

export function roomRhythmPattern(
  name: string,
  words: string,
  unit: string,
  rhythm: DailyRhythm,
  sinceMs: number,
): Pattern {
  return {
    id: `time_of_day:${words}:${name}`,
    kind: 'time_of_day',
    scope: 'room',
    subjects: [name],
    sentence: `${capital(words)} of ${name} swings by ±${figure(rhythm.strength)} ${unit} through the day and peaks around ${clockWords(rhythm.hour)} UTC (${rhythm.days} days).`,
    figures: rhythmFigures(rhythm),
    sinceMs,
    confidence: 1 - rhythm.pValue,
  };
}

function rhythmFigures({ hour, strength, days, pValue }: DailyRhythm): Record<string, number> {
  return { hour_utc: hour, strength, days, p_value: pValue };
}

function capital(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1);
}
