import { create } from '@bufbuild/protobuf';
import { type Alert, AlertSchema, AlertState, Resolution } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { Route } from './notify-settings.ts';

/** What a receiver was told of an alert: a severity 1 to 3, 0 for resolved; with FLAPPING also that it flaps. */
export type Mark = number;
export const FLAPPING = 8;
const LEVEL = 7;

/** What is asked of each alert when a group is looked at. */
export interface Judges {
  /** Silenced or inhibited now. */
  readonly muted: (alert: Alert) => boolean;
  readonly flaps: (id: string) => number;
  /** An alert that is not known is over; false where it may be that we have not heard of it. */
  readonly knowsAll: () => boolean;
}

/** What there is to say about a group. */
export interface Plan {
  readonly group: AlertGroup;
  /** When what came while it was made may be told; infinite where nothing came. */
  readonly arrivedMs: number;
  readonly kind: 'news' | 'reminder' | 'nothing';
  readonly firing: readonly Alert[];
  /** Those of `firing` that the receiver does not know, or not so. */
  readonly fresh: ReadonlySet<string>;
  readonly ended: readonly Alert[];
  /** Told as firing and no longer known at all. */
  readonly gone: number;
  readonly flaps: number;
  /** Once it is said. */
  readonly told: ReadonlyMap<string, Mark>;
  /** `told` is not what the group has. */
  readonly changed: boolean;
}

/** A group whose alerts are held back is looked at so often, beside at each change of a silence. */
const RECHECK_MS = 30_000;
/** Alerts looked at in one go, a few ms. */
export const LOOK_SLICE = 500;
/** The same for one that is due to be said again and whose alerts are all acknowledged. */
const REMIND_CHECK_MS = 300_000;

export interface GroupIdentity {
  readonly key: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly cluster: string;
}

/** The alerts of one group for one receiver, and what was told of them. */
export class AlertGroup {
  readonly identity: GroupIdentity;
  /** Undefined where no route leads to it any more: it came from the books, and ends. */
  readonly route: Route | undefined;
  /** Those that fire, and those that have ended and were told. */
  readonly #alerts = new Map<string, Alert>();
  /** Among them may be some that have ended and were not told, kept as it was busy. */
  #endedUntold = false;
  /** By alert id. */
  told: ReadonlyMap<string, Mark> = new Map();
  /** When something was last said; 0 for never. */
  lastMs = 0;
  /** When there may be news to tell; infinite for not. */
  dueMs = Number.POSITIVE_INFINITY;
  /** When it may be time to say it again; infinite for not. */
  reminderMs = Number.POSITIVE_INFINITY;
  /** A notification about it is under way, or it is being looked at. */
  busy = false;
  /** When it is to be said again to a receiver that forgets. */
  refreshMs = 0;
  /** That is under way: nothing else may overtake it. */
  refreshing = false;
  /** It was last told as part of a storm. */
  storm = false;
  /** Firing alerts that were held back as silenced or inhibited when it was last looked at. */
  held = 0;

  constructor(identity: GroupIdentity, route: Route | undefined) {
    this.identity = identity;
    this.route = route;
  }

  get isEmpty(): boolean {
    return this.#alerts.size === 0 && this.told.size === 0 && !this.busy;
  }

  has(id: string): boolean {
    return this.#alerts.has(id);
  }

  get size(): number {
    return this.#alerts.size;
  }

  /** Takes the state of an alert and says how soon that is to be told. */
  take(alert: Alert, nowMs: number): void {
    const level = levelOf(alert);
    const mark = this.told.get(alert.id);
    if (level === 0 && mark === undefined) {
      if (!this.busy) {
        this.#alerts.delete(alert.id);
        return;
      }
      this.#endedUntold = true;
    }
    this.#alerts.set(alert.id, alert);
    if (mark === undefined ? level > 0 : (mark & LEVEL) !== level) this.#expect(alert, mark ?? 0, nowMs);
  }

  /** The alert belongs to another group now: here it has ended. */
  leave(alert: Alert, nowMs: number): void {
    this.take(
      create(AlertSchema, {
        ...alert,
        state: AlertState.RESOLVED,
        resolution: Resolution.CLEARED,
        ...(alert.updatedAt && { resolvedAt: alert.updatedAt }),
      }),
      nowMs,
    );
  }

  /** Something was told that is not known here. */
  get hasUnknown(): boolean {
    for (const id of this.told.keys()) if (!this.#alerts.has(id)) return true;
    return false;
  }

  /** Something said or unsaid elsewhere may make news of what is here, such as the end of a silence. */
  recheck(nowMs: number): void {
    this.dueMs = Math.min(this.dueMs, this.#earliest(nowMs));
  }

  /**
   * Looks at it, some alerts with each step: to be told of a hundred thousand must not hold up all else. What comes
   * meanwhile counts at the next look, or when this is told.
   */
  *plan(nowMs: number, judges: Judges, sendResolved: boolean): Generator<void, Plan> {
    this.busy = true;
    const { dueMs } = this;
    this.dueMs = Number.POSITIVE_INFINITY;
    const told = new Map(this.told);
    const firing: Alert[] = [];
    const ended: Alert[] = [];
    const fresh = new Set<string>();
    let [held, unacknowledged, flaps] = [0, 0, 0];
    let seen = 0;
    for (const [id, alert] of this.#alerts) {
      if (++seen % LOOK_SLICE === 0) yield;
      const level = levelOf(alert);
      const mark = this.told.get(id);
      if (level > 0 && judges.muted(alert)) {
        held++;
        continue;
      }
      const count = judges.flaps(id);
      if (level > 0) firing.push(alert);
      if (level > 0 && alert.acknowledged === undefined && count === 0) unacknowledged++;
      const next = nextMark(mark, level, count > 0);
      if (next === undefined) told.delete(id);
      else told.set(id, next);
      if (!isNews(mark, level, count > 0)) continue;
      flaps = Math.max(flaps, count);
      if (level > 0) fresh.add(id);
      else ended.push(alert);
    }
    this.held = held;
    const gone = judges.knowsAll() ? this.#dropGone(told) : 0;
    const news = fresh.size > 0 || (sendResolved && ended.length + gone > 0);
    const remind = !news && unacknowledged > 0 && nowMs >= this.reminderMs;
    this.busy = false;
    const arrivedMs = this.dueMs;
    this.dueMs = Math.min(dueMs, arrivedMs);
    return {
      arrivedMs,
      group: this,
      kind: news ? 'news' : remind ? 'reminder' : 'nothing',
      ...{ firing, fresh, flaps, told },
      ended: sendResolved ? ended : [],
      gone: sendResolved ? gone : 0,
      changed: !sameMarks(told, this.told),
    };
  }

  /** What was told and still fires, as it is now; undefined where nothing does. */
  planRefresh(): Plan | undefined {
    const firing: Alert[] = [];
    for (const id of this.told.keys()) {
      const alert = this.#alerts.get(id);
      if (alert !== undefined && levelOf(alert) > 0) firing.push(alert);
    }
    if (firing.length === 0) return undefined;
    return {
      ...{ group: this, kind: 'reminder', firing, fresh: new Set(), ended: [], gone: 0, flaps: 0 },
      ...{ told: this.told, changed: false, arrivedMs: Number.POSITIVE_INFINITY },
    };
  }

  /** There was nothing to tell. */
  rest(nowMs: number, arrivedMs: number): void {
    this.dueMs = Math.min(arrivedMs, this.held > 0 ? nowMs + RECHECK_MS : Number.POSITIVE_INFINITY);
    this.forget();
    if (this.reminderMs <= nowMs)
      this.reminderMs = nowMs + Math.min(REMIND_CHECK_MS, this.route?.repeatIntervalMs ?? REMIND_CHECK_MS);
  }

  /** Lets go of what ended while it was looked at and was never told. */
  forget(): void {
    if (!this.#endedUntold || this.busy) return;
    this.#endedUntold = false;
    for (const [id, alert] of this.#alerts)
      if (levelOf(alert) === 0 && !this.told.has(id)) this.#alerts.delete(id);
  }

  /** A notification is under way. */
  begin(): void {
    this.busy = true;
    this.dueMs = Number.POSITIVE_INFINITY;
    this.reminderMs = Number.POSITIVE_INFINITY;
  }

  /** It is told, or never will be: what came meanwhile is next. */
  settle(told: ReadonlyMap<string, Mark>, saidMs: number | undefined, nowMs: number): void {
    this.busy = false;
    this.told = told;
    if (saidMs !== undefined) this.lastMs = saidMs;
    this.remind();
    for (const [id, alert] of this.#alerts) {
      const mark = told.get(id);
      const level = levelOf(alert);
      if (mark === undefined && level === 0) this.#alerts.delete(id);
      else if (mark === undefined || (mark < FLAPPING && mark !== level))
        this.#expect(alert, mark ?? 0, nowMs);
    }
  }

  /** It was not told: everything is as it was. */
  release(dueMs: number): void {
    this.busy = false;
    this.dueMs = Math.min(this.dueMs, dueMs);
    this.remind();
  }

  remind(): void {
    this.reminderMs =
      this.lastMs > 0 && this.route !== undefined
        ? this.lastMs + this.route.repeatIntervalMs
        : Number.POSITIVE_INFINITY;
  }

  #expect(alert: Alert, mark: Mark, nowMs: number): void {
    const level = levelOf(alert);
    const rose = mark > 0 && level > (mark & LEVEL);
    const waitMs = this.route?.groupWaitMs ?? 0;
    let dueMs = this.#earliest(nowMs);
    if (rose)
      dueMs = Math.max(
        nowMs,
        Math.min(this.lastMs, nowMs) + Math.min(waitMs, this.route?.groupIntervalMs ?? 0),
      );
    this.dueMs = Math.min(this.dueMs, dueMs);
  }

  /** Of a group that was told, after `group_interval`; always so late that what comes together goes together. */
  #earliest(nowMs: number): number {
    if (this.route === undefined) return nowMs;
    const settled = nowMs + this.route.groupWaitMs;
    if (this.lastMs === 0) return settled;
    // A clock that was ahead and was set back must not keep news waiting.
    return Math.max(settled, Math.min(this.lastMs, nowMs) + this.route.groupIntervalMs);
  }

  /** Alerts that were told as firing and that nobody knows any more. */
  #dropGone(told: Map<string, Mark>): number {
    let gone = 0;
    for (const [id, mark] of this.told) {
      if (this.#alerts.has(id)) continue;
      told.delete(id);
      if ((mark & LEVEL) > 0) gone++;
    }
    return gone;
  }
}

/** 0 where it does not fire. */
export function levelOf(alert: Alert): number {
  return alert.state === AlertState.FIRING ? Math.max(1, alert.severity) : 0;
}

function isNews(mark: Mark | undefined, level: number, flapping: boolean): boolean {
  if (flapping && mark !== undefined && (mark & FLAPPING) !== 0) return false;
  if (mark === undefined) return level > 0;
  if (flapping) return true;
  return (mark & LEVEL) !== level;
}

/** What the receiver will know; undefined where there is nothing to remember. */
function nextMark(mark: Mark | undefined, level: number, flapping: boolean): Mark | undefined {
  if (flapping && mark !== undefined && (mark & FLAPPING) !== 0) return mark;
  if (flapping && (mark !== undefined || level > 0)) return level | FLAPPING;
  return level > 0 ? level : undefined;
}

function sameMarks(a: ReadonlyMap<string, Mark>, b: ReadonlyMap<string, Mark>): boolean {
  if (a.size !== b.size) return false;
  for (const [id, mark] of a) if (b.get(id) !== mark) return false;
  return true;
}
