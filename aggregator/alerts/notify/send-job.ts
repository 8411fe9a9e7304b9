import { describeError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Delivery, Notification, Receiver } from './notification.ts';
import type { EndpointSettings } from './notify-settings.ts';

export interface SendJobDeps {
  readonly endpoint: EndpointSettings;
  readonly receiver: Receiver;
  readonly clock: Clock;
  /** 0 (included) to 1 (excluded). */
  readonly random: () => number;
  /** Each try, for metrics and logs. */
  readonly tried: (job: SendJob, delivery: Delivery, tookMs: number) => void;
  /** Given up. Resolves when it is on disk. */
  readonly buried: (job: SendJob, why: string) => Promise<void>;
}

export interface SendJobSteps {
  /** Says that it is about to be sent; resolves when that is kept. */
  readonly record: () => Promise<void>;
  /** Says that it was. */
  readonly finish: (atMs: number) => Promise<void>;
  readonly done: (atMs: number) => void;
  /** `record` rejected: nothing was sent. */
  readonly failed: (thrown: unknown) => void;
  /** `finish` rejected; it is tried again. */
  readonly unfinished: (thrown: unknown) => void;
}

/** After so long it is given up: whoever reads it then reads history. */
export const GIVE_UP_MS = 24 * 3_600_000;
/** Each wait is a random part of a step that doubles from the first to the last ("full jitter", AWS 2015). */
const FIRST_BACKOFF_MS = 1_000;
const LAST_BACKOFF_MS = 300_000;
/** The other side may ask for a pause; for more than this, nobody means it. */
const MAX_RETRY_AFTER_MS = 3_600_000;
const FINISH_RETRY_MS = 1_000;
/** How long a process that ends waits for a try. */
const DRAIN_MS = 5_000;
/** A receiver that does not end with its deadline is not waited for any longer. */
const OVERDUE_MS = 1_000;

/** One notification on its way: recorded, tried until it is taken, refused or too old, and recorded again. */
export class SendJob {
  readonly notification: Notification;
  readonly createdMs: number;
  attempts = 0;
  /** The other side's words at the last try; empty before the first. */
  why = '';
  readonly #deps: SendJobDeps;
  readonly #steps: SendJobSteps;
  readonly #abort = new AbortController();
  #step: 'record' | 'send' | 'finish' = 'record';
  #nextMs = Number.NEGATIVE_INFINITY;
  #sentMs = 0;
  #under: Promise<void> | undefined;
  #stopped = false;

  constructor(notification: Notification, createdMs: number, deps: SendJobDeps, steps: SendJobSteps) {
    this.notification = notification;
    this.createdMs = createdMs;
    this.#deps = deps;
    this.#steps = steps;
  }

  get endpoint(): EndpointSettings {
    return this.#deps.endpoint;
  }

  /** Goes on where it is time to. */
  tick(nowMs: number): void {
    if (this.#under !== undefined || this.#stopped || nowMs < this.#nextMs) return;
    const under = this.#advance().finally(() => {
      if (this.#under === under) this.#under = undefined;
    });
    this.#under = under;
  }

  /** Does nothing more; resolves when what is under way has ended. A try is broken off, unless it may end. */
  async stop(drain: boolean): Promise<void> {
    const breakOff = (): void => {
      this.#stopped = true;
      this.#abort.abort();
    };
    if (!drain) breakOff();
    const timer = setTimeout(breakOff, DRAIN_MS);
    await this.#under;
    clearTimeout(timer);
    this.#stopped = true;
  }

  async #advance(): Promise<void> {
    if (this.#step === 'record') await this.#record();
    if (this.#step === 'send' && !this.#stopped) await this.#send();
    if (this.#step === 'finish' && !this.#stopped) await this.#finish();
  }

  async #record(): Promise<void> {
    try {
      await this.#steps.record();
      this.#step = 'send';
    } catch (thrown) {
      // Nothing is known of it yet: who tells the group next makes a new one.
      this.#stopped = true;
      this.#steps.failed(thrown);
    }
  }

  async #send(): Promise<void> {
    const { endpoint, receiver, clock } = this.#deps;
    const startMs = clock.monotonic();
    const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(endpoint.timeoutMs)]);
    this.attempts++;
    const sent = receiver
      .send(this.notification, signal)
      .catch((thrown: unknown): Delivery => ({ outcome: 'retry', why: describeError(thrown) }));
    const over = new AbortController();
    const delivery = await Promise.race([sent, overdue(signal, over.signal)]);
    over.abort();
    if (this.#stopped) return;
    const nowMs = clock.now();
    this.why = delivery.outcome === 'sent' ? '' : delivery.why;
    this.#deps.tried(this, delivery, clock.monotonic() - startMs);
    if (delivery.outcome === 'retry' && nowMs - this.createdMs < GIVE_UP_MS) {
      this.#nextMs = nowMs + this.#backoffMs(delivery.afterMs ?? 0);
      return;
    }
    if (delivery.outcome !== 'sent')
      await this.#deps.buried(
        this,
        delivery.outcome === 'refused' ? delivery.why : `given up after 24 h: ${delivery.why}`,
      );
    this.#sentMs = nowMs;
    this.#step = 'finish';
  }

  async #finish(): Promise<void> {
    try {
      await this.#steps.finish(this.#sentMs);
    } catch (thrown) {
      if (this.#stopped) return;
      this.#nextMs = this.#deps.clock.now() + FINISH_RETRY_MS;
      this.#steps.unfinished(thrown);
      return;
    }
    if (this.#stopped) return;
    this.#stopped = true;
    this.#steps.done(this.#sentMs);
  }

  #backoffMs(afterMs: number): number {
    // Where the other side forgets, what it was told before ends while this waits.
    const lastMs = Math.min(LAST_BACKOFF_MS, this.#deps.receiver.refreshMs ?? LAST_BACKOFF_MS);
    const stepMs = Math.min(lastMs, FIRST_BACKOFF_MS * 2 ** Math.min(this.attempts - 1, 20));
    return Math.min(MAX_RETRY_AFTER_MS, Math.max(0, afterMs)) + stepMs * this.#deps.random();
  }
}

/** Settles a while after the signal has aborted; `over` takes all of it back. */
function overdue(signal: AbortSignal, over: AbortSignal): Promise<Delivery> {
  return new Promise((resolve) => {
    const late = (): void => {
      const timer = setTimeout(() => resolve({ outcome: 'retry', why: 'no answer in time' }), OVERDUE_MS);
      over.addEventListener('abort', () => clearTimeout(timer), { once: true });
    };
    if (signal.aborted) late();
    else signal.addEventListener('abort', late, { once: true, signal: over });
  });
}
