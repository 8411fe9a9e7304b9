import type { Clock } from '#shared/model/clock.ts';
import { type Range, RangeSet } from '#shared/model/range-set.ts';
import type { RunRange } from './delivery.ts';

/** Facts of the buffer: small texts that outlive a run. */
interface Facts {
  fact(name: string): string | undefined;
  saveFact(name: string, value: string): void;
}

const MINUTE_MS = 60_000;
const MINUTES_PER_FACT = 60;
/** The longest ring is 30 days; older than it nothing can be sent again. */
const MAX_HOURS = 720;
/** Minutes are coarse, and the wall clock that carries them over a restart is not exact. */
const MARGIN_MS = 2 * MINUTE_MS;

interface Minute {
  /** Monotonic ms of its begin; negative for minutes of an earlier process. */
  readonly at: number;
  readonly runs: Map<number, RangeSet>;
}

interface StoredMinute {
  /** Unix ms. */
  at: number;
  runs: { run: number; ranges: Range[] }[];
}

/**
 * When which records were accepted, to the minute. A store that is set back to an hour ago has lost what it was
 * given in that hour, and that may be samples of yesterday which came as backlog: a replay by the samples' own
 * times would leave them out.
 */
export class AcceptedLog {
  readonly #clock: Clock;
  readonly #facts: Facts;
  /** Oldest first. */
  readonly #minutes: Minute[] = [];
  #savedHour: number | undefined;

  constructor(clock: Clock, facts: Facts) {
    this.#clock = clock;
    this.#facts = facts;
    this.#load();
  }

  add({ run, first, last }: RunRange): void {
    const now = this.#clock.monotonic();
    let minute = this.#minutes.at(-1);
    if (!minute || now - minute.at >= MINUTE_MS) {
      minute = { at: now, runs: new Map() };
      this.#minutes.push(minute);
      if (this.#minutes.length > MAX_HOURS * MINUTES_PER_FACT) this.#minutes.shift();
    }
    let ranges = minute.runs.get(run);
    if (!ranges) {
      ranges = new RangeSet();
      minute.runs.set(run, ranges);
    }
    ranges.add(first, last);
  }

  /** What was accepted within this long before now; a little more rather than too little. */
  within(ms: number): RunRange[] {
    const since = this.#clock.monotonic() - ms - MARGIN_MS;
    return this.#minutes
      .filter(({ at }) => at + MINUTE_MS >= since)
      .flatMap(({ runs }) =>
        [...runs].flatMap(([run, set]) => set.ranges.map(({ first, last }) => ({ run, first, last }))),
      );
  }

  /**
   * Writes down the hour that is under way. To be called more often than accepted records become durable (30 s):
   * then no durable one is missing here after a crash, and the others are sent again anyway.
   */
  save(): void {
    const newest = this.#minutes.at(-1);
    if (!newest) return;
    const offset = this.#clock.now() - this.#clock.monotonic();
    const hourOf = ({ at }: Minute): number => Math.floor((at + offset) / (MINUTE_MS * MINUTES_PER_FACT));
    const hour = hourOf(newest);
    // The end of an hour is written with the first of the next.
    for (const one of new Set([this.#savedHour ?? hour, hour])) this.#saveHour(one, hourOf, offset);
    this.#savedHour = hour;
  }

  #saveHour(hour: number, hourOf: (minute: Minute) => number, offset: number): void {
    const minutes: StoredMinute[] = this.#minutes
      .filter((minute) => hourOf(minute) === hour)
      .map(({ at, runs }) => ({
        at: Math.round(at + offset),
        runs: [...runs].map(([run, set]) => ({
          run,
          ranges: set.ranges.map(({ first, last }) => ({ first, last })),
        })),
      }));
    this.#facts.saveFact(factName(hour), JSON.stringify(minutes));
  }

  #load(): void {
    const offset = this.#clock.now() - this.#clock.monotonic();
    for (let slot = 0; slot < MAX_HOURS; slot++) {
      for (const { at, runs } of parse(this.#facts.fact(factName(slot)))) {
        const minute: Minute = { at: at - offset, runs: new Map() };
        for (const { run, ranges } of runs) {
          const set = new RangeSet();
          for (const { first, last } of ranges) set.add(first, last);
          minute.runs.set(run, set);
        }
        this.#minutes.push(minute);
      }
    }
    this.#minutes.sort((a, b) => a.at - b.at);
  }
}

/** Names come round, so that their number is bounded. */
function factName(hour: number): string {
  return `uplink/accepted/${hour % MAX_HOURS}`;
}

/** A fact that cannot be read says nothing. */
function parse(fact: string | undefined): StoredMinute[] {
  if (fact === undefined) return [];
  try {
    const minutes: unknown = JSON.parse(fact);
    return Array.isArray(minutes) ? (minutes as StoredMinute[]) : [];
  } catch {
    return [];
  }
}
