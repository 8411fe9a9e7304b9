import type { CounterWatch } from './counter-watch.ts';

/** Events of a window, and how often so many come by chance. */
const WINDOW_SECONDS = [600, 3600, 86_400] as const;
/** What a GPU did two weeks ago counts a third of today. */
const BASELINE_SECONDS = 14 * 86_400;
/** No rate is known better than by a fifth: real errors come in bursts. Own judgement. */
const MOST_EVENTS_KNOWN = 20;
/** What is unusual is learned by half: a GPU that always counts much is known for it within days, a burst is not at once. */
const LEARNING_WHILE_UNUSUAL = 0.5;
/** A GPU that never counted anything still might: a tenth of an event was seen of it. */
const LEAST_EVENTS_KNOWN = 0.1;
/** Of events an hour apart a decayed count has lost a little: three are still three. */
const ALMOST = 0.85;

/**
 * Counters that count faster than they did, one row each. Low counts are taken for what they are: the predictive
 * distribution of a Poisson process whose rate is known from a gamma prior and from the GPU's own past (negative
 * binomial). Three windows, decayed exponentially. A counter that falls was restarted: no increase, no rate.
 * 48 bytes a row.
 */
export class RateDetector {
  readonly #last: Float64Array;
  readonly #lastMs: Float64Array;
  readonly #windows: Float32Array;
  readonly #events: Float32Array;
  readonly #seconds: Float32Array;
  readonly #quantum: Float32Array;
  readonly #least: Float32Array;
  /** Of the last `step` that gave a strength: events in the window that stood out, and how many were expected. */
  value = 0;
  expected = 0;

  constructor(rows: number) {
    this.#last = new Float64Array(rows).fill(Number.NaN);
    this.#lastMs = new Float64Array(rows);
    this.#windows = new Float32Array(rows * WINDOW_SECONDS.length);
    this.#events = new Float32Array(rows);
    this.#seconds = new Float32Array(rows);
    this.#quantum = new Float32Array(rows);
    this.#least = new Float32Array(rows);
  }

  /** What is expected of a GPU of which nothing is known yet weighs as much as one event. */
  begin(row: number, { quantum, perDay, least }: CounterWatch): void {
    this.#quantum[row] = quantum;
    this.#least[row] = least;
    this.#events[row] = 1;
    this.#seconds[row] = 86_400 / perDay;
  }

  /** Takes over what another knows of a row. */
  take(row: number, from: RateDetector, other: number): void {
    const width = WINDOW_SECONDS.length;
    this.#last[row] = from.#last[other]!;
    this.#lastMs[row] = from.#lastMs[other]!;
    for (let i = 0; i < width; i++) this.#windows[row * width + i] = from.#windows[other * width + i]!;
    this.#events[row] = from.#events[other]!;
    this.#seconds[row] = from.#seconds[other]!;
    this.#quantum[row] = from.#quantum[other]!;
    this.#least[row] = from.#least[other]!;
  }

  /** The next value is where counting begins. */
  rearm(row: number): void {
    this.#last[row] = Number.NaN;
  }

  /**
   * Surprise in nats over `threshold` (so 1 is the threshold) where the counter rose, else 0. `gapSeconds`: since the
   * tick before.
   */
  step(row: number, value: number, timestampMs: number, gapSeconds: number, threshold: number): number {
    const last = this.#last[row]!;
    if (value === last) return 0;
    this.#last[row] = value;
    if (!(value > last)) {
      if (Number.isNaN(last)) this.#lastMs[row] = timestampMs;
      return 0;
    }
    const seconds = Math.max(0, (timestampMs - this.#lastMs[row]!) / 1000);
    this.#lastMs[row] = timestampMs;
    return this.#rise(row, (value - last) / this.#quantum[row]!, seconds, gapSeconds, threshold);
  }

  #rise(row: number, events: number, seconds: number, gap: number, threshold: number): number {
    const width = WINDOW_SECONDS.length;
    const kept = Math.exp(-seconds / BASELINE_SECONDS);
    const seen = Math.max(LEAST_EVENTS_KNOWN, this.#events[row]! * kept);
    const watched = this.#seconds[row]! * kept + BASELINE_SECONDS * (1 - kept);
    // What is judged is not judged by itself. Certainty is bounded: both, so that the rate stays what it is.
    const past = Math.max(LEAST_EVENTS_KNOWN, seen - this.#windows[row * width + width - 1]!);
    const known = Math.min(1, MOST_EVENTS_KNOWN / past);
    const a = past * known;
    const b = watched * known;
    let strength = 0;
    for (let i = 0; i < width; i++) {
      const window = WINDOW_SECONDS[i]!;
      const at = row * width + i;
      // What came while nobody looked came over all of that time.
      const count =
        this.#windows[at]! * Math.exp(-seconds / window) + events * Math.min(1, window / Math.max(1, gap));
      this.#windows[at] = count;
      if (count < this.#least[row]! * ALMOST) continue;
      const surprise = -logTail(count, a, b, window) / threshold;
      if (surprise <= strength) continue;
      strength = surprise;
      this.value = count * this.#quantum[row]!;
      this.expected = (a / b) * window * this.#quantum[row]!;
    }
    // What was said is not said again with the next event: that one is to be news by itself.
    if (strength >= 1) this.#windows.fill(0, row * width, (row + 1) * width);
    this.#events[row] = seen + events * (strength >= 1 ? LEARNING_WHILE_UNUSUAL : 1);
    this.#seconds[row] = watched;
    return strength;
  }
}

/**
 * Logarithm of the chance of at least `count` events in `window` seconds, where `a` events were seen in `b` seconds:
 * the first term of the negative binomial's tail, the others as a geometric series. 0 where `count` is not above
 * what is expected.
 */
function logTail(count: number, a: number, b: number, window: number): number {
  const share = window / (b + window);
  if (count <= (a / b) * window) return 0;
  const first =
    logGamma(count + a) -
    logGamma(a) -
    logGamma(count + 1) +
    a * Math.log(1 - share) +
    count * Math.log(share);
  const ratio = Math.min(0.99, ((count + a) / (count + 1)) * share);
  return Math.min(0, first - Math.log(1 - ratio));
}

/** Stirling's series, shifted to where it is exact to 1e-6. */
function logGamma(x: number): number {
  let shift = 0;
  let z = x;
  while (z < 6) shift += Math.log(z++);
  return (
    (z - 0.5) * Math.log(z) - z + 0.5 * Math.log(2 * Math.PI) + 1 / (12 * z) - 1 / (360 * z ** 3) - shift
  );
}
