import { randomUUID } from 'node:crypto';
import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { ControlStore } from '../control/control-store.ts';
import {
  checkRequest,
  readSilence,
  type Silence,
  type SilenceRequest,
  sameMatchers,
  stateOf,
} from './silence.ts';
import { SilenceIndex } from './silence-index.ts';

interface SilencesOptions {
  readonly control: ControlStore;
  readonly audit: Pick<AuditLog, 'write'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
  /** Ids of new ones; random UUIDs by default. */
  readonly newId?: () => string;
}

const PREFIX = 'silence/';
/** Pending and active ones. Alertmanager has no limit; a thousand is more than people look through. */
const MAX_SILENCES = 1_000;
/** Those that follow marks: found by their node alone, so that many cost nothing. */
const MAX_FROM_MARKS = 20_000;
/** Expired ones that are kept beside them, the newest. */
const MAX_EXPIRED = 4_000;
/** As long as Alertmanager keeps its data by default (--data.retention=120h). */
const KEEP_EXPIRED_MS = 5 * 86_400_000;
/** Tries of one change that others keep coming before. */
const MAX_TRIES = 10;

/**
 * The silences of all aggregators, in the control store, each change audited. An editor who changes what an active
 * silence matches gets a new one, and the old one ends: its id goes on meaning what it covered when alerts and
 * notifications said so. Its end, comment and author may change as they like. Alertmanager does the same.
 */
export class Silences implements Disposable {
  readonly #options: SilencesOptions;
  readonly #silences = new Map<string, Silence>();
  readonly #listeners = new Set<() => void>();
  readonly #watch: Disposable;
  #index = new SilenceIndex([]);
  /** When the index is no longer true; infinite for not before a change. */
  #nextMs = Number.NEGATIVE_INFINITY;
  /** How often silences began or ended by the clock, and how often listeners were told of that. */
  #turns = 0;
  #toldTurns = 0;
  #purging: Promise<void> | undefined;

  constructor(options: SilencesOptions) {
    this.#options = options;
    for (const { value } of options.control.entries(PREFIX)) this.#take(value);
    this.#watch = options.control.watch(PREFIX, ({ key, value }) => {
      if (value === undefined) this.#silences.delete(key.slice(PREFIX.length));
      else this.#take(value);
      this.#nextMs = Number.NEGATIVE_INFINITY;
      for (const listener of this.#listeners) listener();
    });
    const active = (): number => this.list(false).length;
    gauge(options.registry, {
      name: 'gpufleet_silences',
      help: 'Silences that hold now or will.',
      collect() {
        this.set(active());
      },
    });
  }

  /** Those that end last come first. */
  list(includeExpired: boolean): Silence[] {
    const nowMs = this.#options.clock.now();
    return [...this.#silences.values()]
      .filter((silence) => includeExpired || stateOf(silence, nowMs) !== 'expired')
      .sort((a, b) => b.endsAtMs - a.endsAtMs || (a.id < b.id ? -1 : 1));
  }

  get(id: string): Silence | undefined {
    return this.#silences.get(id);
  }

  /**
   * Makes a silence or changes one; resolves with what is, whose id is a new one where the matchers or the start of
   * one that has begun, or an expired one, were changed. Throws `invalid_input`, `not_found`, `resource_exhausted`,
   * and `unavailable` while NATS is away.
   */
  async set(request: SilenceRequest): Promise<Silence> {
    const nowMs = this.#options.clock.now();
    checkRequest(request, nowMs);
    const { id = '', fromMark = false } = request;
    const before = id === '' ? undefined : this.#silences.get(id);
    if (id !== '' && before === undefined && !fromMark) throw notFound(id);
    if (before !== undefined && before.fromMark !== fromMark) throw followsMark(id);
    const inPlace = before === undefined ? fromMark : fromMark || mayChange(before, request, nowMs);
    const silence: Silence = {
      id: inPlace ? id : (this.#options.newId ?? randomUUID)(),
      matchers: request.matchers.map(({ label, operator, value }) => ({ label, operator, value })),
      startsAtMs: startOf(request, inPlace ? before : undefined, nowMs),
      endsAtMs: request.endsAtMs,
      by: request.by,
      comment: request.comment,
      updatedAtMs: nowMs,
      fromMark,
      ...(request.owner !== undefined && { owner: request.owner }),
    };
    const replaced = inPlace ? before : undefined;
    if (replaced === undefined || stateOf(replaced, nowMs) === 'expired') this.#checkRoom(fromMark);
    await this.#put(silence, replaced);
    await this.#audit('silence.set', silence, before, silence.by, silence.comment);
    // The new one holds already: nobody is notified in between.
    if (!inPlace && before !== undefined && stateOf(before, nowMs) !== 'expired')
      await this.#end(before, request.by, `replaced by ${silence.id}`);
    return silence;
  }

  /** Ends one now; one that is over already stays as it is. Throws `not_found` and as `set` does. */
  async expire(id: string, by: string, options: { readonly fromMark?: boolean } = {}): Promise<Silence> {
    const silence = this.#silences.get(id);
    if (silence === undefined) throw notFound(id);
    if (silence.fromMark !== (options.fromMark ?? false)) throw followsMark(id);
    if (stateOf(silence, this.#options.clock.now()) === 'expired') return silence;
    return this.#end(silence, by, '');
  }

  /** Ids of the silences that cover an alert now, in order; cheap enough to ask of every alert. */
  covering(alert: Alert): string[] {
    this.#refresh();
    return this.#index.covering(alert);
  }

  /** Tells, until disposed, that what is covered may have changed. The listener must not throw. */
  onChange(listener: () => void): Disposable {
    const own = (): void => listener();
    this.#listeners.add(own);
    return { [Symbol.dispose]: () => void this.#listeners.delete(own) };
  }

  /** Once a second or so: tells of silences that began or ended by the clock, and lets old ones go. */
  advance(): void {
    this.#refresh();
    if (this.#turns !== this.#toldTurns) {
      this.#toldTurns = this.#turns;
      for (const listener of this.#listeners) listener();
    }
    this.#purging ??= this.#purge().finally(() => {
      this.#purging = undefined;
    });
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
  }

  #take(value: unknown): void {
    const silence = readSilence(value);
    if (silence !== undefined) this.#silences.set(silence.id, silence);
  }

  /** The index is built when it is asked: many changes at once make one. */
  #refresh(): void {
    const nowMs = this.#options.clock.now();
    if (nowMs < this.#nextMs) return;
    if (this.#nextMs !== Number.NEGATIVE_INFINITY) this.#turns++;
    const active: Silence[] = [];
    this.#nextMs = Number.POSITIVE_INFINITY;
    for (const silence of this.#silences.values()) {
      const state = stateOf(silence, nowMs);
      if (state === 'active') active.push(silence);
      if (state === 'expired') continue;
      this.#nextMs = Math.min(this.#nextMs, state === 'active' ? silence.endsAtMs : silence.startsAtMs);
    }
    this.#index = new SilenceIndex(active);
  }

  #checkRoom(fromMark: boolean): void {
    const nowMs = this.#options.clock.now();
    let alive = 0;
    for (const silence of this.#silences.values())
      if (silence.fromMark === fromMark && stateOf(silence, nowMs) !== 'expired') alive++;
    if (alive >= (fromMark ? MAX_FROM_MARKS : MAX_SILENCES))
      throw new FleetError('resource_exhausted', `Cannot set silence: there are ${alive} already`);
  }

  async #end(silence: Silence, by: string, why: string): Promise<Silence> {
    const nowMs = this.#options.clock.now();
    const ended: Silence = {
      ...silence,
      startsAtMs: Math.min(silence.startsAtMs, nowMs),
      endsAtMs: nowMs,
      updatedAtMs: nowMs,
    };
    await this.#put(ended, silence);
    await this.#audit('silence.expire', ended, silence, by, why);
    return ended;
  }

  /** Writes it over whatever is there: of two who change one silence the last decides, as each saw what it was. */
  async #put(silence: Silence, before: Silence | undefined): Promise<void> {
    const { control } = this.#options;
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const entry = control.get(PREFIX + silence.id);
      if (before !== undefined && entry === undefined) throw notFound(silence.id);
      if ((await control.put(PREFIX + silence.id, silence, entry?.revision ?? 0)) !== undefined) return;
    }
    throw new FleetError('unavailable', `Cannot set silence ${silence.id}: others keep changing it`);
  }

  async #audit(
    what: string,
    silence: Silence,
    before: Silence | undefined,
    who: string,
    why: string,
  ): Promise<void> {
    const named = (label: string): string =>
      silence.matchers.find((matcher) => matcher.label === label && matcher.operator === '=')?.value ?? '';
    await this.#options.audit.write({
      ...{ atMs: silence.updatedAtMs, who, what, why, subject: silence.id, result: 'done' },
      ...{ cluster: named('cluster'), node: named('node'), gpu: named('gpu') },
      ...(before === undefined ? {} : { before }),
      after: silence,
    });
  }

  /** Several aggregators do this; a document that another has taken away already is no matter. */
  async #purge(): Promise<void> {
    const { control, clock, logger } = this.#options;
    if (control.state === 'away') return;
    const nowMs = clock.now();
    const expired = this.list(true).filter((silence) => stateOf(silence, nowMs) === 'expired');
    const old = expired.filter(
      ({ endsAtMs }, index) => index >= MAX_EXPIRED || nowMs - endsAtMs > KEEP_EXPIRED_MS,
    );
    try {
      for (const { id } of old) {
        const entry = control.get(PREFIX + id);
        if (entry !== undefined) await control.delete(PREFIX + id, entry.revision);
      }
    } catch (thrown) {
      logger.warn({ why: describeError(thrown) }, 'cannot let old silences go');
    }
  }
}

/** What has begun keeps what it matches and when it began; what is over stays as it was. */
function mayChange(before: Silence, request: SilenceRequest, nowMs: number): boolean {
  const state = stateOf(before, nowMs);
  if (state === 'pending') return true;
  return state === 'active' && sameMatchers(before.matchers, request.matchers);
}

function startOf(request: SilenceRequest, before: Silence | undefined, nowMs: number): number {
  if (before !== undefined && stateOf(before, nowMs) === 'active') return before.startsAtMs;
  return Math.max(request.startsAtMs ?? nowMs, nowMs);
}

function notFound(id: string): FleetError {
  return new FleetError('not_found', `Cannot find silence ${id}`);
}

function followsMark(id: string): FleetError {
  return new FleetError(
    'invalid_input',
    `Cannot change silence ${id}: it follows the mark of a node or pool`,
  );
}
