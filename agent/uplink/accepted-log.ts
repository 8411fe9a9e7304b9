import type { Clock } from '#shared/model/clock.ts';
import { type Range, RangeSet } from '#shared/model/range-set.ts';
import type { RunRange } from './delivery.ts';

/** Facts of the buffer: small texts that outlive a run. */
interface Facts {
  fact(name: string): string | undefined;
  saveFact(name: string, value: string): void;
}

/** How fine times are kept: a replay sends up to so much more than it must. */
const SPAN_MS = 20_000;
const HOUR_MS = 3_600_000;
/** The longest ring is 30 days; older than it nothing can be sent again. */
const MAX_HOURS = 720;
/** The wall clock that carries times over a restart is not exact. */
const MARGIN_MS = 10_000;

interface Span {
  /** Monotonic ms of its begin; negative for spans of an earlier process. */
  readonly at: number;
  readonly runs: Map<number, RangeSet>;
}

interface StoredSpan {
  /** Unix ms. */
  at: number;
  runs: { run: number; ranges: Range[] }[];
}

/**
 * When which records were accepted, to 20 s. A store that is set back to an hour ago has lost what it was
 * given in that hour, and that may be samples of yesterday which came as backlog: a replay by the samples' own
 * times would leave them out.
 */
export class AcceptedLog {
  readonly #clock: Clock;
  readonly #facts: Facts;
  /** Oldest first. */
  readonly #spans: Span[] = [];
  #savedHour: number | undefined;

  constructor(clock: Clock, facts: Facts) {
    this.#clock = clock;
    this.#facts = facts;
    this.#load();
  }

  add({ run, first, last }: RunRange): void {
    const now = this.#clock.monotonic();
    let span = this.#spans.at(-1);
    if (!span || now - span.at >= SPAN_MS) {
      span = { at: now, runs: new Map() };
      this.#spans.push(span);
      if (this.#spans.length > (MAX_HOURS * HOUR_MS) / SPAN_MS) this.#spans.shift();
    }
    let ranges = span.runs.get(run);
    if (!ranges) {
      ranges = new RangeSet();
      span.runs.set(run, ranges);
    }
    ranges.add(first, last);
  }

  /** What was accepted within this long before now; a little more rather than too little. */
  within(ms: number): RunRange[] {
    const since = this.#clock.monotonic() - ms - MARGIN_MS;
    return this.#spans
      .filter(({ at }) => at + SPAN_MS >= since)
      .flatMap(({ runs }) =>
        [...runs].flatMap(([run, set]) => set.ranges.map(({ first, last }) => ({ run, first, last }))),
      );
  }

  /**
   * Writes down the hour that is under way. To be called more often than accepted records become durable (30 s):
   * then no durable one is missing here after a crash, and the others are sent again anyway.
   */
  save(): void {
    const newest = this.#spans.at(-1);
    if (!newest) return;
    const offset = this.#clock.now() - this.#clock.monotonic();
    const hourOf = ({ at }: Span): number => Math.floor((at + offset) / HOUR_MS);
    const hour = hourOf(newest);
    // The end of an hour is written with the first of the next.
    for (const one of new Set([this.#savedHour ?? hour, hour])) this.#saveHour(one, hourOf, offset);
    this.#savedHour = hour;
  }

  #saveHour(hour: number, hourOf: (span: Span) => number, offset: number): void {
    const spans: StoredSpan[] = this.#spans
      .filter((span) => hourOf(span) === hour)
      .map(({ at, runs }) => ({
        at: Math.round(at + offset),
        runs: [...runs].map(([run, set]) => ({
          run,
          ranges: set.ranges.map(({ first, last }) => ({ first, last })),
        })),
      }));
    this.#facts.saveFact(factName(hour), JSON.stringify(spans));
  }

  #load(): void {
    const offset = this.#clock.now() - this.#clock.monotonic();
    for (let slot = 0; slot < MAX_HOURS; slot++) {
      for (const { at, runs } of parse(this.#facts.fact(factName(slot)))) {
        const span: Span = { at: at - offset, runs: new Map() };
        for (const { run, ranges } of runs) {
          const set = new RangeSet();
          for (const { first, last } of ranges) set.add(first, last);
          span.runs.set(run, set);
        }
        this.#spans.push(span);
      }
    }
    this.#spans.sort((a, b) => a.at - b.at);
  }
}

/** Names come round, so that their number is bounded. */
function factName(hour: number): string {
  return `uplink/accepted/${hour % MAX_HOURS}`;
}

/** A fact that cannot be read says nothing. */
function parse(fact: string | undefined): StoredSpan[] {
  if (fact === undefined) return [];
  try {
    const spans: unknown = JSON.parse(fact);
    return Array.isArray(spans) ? (spans as StoredSpan[]) : [];
  } catch {
    return [];
  }
}
