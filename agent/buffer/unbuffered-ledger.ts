import type { Loss } from '#shared/model/loss.ts';
import type { AppendedFacts } from './batch-writer.ts';
import { LostCount } from './lost-count.ts';
import type { UnbufferedRange } from './stored-run.ts';

/** Undecided records kept by sequence, some hours at one a second; over it the oldest are given up as lost. */
export const MAX_UNBUFFERED = 10_000;
/** Loss records that wait for the disk; over it the newest are added up. */
const MAX_WAITING_LOSSES = 100;

/**
 * What the live run recorded while the disk took nothing. Each record stands here until its fate is known: in the
 * store, or lost. Losses wait here until the disk can be written again.
 */
export class UnbufferedLedger {
  readonly #records = new Map<number, AppendedFacts>();
  #lost = new LostCount('unbuffered');
  #losses: Loss[] = [];

  /** A batch that held it could not be written. Its sequence is never on disk. */
  add(record: AppendedFacts): void {
    if (record.loss) {
      this.addLoss(record.loss);
      return;
    }
    this.#records.set(record.sequence, record);
    for (const sequence of this.#records.keys()) {
      if (this.#records.size <= MAX_UNBUFFERED) break;
      this.settle(sequence, sequence, 'lost');
    }
  }

  addLoss(loss: Loss): void {
    const last = this.#losses.at(-1);
    if (this.#losses.length < MAX_WAITING_LOSSES || !last) {
      this.#losses.push(loss);
      return;
    }
    this.#losses[this.#losses.length - 1] = {
      fromMs: Math.min(last.fromMs, loss.fromMs),
      toMs: Math.max(last.toMs, loss.toMs),
      samples: last.samples + loss.samples,
      reason: last.reason,
      estimated: last.estimated || loss.estimated,
      detail: 'Several losses while the disk took nothing',
    };
  }

  has(sequence: number): boolean {
    return this.#records.has(sequence);
  }

  get size(): number {
    return this.#records.size;
  }

  /** Fates are known: the store has them for good, or nobody will. What is not here is none of its business. */
  settle(first: number, last: number, outcome: 'stored' | 'lost'): void {
    const each = last - first < this.#records.size ? sequencesOf(first, last) : [...this.#records.keys()];
    for (const sequence of each) {
      const record = this.#records.get(sequence);
      if (!record || sequence < first || sequence > last) continue;
      this.#records.delete(sequence);
      if (outcome === 'lost') this.#lost.add(record.timeMs, record.samples);
    }
  }

  /** Loss records to append now that the disk can be written. */
  takeLosses(): Loss[] {
    const losses = this.#losses;
    this.#losses = [];
    if (this.#lost.records > 0) {
      const { records } = this.#lost;
      losses.push(
        this.#lost.toLoss(`${records} records could not be written to the disk, and were not delivered`),
      );
      this.#lost = new LostCount('unbuffered');
    }
    return losses;
  }

  /** The undecided records in ranges: what a restart would lose. */
  ranges(): UnbufferedRange[] {
    const ranges: UnbufferedRange[] = [];
    for (const sequence of [...this.#records.keys()].sort((a, b) => a - b)) {
      const one = rangeOf(this.#records.get(sequence)!);
      const before = ranges.at(-1);
      if (before?.last === sequence - 1) ranges[ranges.length - 1] = joined(before, one);
      else ranges.push(one);
    }
    return ranges;
  }
}

/** The loss of ranges that an agent which is no more left undecided. */
export function lossOfRanges(ranges: readonly UnbufferedRange[]): Loss {
  const lost = new LostCount('unbuffered');
  for (const { fromMs, toMs, samples } of ranges) lost.add(fromMs, samples, toMs);
  return lost.toLoss(
    'Records of an earlier run could not be written to the disk, and ended with its process',
  );
}

function* sequencesOf(first: number, last: number): Iterable<number> {
  for (let sequence = first; sequence <= last; sequence++) yield sequence;
}

function rangeOf({ sequence, samples, timeMs }: AppendedFacts): UnbufferedRange {
  const range = { first: sequence, last: sequence, samples };
  return timeMs === undefined ? range : { ...range, fromMs: timeMs, toMs: timeMs };
}

function joined(a: UnbufferedRange, b: UnbufferedRange): UnbufferedRange {
  const range = { first: a.first, last: b.last, samples: a.samples + b.samples };
  const from = [a.fromMs, b.fromMs].filter((ms) => ms !== undefined);
  const to = [a.toMs, b.toMs].filter((ms) => ms !== undefined);
  return from.length === 0 ? range : { ...range, fromMs: Math.min(...from), toMs: Math.max(...to) };
}
