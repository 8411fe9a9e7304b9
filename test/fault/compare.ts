import { type LedgerEntry, type Ledgered, type MissingSamples, settleLedger } from './ledger.ts';
import {
  dictionaryOf,
  endedSeries,
  eventOf,
  labelsOf,
  PREFIX,
  sampleAt,
  seriesKey,
  TICK_SERIES,
} from './oracle-source.ts';
import type { WitnessedTick } from './witness.ts';

/** A series as the store gives it: labels with __name__; NaN is a stale marker. */
export interface StoredSeries {
  readonly metric: Readonly<Record<string, string>>;
  readonly timestamps: readonly number[];
  readonly values: readonly number[];
}

export interface Evidence {
  readonly seed: number;
  readonly ticks: readonly WitnessedTick[];
  /** Every copy that the store has on disk, before it makes one of repeats. */
  readonly raw: readonly StoredSeries[];
  /** What the store answers to a query. */
  readonly answered: readonly StoredSeries[];
  readonly losses: readonly LedgerEntry[];
  /** Ids of the oracle's events that subscribers got. */
  readonly delivered: ReadonlySet<string>;
  /** Samples that exact entries may claim although they are stored; see undecidedS of the plan. */
  readonly undecided: number;
}

export type Violation =
  /** The store answers with a timestamp twice. */
  | 'duplicate'
  /** A copy in the store has another value than was recorded. */
  | 'wrong'
  /** In the store, and never recorded at that time. */
  | 'invented'
  /** Given to an agent, which was done with it and did not have it. */
  | 'forgotten'
  /** Two ticks of a group were recorded with one timestamp. */
  | 'collision'
  /** Recorded, not in the store, and no entry of the ledger covers its time. */
  | 'missing_without_reason'
  /** Covered by entries of the ledger that together claim fewer samples than are missing. */
  | 'missing_beyond_ledger'
  /** Entries with an exact count that claim samples which are in the store. */
  | 'ledger_over_reported'
  /** Recorded, not delivered, and no entry of the ledger covers its time. */
  | 'event_missing'
  /** Delivered and never raised. */
  | 'event_invented';

export interface Verdict {
  /** Samples that were surely recorded, or of which at least a part is stored. */
  readonly expected: number;
  /** Of those, in the store. */
  readonly stored: number;
  /** Copies on disk over `stored`: what the store had not yet merged. */
  readonly copies: number;
  readonly staleMarkers: { readonly expected: number; readonly stored: number };
  readonly events: { readonly expected: number; readonly delivered: number; readonly ledgered: number };
  readonly ledger: Ledgered;
  readonly violations: ReadonlyMap<
    Violation,
    { readonly count: number; readonly examples: readonly string[] }
  >;
}

/** The store keeps decimals: values are equal within this share of the larger one. */
const VALUE_TOLERANCE = 1e-11;
/** A read that began this close to its due time is stamped with the due time. */
const STAMP_MS = 50;
/** Exact counts may be too high by this share of all samples: what was trimmed had perhaps arrived all the same. */
const OVER_REPORTED_SHARE = 0.01;
const MAX_EXAMPLES = 8;
/** Missing ticks this close to each other make one stretch in the report. */
const STRETCH_GAP_MS = 6_000;

interface PlacedTick {
  readonly tick: WitnessedTick;
  readonly timestampMs: number;
  /** By slot, how many copies of it the store has. */
  readonly copies: Uint16Array;
  readonly ended: ReadonlySet<string>;
  readonly endedStored: Set<string>;
  stored: number;
}

/** Compares what was witnessed with what is there; knows nothing of how either came about. */
export function compare(evidence: Evidence): Verdict {
  return new Comparison(evidence).verdict();
}

class Comparison {
  readonly #evidence: Evidence;
  readonly #violations = new Map<Violation, { count: number; examples: string[] }>();
  /** By node and group, by timestamp. */
  readonly #placed = new Map<string, Map<number, PlacedTick>>();
  /** Ticks whose recording was not seen to end, by node and group: stored or not, both are right. */
  readonly #open = new Map<string, WitnessedTick[]>();

  /** Timestamps of each series in the store's answer. */
  readonly #answered = new Map<string, Set<number>>();

  constructor(evidence: Evidence) {
    this.#evidence = evidence;
  }

  verdict(): Verdict {
    const { ticks, raw, answered } = this.#evidence;
    for (const tick of ticks) this.#place(tick);
    // The series with the tick numbers first: they tell where the ticks belong whose recording was not seen to end.
    const isTickSeries = ({ metric }: StoredSeries): boolean => metric.__name__ === TICK_SERIES;
    for (const series of raw.filter(isTickSeries)) this.#check(series);
    for (const series of raw.filter((one) => !isTickSeries(one))) this.#check(series);
    for (const series of answered) this.#findRepeats(series);
    return this.#sum();
  }

  #place(tick: WitnessedTick): void {
    const key = groupKey(tick.node, tick.group);
    if (tick.forgotten) this.#violate('forgotten', `${key}: tick ${tick.n} of ${tick.beganMs}`);
    if (tick.timestampMs === undefined) {
      const open = this.#open.get(key);
      if (open) open.push(tick);
      else this.#open.set(key, [tick]);
    } else this.#placeAt(key, tick, tick.timestampMs);
  }

  #placeAt(key: string, tick: WitnessedTick, timestampMs: number): PlacedTick {
    let byTime = this.#placed.get(key);
    if (!byTime) {
      byTime = new Map();
      this.#placed.set(key, byTime);
    }
    const there = byTime.get(timestampMs);
    if (there) {
      this.#violate('collision', `${key} at ${timestampMs}: ticks ${there.tick.n} and ${tick.n}`);
      return there;
    }
    const placed: PlacedTick = {
      tick,
      timestampMs,
      copies: new Uint16Array(dictionaryOf(tick.group, tick.n).slots.length),
      ended: new Set(endedSeries(tick.group, tick.n)),
      endedStored: new Set(),
      stored: 0,
    };
    byTime.set(timestampMs, placed);
    return placed;
  }

  #check({ metric, timestamps, values }: StoredSeries): void {
    const name = metric.__name__ ?? '';
    if (!name.startsWith(PREFIX)) return;
    const [node = '', group = '', slot = ''] = [metric.node, metric.group, metric.slot];
    const key = groupKey(node, group);
    const series = seriesKey(name, slot);
    if (!sameLabels(metric, labelsOf(node, group, series))) {
      this.#violate('invented', `${JSON.stringify(metric)}: nobody has these labels`, timestamps.length);
      return;
    }
    for (const [index, at] of timestamps.entries()) {
      const value = values[index]!;
      const wrong = this.#checkSample(key, series, at, value);
      if (wrong) this.#violate(wrong.kind, `${key} ${series} at ${at} is ${value}: ${wrong.why}`);
    }
  }

  #checkSample(
    key: string,
    series: string,
    at: number,
    value: number,
  ): { readonly kind: Violation; readonly why: string } | undefined {
    const placed = this.#placed.get(key)?.get(at) ?? this.#adopt(key, series, at, value);
    if (!placed) return { kind: 'invented', why: 'no tick was recorded then' };
    const { tick } = placed;
    if (Number.isNaN(value)) {
      if (!placed.ended.has(series))
        return { kind: 'invented', why: `the series had not ended at tick ${tick.n}` };
      placed.endedStored.add(series);
      return undefined;
    }
    const expected = this.#expected(tick, series);
    if (expected === undefined) return { kind: 'invented', why: `the series was not in tick ${tick.n}` };
    if (!near(expected, value)) return { kind: 'wrong', why: `tick ${tick.n} had ${expected}` };
    const slot = dictionaryOf(tick.group, tick.n).slotOf.get(series)!;
    if (placed.copies[slot]!++ === 0) placed.stored++;
    return undefined;
  }

  /** The tick of that moment whose recording was not seen to end, where the value is its own. */
  #adopt(key: string, series: string, at: number, value: number): PlacedTick | undefined {
    const open = this.#open.get(key) ?? [];
    const tick = open.find((one) => {
      if (Math.abs(at - one.beganMs) > STAMP_MS) return false;
      if (Number.isNaN(value)) return endedSeries(one.group, one.n).includes(series);
      const expected = this.#expected(one, series);
      return expected !== undefined && near(expected, value);
    });
    if (!tick) return undefined;
    open.splice(open.indexOf(tick), 1);
    return this.#placeAt(key, tick, at);
  }

  #expected(tick: WitnessedTick, series: string): number | undefined {
    const { slots, slotOf } = dictionaryOf(tick.group, tick.n);
    const slot = slotOf.get(series);
    return slot === undefined
      ? undefined
      : sampleAt(this.#evidence.seed, tick.node, tick.group, slots[slot]!, tick.n);
  }

  /** Also over two series that only their labels tell apart: the source has each but once. */
  #findRepeats({ metric, timestamps }: StoredSeries): void {
    if (!metric.__name__?.startsWith(PREFIX)) return;
    const key = JSON.stringify([metric.__name__, metric.node, metric.group, metric.slot]);
    const seen = this.#answered.get(key) ?? new Set();
    this.#answered.set(key, seen);
    for (const at of timestamps) {
      if (seen.has(at)) this.#violate('duplicate', `${JSON.stringify(metric)} has ${at} twice`);
      seen.add(at);
    }
  }

  #sum(): Verdict {
    const missing: MissingSamples[] = [];
    const stale = { expected: 0, stored: 0 };
    let [expected, stored, copies] = [0, 0, 0];
    for (const byTime of this.#placed.values()) {
      for (const placed of byTime.values()) {
        const { tick, timestampMs } = placed;
        if (tick.timestampMs === undefined && placed.stored === 0) continue;
        const due = this.#samplesOf(tick);
        expected += due;
        stored += placed.stored;
        copies += placed.copies.reduce((sum, count) => sum + Math.max(0, count - 1), 0);
        stale.expected += placed.ended.size;
        stale.stored += placed.endedStored.size;
        const markers = placed.ended.size - placed.endedStored.size;
        if (placed.stored < due || markers > 0)
          missing.push({
            node: tick.node,
            timestampMs,
            samples: due - placed.stored,
            what:
              `tick ${tick.n} of ${groupKey(tick.node, tick.group)}: ${due - placed.stored} of ${due} samples` +
              (markers > 0 ? ` and ${markers} stale markers` : ''),
          });
      }
    }
    const ledger = settleLedger(missing, this.#evidence.losses);
    this.#violateStretches('missing_without_reason', ledger.withoutReason);
    this.#violateStretches('missing_beyond_ledger', ledger.beyond);
    if (ledger.overReportedExact > OVER_REPORTED_SHARE * expected + this.#evidence.undecided) {
      const found = `${ledger.overReportedExact} samples are in exact entries and in the store`;
      this.#violate('ledger_over_reported', found, ledger.overReportedExact);
    }
    const events = this.#sumEvents();
    return { expected, stored, copies, staleMarkers: stale, events, ledger, violations: this.#violations };
  }

  #sumEvents(): Verdict['events'] {
    const { ticks, delivered, losses } = this.#evidence;
    const raised = new Set<string>();
    const events = { expected: 0, delivered: 0, ledgered: 0 };
    for (const { node, group, n, event, beganMs, timestampMs } of ticks) {
      if (event === undefined) continue;
      raised.add(event);
      if (event !== eventOf(node, group, n))
        throw new Error(`the witness of ${node} has event ${event} at ${n}`);
      if (delivered.has(event)) events.delivered++;
      if (timestampMs === undefined && !delivered.has(event)) continue;
      events.expected++;
      if (delivered.has(event)) continue;
      const covered = losses.some((one) => one.node === node && one.fromMs <= beganMs && beganMs <= one.toMs);
      if (covered) events.ledgered++;
      else this.#violate('event_missing', `${event} of ${beganMs}`);
    }
    for (const id of delivered) if (!raised.has(id)) this.#violate('event_invented', id);
    return events;
  }

  /** One example for each stretch of time of a node: thousands of ticks may be missing for one reason. */
  #violateStretches(kind: Violation, missing: readonly MissingSamples[]): void {
    for (const [node, ticks] of Map.groupBy(missing, (one) => one.node)) {
      let stretch: MissingSamples[] = [];
      for (const [index, one] of ticks.entries()) {
        stretch.push(one);
        const next = ticks[index + 1];
        if (next && next.timestampMs - one.timestampMs < STRETCH_GAP_MS) continue;
        const samples = stretch.reduce((sum, { samples: count }) => sum + Math.max(1, count), 0);
        const [from, to] = [stretch[0]!.timestampMs, one.timestampMs].map((ms) => new Date(ms).toISOString());
        const example = `${node}: ${samples} samples of ${stretch.length} ticks from ${from} to ${to}, first ${stretch[0]!.what}`;
        this.#violate(kind, example, samples);
        stretch = [];
      }
    }
  }

  #samplesOf(tick: WitnessedTick): number {
    let samples = 0;
    for (const slot of dictionaryOf(tick.group, tick.n).slots)
      if (sampleAt(this.#evidence.seed, tick.node, tick.group, slot, tick.n) !== undefined) samples++;
    return samples;
  }

  #violate(kind: Violation, example: string, count = 1): void {
    const found = this.#violations.get(kind) ?? { count: 0, examples: [] };
    found.count += count;
    if (found.examples.length < MAX_EXAMPLES) found.examples.push(example);
    this.#violations.set(kind, found);
  }
}

function groupKey(node: string, group: string): string {
  return `${node}/${group}`;
}

function near(a: number, b: number): boolean {
  return a === b || Math.abs(a - b) <= VALUE_TOLERANCE * Math.max(Math.abs(a), Math.abs(b));
}

function sameLabels(
  a: Readonly<Record<string, string>>,
  b: Readonly<Record<string, string>> | undefined,
): boolean {
  const names = Object.keys(a);
  return (
    b !== undefined && names.length === Object.keys(b).length && names.every((name) => a[name] === b[name])
  );
}
