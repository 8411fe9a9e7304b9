/** What has been held back of one kind of line. Kept across restarts, so its fields are plain. */
export interface Storm<Event> {
  readonly key: string;
  /** Of the first line of the burst, milliseconds since boot. */
  readonly burstMs: number;
  /** Of the line that opened the window which is running, or ran last. */
  windowMs: number;
  /** Windows of this burst, which each began with an event. */
  windows: number;
  /** Lines that no event has told of yet. */
  held: number;
  /** Of the first and the last of those, Unix ms. */
  firstMs: number;
  lastMs: number;
  /** The event of the line that opened the last window. */
  readonly event: Event;
}

/** The same from the same GPU within this time is one event and a count. */
export const WINDOW_MS = 5_000;
/** What goes on is one burst for this long ... */
export const BURST_MS = 180_000;
/** ... in which so many windows begin with an event of their own; what comes later is told at the end of the burst. */
export const MAX_WINDOWS = 3;
/** More kinds of lines than break out at once. Over it the rest is one kind, which is summarised as such. */
export const MAX_STORMS = 512;
const REST = 'rest';

/**
 * Holds back what repeats: in BURST_MS at most MAX_WINDOWS events of each key, a summary after each of them but the
 * last, and one of the rest at the end. Every line is in exactly one event or one summary's count.
 */
export class Storms<Event> {
  readonly #storms = new Map<string, Storm<Event>>();

  get all(): readonly Storm<Event>[] {
    return [...this.#storms.values()];
  }

  restore(storms: readonly Storm<Event>[]): void {
    for (const storm of storms.slice(0, MAX_STORMS)) this.#storms.set(storm.key, { ...storm });
  }

  /** Whether the line is to be told of at once; else it is counted. Call `due` for the line's time first. */
  add(kind: string, event: Event, bootMs: number, wallMs: number): boolean {
    const known = this.#storms.get(kind);
    const key = known !== undefined || this.#storms.size < MAX_STORMS ? kind : REST;
    const storm = this.#storms.get(key);
    if (storm === undefined) {
      this.#storms.set(key, {
        key,
        burstMs: bootMs,
        windowMs: bootMs,
        windows: 1,
        held: 0,
        firstMs: wallMs,
        lastMs: wallMs,
        event,
      });
      return true;
    }
    const inWindow = bootMs - storm.windowMs <= WINDOW_MS;
    if (!inWindow && storm.windows < MAX_WINDOWS) {
      storm.windows++;
      storm.windowMs = bootMs;
      return true;
    }
    if (storm.held === 0) storm.firstMs = wallMs;
    storm.held++;
    storm.lastMs = wallMs;
    return false;
  }

  /** What is to be summarised by this time; bursts that are over are forgotten. */
  due(bootMs: number): Storm<Event>[] {
    const told: Storm<Event>[] = [];
    for (const [key, storm] of this.#storms) {
      const over = bootMs - storm.burstMs > BURST_MS;
      const windowOver = bootMs - storm.windowMs > WINDOW_MS && storm.windows < MAX_WINDOWS;
      if (storm.held > 0 && (over || windowOver)) {
        told.push({ ...storm });
        storm.held = 0;
      }
      if (over) this.#storms.delete(key);
    }
    return told;
  }

  /** All that is held back: at the end of a log that does not go on. */
  flush(): Storm<Event>[] {
    const told = [...this.#storms.values()].filter(({ held }) => held > 0);
    this.#storms.clear();
    return told;
  }
}
