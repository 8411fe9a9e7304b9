import { describeError } from '#shared/errors/fleet-error.ts';
import { sleep } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { type ActionDocument, hasBegun, isEnded } from './action-document.ts';
import type { ActionDriver } from './action-driver.ts';
import { type ActionGates, takesOut } from './action-gates.ts';
import type { ActionLeases } from './action-leases.ts';
import type { ActionTable } from './action-table.ts';
import { sameWords } from './action-writer.ts';
import { type OpenPolicy, policyOf } from './policy.ts';
import type { PolicyBook } from './policy-book.ts';
import type { PoolShares } from './pool-shares.ts';

const TICK_MS = 200;
/** Actions driven at once by this aggregator. */
const MAX_DRIVEN = 32;
/** About how long an action is left alone after a failure of the store or the log, or a look that found it waiting. */
const PAUSE_MS = 2_000;
/** Another aggregator may have a newer actions.yaml: only what nobody moved for so long is given up. */
const UNKNOWN_POLICY_MS = 10 * 60_000;
/** For so long an action is left to the aggregator that its node's agent is connected to: marks and commands are there. */
const FAR_MS = 10_000;

interface SchedulerOptions {
  readonly table: ActionTable;
  readonly leases: ActionLeases;
  readonly driver: ActionDriver;
  readonly gates: ActionGates;
  readonly shares: PoolShares;
  readonly policies: Pick<PolicyBook, 'get'>;
  /** Whether the node's agent is connected to this aggregator. */
  readonly isNear: (cluster: string, node: string) => boolean;
  /** False while nothing can be written. */
  readonly ready: () => boolean;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
}

/** Finds the actions that are due and free, oldest first, and has them driven, a bounded number at once. */
export class ActionScheduler {
  readonly #options: SchedulerOptions;
  readonly #driven = new Map<string, Promise<void>>();
  /** Monotonic ms until which an action is left alone. */
  readonly #pauses = new Map<string, number>();

  constructor(options: SchedulerOptions) {
    this.#options = options;
  }

  /** Drives until the signal aborts, and waits for what is under way. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#options.ready()) this.look();
      await sleep(TICK_MS * (0.5 + this.#options.random()), signal);
    }
    // A lease that is dropped ends the try that is under way.
    for (const id of this.#options.leases.held) this.#options.leases.drop(id);
    await Promise.all(this.#driven.values());
    if (this.#options.ready()) await this.#release();
  }

  /** Starts what is due. */
  look(): void {
    const nowMs = this.#options.clock.monotonic();
    for (const [id, untilMs] of this.#pauses) if (untilMs <= nowMs) this.#pauses.delete(id);
    const due = this.#options.table.values().filter((action) => this.#mayBeDue(action));
    due.sort((a, b) => a.createdAtMs - b.createdAtMs || (a.id < b.id ? -1 : 1));
    const woken = new Map<string, number>();
    for (const action of due) {
      if (this.#driven.size >= MAX_DRIVEN) return;
      if (this.#isWorthIt(action, woken)) this.#drive(action.id);
    }
  }

  #drive(id: string): void {
    const run = this.#options.driver
      .drive(id)
      .catch((thrown: unknown) => {
        const { logger } = this.#options;
        this.#pause(id);
        logger.warn({ action: id, why: describeError(thrown) }, 'cannot go on with an action for now');
      })
      .finally(() => this.#driven.delete(id));
    this.#driven.set(id, run);
  }

  #pause(id: string): void {
    const { clock, random } = this.#options;
    this.#pauses.set(id, clock.monotonic() + PAUSE_MS * (0.5 + random()));
  }

  #mayBeDue(action: ActionDocument): boolean {
    const { clock, leases, isNear } = this.#options;
    if (this.#driven.has(action.id) || this.#pauses.has(action.id)) return false;
    const lateMs = action.nextAtMs > 0 ? clock.now() - action.nextAtMs : -1;
    if ((lateMs < 0 && action.outbox.length === 0) || !leases.isFree(action)) return false;
    const { cluster, node } = action.target;
    const dueForMs = lateMs >= 0 ? lateMs : clock.now() - action.updatedAtMs;
    return dueForMs >= FAR_MS || isNear(cluster, node);
  }

  #isWorthIt(action: ActionDocument, woken: Map<string, number>): boolean {
    const { clock, gates, policies } = this.#options;
    if (isEnded(action) || action.outbox.length > 0) return true;
    const policy = policyOf(policies, action);
    const resolved = action.alert.resolvedAtMs > 0;
    if (policy === undefined)
      return (resolved && !hasBegun(action)) || clock.now() - action.updatedAtMs > UNKNOWN_POLICY_MS;
    if (action.state !== 'pending' || resolved) return true;
    const wait = gates.waits(action, policy, clock.now());
    if (wait === undefined) return action.holds || this.#hasRoom(action, policy, woken);
    // Written down already: thousands that wait cost no writes.
    if (!sameWords(wait.why, action.why)) return true;
    this.#pause(action.id);
    return false;
  }

  /** Of those that could have a place in a pool, no more are woken at once than there is room for. */
  #hasRoom(action: ActionDocument, policy: OpenPolicy, woken: Map<string, number>): boolean {
    const { gates, shares } = this.#options;
    const asks = policy.approval === 'required' && action.decidedBy === '';
    if (asks || !takesOut(policy) || !gates.live(policy)) return true;
    const { cluster } = action.target;
    const key = JSON.stringify([cluster, action.pool]);
    const count = (woken.get(key) ?? 0) + 1;
    woken.set(key, count);
    // At least one: a node that is out already needs no more room.
    return count <= Math.max(1, shares.room(cluster, action.pool, policy));
  }

  /** Gives back what this instance holds, so that another need not wait for the lease to run out. */
  async #release(): Promise<void> {
    const { table, leases } = this.#options;
    const ours = table.values().filter(({ owner }) => owner === leases.owner);
    await Promise.all(ours.map(({ id }) => leases.release(id).catch(() => {})));
  }
}
