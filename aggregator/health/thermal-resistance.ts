import { approach } from './decayed.ts';

/** Settled power is what counts: at least so much of the limit. Below, the sensor's noise is larger than the rise. */
const LOADED_SHARE = 0.5;
/** Without work the GPU is near the temperature of its air: at most so much of the limit. */
const IDLE_SHARE = 0.25;
/**
 * Half-lives in seconds under load: of what is now, of the baseline. Own judgement: dust and paste take weeks, and what
 * fails within minutes is seen against the load and the peers.
 */
const NOW_HALF_LIFE_S = 3_600;
const BASELINE_HALF_LIFE_S = 10 * 86_400;
/** How fast the coldest temperature without work is forgotten: a room that is warmer today than last week. */
const AIR_CELSIUS_PER_S = 1 / 86_400;
/** Seconds under load before the baseline means something. Own judgement. */
const LEARNING_S = 86_400;

/**
 * How many degrees each watt costs, (T - T_air) / P, against the same GPU's past. It rises when cooling fails slowly:
 * dust, dry paste, a loose heat sink. T_air is not measured: the coldest that the GPU was without work stands for it.
 */
export class ThermalResistance {
  #air = Number.NaN;
  #now = Number.NaN;
  #baseline = Number.NaN;
  #loadedS = 0;

  /** `share`: power over its limit. */
  add(celsius: number, watts: number, share: number, spanS: number): void {
    if (Number.isNaN(celsius)) return;
    // Not under load: days without a look at the air would end in a jump of every GPU of the node.
    if (share <= IDLE_SHARE) {
      this.#air += AIR_CELSIUS_PER_S * spanS;
      if (!(celsius >= this.#air)) this.#air = celsius;
    }
    if (share < LOADED_SHARE || Number.isNaN(this.#air)) return;
    const resistance = (celsius - this.#air) / watts;
    this.#now = approach(this.#now, resistance, spanS / NOW_HALF_LIFE_S);
    // A baseline that is still being learned is the mean of all so far.
    this.#loadedS += spanS;
    const halfLife = Math.min(BASELINE_HALF_LIFE_S, Math.max(NOW_HALF_LIFE_S, this.#loadedS / 2));
    this.#baseline = approach(this.#baseline, resistance, spanS / halfLife);
  }

  /** 0.1 where a watt costs 10 % more degrees than it used to; NaN before a day under load was seen. */
  get excess(): number {
    if (this.#loadedS < LEARNING_S || !(this.#baseline > 0)) return Number.NaN;
    return this.#now / this.#baseline - 1;
  }
}
