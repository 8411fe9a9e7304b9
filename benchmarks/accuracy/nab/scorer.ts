import type { NabCorpus, NabProfile, NabSeries } from './corpus.ts';

export interface NabScore {
  /** 100 is every anomaly found at its start and nothing else; 0 is a detector that never says anything. */
  readonly normalised: number;
  /** A row is an alarm from here on; infinite where silence was best. */
  readonly threshold: number;
  /** Windows with an alarm inside. */
  readonly found: number;
  /** Alarms outside all windows. */
  readonly falseAlarms: number;
}

/** Scores are comparable beyond the window as long as this many widths: numenta/NAB, nab/scorer.py. */
const FAR = 3;

/** What an alarm in each row is worth under a profile, and the window it lies in. */
export interface NabWorth {
  readonly profile: NabProfile;
  /** For each row of all series, one after the other. */
  readonly worth: Float64Array;
  /** Number of the row's window over all series, -1 outside of all, -2 in probation. */
  readonly window: Int32Array;
  readonly windows: number;
}

/**
 * The scoring function of the Numenta Anomaly Benchmark (Lavin and Ahmad, ICMLA 2015, doi 10.1109/ICMLA.2015.141): a hit is
 * worth more the earlier in its window it comes, a false alarm costs more the farther it is behind the last window.
 */
export function nabWorth(corpus: NabCorpus, profile: NabProfile): NabWorth {
  const rows = corpus.series.reduce((sum, { values }) => sum + values.length, 0);
  const worth = new Float64Array(rows);
  const window = new Int32Array(rows);
  let windows = 0;
  let first = 0;
  for (const series of corpus.series) {
    const inside = rowWindows(series, windows);
    window.set(inside, first);
    worth.set(rowWorth(series, inside, profile), first);
    windows += series.windows.length;
    first += series.values.length;
  }
  return { profile, worth, window, windows };
}

/**
 * The best single threshold for all series, found by trying every score that occurs: the benchmark's rules optimise it
 * on the very data that is scored. `scores` has one array for each series of the corpus; NaN and 0 never alarm.
 */
export function sweep(worth: NabWorth, scores: readonly ArrayLike<number>[]): NabScore {
  const count = new Count(worth);
  let top = count.score(Number.POSITIVE_INFINITY);
  const order = ranked(scores);
  for (let at = 0; at < order.rows.length; at++) {
    const score = order.scores[at]!;
    count.alarm(order.rows[at]!);
    // Equal scores cross the threshold together.
    if (order.scores[at + 1] !== score && count.normalised > top.normalised) top = count.score(score);
  }
  return top;
}

/** The score at a threshold that was fixed beforehand. */
export function scoreAt(worth: NabWorth, scores: readonly ArrayLike<number>[], threshold: number): NabScore {
  const count = new Count(worth);
  const order = ranked(scores);
  for (let at = 0; at < order.rows.length && order.scores[at]! >= threshold; at++)
    count.alarm(order.rows[at]!);
  return count.score(threshold);
}

class Count {
  readonly #of: NabWorth;
  /** The best alarm of each window; NaN while there is none. */
  readonly #best: Float64Array;
  #raw: number;
  #found = 0;
  #falseAlarms = 0;

  constructor(of: NabWorth) {
    this.#of = of;
    this.#best = new Float64Array(of.windows).fill(Number.NaN);
    this.#raw = -of.profile.fn * of.windows;
  }

  alarm(row: number): void {
    const value = this.#of.worth[row]!;
    const window = this.#of.window[row]!;
    if (window === -1) {
      this.#raw += value;
      this.#falseAlarms++;
    } else if (window >= 0) this.#hit(window, value);
  }

  #hit(window: number, value: number): void {
    const before = this.#best[window]!;
    if (value <= before) return;
    if (Number.isNaN(before)) this.#found++;
    this.#raw += value - (Number.isNaN(before) ? -this.#of.profile.fn : before);
    this.#best[window] = value;
  }

  /** 0 is the detector that says nothing, 100 the one that finds every window at its first row. */
  get normalised(): number {
    const { profile, windows } = this.#of;
    return (100 * (this.#raw + profile.fn * windows)) / ((profile.tp + profile.fn) * windows);
  }

  score(threshold: number): NabScore {
    return { normalised: this.normalised, threshold, found: this.#found, falseAlarms: this.#falseAlarms };
  }
}

function rowWindows({ values, windows, probation }: NabSeries, firstWindow: number): Int32Array {
  const rows = new Int32Array(values.length).fill(-1);
  windows.forEach(([first, last], number) => {
    rows.fill(firstWindow + number, first, last + 1);
  });
  return rows.fill(-2, 0, probation);
}

function rowWorth({ values, windows }: NabSeries, inside: Int32Array, profile: NabProfile): Float64Array {
  const worth = new Float64Array(values.length);
  let next = 0;
  for (let row = 0; row < worth.length; row++) {
    while (next < windows.length && windows[next]![1] < row) next++;
    if (inside[row]! >= 0) {
      const [first, last] = windows[next]!;
      worth[row] = (profile.tp * sigmoid(-(last - row + 1) / (last - first + 1))) / sigmoid(-1);
    } else worth[row] = profile.fp * behind(windows[next - 1], row);
  }
  return worth;
}

function behind(previous: readonly [number, number] | undefined, row: number): number {
  return previous ? sigmoid((row - previous[1]) / (previous[1] - previous[0])) : -1;
}

/** 1 far before, 0 at, -1 far behind the window's end. */
function sigmoid(position: number): number {
  return position > FAR ? -1 : 2 / (1 + Math.exp(5 * position)) - 1;
}

/** Rows with a score above 0, the highest score first. */
interface Ranking {
  readonly rows: Uint32Array;
  /** The score of each of `rows`. */
  readonly scores: Float64Array;
}

function ranked(scores: readonly ArrayLike<number>[]): Ranking {
  const all = Float64Array.from(scores.flatMap((series) => Array.from(series)));
  const rising = all.filter((score) => score > 0).sort();
  // Typed arrays sort ten times faster than objects do, but numbers alone: rank and row share one.
  const keys = new Float64Array(rising.length);
  let used = 0;
  all.forEach((score, row) => {
    if (score > 0) keys[used++] = firstAt(rising, score) * all.length + row;
  });
  keys.sort().reverse();
  return { rows: Uint32Array.from(keys, (key) => key % all.length), scores: rising.reverse() };
}

/** Where `score` first stands in an ascending list that has it. */
function firstAt(rising: Float64Array, score: number): number {
  let low = 0;
  let high = rising.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rising[middle]! < score) low = middle + 1;
    else high = middle;
  }
  return low;
}
