import { aborted, sleep } from '#shared/lifecycle/wait.ts';

/** One request so often finds out whether the path is good again; up to a fifth more or less, ms. */
const PROBE_EVERY_MS = 60_000;
const PROBE_JITTER = 0.2;

/**
 * Open while the way to the store is at fault (nobody may write, nothing is there): everybody waits, one request a
 * minute goes through. The samples stay where they are, with the agents at the latest.
 */
export class PathCircuit {
  readonly #random: () => number;
  #fault: number | undefined;
  #probing = false;
  /** Aborts when something changed for those who wait, and when a probe should go at once. */
  #changed = new AbortController();
  #wake = new AbortController();

  constructor(random: () => number) {
    this.#random = random;
  }

  /** The HTTP status that opened it; undefined while it is closed. */
  get fault(): number | undefined {
    return this.#fault;
  }

  /** Resolves when the caller may send; true where it is the probe, which says `probed` when it has its answer. */
  async pass(signal: AbortSignal): Promise<boolean> {
    while (this.#fault !== undefined && !signal.aborted) {
      if (this.#probing) {
        await aborted(AbortSignal.any([signal, this.#changed.signal]));
        continue;
      }
      this.#probing = true;
      const wait = PROBE_EVERY_MS * (1 + PROBE_JITTER * (2 * this.#random() - 1));
      await sleep(wait, AbortSignal.any([signal, this.#changed.signal, this.#wake.signal]));
      this.#wake = new AbortController();
      return true;
    }
    return false;
  }

  open(status: number): void {
    this.#fault = status;
  }

  close(): void {
    if (this.#fault === undefined) return;
    this.#fault = undefined;
    this.#notify();
  }

  probed(): void {
    this.#probing = false;
    this.#notify();
  }

  /** Probe now: the store's own metrics answer again. */
  wake(): void {
    if (this.#fault !== undefined) this.#wake.abort();
  }

  #notify(): void {
    this.#changed.abort();
    this.#changed = new AbortController();
  }
}
