import type { Loss, LossReason } from '#shared/model/loss.ts';

/** Adds up what is lost, for one loss record. */
export class LostCount {
  readonly reason: LossReason;
  records = 0;
  samples = 0;
  #fromMs = Number.POSITIVE_INFINITY;
  #toMs = 0;

  constructor(reason: LossReason) {
    this.reason = reason;
  }

  /** A record without a time of its own lies between its neighbours: it does not widen the range. */
  add(fromMs: number | undefined, samples: number, toMs = fromMs, records = 1): void {
    this.records += records;
    this.samples += samples;
    if (fromMs === undefined || toMs === undefined) return;
    this.#fromMs = Math.min(this.#fromMs, fromMs);
    this.#toMs = Math.max(this.#toMs, toMs);
  }

  toLoss(detail: string, estimated = false): Loss {
    const fromMs = Number.isFinite(this.#fromMs) ? this.#fromMs : 0;
    return { fromMs, toMs: this.#toMs, samples: this.samples, reason: this.reason, estimated, detail };
  }
}
