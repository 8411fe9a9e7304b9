import { GrowthWindow } from './growth-window.ts';

/** A sample this much older than the last is no repeat: the node's clock was set back, and goes on from there. */
const CLOCK_STEP_MS = 60_000;
/** Nodes' groups of series whose counters are remembered over a reconnect: 100,000 GPUs have about half as many. */
const MAX_REMEMBERED = 50_000;

/** The counters whose growth a program looks at. */
export interface WatchedCounters {
  /** Over how long the growth of each is taken. */
  windowsMs(): readonly number[];
  /** What each is, the same in any dictionary that has it. Asked only when another dictionary follows. */
  counterKeys(): readonly string[];
}

/**
 * The growth of the counters that the checks of one dictionary look at. 24 bytes each, and a window for those that grew
 * within it.
 */
export class Growth {
  readonly #counters: WatchedCounters;
  readonly #windowsMs: readonly number[];
  readonly #last: Float64Array;
  readonly #lastMs: Float64Array;
  /** Since when it was looked at without a gap longer than its window. */
  readonly #sinceMs: Float64Array;
  readonly #windows: (GrowthWindow | undefined)[];

  /** Goes on from what an earlier dictionary of the same series knew. */
  constructor(counters: WatchedCounters, earlier?: Growth) {
    this.#counters = counters;
    this.#windowsMs = counters.windowsMs();
    const { length } = this.#windowsMs;
    this.#last = new Float64Array(length).fill(Number.NaN);
    this.#lastMs = new Float64Array(length).fill(Number.NaN);
    this.#sinceMs = new Float64Array(length).fill(Number.NaN);
    this.#windows = new Array(length).fill(undefined);
    if (earlier !== undefined && length > 0) this.#takeOver(earlier);
  }

  /** How many counters there are. */
  get size(): number {
    return this.#windowsMs.length;
  }

  /**
   * Takes a sample; by how much the counter grew within its window until then. A fall is a reset, not growth, and what
   * lies beyond a gap longer than the window is not known to be within it. NaN for a repeat.
   */
  measure(index: number, value: number, t: number): number {
    const lastMs = this.#lastMs[index]!;
    if (!Number.isFinite(value) || (t <= lastMs && t > lastMs - CLOCK_STEP_MS)) return Number.NaN;
    const windowMs = this.#windowsMs[index]!;
    let window = this.#windows[index];
    const gap = t - lastMs;
    if (gap > 0 && gap <= windowMs) {
      const grown = value - this.#last[index]!;
      if (grown > 0) {
        window ??= new GrowthWindow(windowMs);
        window.add(t, grown);
        this.#windows[index] = window;
      }
    } else {
      this.#sinceMs[index] = t;
      window = undefined;
      this.#windows[index] = undefined;
    }
    this.#last[index] = value;
    this.#lastMs[index] = t;
    if (window === undefined) return 0;
    const sum = window.sumAt(t);
    if (window.empty) this.#windows[index] = undefined;
    return sum;
  }

  /** Whether the counter was seen for a whole window: before that its growth may be more than is known. */
  covers(index: number): boolean {
    return this.#lastMs[index]! - this.#sinceMs[index]! >= this.#windowsMs[index]!;
  }

  #takeOver(earlier: Growth): void {
    const indexes = new Map(earlier.#counters.counterKeys().map((key, index) => [key, index]));
    for (const [index, key] of this.#counters.counterKeys().entries()) {
      const from = indexes.get(key);
      if (from === undefined || earlier.#windowsMs[from] !== this.#windowsMs[index]) continue;
      this.#last[index] = earlier.#last[from]!;
      this.#lastMs[index] = earlier.#lastMs[from]!;
      this.#sinceMs[index] = earlier.#sinceMs[from]!;
      this.#windows[index] = earlier.#windows[from];
    }
  }
}

/**
 * The newest growth of each node's group of series, so that a reconnect or a new dictionary loses none: an error that
 * was counted while an agent was away for seconds must alert. The group compiled longest ago is forgotten first.
 */
export class GrowthMemory {
  readonly #groups = new Map<string, Growth>();

  get size(): number {
    return this.#groups.size;
  }

  begin(group: string, counters: WatchedCounters): Growth {
    const growth = new Growth(counters, this.#groups.get(group));
    this.#groups.delete(group);
    if (growth.size > 0) this.#groups.set(group, growth);
    for (const oldest of this.#groups.keys()) {
      if (this.#groups.size <= MAX_REMEMBERED) break;
      this.#groups.delete(oldest);
    }
    return growth;
  }
}
