import type { Range } from '#shared/model/range-set.ts';
import { RangeSet } from '#shared/model/range-set.ts';

export type Lane = 'live' | 'backfill';

/** A store's 2xx counts after this long under the same incarnation: VictoriaMetrics lost up to 10 s (measured). */
export const DURABLE_AFTER_MS = 30_000;
/** Where the store's incarnation cannot be known, time alone must do. */
export const DURABLE_AFTER_UNKNOWN_EPOCH_MS = 600_000;

/** The part of a stored run that delivery needs. */
export interface DeliverableRun {
  readonly counter: number;
  readonly first: number;
  readonly last: number;
  readonly durable: RangeSet;
}

interface Accepted {
  readonly run: number;
  first: number;
  last: number;
  readonly epoch: bigint;
  /** Monotonic ms at which the acknowledgement came. */
  at: number;
}

export interface RunRange extends Range {
  readonly run: number;
}

/** Records that the store took and that are not durable yet, as the next process is told. */
export interface Undecided extends RunRange {
  readonly epoch: bigint;
}

/** More of them than this are not written down: they are sent again after a restart, which costs and harms nothing. */
export const MAX_UNDECIDED = 500;

/**
 * Where every record stands, and nothing else: no clock, no network, no disk.
 *
 *   pending -> in flight -> accepted -> durable
 *      ^          |            |
 *      +----------+------------+    stream broken, deferred; store restarted before it was durable
 *
 * Accepted means that the store answered 2xx, which is not durable. The agent decides: durable once a later
 * acknowledgement shows the same store incarnation, read at least 30 s after this one was accepted. When the
 * incarnation changes, everything that was not yet durable is pending again: same timestamps, same values, so
 * the store's deduplication makes one of two.
 */
export class Delivery {
  readonly #runs: () => readonly DeliverableRun[];
  /** In flight, accepted or durable, by run: pending is the rest. */
  readonly #taken = new Map<number, RangeSet>();
  readonly #inFlight = new Map<number, Map<number, { bytes: number; lane: Lane }>>();
  readonly #bytes: Record<Lane, number> = { live: 0, backfill: 0 };
  #accepted: Accepted[] = [];

  /**
   * `remembered` is what an earlier process had as undecided. Its age is not believed: the 30 s begin anew `at`, which
   * is now (monotonic ms).
   */
  constructor(runs: () => readonly DeliverableRun[], remembered: readonly Undecided[] = [], at = 0) {
    this.#runs = runs;
    for (const run of runs()) {
      const taken = this.#takenOf(run.counter);
      for (const { first, last } of run.durable.ranges) taken.add(first, last);
    }
    for (const { run, epoch, ...range } of remembered) {
      const known = runs().find(({ counter }) => counter === run);
      // What left the ring meanwhile does not come back.
      const first = Math.max(range.first, known?.first ?? Number.POSITIVE_INFINITY);
      const last = Math.min(range.last, known?.last ?? 0);
      if (first > last) continue;
      this.#takenOf(run).add(first, last);
      this.#accepted.push({ run, first, last, epoch, at });
    }
  }

  /**
   * What a later process need not send again as long as the store's incarnation stays. Without an incarnation that is
   * known nothing is: then a restart of the store could not be told from none.
   */
  undecided(): Undecided[] {
    return this.#accepted
      .filter(({ epoch }) => epoch !== 0n)
      .slice(-MAX_UNDECIDED)
      .map(({ run, first, last, epoch }) => ({ run, first, last, epoch }));
  }

  /** Unaccepted bytes of a lane. */
  inFlightBytes(lane: Lane): number {
    return this.#bytes[lane];
  }

  /** Records neither in flight, accepted nor durable; `liveThrough` bounds the newest run. */
  pendingRecords(liveThrough: number): number {
    const runs = this.#runs();
    return runs.reduce((sum, run, index) => {
      const last = index === runs.length - 1 ? liveThrough : run.last;
      if (last < run.first) return sum;
      let taken = 0;
      for (const range of this.#takenOf(run.counter).ranges) {
        taken += Math.max(0, Math.min(range.last, last) - Math.max(range.first, run.first) + 1);
      }
      return sum + (last - run.first + 1 - taken);
    }, 0);
  }

  /** The oldest pending records, contiguous, of one run; undefined when all are taken. */
  nextPending(liveThrough: number): RunRange | undefined {
    const runs = this.#runs();
    for (const [index, run] of runs.entries()) {
      const last = index === runs.length - 1 ? liveThrough : run.last;
      const taken = this.#takenOf(run.counter);
      const first = taken.firstMissing(run.first);
      if (first <= last) return { run: run.counter, first, last: taken.missingUntil(first, last) };
    }
    return undefined;
  }

  sent(run: number, sequence: number, bytes: number, lane: Lane): void {
    let flights = this.#inFlight.get(run);
    if (!flights) {
      flights = new Map();
      this.#inFlight.set(run, flights);
    }
    if (flights.has(sequence)) return;
    flights.set(sequence, { bytes, lane });
    this.#bytes[lane] += bytes;
    this.#takenOf(run).add(sequence);
  }

  /** The stream broke: what was in flight is pending again. */
  disconnected(): void {
    for (const [run, flights] of this.#inFlight) {
      const taken = this.#takenOf(run);
      for (const sequence of flights.keys()) taken.delete(sequence);
    }
    this.#inFlight.clear();
    this.#bytes.live = 0;
    this.#bytes.backfill = 0;
  }

  accepted(range: RunRange, epoch: bigint, at: number): void {
    this.#land(range, (first, last) => {
      const previous = this.#accepted.at(-1);
      // Acknowledgements of one second make one entry: the later time is the safe one.
      if (
        previous &&
        previous.run === range.run &&
        previous.epoch === epoch &&
        previous.last + 1 === first &&
        at - previous.at < 1000
      ) {
        previous.last = last;
        previous.at = at;
      } else {
        this.#accepted.push({ run: range.run, first, last, epoch, at });
      }
    });
  }

  /** The aggregator will take them later, in the backfill lane. */
  deferred(range: RunRange): void {
    this.#land(range, (first, last) => this.#takenOf(range.run).delete(first, last));
  }

  /** Never to be sent again, though not in the store: refused, or not readable. The caller records the loss. */
  settled(range: RunRange): void {
    this.#land(range, () => {});
    this.#takenOf(range.run).add(range.first, range.last);
    this.#durableOf(range.run)?.add(range.first, range.last);
  }

  /**
   * The store's incarnation was `epoch` at `readAt` (monotonic ms). Returns the runs whose durable marks moved,
   * and how many records are pending again.
   */
  observe(epoch: bigint, readAt: number): { moved: Set<number>; again: number } {
    const moved = new Set<number>();
    let again = 0;
    this.#accepted = this.#accepted.filter((entry) => {
      const wait = entry.epoch === 0n ? DURABLE_AFTER_UNKNOWN_EPOCH_MS : DURABLE_AFTER_MS;
      const same = entry.epoch === epoch || entry.epoch === 0n || epoch === 0n;
      if (same) {
        if (readAt - entry.at < wait || (epoch === 0n && entry.epoch !== 0n)) return true;
        this.#durableOf(entry.run)?.add(entry.first, entry.last);
        moved.add(entry.run);
        return false;
      }
      this.#takenOf(entry.run).delete(entry.first, entry.last);
      again += entry.last - entry.first + 1;
      return false;
    });
    return { moved, again };
  }

  /**
   * The store was set back: what was accepted or durable of these is pending again, and returned. Records in
   * flight are left to their answer.
   */
  replay({ run, first, last }: RunRange): Range[] {
    const taken = this.#takenOf(run);
    const again = new RangeSet();
    const pending = taken.gaps(first, last);
    again.add(first, last);
    for (const gap of pending) again.delete(gap.first, gap.last);
    for (const sequence of this.#inFlight.get(run)?.keys() ?? []) again.delete(sequence);
    for (const range of again.ranges) taken.delete(range.first, range.last);
    this.#durableOf(run)?.delete(first, last);
    this.#accepted = this.#accepted.flatMap((entry) => without(entry, run, first, last));
    return [...again.ranges];
  }

  /** The oldest record that is not in the store for good; undefined when all are. */
  oldestUndurable(liveThrough: number): { run: number; sequence: number } | undefined {
    const runs = this.#runs();
    for (const [index, run] of runs.entries()) {
      const last = index === runs.length - 1 ? liveThrough : run.last;
      const sequence = run.durable.firstMissing(run.first);
      if (sequence <= last) return { run: run.counter, sequence };
    }
    return undefined;
  }

  /** Where a record stands; undefined while it is pending. */
  fateOf(run: number, sequence: number): 'in_flight' | 'accepted' | undefined {
    if (this.#inFlight.get(run)?.has(sequence)) return 'in_flight';
    return this.#taken.get(run)?.has(sequence) ? 'accepted' : undefined;
  }

  /** Records left the ring. */
  forget(): void {
    const counters = new Set(this.#runs().map((run) => run.counter));
    for (const counter of this.#taken.keys()) if (!counters.has(counter)) this.#taken.delete(counter);
  }

  /** Takes the range's records out of flight and hands on each contiguous part that was in it. */
  #land(range: RunRange, landed: (first: number, last: number) => void): void {
    const flights = this.#inFlight.get(range.run);
    if (!flights) return;
    let first: number | undefined;
    // An acknowledgement cannot make us loop over more than is in flight.
    const last = Math.min(range.last, range.first + 1_000_000);
    for (let sequence = range.first; sequence <= last + 1; sequence++) {
      const flight = sequence <= last ? flights.get(sequence) : undefined;
      if (flight) {
        flights.delete(sequence);
        this.#bytes[flight.lane] -= flight.bytes;
        first ??= sequence;
      } else if (first !== undefined) {
        landed(first, sequence - 1);
        first = undefined;
      }
    }
  }

  #takenOf(run: number): RangeSet {
    let taken = this.#taken.get(run);
    if (!taken) {
      taken = new RangeSet();
      this.#taken.set(run, taken);
    }
    return taken;
  }

  #durableOf(run: number): RangeSet | undefined {
    return this.#runs().find((one) => one.counter === run)?.durable;
  }
}

/** What is left of an accepted range when a part of it is taken out. */
function without(entry: Accepted, run: number, first: number, last: number): Accepted[] {
  if (entry.run !== run || entry.last < first || entry.first > last) return [entry];
  const parts: Accepted[] = [];
  if (entry.first < first) parts.push({ ...entry, last: first - 1 });
  if (entry.last > last) parts.push({ ...entry, first: last + 1 });
  return parts;
}
