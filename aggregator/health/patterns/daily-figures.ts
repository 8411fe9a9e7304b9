import { medianInPlace } from './distributions.ts';
import { MAX_TREND_POINTS } from './trend.ts';

export const DAY_MS = 86_400_000;
export const HOUR_MS = 3_600_000;
const HOURS = 24;
/** A day of fewer hours has no median: half a day off is a day at another load. Own judgement. */
const MIN_HOURS = 6;
/** Rows are laid out so many at a time: 0.9 MB. */
const SLAB_ROWS = 2048;
/** 400,000 rows are 190 MB: 100,000 GPUs with four signals each. */
const MAX_ROWS = 400_000;
/** A row with nothing new for so long is given to another. */
const FORGET_DAYS = 30;

interface Slab {
  /** HOURS of today for each row, NaN where nothing came. */
  readonly hours: Float32Array;
  /** MAX_TREND_POINTS days for each row, at day modulo that. */
  readonly days: Float32Array;
  /** Unix day that `hours` is of, or -1. */
  readonly today: Int32Array;
  /** First Unix day of `days` that counts. */
  readonly first: Int32Array;
}

/** A series' place, to be kept by who offers its figures: `index` changes where the place was given away meanwhile. */
export interface FigureRow {
  readonly key: string;
  index: number;
}

/** A row as it is stored: `days` from Unix day `first` on, null where there is none. */
export interface StoredRow {
  readonly first: number;
  readonly days: readonly (number | null)[];
}

const scratch = new Float64Array(HOURS);

/**
 * The last 90 daily medians of each series: the first figure of each hour counts, and when a day is over its median
 * is kept. About 480 bytes a row; `offer` allocates nothing. A figure of an earlier day than the newest is dropped:
 * backlog of the same day still counts. The hours of an unfinished day are not stored.
 */
export class DailyFigures {
  readonly #maxRows: number;
  readonly #rows = new Map<string, number>();
  readonly #keys: string[] = [];
  readonly #slabs: Slab[] = [];
  readonly #free: number[] = [];
  #dirty = new Set<string>();
  #searchedDay = Number.NaN;
  #refused = 0;

  constructor(maxRows: number = MAX_ROWS) {
    this.#maxRows = maxRows;
  }

  get size(): number {
    return this.#rows.size;
  }

  /** How often a series got no place because all are taken. */
  get refused(): number {
    return this.#refused;
  }

  row(key: string): FigureRow {
    return { key, index: this.#rows.get(key) ?? -1 };
  }

  /** Whether this figure ended a day: the row has a new median then. `atMs` by the aggregator's own clock. */
  offer(row: FigureRow, value: number, atMs: number): boolean {
    if (!Number.isFinite(value)) return false;
    if (this.#keys[row.index] !== row.key) row.index = this.#place(row.key, atMs);
    if (row.index < 0) return false;
    const slab = this.#slabs[Math.floor(row.index / SLAB_ROWS)]!;
    const at = row.index % SLAB_ROWS;
    const day = Math.floor(atMs / DAY_MS);
    const today = slab.today[at]!;
    if (day < today) return false;
    const ended = day > today && this.#endDay(slab, at, day);
    if (ended) this.#dirty.add(row.key);
    const hour = at * HOURS + Math.floor((atMs - day * DAY_MS) / HOUR_MS);
    if (Number.isNaN(slab.hours[hour]!)) slab.hours[hour] = value;
    return ended;
  }

  /** Copies the medians, oldest first; says how many there are. Both arrays hold MAX_TREND_POINTS at least. */
  read(row: FigureRow, days: Float64Array, values: Float64Array): number {
    if (this.#keys[row.index] !== row.key) return 0;
    const slab = this.#slabs[Math.floor(row.index / SLAB_ROWS)]!;
    const at = row.index % SLAB_ROWS;
    let count = 0;
    for (let day = slab.first[at]!; day < slab.today[at]!; day++) {
      const value = slab.days[at * MAX_TREND_POINTS + (day % MAX_TREND_POINTS)]!;
      if (Number.isNaN(value)) continue;
      days[count] = day;
      values[count++] = value;
    }
    return count;
  }

  /** What changed since the last call, once; undefined for a series that lost its row. */
  *changes(): IterableIterator<readonly [key: string, row: StoredRow | undefined]> {
    const dirty = this.#dirty;
    this.#dirty = new Set();
    for (const key of dirty) {
      const row = this.#rows.get(key);
      yield [key, row === undefined ? undefined : this.#stored(row)];
    }
  }

  /** After a failed write: everything is stored again. */
  allChanged(): void {
    this.#dirty = new Set(this.#rows.keys());
  }

  /** Puts a stored row back. One that does not fit is left out. */
  restore(key: string, { first, days }: StoredRow, nowMs: number): void {
    if (!(first >= 0) || days.length > MAX_TREND_POINTS) return;
    const row = this.#place(key, nowMs);
    if (row < 0) return;
    const slab = this.#slabs[Math.floor(row / SLAB_ROWS)]!;
    const at = row % SLAB_ROWS;
    slab.first[at] = first;
    slab.today[at] = first + days.length;
    for (const [i, value] of days.entries())
      slab.days[at * MAX_TREND_POINTS + ((first + i) % MAX_TREND_POINTS)] = value ?? Number.NaN;
  }

  #stored(row: number): StoredRow {
    const slab = this.#slabs[Math.floor(row / SLAB_ROWS)]!;
    const at = row % SLAB_ROWS;
    const first = slab.first[at]!;
    const days = Array.from({ length: slab.today[at]! - first }, (_, i) =>
      toStored(slab.days[at * MAX_TREND_POINTS + ((first + i) % MAX_TREND_POINTS)]!),
    );
    return { first, days };
  }

  #place(key: string, nowMs: number): number {
    const known = this.#rows.get(key);
    if (known !== undefined) return known;
    const row =
      this.#rows.size < this.#maxRows ? (this.#free.pop() ?? this.#keys.length) : this.#forgotten(nowMs);
    if (row < 0) {
      this.#refused++;
      return -1;
    }
    if (row === this.#slabs.length * SLAB_ROWS) this.#slabs.push(emptySlab());
    this.#clear(row);
    this.#keys[row] = key;
    this.#rows.set(key, row);
    return row;
  }

  #endDay(slab: Slab, at: number, day: number): boolean {
    const today = slab.today[at]!;
    slab.today[at] = day;
    if (today < 0) {
      slab.first[at] = day;
      return false;
    }
    const hours = slab.hours.subarray(at * HOURS, (at + 1) * HOURS);
    let count = 0;
    for (const value of hours) if (!Number.isNaN(value)) scratch[count++] = value;
    hours.fill(Number.NaN);
    slab.first[at] = Math.max(slab.first[at]!, day - MAX_TREND_POINTS);
    const from = at * MAX_TREND_POINTS;
    // Days without a figure in between: at most as many as there are places.
    for (let gap = Math.max(today + 1, day - MAX_TREND_POINTS); gap < day; gap++)
      slab.days[from + (gap % MAX_TREND_POINTS)] = Number.NaN;
    if (today < slab.first[at]!) return false;
    slab.days[from + (today % MAX_TREND_POINTS)] =
      count < MIN_HOURS ? Number.NaN : medianInPlace(scratch, count);
    return count >= MIN_HOURS;
  }

  #clear(row: number): void {
    const slab = this.#slabs[Math.floor(row / SLAB_ROWS)]!;
    const at = row % SLAB_ROWS;
    slab.hours.fill(Number.NaN, at * HOURS, (at + 1) * HOURS);
    slab.days.fill(Number.NaN, at * MAX_TREND_POINTS, (at + 1) * MAX_TREND_POINTS);
    slab.today[at] = -1;
    slab.first[at] = 0;
  }

  /** A row that nothing was offered to for FORGET_DAYS, taken from its series; -1 where there is none. */
  #forgotten(nowMs: number): number {
    const before = Math.floor(nowMs / DAY_MS) - FORGET_DAYS;
    // Looked through at most once a day: a full table must not cost its size for each new series.
    if (this.#searchedDay === before) return this.#free.pop() ?? -1;
    this.#searchedDay = before;
    for (const [key, row] of this.#rows) {
      if (this.#slabs[Math.floor(row / SLAB_ROWS)]!.today[row % SLAB_ROWS]! >= before) continue;
      this.#rows.delete(key);
      this.#keys[row] = '';
      this.#dirty.add(key);
      this.#free.push(row);
    }
    return this.#free.pop() ?? -1;
  }
}

function emptySlab(): Slab {
  return {
    hours: new Float32Array(SLAB_ROWS * HOURS),
    days: new Float32Array(SLAB_ROWS * MAX_TREND_POINTS),
    today: new Int32Array(SLAB_ROWS),
    first: new Int32Array(SLAB_ROWS),
  };
}

/** Six digits: as many as a float32 has. */
function toStored(value: number): number | null {
  return Number.isNaN(value) ? null : Number(value.toPrecision(6));
}
