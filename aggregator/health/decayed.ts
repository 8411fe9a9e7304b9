/** Decaying share of time: the seconds for which something held, over the seconds watched. */
export class DecayedShare {
  readonly #halfLifeS: number;
  readonly #floorS: number;
  #held = 0;
  #watched = 0;
  #known = false;

  /** `floorS`: at least so many seconds count as watched, or one bad second after a start would be 100 %. */
  constructor(halfLifeS: number, floorS: number) {
    this.#halfLifeS = halfLifeS;
    this.#floorS = floorS;
  }

  /** Of `spanS` seconds that passed, `watchedS` were watched, and it held for `heldS` of them. */
  add(heldS: number, watchedS: number, spanS: number): void {
    const keep = 2 ** (-spanS / this.#halfLifeS);
    this.#held = this.#held * keep + Math.min(heldS, watchedS);
    this.#watched = this.#watched * keep + watchedS;
    this.#known = true;
  }

  /** NaN where nothing was looked at yet. */
  get share(): number {
    return this.#known ? this.#held / Math.max(this.#watched, this.#floorS) : Number.NaN;
  }
}

/** Moving average that forgets by half in each half-life. */
export class DecayedMean {
  readonly #halfLifeS: number;
  #mean: number;

  constructor(halfLifeS: number, start: number) {
    this.#halfLifeS = halfLifeS;
    this.#mean = start;
  }

  /** What is not finite is left out: a mean would never forget it. */
  add(value: number, spanS: number): void {
    if (!Number.isFinite(value)) return;
    const keep = 2 ** (-spanS / this.#halfLifeS);
    this.#mean = this.#mean * keep + value * (1 - keep);
  }

  get mean(): number {
    return this.#mean;
  }
}

/** One step of a moving average that `halfLives` half-lives bring to `value`; begins with the first value (NaN before). */
export function approach(mean: number, value: number, halfLives: number): number {
  return Number.isNaN(mean) ? value : value + (mean - value) * 2 ** -halfLives;
}
