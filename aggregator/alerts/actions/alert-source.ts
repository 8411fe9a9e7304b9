import { type Alert, AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { AlertListener } from '../alert-change.ts';

/** The alerts of this process, such as the engine's. */
export interface AlertFeed {
  /** The last state of each. */
  alerts(): Iterable<Alert>;
  subscribe(listener: AlertListener): Disposable;
}

/** The word on an alert at this moment: asked before anything is done about it. */
export interface AlertSource {
  /** Its last transition; undefined where none is known. Throws `unavailable`. */
  current(subject: string, id: string): Promise<Alert | undefined>;
}

/** Actions that begin together ask for an alert each: one walk over all alerts answers for so long. */
const FRESH_MS = 250;
/** An alert that is not among them may have fired since. */
const MISSED_MS = 10;

/** Asks the feed of this process: for an aggregator that is alone. */
export class LocalAlerts implements AlertSource {
  readonly #feed: AlertFeed;
  readonly #clock: Clock;
  #known = new Map<string, Alert>();
  #atMs = Number.NEGATIVE_INFINITY;

  constructor(feed: AlertFeed, clock: Clock) {
    this.#feed = feed;
    this.#clock = clock;
  }

  async current(_subject: string, id: string): Promise<Alert | undefined> {
    const ageMs = this.#clock.monotonic() - this.#atMs;
    if (ageMs >= FRESH_MS || (ageMs >= MISSED_MS && !this.#known.has(id))) this.#walk();
    return this.#known.get(id);
  }

  #walk(): void {
    this.#known = new Map();
    for (const alert of this.#feed.alerts())
      if (alert.state !== AlertState.PENDING) this.#known.set(alert.id, alert);
    this.#atMs = this.#clock.monotonic();
  }
}
