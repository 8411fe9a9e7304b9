import { METRICS, PEER_METRICS } from './peer-metrics.ts';

const DAY_MS = 86_400_000;
/** How a board is unlike its peers changes with dust and paste, over days; half-life of three. Own judgement. */
const DEVICE_HALF_LIFE_MS = 3 * DAY_MS;
/** What a rank does unlike the others of its job: learned anew in each job. */
const JOB_HALF_LIFE_MS = 2 * 3_600_000;
/** After so long an offset is trusted in full. */
const TRUSTED_AFTER_MS = 1_800_000;
/** So many GPUs in a slot give its mean half the weight. */
const SLOT_HALF = 4;
const LOADS = 2;

/**
 * By how much a GPU is always unlike its peers: its place in the airflow (one mean for each model and slot) and its
 * silicon, learned apart for idle and for working GPUs. A young offset moves fast, an old one with a half-life of days;
 * none grows past the metric's `maxOffset`, so that a fault that was always there is still seen.
 */
export class Offsets {
  readonly #own: Float32Array;
  readonly #learnedMs: Float32Array;
  readonly #slots: Float32Array[] = [];
  readonly #slotLearnedMs: Float32Array[] = [];

  constructor(capacity: number) {
    this.#own = new Float32Array(capacity * METRICS * LOADS);
    this.#learnedMs = new Float32Array(capacity * METRICS * LOADS);
  }

  /** `slotMembers`: GPUs that the slot's mean is of. */
  of(gpu: number, metric: number, load: number, slot: number, slotMembers: number): number {
    const place = this.#slots[slot]?.[metric * LOADS + load] ?? 0;
    const offset =
      (place * slotMembers) / (slotMembers + SLOT_HALF) + this.#own[(gpu * METRICS + metric) * LOADS + load]!;
    const most = PEER_METRICS[metric]!.maxOffset;
    return Math.max(-most, Math.min(most, offset));
  }

  /** 0 for a GPU that nothing was learned of, to 1. */
  trust(gpu: number, metric: number, load: number): number {
    return Math.min(1, this.#learnedMs[(gpu * METRICS + metric) * LOADS + load]! / TRUSTED_AFTER_MS);
  }

  /**
   * `beside`: by how much it is unlike its peers after its offset; `raw`: before it. Both are cut at three floors: what
   * is wild teaches little.
   */
  learn(
    gpu: number,
    metric: number,
    load: number,
    slot: number,
    beside: number,
    raw: number,
    elapsedMs: number,
  ) {
    const { scope, maxOffset, floor } = PEER_METRICS[metric]!;
    if (maxOffset === 0) return;
    const at = (gpu * METRICS + metric) * LOADS + load;
    const halfLifeMs = scope === 'job' ? JOB_HALF_LIFE_MS : DEVICE_HALF_LIFE_MS;
    const most = 3 * floor;
    this.#learnedMs[at] = Math.min(this.#learnedMs[at]! + elapsedMs, halfLifeMs / Math.LN2);
    const own = this.#own[at]! + (elapsedMs / this.#learnedMs[at]!) * Math.max(-most, Math.min(most, beside));
    this.#own[at] = Math.max(-maxOffset, Math.min(maxOffset, own));
    if (scope === 'device') this.#learnSlot(slot, metric * LOADS + load, raw, maxOffset, elapsedMs);
  }

  /** Another job, or another kind of peers: what was learned of these metrics says nothing there. */
  restart(gpu: number, scope: 'device' | 'job', load?: number): void {
    for (let metric = 0; metric < METRICS; metric++) {
      if (PEER_METRICS[metric]!.scope !== scope) continue;
      const first = (gpu * METRICS + metric) * LOADS;
      const from = first + (load ?? 0);
      const to = load === undefined ? first + LOADS : from + 1;
      this.#own.fill(0, from, to);
      this.#learnedMs.fill(0, from, to);
    }
  }

  forgetSlot(slot: number): void {
    this.#slots[slot]?.fill(0);
    this.#slotLearnedMs[slot]?.fill(0);
  }

  #learnSlot(slot: number, at: number, raw: number, most: number, elapsedMs: number): void {
    this.#slots[slot] ??= new Float32Array(METRICS * LOADS);
    this.#slotLearnedMs[slot] ??= new Float32Array(METRICS * LOADS);
    const learned = this.#slotLearnedMs[slot]!;
    const mean = this.#slots[slot]!;
    learned[at] = Math.min(learned[at]! + elapsedMs, DEVICE_HALF_LIFE_MS / Math.LN2);
    mean[at] = mean[at]! + (elapsedMs / learned[at]!) * (Math.max(-most, Math.min(most, raw)) - mean[at]!);
  }
}
