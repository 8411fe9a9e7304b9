import { describeError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { AlertGroup, Plan } from './alert-group.ts';
import { type Delivery, MAX_NOTIFIED_ALERTS, type Notification, type Receiver } from './notification.ts';
import type { EndpointSettings } from './notify-settings.ts';

export interface RefreshRoundOptions {
  readonly endpoint: EndpointSettings;
  readonly receiver: Receiver;
  readonly clock: Clock;
  readonly groups: () => Iterable<AlertGroup>;
  readonly compose: (plans: readonly Plan[], nowMs: number) => Notification;
  /** Each try. */
  readonly tried: (delivery: Delivery) => void;
}

/** Under way at once, so that a round over tens of thousands of alerts ends within its time; our own judgement. */
const MAX_UNDER_WAY = 4;
const MAX_SCAN_MS = 5_000;

/**
 * Says again to a receiver that forgets what it was told and what still fires, at least every `refreshMs`, whatever
 * its rate limit, silences, acknowledgements and times are: it would take silence for the end. Small groups go
 * together, at most as many alerts as a notification holds. Nothing of it is kept: twice does no harm.
 */
export class RefreshRound {
  readonly #options: RefreshRoundOptions;
  readonly #stop = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  #queue: Iterator<AlertGroup> | undefined;
  /** It had no room beside those before it. */
  #spare: AlertGroup | undefined;
  #scanMs = Number.NEGATIVE_INFINITY;

  constructor(options: RefreshRoundOptions) {
    this.#options = options;
  }

  tick(nowMs: number): void {
    const { refreshMs } = this.#options.receiver;
    if (refreshMs === undefined || this.#underWay.size > 0) return;
    const everyMs = Math.min(MAX_SCAN_MS, refreshMs / 4);
    if (nowMs < this.#scanMs + everyMs && nowMs >= this.#scanMs) return;
    this.#scanMs = nowMs;
    // Not later than asked for: what would be due before the next look is due now.
    this.#queue = this.#due(nowMs + everyMs, refreshMs);
    for (let worker = 0; worker < MAX_UNDER_WAY; worker++) {
      const work = this.#work(refreshMs).finally(() => this.#underWay.delete(work));
      this.#underWay.add(work);
    }
  }

  /** Resolves when nothing is under way any more; what was is broken off. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#underWay);
  }

  *#due(untilMs: number, refreshMs: number): Generator<AlertGroup, undefined> {
    for (const group of this.#options.groups()) {
      // A clock that was set back must not keep a group waiting.
      const isDue = group.refreshMs <= untilMs || group.refreshMs > untilMs + refreshMs;
      if (isDue && group.told.size > 0) yield group;
    }
    return undefined;
  }

  async #work(refreshMs: number): Promise<void> {
    for (;;) {
      const plans = this.#next();
      if (plans.length === 0 || this.#stop.signal.aborted) break;
      const startMs = this.#options.clock.now();
      for (const { group } of plans) group.refreshing = true;
      const { outcome } = await this.#send(plans, startMs);
      // What failed lets the others go first, as it may be the cause.
      const waitMs = outcome === 'retry' ? refreshMs / 2 : refreshMs;
      for (const { group } of plans) {
        group.refreshing = false;
        group.refreshMs = startMs + waitMs;
      }
      // The rest is tried at the next look, which is soon.
      if (outcome === 'retry') this.#queue = undefined;
    }
  }

  #next(): Plan[] {
    const plans: Plan[] = [];
    let alerts = 0;
    while (alerts < MAX_NOTIFIED_ALERTS) {
      const group = this.#spare ?? this.#queue?.next().value;
      if (group === undefined) break;
      this.#spare = undefined;
      const plan = group.busy ? undefined : group.planRefresh();
      if (plan === undefined) continue;
      if (plans.length > 0 && alerts + plan.firing.length > MAX_NOTIFIED_ALERTS) {
        this.#spare = group;
        break;
      }
      plans.push(plan);
      alerts += plan.firing.length;
    }
    return plans;
  }

  async #send(plans: readonly Plan[], nowMs: number): Promise<Delivery> {
    const { endpoint, receiver, compose, tried } = this.#options;
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(endpoint.timeoutMs)]);
    let delivery: Delivery;
    try {
      delivery = await receiver.send(compose(plans, nowMs), signal);
    } catch (thrown) {
      delivery = { outcome: 'retry', why: describeError(thrown) };
    }
    if (!this.#stop.signal.aborted) tried(delivery);
    return delivery;
  }
}
