import { describeError } from '#shared/errors/fleet-error.ts';
import { gauge, type Registry } from '#shared/instruments/registry.ts';
import { repeat } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { singleSample } from './series-template.ts';
import type { StoreAnswer, StoreEndpoint } from './store-endpoint.ts';

/** What the store has forgotten must be sent again: everything that was accepted since then, Unix ms; 0 is all. */
export interface ReplayNeed {
  readonly fromMs: number;
  /** A sentence for people. */
  readonly reason: string;
}

export interface CanaryOptions {
  readonly shard: string;
  readonly clock: Clock;
  /** Writes one request, once. */
  readonly post: (request: Buffer) => Promise<StoreAnswer>;
  /** Where it is read back: the store's query API. */
  readonly reader: StoreEndpoint;
  /** Reads the store's incarnation now; undefined where it does not say. */
  readonly readEpoch: () => Promise<bigint | undefined>;
  readonly available: () => boolean;
  /** Unix ms of the newest canary that an earlier process of this shard knew as accepted. */
  readonly remembered: number | undefined;
  /** Keeps that for the next one. */
  readonly remember: (acceptedMs: number) => void;
  /** Awaited before the next canary is written; where it throws it is called again. */
  readonly onReplay: (need: ReplayNeed) => Promise<void> | void;
  readonly logger: Logger;
  readonly registry: Registry;
  readonly everyMs: number;
}

const NAME = 'gpufleet_canary';
/**
 * A store that is killed loses five to ten seconds, and the last canary may be five older; that is the agents'
 * business, by the epoch. Below the 30 s after which they call a sample durable, or a copy of that age would hide.
 */
const LOST_MS = 25_000;
/** Sent again before the last canary that is there: what was on its way with it, and what a killed store lost then. */
const MARGIN_MS = 20_000;
/** Looked at first, to the millisecond: in the normal case the last canary is in it. */
const NEAR_MS = 90_000;
/** Then further and further back, until there is one. Only after a restart of the store, or of this process. */
const WINDOWS = ['1h', '1d', '31d', '400d'];
const MAX_ANSWER_BYTES = 2 ** 20;

/**
 * Every five seconds a sample with the time as its value. Whoever restores the store from a backup takes the last
 * ones away, and the next look says since when: after a change of incarnation, and at first contact, the last one is
 * read back before a new one is written.
 *
 * It is compared with the last one that this process, or the one before it, knows the store to have accepted: an
 * outage of the store or of the aggregator loses none of those. Where nobody knows of one it is compared with now:
 * that may send too much again, and is safe. No canary at all means a new store, where nobody knows of one, and else
 * a store that was emptied: everything that the agents still have goes again.
 */
export class Canary {
  readonly #options: CanaryOptions;
  /** Unix ms of the newest canary that the store accepted from this process. */
  #accepted: number | undefined;
  #checkedEpoch: bigint | undefined;
  #unreadable = false;
  #busy = false;

  constructor(options: CanaryOptions) {
    this.#options = options;
    this.#accepted = options.remembered;
    const accepted = (): number => (this.#accepted ?? 0) / 1000;
    gauge(options.registry, {
      name: 'gpufleet_store_canary_timestamp_seconds',
      help: 'Time of the newest canary that the store accepted; 0 before the first.',
      collect() {
        this.set(accepted());
      },
    });
  }

  /** The store takes samples and cannot be asked for them: a restored backup would not be noticed. */
  get unreadable(): boolean {
    return this.#unreadable;
  }

  async run(signal: AbortSignal): Promise<void> {
    void this.tick();
    await repeat(this.#options.everyMs, signal, () => void this.tick());
  }

  /** Looks at the store again before the next canary. */
  recheck(): void {
    this.#checkedEpoch = undefined;
  }

  /** One look where one is due, and one canary. Never rejects; does nothing while one is under way. */
  async tick(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    try {
      await this.#tick();
    } catch (error) {
      this.#options.logger.error({ cause: describeError(error) }, 'cannot order a replay: tried again');
    } finally {
      this.#busy = false;
    }
  }

  async #tick(): Promise<void> {
    const { readEpoch, available, clock, post, shard } = this.#options;
    if (!available()) return;
    // A canary over the hole would hide it: none is written into an incarnation that was not looked at, so which
    // one it is, is read anew each time.
    const epoch = await readEpoch();
    if (epoch === undefined) {
      // Away: it may come back with another's data and, within one second, with the same start time.
      this.#checkedEpoch = undefined;
      return;
    }
    if (this.#checkedEpoch !== epoch) {
      const found = await this.#last();
      if (found === 'unknown') return;
      await this.#judge(found);
      this.#checkedEpoch = epoch;
    }
    const now = clock.now();
    const labels = [
      ['__name__', NAME],
      ['shard', shard],
    ] as const;
    const { status } = await post(singleSample(labels, Math.floor(now / 1000), now));
    if (status >= 200 && status < 300) {
      this.#accepted = now;
      this.#options.remember(now);
    } else this.#checkedEpoch = undefined;
  }

  async #judge(found: number | undefined): Promise<void> {
    const { clock, onReplay, logger } = this.#options;
    if (found === undefined) {
      if (this.#accepted === undefined) return;
      await onReplay({
        fromMs: 0,
        reason: 'the store was emptied: none of the samples that it took is there',
      });
    } else {
      const expected = this.#accepted ?? clock.now();
      if (expected - found <= LOST_MS) return;
      const reason = `the store was set back: its newest canary is of ${new Date(found).toISOString()}, expected was ${new Date(expected).toISOString()}`;
      await onReplay({ fromMs: Math.max(0, found - MARGIN_MS), reason });
    }
    logger.warn(
      { found, expected: this.#accepted },
      'the store has forgotten samples: agents send them again',
    );
  }

  /** Unix ms of the last canary in the store; undefined where there is none. */
  async #last(): Promise<number | undefined | 'unknown'> {
    const now = this.#options.clock.now();
    const selector = `${NAME}{shard=${JSON.stringify(this.#options.shard)}}`;
    const match = encodeURIComponent(selector);
    // Exported samples come without the offset by which queries leave out the newest.
    const [start, end] = [now - NEAR_MS, now + NEAR_MS].map((ms) => Math.floor(ms / 1000));
    const near = await this.#get(`/api/v1/export?match[]=${match}&start=${start}&end=${end}`);
    if (near === undefined) return 'unknown';
    const stamps = near
      .split('\n')
      .filter((line) => line !== '')
      .flatMap((line) => (JSON.parse(line) as { timestamps: number[] }).timestamps);
    if (stamps.length > 0) return Math.max(...stamps);
    for (const window of WINDOWS) {
      const query = encodeURIComponent(`max(tlast_over_time(${selector}[${window}]))`);
      const text = await this.#get(`/api/v1/query?nocache=1&query=${query}&time=${Math.floor(now / 1000)}`);
      if (text === undefined) return 'unknown';
      const answer = JSON.parse(text) as { data?: { result?: { value?: [number, string] }[] } };
      const last = Number(answer.data?.result?.[0]?.value?.[1]);
      if (last > 0) return last * 1000;
    }
    return undefined;
  }

  async #get(path: string): Promise<string | undefined> {
    const answer = await this.#options.reader.request({ method: 'GET', path, maxBytes: MAX_ANSWER_BYTES });
    const { status } = answer;
    if (status === 200) {
      this.#unreadable = false;
      return answer.text;
    }
    if (status >= 400 && status < 500 && status !== 408 && status !== 429) this.#unreadable = true;
    this.#options.logger.debug({ status, answer: answer.text }, 'cannot read the canary back');
    return undefined;
  }
}
