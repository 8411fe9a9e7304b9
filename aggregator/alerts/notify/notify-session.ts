import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { AlertBacklog } from './alert-backlog.ts';
import type { AlertFeed } from './alert-feed.ts';
import { levelOf } from './alert-group.ts';
import type { DocStore } from './doc-store.ts';
import { Endpoint, type EndpointOptions } from './endpoint.ts';
import { FlapWatch } from './flap-watch.ts';
import type { Receiver } from './notification.ts';
import type { EndpointSettings, NotifySettings, Route } from './notify-settings.ts';
import { routesOf } from './routing.ts';
import type { SendJob, SendJobDeps } from './send-job.ts';
import { SentBooks } from './sent-books.ts';
import { decodeRecord } from './sent-record.ts';

/** What holds notifications back. */
export interface Muting {
  covering(alert: Alert): readonly string[];
  onChange(listener: () => void): Disposable;
}

export interface Inhibiting {
  note(alert: Alert): void;
  inhibiting(alert: Alert): readonly string[];
}

export interface NotifySessionOptions {
  readonly settings: NotifySettings;
  readonly receivers: ReadonlyMap<EndpointSettings, Receiver>;
  readonly docs: DocStore;
  readonly feed: AlertFeed;
  /** The feed has a part of the alerts that were told of. */
  readonly partial: boolean;
  readonly silences: Muting;
  readonly inhibitions: Inhibiting;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly tried: SendJobDeps['tried'];
  readonly buried: SendJobDeps['buried'];
  readonly refreshed: EndpointOptions['refreshed'];
  readonly broken: (thrown: unknown) => void;
}

/** An alert that was told and is not in the feed: its aggregator may be starting, so it is not over yet. */
const GONE_AFTER_MS = 300_000;
const FLAP_SCAN_MS = 5_000;

/** The time in which one process is in charge of notifying: begins with the books, ends with it or the lease. */
export class NotifySession implements Disposable {
  readonly #options: NotifySessionOptions;
  readonly #endpoints: Endpoint[] = [];
  readonly #byReceiver = new Map<string, Endpoint[]>();
  readonly #flaps = new FlapWatch();
  /** Ids of those that fire: 250,000 at most, as the feed. */
  readonly #firing = new Set<string>();
  readonly #subscriptions: Disposable[];
  readonly #backlog = new AlertBacklog((alert) => this.#route(alert));
  /** From when on an alert that is not known is over, on the monotonic clock. */
  #knownMs: number;
  #goneChecked = false;
  /** Nothing is told before so many alerts have been routed. */
  #holdUntil = 0;
  #held = false;
  #flapsMs = 0;

  /** Reads the books. The state of every alert is taken bit by bit after it, and nothing is told before. */
  constructor(options: NotifySessionOptions) {
    this.#options = options;
    const { clock, settings, silences, feed } = options;
    this.#knownMs = clock.monotonic() + GONE_AFTER_MS;
    const routes = routesByKey(settings.route);
    for (const endpoint of [...settings.receivers.values()].flat()) this.#open(endpoint, routes);
    for (const alert of feed.alerts()) {
      if (levelOf(alert) > 0) this.#firing.add(alert.id);
      this.#backlog.add(alert);
    }
    this.#subscriptions = [
      this.#backlog,
      feed.subscribe((alert) => this.#take(alert)),
      silences.onChange(() => {
        for (const endpoint of this.#endpoints) endpoint.recheck();
      }),
    ];
  }

  get endpoints(): readonly Endpoint[] {
    return this.#endpoints;
  }

  get waitingCount(): number {
    return this.#endpoints.reduce((sum, endpoint) => sum + endpoint.waitingCount, 0);
  }

  get jobs(): SendJob[] {
    return this.#endpoints.flatMap((endpoint) => [...endpoint.open]);
  }

  tick(): void {
    const { clock, partial } = this.#options;
    const nowMs = clock.now();
    if (nowMs >= this.#flapsMs + FLAP_SCAN_MS || nowMs < this.#flapsMs) {
      this.#flapsMs = nowMs;
      const stable = new Set(this.#flaps.advance(nowMs));
      if (stable.size > 0) for (const endpoint of this.#endpoints) endpoint.recheck(stable);
    }
    if (!partial && !this.#goneChecked && clock.monotonic() >= this.#knownMs) {
      this.#goneChecked = true;
      for (const endpoint of this.#endpoints) endpoint.recheckUnknown();
    }
    const tell = this.#isCaughtUp();
    for (const endpoint of this.#endpoints) endpoint.tick(tell);
  }

  /** What another notifier told while it could not say so. */
  absorb(endpoint: string, record: unknown): void {
    const decoded = decodeRecord(record);
    if (decoded === undefined) return;
    for (const one of this.#endpoints) {
      if (one.settings.id !== endpoint || one.absorb(decoded)) continue;
      // The other's alerts may be on their way to us.
      this.#knownMs = this.#options.clock.monotonic() + GONE_AFTER_MS;
      this.#goneChecked = false;
    }
  }

  /** `drain`: what is being sent may end, and is recorded. Otherwise it is broken off. */
  async stop(drain: boolean): Promise<void> {
    this[Symbol.dispose]();
    await Promise.all(this.#endpoints.map((endpoint) => endpoint.stop(drain)));
  }

  [Symbol.dispose](): void {
    for (const subscription of this.#subscriptions.splice(0)) subscription[Symbol.dispose]();
  }

  #open(settings: EndpointSettings, routes: ReadonlyMap<string, Route>): void {
    const { receivers, docs, clock, random, logger, silences, inhibitions, partial } = this.#options;
    const endpoint = new Endpoint({
      ...{ endpoint: settings, receiver: receivers.get(settings)!, clock, random },
      ...{ tried: this.#options.tried, buried: this.#options.buried, refreshed: this.#options.refreshed },
      books: new SentBooks(docs, settings.id),
      compose: { link: this.#options.settings.link, ...this.#options.settings.templates },
      judges: {
        muted: (alert) => silences.covering(alert).length > 0 || inhibitions.inhibiting(alert).length > 0,
        flaps: (id) => this.#flaps.flaps(id),
        knowsAll: () => !partial && clock.monotonic() >= this.#knownMs,
      },
      broken: (thrown) => {
        logger.warn({ why: describeError(thrown), receiver: settings.id }, 'cannot write what was notified');
        this.#options.broken(thrown);
      },
    });
    endpoint.load(
      (key) => routes.get(key),
      (id) => this.#flaps.restore(id, clock.now()),
    );
    this.#endpoints.push(endpoint);
    const others = this.#byReceiver.get(settings.receiver);
    if (others === undefined) this.#byReceiver.set(settings.receiver, [endpoint]);
    else others.push(endpoint);
  }

  #take(alert: Alert): void {
    const fires = levelOf(alert) > 0;
    if (fires !== this.#firing.has(alert.id)) {
      this.#flaps.note(alert.id, fires, this.#options.clock.now());
      if (fires) this.#firing.add(alert.id);
      else this.#firing.delete(alert.id);
    }
    this.#backlog.add(alert);
  }

  /** What came until now has been routed, so that what comes together is told together. What comes next is next. */
  #isCaughtUp(): boolean {
    const { size, routed } = this.#backlog;
    if (routed < this.#holdUntil) return false;
    if (size === 0 || this.#held) {
      this.#held = false;
      return true;
    }
    this.#holdUntil = routed + size;
    this.#held = true;
    return false;
  }

  #route(alert: Alert): void {
    this.#options.inhibitions.note(alert);
    const routes = routesOf(this.#options.settings.route, alert);
    for (const [receiver, endpoints] of this.#byReceiver) {
      const own = routes.filter((route) => route.receiver === receiver);
      for (const endpoint of endpoints) endpoint.take(alert, own);
    }
  }
}

function routesByKey(route: Route, found = new Map<string, Route>()): Map<string, Route> {
  found.set(route.key, route);
  for (const child of route.routes) routesByKey(child, found);
  return found;
}
