import type { Work } from '../work.ts';
import { type Interval, wilson } from './distributions.ts';
import { type PatternEvent, subjectOf } from './event-journal.ts';

/** Codes and pairs that are counted, the first that come: NVIDIA has about 170 Xids. */
const MAX_CODES = 512;
const MAX_PAIRS = 20_000;
/** The windows of the Delta study (5 s) and of a job's life after its first error. */
const WINDOWS_MS = [5000, 3_600_000] as const;
/** GPUs that showed the pair, at least: two may be one board that was moved. Own judgement. */
const MIN_SUPPORT = 3;
/** The low end of the lift, at least. Own judgement. */
const MIN_LIFT = 3;
/** The low end of the probability, at least: less is of no use to who saw the first. Own judgement. */
const MIN_PROBABILITY = 0.1;
const DAY_MS = 86_400_000;
/** Events, or pairs, between two places to stop at. */
const AT_ONCE = 500;

export interface Cooccurrence {
  readonly first: string;
  readonly second: string;
  readonly windowMs: number;
  /** Distinct GPUs with the first, and those of them on which the second followed within the window. */
  readonly units: number;
  readonly followed: number;
  /** followed / units, with Wilson's 95 % interval. */
  readonly probability: number;
  readonly interval: Interval;
  /** What chance alone gives, from the days on which GPUs of the fleet show the second. */
  readonly chance: number;
  /** probability / chance, and the low end of it. */
  readonly lift: number;
  readonly liftLow: number;
  /** GPUs on which the order was the other way round. */
  readonly reversed: number;
}

export interface CooccurrenceOptions {
  /** GPUs that were watched, whether they had events or not. */
  readonly unitsWatched: number;
  readonly watchedMs: number;
}

interface Code {
  readonly name: string;
  units: number;
  events: number;
  unitDays: number;
}

/**
 * Which error follows which on the same GPU. Counts distinct GPUs, never events: most events of most fleets come
 * from a few boards. One GPU after the other is added, so that who adds can do other things in between.
 */
export class CooccurrenceCount {
  readonly #codes = new Map<string, Code>();
  readonly #tables: readonly Map<string, number>[] = WINDOWS_MS.map(() => new Map());
  #units = 0;

  /** All events of one GPU, coalesced and in order of time. */
  add(events: readonly PatternEvent[]): void {
    this.#units++;
    const known = events.filter((event) => this.#countCode(event.code));
    countUnit(known, this.#codes);
    if (known.length < 2) return;
    for (const [index, windowMs] of WINDOWS_MS.entries()) {
      const table = this.#tables[index]!;
      for (const pair of pairsOfUnit(known, windowMs)) {
        const count = table.get(pair);
        if (count !== undefined || table.size < MAX_PAIRS) table.set(pair, (count ?? 0) + 1);
      }
    }
  }

  /** Strongest first. */
  *found({ unitsWatched, watchedMs }: CooccurrenceOptions): Work<Cooccurrence[]> {
    const unitDays = Math.max(1, Math.max(unitsWatched, this.#units) * Math.max(1, watchedMs / DAY_MS));
    const found: Cooccurrence[] = [];
    let done = 0;
    for (const [index, windowMs] of WINDOWS_MS.entries()) {
      const table = this.#tables[index]!;
      for (const [pair, followed] of table) {
        if (++done % AT_ONCE === 0) yield;
        const [first, second] = pair.split('\0') as [string, string];
        const reversed = table.get(`${second}\0${first}`) ?? 0;
        const [a, b] = [this.#codes.get(first)!, this.#codes.get(second)!];
        const one = judge(a, b, windowMs, followed, reversed, unitDays);
        if (one !== undefined) found.push(one);
      }
    }
    return shortestWindow(found).sort((a, b) => b.liftLow - a.liftLow);
  }

  /** False for a code past the most that are counted. */
  #countCode(name: string): boolean {
    if (this.#codes.has(name)) return true;
    if (this.#codes.size >= MAX_CODES) return false;
    this.#codes.set(name, { name, units: 0, events: 0, unitDays: 0 });
    return true;
  }
}

/** Events by GPU; what concerns a whole node is left out. */
export function* byGpu(events: readonly PatternEvent[]): Work<PatternEvent[][]> {
  const units = new Map<string, PatternEvent[]>();
  let done = 0;
  for (const event of events) {
    if (++done % AT_ONCE === 0) yield;
    if (event.gpu === '') continue;
    const unit = subjectOf(event);
    const list = units.get(unit);
    if (list) list.push(event);
    else units.set(unit, [event]);
  }
  return [...units.values()];
}

function judge(
  first: Code,
  second: Code,
  windowMs: number,
  followed: number,
  reversed: number,
  unitDays: number,
): Cooccurrence | undefined {
  if (followed < MIN_SUPPORT) return undefined;
  const eachDay = second.unitDays / unitDays;
  const perUnit = first.events / first.units;
  // A GPU that saw the first several times had several windows.
  const chance = 1 - Math.exp((-eachDay * windowMs * perUnit) / DAY_MS);
  const interval = wilson(followed, first.units);
  const liftLow = interval.low / chance;
  if (liftLow < MIN_LIFT || interval.low < MIN_PROBABILITY) return undefined;
  // What comes first more often is said; what comes in either order is said once, by name.
  if (reversed > followed || (reversed === followed && first.name > second.name)) return undefined;
  const probability = followed / first.units;
  return {
    first: first.name,
    second: second.name,
    windowMs,
    units: first.units,
    followed,
    probability,
    interval,
    chance,
    lift: probability / chance,
    liftLow,
    reversed,
  };
}

/** An hour holds all that five seconds hold: the longer window is said only where it adds a half to it. */
function shortestWindow(found: readonly Cooccurrence[]): Cooccurrence[] {
  const short = new Map(
    found.filter((one) => one.windowMs === WINDOWS_MS[0]).map((one) => [`${one.first}\0${one.second}`, one]),
  );
  return found.filter((one) => {
    const within = short.get(`${one.first}\0${one.second}`);
    return within === undefined || within === one || one.followed >= within.followed * 1.5;
  });
}

function countUnit(events: readonly PatternEvent[], codes: ReadonlyMap<string, Code>): void {
  const lastDay = new Map<string, number>();
  for (const { code, ms } of events) {
    const entry = codes.get(code)!;
    const day = Math.floor(ms / DAY_MS);
    const before = lastDay.get(code);
    if (before === undefined) entry.units++;
    if (before !== day) entry.unitDays++;
    lastDay.set(code, day);
    entry.events++;
  }
}

/** `first\0second` where the second came within the window after the first. */
function pairsOfUnit(events: readonly PatternEvent[], windowMs: number): Set<string> {
  const pairs = new Set<string>();
  const last = new Map<string, number>();
  for (const { code, ms } of events) {
    for (const [first, at] of last) if (first !== code && ms - at <= windowMs) pairs.add(`${first}\0${code}`);
    last.set(code, ms);
  }
  return pairs;
}
