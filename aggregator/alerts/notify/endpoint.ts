import { createHash } from 'node:crypto';
import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { type AlertGroup, FLAPPING, type Judges, LOOK_SLICE, type Mark, type Plan } from './alert-group.ts';
import { type ComposeOptions, compose } from './compose.ts';
import { GroupTable } from './group-table.ts';
import type { Delivery, Notification } from './notification.ts';
import type { EndpointSettings, Route } from './notify-settings.ts';
import { RefreshRound } from './refresh-round.ts';
import { isOpen } from './routing.ts';
import { SendJob, type SendJobDeps } from './send-job.ts';
import type { SentBooks } from './sent-books.ts';
import { recordOf, type SentRecord } from './sent-record.ts';
import { StormPace } from './storm-pace.ts';
import { TokenBucket } from './token-bucket.ts';

export interface EndpointOptions extends SendJobDeps {
  readonly books: SentBooks;
  readonly judges: Judges;
  readonly compose: ComposeOptions;
  /** Each time that a receiver which forgets is told again. */
  readonly refreshed: (endpoint: EndpointSettings, delivery: Delivery) => void;
  /** The books could not be written: whether the notifier is still in charge has to be found out. */
  readonly broken: (thrown: unknown) => void;
}

/** Notifications under way or waiting for another try; beyond it groups wait, and what they have to say adds up. */
const MAX_OPEN = 16;
const REMINDER_SCAN_MS = 5_000;
/** Before the books are written again after they could not be. */
const BOOKS_RETRY_MS = 1_000;

/** What one way to people is to be told, was told, and is being told. Driven by `tick`. */
export class Endpoint {
  readonly #options: EndpointOptions;
  readonly #groups = new GroupTable();
  readonly #waiting = new Set<AlertGroup>();
  readonly #open = new Set<SendJob>();
  readonly #bucket: TokenBucket;
  readonly #pace = new StormPace();
  readonly #refresh: RefreshRound;
  #remindersMs = 0;
  /** Groups are being looked at. */
  #looking = false;
  #routeOf: (key: string) => Route | undefined = () => undefined;
  /** A snapshot is being told, or written. */
  #snapshot = false;
  /** It was found in the books: its groups are not known, so all wait for it. */
  #blocked = false;
  #stopped = false;

  constructor(options: EndpointOptions) {
    this.#options = options;
    this.#bucket = new TokenBucket(options.endpoint.rateLimit, options.clock.now());
    const { endpoint, receiver, clock, refreshed } = options;
    this.#refresh = new RefreshRound({
      ...{ endpoint, receiver, clock, groups: () => this.#groups.values() },
      compose: (plans, nowMs) => ({ ...this.#compose(plans, nowMs), kind: 'reminder' }),
      tried: (delivery) => refreshed(endpoint, delivery),
    });
  }

  get settings(): EndpointSettings {
    return this.#options.endpoint;
  }

  /** Groups that have something to tell, and notifications that wait for another try. */
  get waitingCount(): number {
    return this.#waiting.size + this.#open.size;
  }

  get open(): Iterable<SendJob> {
    return this.#open;
  }

  /** Takes over the books. `routes` by their keys: a group whose route is gone ends. */
  load(routeOf: (key: string) => Route | undefined, flapping: (id: string) => void): void {
    this.#routeOf = routeOf;
    const nowMs = this.#options.clock.now();
    const { records, sending } = this.#options.books.load();
    for (const record of records) {
      const group = this.#groups.restore(record, routeOf);
      for (const [id, mark] of record.told) if (mark >= FLAPPING) flapping(id);
      if (record.sending !== undefined) this.#resume([group], record.sending, record.atMs);
    }
    if (sending !== undefined) this.#resume(undefined, sending, nowMs);
  }

  /** Takes the state of an alert; `routes` are those that lead it here. */
  take(alert: Alert, routes: readonly Route[]): void {
    for (const group of this.#groups.place(alert, routes, this.#options.clock.now())) this.#note(group);
  }

  /** Something outside changed what may be told: all groups where nothing is named. */
  recheck(ids?: ReadonlySet<string>): void {
    const nowMs = this.#options.clock.now();
    if (ids !== undefined) {
      for (const group of this.#groups.of(ids)) this.#recheck(group, nowMs);
      return;
    }
    for (const group of this.#groups.values()) if (group.held > 0) this.#recheck(group, nowMs);
  }

  /** All alerts are known now: what was told of others is over. */
  recheckUnknown(): void {
    const nowMs = this.#options.clock.now();
    for (const group of this.#groups.values()) {
      if (!group.hasUnknown) continue;
      group.dueMs = nowMs;
      this.#note(group);
    }
  }

  /** Another notifier told this while it could not say so. False where some of it is of alerts that are not here. */
  absorb(record: SentRecord): boolean {
    // One that was on its way when the connection came back may not have arrived.
    if (record.sending !== undefined) return true;
    const known = this.#groups.get(record.identity.key);
    if (known?.busy || (known === undefined && record.told.size === 0)) return true;
    // Its alerts may have ended meanwhile, and whoever was told of them must hear of that.
    const group = known ?? this.#groups.restore(record, this.#routeOf);
    const told = new Map([...group.told, ...record.told]);
    group.lastMs = Math.max(group.lastMs, record.atMs);
    this.#settleQuietly(group, told);
    return ![...told.keys()].some((id) => !group.has(id));
  }

  /** @param tell false while there are alerts that are not in their groups yet: what is tried again goes on. */
  tick(tell = true): void {
    if (this.#stopped) return;
    const nowMs = this.#options.clock.now();
    for (const job of this.#open) job.tick(nowMs);
    if (!tell) return;
    this.#refresh.tick(nowMs);
    if (nowMs >= this.#remindersMs || nowMs < this.#remindersMs - REMINDER_SCAN_MS) {
      this.#remindersMs = nowMs + REMINDER_SCAN_MS;
      for (const group of this.#groups.values()) {
        if (group.reminderMs > nowMs || group.busy) continue;
        group.dueMs = Math.min(group.dueMs, nowMs);
        this.#waiting.add(group);
      }
    }
    if (this.#waiting.size > 0) this.#tellWaiting(nowMs);
  }

  /** Nothing is sent or written any more. Resolves when what was under way has ended. */
  async stop(drain: boolean): Promise<void> {
    this.#stopped = true;
    await Promise.all([this.#refresh.stop(), ...[...this.#open].map((job) => job.stop(drain))]);
  }

  #recheck(group: AlertGroup, nowMs: number): void {
    group.recheck(nowMs);
    this.#note(group);
  }

  #note(group: AlertGroup): void {
    if (group.busy) return;
    if (group.dueMs < Number.POSITIVE_INFINITY) this.#waiting.add(group);
    else if (group.isEmpty) this.#drop(group);
  }

  #drop(group: AlertGroup): void {
    this.#waiting.delete(group);
    this.#groups.delete(group);
  }

  #tellWaiting(nowMs: number): void {
    if (this.#blocked || this.#looking || this.#pace.isQuiet(nowMs)) return;
    // Before anything is looked at: what cannot be told now is looked at when it can.
    if (this.#open.size >= MAX_OPEN || !this.#bucket.has(nowMs)) return;
    let isDue = false;
    for (const group of this.#waiting) if (group.dueMs <= nowMs) isDue = true;
    if (!isDue) return;
    const most = this.#pace.most(nowMs);
    const many = this.#waiting.size > most;
    if (many && this.#snapshot) return;
    // Where many wait, those go along whose turn has not come: each would be a notification of its own soon after.
    this.#looking = true;
    this.#look(this.#plan(nowMs, many), (plans) => {
      this.#looking = false;
      this.#tell(plans, most, nowMs);
      for (const { group } of plans) {
        group.forget();
        this.#note(group);
      }
    });
  }

  /** As far as one go leads at once, the rest in goes of its own. */
  #look(steps: Generator<void, Plan[]>, then: (plans: Plan[]) => void): void {
    const step = steps.next();
    if (step.done) then(step.value);
    else
      setImmediate(() => {
        if (!this.#stopped) this.#look(steps, then);
      });
  }

  #tell(plans: readonly Plan[], most: number, nowMs: number): void {
    if (plans.length > most) this.#tellStorm(plans, nowMs);
    else for (const plan of plans) if (plan.group.dueMs <= nowMs) this.#tellOne(plan, nowMs);
  }

  /** What there is to tell; groups with nothing to tell go to rest. */
  *#plan(nowMs: number, all: boolean): Generator<void, Plan[]> {
    const plans: Plan[] = [];
    let seen = 0;
    for (const group of [...this.#waiting]) {
      if (!this.#waiting.has(group)) continue;
      if (group.refreshing || group.busy || (!all && group.dueMs > nowMs)) continue;
      seen += 1 + group.size;
      if (seen > LOOK_SLICE) {
        seen = 0;
        yield;
      }
      if (group.route !== undefined && !isOpen(group.route, nowMs)) {
        // Their times are in minutes.
        group.dueMs = Math.max(group.dueMs, nowMs + 30_000);
        continue;
      }
      if (group === this.#groups.storm && this.#stormGoesOn([])) {
        this.#waiting.delete(group);
        continue;
      }
      const plan = yield* group.plan(nowMs, this.#options.judges, this.#options.endpoint.sendResolved);
      if (plan.kind !== 'nothing') {
        plans.push(plan);
        continue;
      }
      this.#waiting.delete(group);
      if (plan.changed) this.#settleQuietly(group, plan.told);
      else {
        group.rest(nowMs, plan.arrivedMs);
        this.#note(group);
      }
    }
    return plans;
  }

  #tellOne(plan: Plan, nowMs: number): void {
    const { books } = this.#options;
    if (this.#open.size >= MAX_OPEN) return;
    const fits = books.fits(plan.told) && books.fits(plan.group.told);
    if (!fits && this.#snapshot) return;
    if (!this.#bucket.take(nowMs)) return;
    const notification = this.#compose([plan], nowMs);
    this.#begin([plan]);
    if (!fits) {
      this.#tellAll([plan], notification, nowMs, false);
      return;
    }
    const { group, told } = plan;
    this.#start([group], notification, nowMs, {
      record: () =>
        books.put(recordOf(group, books.next(), { told, atMs: nowMs, storm: false, sending: notification })),
      finish: (atMs) => books.put(recordOf(group, books.next(), { told, atMs, storm: false })),
      settle: (atMs) => this.#settle(plan, atMs, false),
    });
  }

  #tellStorm(plans: readonly Plan[], nowMs: number): void {
    if (!this.#bucket.take(nowMs)) return;
    this.#pace.tell(nowMs);
    this.#begin(plans);
    this.#tellAll(plans, this.#compose(plans, nowMs), nowMs, true);
  }

  /** With all groups of the endpoint in one snapshot. */
  #tellAll(plans: readonly Plan[], notification: Notification, nowMs: number, storm: boolean): void {
    this.#snapshot = true;
    const { books } = this.#options;
    const told = new Map(plans.map((plan) => [plan.group, plan.told]));
    if (storm) told.set(this.#groups.addStorm(), stormMarks(notification.status));
    this.#start(
      plans.map(({ group }) => group),
      notification,
      nowMs,
      {
        record: () => {
          const n = books.next();
          const records = [...this.#groups.values()].map((group) => {
            const marks = told.get(group);
            if (marks === undefined) return recordOf(group, n);
            const inStorm = storm && group !== this.#groups.storm;
            return recordOf(group, n, { told: marks, atMs: nowMs, storm: inStorm });
          });
          return books.putAll(records, n, notification);
        },
        finish: () => books.finishAll(),
        settle: (atMs) => {
          this.#snapshot = false;
          if (storm) this.#groups.storm!.told = stormMarks(notification.status);
          for (const plan of plans) this.#settle(plan, atMs, storm);
        },
        release: () => {
          this.#snapshot = false;
        },
      },
    );
  }

  /** What was told changes without a word: a receiver that does not want to hear of ends, a flap that is over. */
  #settleQuietly(group: AlertGroup, told: ReadonlyMap<string, Mark>): void {
    const { books, clock, broken } = this.#options;
    group.begin();
    const settle = (): void => {
      group.settle(told, undefined, clock.now());
      this.#note(group);
    };
    // One that is in a snapshot alone, as it is too large: its next snapshot says so too.
    if (!books.fits(told)) {
      settle();
      return;
    }
    books.put(recordOf(group, books.next(), { told })).then(settle, (thrown: unknown) => {
      group.release(clock.now() + BOOKS_RETRY_MS);
      this.#note(group);
      if (!this.#stopped) broken(thrown);
    });
  }

  /** Told before a crash, or not: once more, with the same id. `groups` undefined for a snapshot. */
  #resume(groups: readonly AlertGroup[] | undefined, notification: Notification, createdMs: number): void {
    const { books, clock } = this.#options;
    for (const group of groups ?? []) group.begin();
    if (groups === undefined) [this.#snapshot, this.#blocked] = [true, true];
    this.#start(groups ?? [], notification, createdMs, {
      record: () => Promise.resolve(),
      finish: async (atMs) => {
        if (groups === undefined) await books.finishAll();
        for (const group of groups ?? []) await books.put(recordOf(group, books.next(), { atMs }));
      },
      settle: (atMs) => {
        if (groups === undefined) [this.#snapshot, this.#blocked] = [false, false];
        for (const group of groups ?? []) {
          group.settle(group.told, atMs, clock.now());
          this.#note(group);
        }
      },
    });
  }

  #begin(plans: readonly Plan[]): void {
    for (const { group } of plans) {
      group.begin();
      this.#waiting.delete(group);
    }
  }

  #settle(plan: Plan, atMs: number, storm: boolean): void {
    const { group } = plan;
    const nowMs = this.#options.clock.now();
    const wasStorm = group.storm;
    group.storm = storm && plan.told.size > 0;
    // A storm names few of its alerts: the others are said right after it.
    group.refreshMs = storm ? 0 : atMs + (this.#options.receiver.refreshMs ?? 0);
    group.settle(plan.told, atMs, nowMs);
    this.#note(group);
    if (wasStorm && !group.storm) this.#endStorm(nowMs);
  }

  #start(
    groups: readonly AlertGroup[],
    notification: Notification,
    createdMs: number,
    steps: JobSteps,
  ): void {
    const { clock, broken } = this.#options;
    const job: SendJob = new SendJob(notification, createdMs, this.#options, {
      record: steps.record,
      finish: steps.finish,
      done: (atMs) => {
        this.#open.delete(job);
        steps.settle(atMs);
      },
      failed: (thrown) => {
        this.#open.delete(job);
        steps.release?.();
        for (const group of groups) {
          group.release(clock.now() + BOOKS_RETRY_MS);
          this.#note(group);
        }
        if (!this.#stopped) broken(thrown);
      },
      unfinished: (thrown) => {
        if (!this.#stopped) broken(thrown);
      },
    });
    this.#open.add(job);
    job.tick(clock.now());
  }

  /** An incident that a storm opened ends when the last of its groups has: as a group whose one alert is gone. */
  #endStorm(nowMs: number): void {
    const group = this.#groups.storm;
    if (group === undefined || this.#stormGoesOn([])) return;
    group.dueMs = nowMs;
    this.#note(group);
  }

  #compose(plans: readonly Plan[], nowMs: number): Notification {
    const { endpoint, random } = this.#options;
    const nonce = `${random()}${random()}`;
    const keys = plans.length === 1 ? plans[0]!.group.identity.key : 'storm';
    const id = createHash('sha256')
      .update(`${endpoint.id}\n${keys}\n${nowMs}\n${nonce}`)
      .digest('hex')
      .slice(0, 32);
    return compose(
      plans,
      { id, endpoint: endpoint.id, nowMs, stormGoesOn: this.#stormGoesOn(plans) },
      this.#options.compose,
    );
  }

  #stormGoesOn(plans: readonly Plan[]): boolean {
    const told = new Set(plans.map(({ group }) => group));
    for (const group of this.#groups.values()) if (group.storm && !told.has(group)) return true;
    return false;
  }
}

interface JobSteps {
  readonly record: () => Promise<void>;
  readonly finish: (atMs: number) => Promise<void>;
  readonly settle: (atMs: number) => void;
  readonly release?: () => void;
}

/** Stands in the books of a storm for what it told. */
function stormMarks(status: Notification['status']): ReadonlyMap<string, Mark> {
  return new Map(status === 'firing' ? [['0'.repeat(16), 1]] : []);
}
