import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { ControlStore } from '../control/control-store.ts';
import { ACTION_PREFIX, type ActionDocument, actionKey, isEnded, readAction } from './action-document.ts';

/** Conflicts in a row before a change is given up: each means that another's change went through. */
const MAX_CONFLICTS = 50;

interface Row {
  readonly action: ActionDocument;
  readonly revision: number;
  /** On our monotonic clock: when its owner or beat was last seen to change. */
  readonly aliveMs: number;
}

/** All actions, as last known here, and the compare-and-set that changes them. */
export class ActionTable implements Disposable {
  readonly #control: ControlStore;
  readonly #clock: Clock;
  readonly #rows = new Map<string, Row>();
  readonly #ofAlert = new Map<string, Set<string>>();
  readonly #watch: Disposable;
  readonly #listeners = new Set<(action: ActionDocument) => void>();
  #open = 0;

  constructor(control: ControlStore, clock: Clock) {
    this.#control = control;
    this.#clock = clock;
    this.#watch = control.watch(ACTION_PREFIX, ({ key, value, revision }) => this.#see(key, value, revision));
    for (const { key, value, revision } of control.entries(ACTION_PREFIX)) this.#see(key, value, revision);
  }

  get(id: string): ActionDocument | undefined {
    return this.#rows.get(id)?.action;
  }

  values(): ActionDocument[] {
    return Array.from(this.#rows.values(), (row) => row.action);
  }

  get size(): number {
    return this.#rows.size;
  }

  /** Those that have not ended. */
  get open(): number {
    return this.#open;
  }

  ofAlert(alertId: string): ActionDocument[] {
    const ids = this.#ofAlert.get(alertId);
    return ids === undefined ? [] : Array.from(ids, (id) => this.#rows.get(id)!.action);
  }

  /** For how long the lease of an action has not been seen to be renewed, ms. */
  unrenewedMs(id: string): number {
    const row = this.#rows.get(id);
    return row === undefined ? 0 : this.#clock.monotonic() - row.aliveMs;
  }

  /** False where there is one of that id already. Throws `unavailable` and `resource_exhausted`. */
  async create(action: ActionDocument): Promise<boolean> {
    const revision = await this.#control.put(actionKey(action.id), action, 0);
    if (revision === undefined) return false;
    this.#put(action.id, action, revision);
    return true;
  }

  /**
   * Changes an action as `step` says, which is asked again where another was first, and may decline (undefined).
   * Resolves with what is now stored, or undefined where it was declined or there is no such action. Throws
   * `unavailable` where the store is away: what was asked for may then have been stored or not.
   */
  async change(
    id: string,
    step: (action: ActionDocument) => ActionDocument | undefined,
  ): Promise<ActionDocument | undefined> {
    for (let conflicts = 0; conflicts < MAX_CONFLICTS; conflicts++) {
      const entry = this.#control.get(actionKey(id));
      const action = entry && readAction(entry.value);
      if (entry === undefined || action === undefined) return undefined;
      const next = step(action);
      if (next === undefined) return undefined;
      const revision = await this.#control.put(actionKey(id), next, entry.revision);
      if (revision === undefined) continue;
      this.#put(id, next, revision);
      return next;
    }
    throw new FleetError('unavailable', `Cannot change action ${id}: others change it all the time`);
  }

  /** Takes away one that has ended, where nobody changed it meanwhile. */
  async remove(id: string): Promise<void> {
    const entry = this.#control.get(actionKey(id));
    if (entry !== undefined) await this.#control.delete(actionKey(id), entry.revision);
  }

  /** Tells of each change, ours included, until disposed. */
  onChange(listener: (action: ActionDocument) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
  }

  #see(key: string, value: unknown, revision: number): void {
    const id = key.slice(ACTION_PREFIX.length);
    const action = value === undefined ? undefined : readAction(value);
    if (action !== undefined) this.#put(id, action, revision);
    else this.#drop(id);
  }

  #put(id: string, action: ActionDocument, revision: number): void {
    const row = this.#rows.get(id);
    // The store tells of our own change too, before or after the write resolves.
    if (row?.revision === revision) return;
    const renewed = row?.action.owner !== action.owner || row.action.beat !== action.beat;
    this.#rows.set(id, { action, revision, aliveMs: renewed ? this.#clock.monotonic() : row.aliveMs });
    this.#open += (isEnded(action) ? 0 : 1) - (row === undefined || isEnded(row.action) ? 0 : 1);
    const ids = this.#ofAlert.get(action.alert.id);
    if (ids === undefined) this.#ofAlert.set(action.alert.id, new Set([id]));
    else ids.add(id);
    for (const listener of this.#listeners) listener(action);
  }

  #drop(id: string): void {
    const row = this.#rows.get(id);
    if (row === undefined) return;
    this.#rows.delete(id);
    if (!isEnded(row.action)) this.#open--;
    const ids = this.#ofAlert.get(row.action.alert.id);
    ids?.delete(id);
    if (ids?.size === 0) this.#ofAlert.delete(row.action.alert.id);
  }
}
