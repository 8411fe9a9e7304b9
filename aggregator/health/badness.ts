/**
 * Four values at which a signal is fine, worth a warning, critical, and failed. Rising or falling; neighbours may be
 * equal, which makes a step.
 */
export type Breakpoints = readonly [good: number, warning: number, critical: number, failed: number];

const BADNESS = [0, 0.3, 0.7, 1] as const;

/** 0 (fine) to 1 (failed), piecewise linear between the breakpoints: monotone by construction. */
export function badness(value: number, points: Breakpoints): number {
  const sign = points[3] >= points[0] ? 1 : -1;
  const x = value * sign;
  if (x >= points[3] * sign) return 1;
  for (let i = 2; i >= 0; i--) {
    const from = points[i as 0 | 1 | 2] * sign;
    if (x < from) continue;
    const to = points[(i + 1) as 1 | 2 | 3] * sign;
    return BADNESS[i]! + ((x - from) / (to - from)) * (BADNESS[i + 1]! - BADNESS[i]!);
  }
  return 0;
}

/** Decaying share of time: the seconds for which something held, over the seconds watched. */
export class DecayedShare {
  readonly #halfLifeS: number;
  readonly #floorS: number;
  #held = 0;
  #watched = 0;

  /** `floorS`: at least so many seconds count as watched, or one bad second after a start would be 100 %. */
  constructor(halfLifeS: number, floorS: number) {
    this.#halfLifeS = halfLifeS;
    this.#floorS = floorS;
  }

  add(heldS: number, watchedS: number): void {
    const keep = 2 ** (-watchedS / this.#halfLifeS);
    this.#held = this.#held * keep + Math.min(heldS, watchedS);
    this.#watched = this.#watched * keep + watchedS;
  }

  /** NaN where nothing was watched yet. */
  get share(): number {
    return this.#watched === 0 ? Number.NaN : this.#held / Math.max(this.#watched, this.#floorS);
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

  add(value: number, spanS: number): void {
    const keep = 2 ** (-spanS / this.#halfLifeS);
    this.#mean = this.#mean * keep + value * (1 - keep);
  }

  get mean(): number {
    return this.#mean;
  }
}
