import { setImmediate as turn } from 'node:timers/promises';
import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { describeError } from '#shared/errors/fleet-error.ts';
import { sleep } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { changed } from './action-change.ts';
import type { ActionDecisions } from './action-decisions.ts';
import { type ActionDocument, isEnded } from './action-document.ts';
import type { ActionIntake } from './action-intake.ts';
import type { ActionTable } from './action-table.ts';
import type { NodeTurns } from './node-turns.ts';
import type { PolicyBook } from './policy-book.ts';
import type { PoolShares } from './pool-shares.ts';

const EVERY_MS = 30_000;
/** Ended actions that are kept, and for how long; the audit log has them for longer. Own judgement. */
const MAX_KEPT = 10_000;
const KEEP_MS = 30 * 86_400_000;
/** Documents taken away in one round, so that a round ends. */
const MAX_REMOVED = 500;
/** Alerts looked at before others have their turn. */
const SLICE = 2_000;
/** Who says whether a node is in service may lag: younger actions are not judged by it. */
const SETTLED_MS = 10 * 60_000;
const MAX_COOL_DOWN_MS = 7 * 86_400_000;

interface HousekeepingOptions {
  readonly table: ActionTable;
  readonly shares: PoolShares;
  readonly turns: NodeTurns;
  readonly intake: ActionIntake;
  readonly decisions: ActionDecisions;
  readonly policies: Pick<PolicyBook, 'get'>;
  /** The alerts of this process. */
  readonly alerts: () => Iterable<Alert>;
  /** Empty where it is not known. */
  readonly poolOf: (cluster: string, node: string) => string;
  /** Whether a node takes work, as its scheduler says; undefined where that is not known. */
  readonly inService: (cluster: string, node: string) => boolean | undefined;
  readonly ready: () => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly maxKept?: number;
}

/** What nobody would come back to otherwise: lost messages, places that nobody holds, old documents. */
export class ActionHousekeeping {
  readonly #options: HousekeepingOptions;
  /** Actions whose node was in service at the last look. */
  #back = new Set<string>();

  constructor(options: HousekeepingOptions) {
    this.#options = options;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.#options.ready()) await this.round();
      } catch (thrown) {
        this.#options.logger.warn({ why: describeError(thrown) }, 'cannot keep house for actions');
      }
      await sleep(EVERY_MS, signal);
    }
  }

  async round(): Promise<void> {
    const { turns, policies, clock } = this.#options;
    await this.#alerts();
    await this.#moved();
    await this.#orphans();
    await this.#backInService();
    await this.#prune();
    const coolDownMs = (policy: string): number => policies.get(policy)?.coolDownMs ?? MAX_COOL_DOWN_MS;
    await turns.sweep(coolDownMs, clock.now(), MAX_REMOVED);
  }

  /** An alert whose message was lost, or that came while there were too many actions. */
  async #alerts(): Promise<void> {
    const { alerts, intake } = this.#options;
    let count = 0;
    for (const alert of alerts()) {
      if (++count % SLICE === 0) await turn();
      if (intake.isNews(alert)) await intake.take(alert);
    }
  }

  /** Nodes that are in another pool than when their action was made: they count there, and no more where they were. */
  async #moved(): Promise<void> {
    const { table, shares, poolOf, clock } = this.#options;
    let count = 0;
    for (const action of table.values()) {
      if (++count % SLICE === 0) await turn();
      const { id, holds, pool: from, target } = action;
      if (isEnded(action) && !holds) continue;
      const pool = poolOf(target.cluster, target.node);
      if (pool === '' || pool === from) continue;
      // First the new place: a crash here, and the old one, are seen to by the next look at orphans.
      if (holds) await shares.carry({ id, target, pool });
      const why = `the node moved from pool ${from === '' ? '(none)' : from} to ${pool}`;
      const audit = [{ who: 'gpufleet', what: 'action.move', why, result: 'done' }];
      await table.change(id, (latest) =>
        latest.pool === from && latest.holds === holds
          ? changed(latest, { pool, audit }, clock.now())
          : undefined,
      );
    }
  }

  /** Places whose action is gone, gave them up, or has its own in another pool. */
  async #orphans(): Promise<void> {
    const { shares, table } = this.#options;
    for (const { cluster, pool, nodes } of shares.pools())
      for (const [node, holders] of Object.entries(nodes))
        for (const id of holders) {
          const holder = table.get(id);
          if (holder?.holds && holder.pool === pool) continue;
          await shares.free({ id, pool, target: { cluster, node, gpu: '', gpuUuid: '' } });
        }
  }

  /** Nodes that somebody put back by other ways than ours: seen so twice, and not just now. */
  async #backInService(): Promise<void> {
    const { table, inService, decisions, clock } = this.#options;
    const back = new Set<string>();
    for (const action of table.values()) {
      if (!action.holds || !isEnded(action) || clock.now() - action.updatedAtMs < SETTLED_MS) continue;
      const { cluster, node } = action.target;
      if (inService(cluster, node) !== true) continue;
      if (this.#back.has(action.id))
        await decisions.nodeCleared(cluster, node, 'reconcile', 'its scheduler says that it takes work');
      else back.add(action.id);
    }
    this.#back = back;
  }

  async #prune(): Promise<void> {
    const { table, clock, maxKept = MAX_KEPT } = this.#options;
    const ended = table
      .values()
      .filter((action) => isEnded(action) && !action.holds && action.outbox.length === 0);
    // Those that did nothing go first: from the others cool-downs are counted.
    ended.sort((a, b) => rank(a) - rank(b) || a.updatedAtMs - b.updatedAtMs);
    const tooMany = Math.max(0, ended.length - maxKept);
    const old = (action: ActionDocument): boolean => clock.now() - action.updatedAtMs > KEEP_MS;
    const gone = ended.filter((action, i) => i < tooMany || old(action)).slice(0, MAX_REMOVED);
    for (const { id } of gone) await table.remove(id);
  }
}

function rank({ actedAtMs }: ActionDocument): number {
  return actedAtMs > 0 ? 1 : 0;
}
