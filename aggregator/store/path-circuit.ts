import { aborted, sleep } from '#shared/lifecycle/wait.ts';

/** The first probe comes soon, for a proxy that was only reloading; each further one twice as late, ms ... */
const FIRST_PROBE_MS = 1_000;
/** ... up to one a minute, up to a fifth more or less. */
const PROBE_EVERY_MS = 60_000;
const PROBE_JITTER = 0.2;

/**
 * Open while the way to the store is at fault (nobody may write, nothing is there): everybody waits, one request
 * goes through now and then, in the end one a minute. The samples stay where they are, with the agents at the latest.
 */
export class PathCircuit {
  readonly #random: () => number;
  #fault: number | undefined;
  #probing = false;
  #waitMs = FIRST_PROBE_MS;
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
      const wait = this.#waitMs * (1 + PROBE_JITTER * (2 * this.#random() - 1));
      await sleep(wait, AbortSignal.any([signal, this.#changed.signal, this.#wake.signal]));
      this.#wake = new AbortController();
      this.#waitMs = Math.min(PROBE_EVERY_MS, this.#waitMs * 2);
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
    this.#waitMs = FIRST_PROBE_MS;
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
