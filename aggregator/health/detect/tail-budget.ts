/** Eighths of an octave from 1: up to 2^8. */
const BINS = 64;
const BINS_PER_OCTAVE = 8;
/** Samples before a tail is believed. */
const LEAST_SAMPLES = 50_000;
/** The tail is what so many samples exceed: enough to fit, few enough to be tail. */
const TAIL_SHARE = 1e-3;
const LEAST_TAIL = 30;
/** Samples between two fits, and those that are remembered in full. */
const FIT_EVERY = 65_536;
const MEMORY_SAMPLES = 5e7;
/** However fat the tail is: beyond this multiple of the floor a detector would be deaf. */
const MOST = 4;

/**
 * A threshold from a budget of false alarms instead of sigmas: the excesses over a high quantile of what all GPUs show
 * are taken for exponential (peaks over threshold, Siffer et al., KDD 2017, with shape 0), and the threshold is where
 * the budget is met; never below the floor.
 */
export class TailBudget {
  readonly floor: number;
  /** False alarms that one sample may cause. */
  readonly #chance: number;
  readonly #bins = new Float64Array(BINS);
  #samples = 0;
  #sinceFit = 0;
  threshold: number;

  constructor(floor: number, chance: number) {
    this.floor = floor;
    this.#chance = chance;
    this.threshold = floor;
  }

  /** Strengths of incidents do not belong here: they would hide the next ones. */
  note(score: number): void {
    this.#samples++;
    if (score >= 1) this.#bins[Math.min(BINS - 1, Math.floor(Math.log2(score) * BINS_PER_OCTAVE))]!++;
    if (++this.#sinceFit >= FIT_EVERY) this.#fit();
  }

  #fit(): void {
    this.#sinceFit = 0;
    if (this.#samples < LEAST_SAMPLES) return;
    let bin = BINS;
    let tail = 0;
    while (bin > 0 && tail < Math.max(LEAST_TAIL, this.#samples * TAIL_SHARE)) tail += this.#bins[--bin]!;
    const begin = lowerEdge(bin);
    let excess = 0;
    for (let i = bin; i < BINS; i++)
      excess += this.#bins[i]! * ((lowerEdge(i) + lowerEdge(i + 1)) / 2 - begin);
    const fitted =
      tail === 0 ? 0 : begin + (excess / tail) * Math.max(0, Math.log(tail / (this.#samples * this.#chance)));
    this.threshold = Math.min(MOST * this.floor, Math.max(this.floor, fitted));
    if (this.#samples > MEMORY_SAMPLES) this.#forgetHalf();
  }

  #forgetHalf(): void {
    this.#samples /= 2;
    for (let i = 0; i < BINS; i++) this.#bins[i]! /= 2;
  }
}

function lowerEdge(bin: number): number {
  return 2 ** (bin / BINS_PER_OCTAVE);
}
