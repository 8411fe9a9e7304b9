import type { Work } from '../work.ts';
import { nodeOf, type PatternEvent, subjectOf } from './event-journal.ts';

const DAY_MS = 86_400_000;
const HOURS = 24;
/** Events between two places to stop at. */
const AT_ONCE = 500;
/** Fewer days than two weeks may be one week's accident. Own judgement. */
const MIN_DAYS = 14;
/** Own judgement: few subjects are tested, and the strength is asked for too. */
const ALPHA = 0.001;
/** Resultant length of events, 0 (any hour) to 1 (one moment): 0.3 has twice to three times as many near the peak. */
const MIN_STRENGTH = 0.3;
/** A day's figures with fewer hours than this have no rhythm to fit. */
const MIN_HOURS = 20;

export interface DailyRhythm {
  /** Hour of the peak, 0 to 24, UTC. */
  readonly hour: number;
  /** Of events: resultant length, 0 to 1. Of figures: amplitude, half of peak to trough, in their unit. */
  readonly strength: number;
  readonly days: number;
  readonly pValue: number;
}

interface DayVector {
  readonly x: number;
  readonly y: number;
}

/**
 * Whether events come at a certain time of day. Every day is one vote, however many events it has (the direction of
 * their mean; a GPU counts once a day), and the votes are asked by Hotelling's one-sample test whether they point
 * anywhere (second-order analysis of Batschelet, Circular Statistics in Biology, 1981): one bad afternoon with a
 * thousand events is one day. Undefined where there are too few days, or nothing significant and strong.
 */
export function* eventRhythm(events: readonly PatternEvent[]): Work<DailyRhythm | undefined> {
  const days = new Map<number, { x: number; y: number; count: number; seen: Set<string> }>();
  let done = 0;
  for (const event of events) {
    if (++done % AT_ONCE === 0) yield;
    const day = Math.floor(event.ms / DAY_MS);
    const sum = days.get(day) ?? { x: 0, y: 0, count: 0, seen: new Set() };
    days.set(day, sum);
    const subject = event.gpu === '' ? nodeOf(event) : subjectOf(event);
    if (sum.seen.has(subject)) continue;
    sum.seen.add(subject);
    const angle = (2 * Math.PI * (event.ms - day * DAY_MS)) / DAY_MS;
    sum.x += Math.cos(angle);
    sum.y += Math.sin(angle);
    sum.count++;
  }
  const vectors = [...days.values()].map(({ x, y, count }) => ({ x: x / count, y: y / count }));
  const rhythm = meanVector(vectors);
  return rhythm !== undefined && rhythm.strength >= MIN_STRENGTH ? rhythm : undefined;
}

/**
 * Whether a room's figure (inlet temperature, power of a PDU) swings with the time of day: `hourly` has 24 values for
 * each day, in UTC, oldest first, NaN for none. Each day gives its first harmonic, the days are the sample. Not for a
 * GPU's load or temperature: those follow people. `minAmplitude` in the figure's unit: less is not worth a word.
 */
export function figureRhythm(hourly: ArrayLike<number>, minAmplitude: number): DailyRhythm | undefined {
  const vectors: DayVector[] = [];
  for (let day = 0; day + HOURS <= hourly.length; day += HOURS) {
    const vector = firstHarmonic(hourly, day);
    if (vector !== undefined) vectors.push(vector);
  }
  const rhythm = meanVector(vectors);
  return rhythm !== undefined && rhythm.strength >= minAmplitude ? rhythm : undefined;
}

/** p of Rayleigh's test: `count` unit vectors with mean length `strength` (Zar, Biostatistical Analysis, 27.4). */
export function rayleigh(count: number, strength: number): number {
  const r = count * strength;
  return Math.min(1, Math.exp(Math.sqrt(1 + 4 * count + 4 * (count * count - r * r)) - (1 + 2 * count)));
}

/** The hour as a person writes it: 14:30. */
export function clockWords(hour: number): string {
  const minutes = (Math.round(hour * 2) * 30) % 1440;
  return `${String(Math.floor(minutes / 60)).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`;
}

function firstHarmonic(hourly: ArrayLike<number>, from: number): DayVector | undefined {
  let mean = 0;
  let count = 0;
  for (let h = 0; h < HOURS; h++) {
    const value = hourly[from + h]!;
    if (!Number.isFinite(value)) continue;
    mean += value;
    count++;
  }
  if (count < MIN_HOURS) return undefined;
  mean /= count;
  let x = 0;
  let y = 0;
  for (let h = 0; h < HOURS; h++) {
    const value = hourly[from + h]!;
    if (!Number.isFinite(value)) continue;
    const angle = (2 * Math.PI * (h + 0.5)) / HOURS;
    x += (2 / count) * (value - mean) * Math.cos(angle);
    y += (2 / count) * (value - mean) * Math.sin(angle);
  }
  return { x, y };
}

function meanVector(vectors: readonly DayVector[]): DailyRhythm | undefined {
  const days = vectors.length;
  if (days < MIN_DAYS) return undefined;
  const x = vectors.reduce((sum, one) => sum + one.x, 0) / days;
  const y = vectors.reduce((sum, one) => sum + one.y, 0) / days;
  const pValue = hotelling(vectors, x, y);
  if (pValue > ALPHA) return undefined;
  const hour = ((Math.atan2(y, x) / (2 * Math.PI)) * HOURS + HOURS) % HOURS;
  return { hour, strength: Math.hypot(x, y), days, pValue };
}

/** p that the mean of two-dimensional votes is (0, 0). F with 2 and n - 2 degrees of freedom, whose tail is closed. */
function hotelling(vectors: readonly DayVector[], x: number, y: number): number {
  const n = vectors.length;
  let xx = 0;
  let yy = 0;
  let xy = 0;
  for (const one of vectors) {
    xx += (one.x - x) ** 2 / (n - 1);
    yy += (one.y - y) ** 2 / (n - 1);
    xy += ((one.x - x) * (one.y - y)) / (n - 1);
  }
  const determinant = xx * yy - xy * xy;
  // Votes that all lie on one line, or are all the same: no spread to judge by.
  if (determinant <= 1e-12 * (xx + yy + x * x + y * y) ** 2)
    return Math.hypot(x, y) > 0 && xx + yy < 1e-9 ? rayleigh(n, 1) : 1;
  const t2 = (n * (yy * x * x - 2 * xy * x * y + xx * y * y)) / determinant;
  return (1 + t2 / (n - 1)) ** (-(n - 2) / 2);
}
