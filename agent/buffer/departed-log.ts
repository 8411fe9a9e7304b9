import { type Range, RangeSet } from '#shared/model/range-set.ts';

/** Records of one run. */
export interface RecordRange extends Range {
  readonly run: number;
}

/** What records held that left the ring. */
export interface Departed {
  readonly records: number;
  readonly samples: number;
  /** Unix ms. */
  readonly fromMs: number;
  readonly toMs: number;
}

interface Facts {
  fact(name: string): string | undefined;
  saveFact(name: string, value: string): void;
}

/** Records of so much time share an entry. */
const SPAN_MS = 10 * 60_000;
/** A day of them. A store that was set back further than that and the ring has lost more than is said. */
const MAX_ENTRIES = 144;
/** Of records' time: what a crash may take of this log. */
const SAVE_EVERY_MS = 60_000;

interface Entry extends RecordRange, Departed {
  /** Counts the entries. */
  readonly serial: number;
}

/**
 * The records that left the ring when the store had them for good. Should the store be set back to a time before
 * that, nobody can send them again, and this is what is known of them.
 */
export class DepartedLog {
  readonly #facts: Facts;
  /** Oldest first. */
  #entries: Entry[] = [];
  #savedMs = Number.NEGATIVE_INFINITY;

  constructor(facts: Facts) {
    this.#facts = facts;
    for (let slot = 0; slot < MAX_ENTRIES; slot++) {
      const entry = parse(facts.fact(factName(slot)));
      if (entry) this.#entries.push(entry);
    }
    this.#entries.sort((a, b) => a.serial - b.serial);
  }

  /** Records in the order in which they leave. */
  add(
    run: number,
    { sequence, timeMs, samples }: { sequence: number; timeMs: number; samples: number },
  ): void {
    const last = this.#entries.at(-1);
    const isOfLast =
      last?.run === run && sequence > last.last && timeMs >= last.fromMs && timeMs < last.fromMs + SPAN_MS;
    if (!isOfLast) {
      if (last) this.#write(last);
      const serial = (last?.serial ?? -1) + 1;
      const [first, fromMs] = [sequence, timeMs];
      this.#entries.push({ serial, run, first, last: first, records: 1, samples, fromMs, toMs: fromMs });
      if (this.#entries.length > MAX_ENTRIES) this.#entries.shift();
      this.#savedMs = Number.NEGATIVE_INFINITY;
      return;
    }
    this.#entries[this.#entries.length - 1] = {
      ...last,
      last: sequence,
      records: last.records + 1,
      samples: last.samples + samples,
      toMs: Math.max(last.toMs, timeMs),
    };
  }

  save(): void {
    const newest = this.#entries.at(-1);
    if (!newest || newest.toMs - this.#savedMs < SAVE_EVERY_MS) return;
    this.#savedMs = newest.toMs;
    this.#write(newest);
  }

  /** Forgets those of the ranges, and says what they held, from the average of their ten minutes; undefined for nothing. */
  take(ranges: readonly RecordRange[]): Departed | undefined {
    const byRun = new Map<number, RangeSet>();
    for (const { run, first, last } of ranges) {
      const asked = byRun.get(run) ?? new RangeSet();
      byRun.set(run, asked);
      asked.add(first, last);
    }
    let [records, samples, fromMs, toMs] = [0, 0, Number.POSITIVE_INFINITY, 0];
    this.#entries = this.#entries.flatMap((entry) => {
      const left = byRun.get(entry.run)?.gaps(entry.first, entry.last);
      if (!left) return [entry];
      const all = entry.last - entry.first + 1;
      const share = left.reduce((sum, { first, last }) => sum + last - first + 1, 0) / all;
      if (share === 1) return [entry];
      const [staying, stayingSamples] = [entry.records, entry.samples].map((count) =>
        Math.floor(count * share),
      );
      records += entry.records - staying!;
      samples += entry.samples - stayingSamples!;
      fromMs = Math.min(fromMs, entry.fromMs);
      toMs = Math.max(toMs, entry.toMs);
      if (share === 0) {
        this.#facts.saveFact(factName(entry.serial), '');
        return [];
      }
      const [first, last] = [left[0]!.first, left.at(-1)!.last];
      const rest = { ...entry, first, last, records: staying!, samples: stayingSamples! };
      this.#write(rest);
      return [rest];
    });
    return records === 0 ? undefined : { records, samples, fromMs, toMs };
  }

  #write(entry: Entry): void {
    this.#facts.saveFact(factName(entry.serial), JSON.stringify(entry));
  }
}

/** Names come round, so that their number is bounded. */
function factName(serial: number): string {
  return `buffer/departed/${serial % MAX_ENTRIES}`;
}

/** A fact that cannot be read says nothing. */
function parse(fact: string | undefined): Entry | undefined {
  if (!fact) return undefined;
  try {
    const entry = JSON.parse(fact) as Partial<Record<keyof Entry, unknown>>;
    const keys = ['serial', 'run', 'first', 'last', 'records', 'samples', 'fromMs', 'toMs'] as const;
    return keys.every((key) => Number.isFinite(entry[key])) ? (entry as Entry) : undefined;
  } catch {
    return undefined;
  }
}
