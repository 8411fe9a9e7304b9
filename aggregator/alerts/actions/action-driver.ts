import type { ActionDocument } from './action-document.ts';
import { hasBegun, isEnded, keepsOut } from './action-document.ts';
import type { ActionGates } from './action-gates.ts';
import type { ActionLeases } from './action-leases.ts';
import type { ActionOutbox } from './action-outbox.ts';
import type { ActionTable } from './action-table.ts';
import { type ActionWriter, LeaseLost, type Move, RESOLVED } from './action-writer.ts';
import type { AlertSource } from './alert-source.ts';
import { type BeforeSteps, hasResolved } from './before-steps.ts';
import { policyOf } from './policy.ts';
import type { PolicyBook } from './policy-book.ts';
import type { PoolShares } from './pool-shares.ts';
import { lastToUndo, type RunSteps } from './run-steps.ts';

/** How often the alert of a done action that is undone on resolve is asked for, should its message be lost. */
const RECHECK_MS = 5 * 60_000;
const NO_POLICY = 'its policy is no longer in actions.yaml as it was';

interface DriverOptions {
  readonly table: ActionTable;
  readonly leases: ActionLeases;
  readonly outbox: ActionOutbox;
  readonly writer: ActionWriter;
  readonly gates: ActionGates;
  readonly shares: PoolShares;
  readonly before: BeforeSteps;
  readonly steps: RunSteps;
  readonly alerts: AlertSource;
  /** Whether the node's agent is connected to this aggregator. */
  readonly isNear: (cluster: string, node: string) => boolean;
  readonly policies: Pick<PolicyBook, 'get' | 'using'>;
}

/**
 * Drives one action, under its lease, from state to state until it waits or has ended. What is about to be done is
 * written before, and its outcome after it: a crash at any point leaves a document from which any aggregator goes
 * on, with the same step id. The order for a node: the action says that it holds a place, the place is taken, the
 * steps run; and back: the place is freed, the action says that it holds none.
 */
export class ActionDriver {
  readonly #options: DriverOptions;

  constructor(options: DriverOptions) {
    this.#options = options;
  }

  /**
   * Returns when the action waits, has ended, or is another's. Rejects where the control store or the audit log is
   * away: nothing is lost by that, and the action is driven again later.
   */
  async drive(id: string): Promise<void> {
    const { leases, outbox, table, policies } = this.#options;
    let action = await leases.take(id);
    if (action === undefined) return;
    const lease = leases.signal(id);
    let keeps = false;
    try {
      while (action !== undefined && !lease.aborted) {
        await outbox.flush(action);
        const from: ActionDocument = action;
        const move: Move = await policies.using(() => this.#move(from, lease));
        action = table.get(id);
        if (move !== 'rest' || action === undefined) continue;
        keeps = await this.#rest(action);
        break;
      }
    } catch (thrown) {
      if (!(thrown instanceof LeaseLost)) throw thrown;
    } finally {
      if (!keeps) leases.drop(id);
      outbox.forget(id);
    }
  }

  /**
   * What has begun stays with its driver, for an executor may know more of it than the document says; but not with
   * one that the node's agent is not connected to.
   */
  async #rest(action: ActionDocument): Promise<boolean> {
    const { outbox, writer, isNear } = this.#options;
    const { cluster, node } = action.target;
    await outbox.flush(action);
    const keeps = !isEnded(action) && hasBegun(action) && isNear(cluster, node);
    if (!keeps || action.outbox.length > 0) await writer.write(action.id, keeps ? {} : { owner: '' });
    return keeps;
  }

  async #move(action: ActionDocument, lease: AbortSignal): Promise<Move> {
    const { writer, before, steps, policies } = this.#options;
    if (isEnded(action)) return this.#settle(action);
    if (action.state === 'awaiting_approval') return before.awaitApproval(action);
    const policy = policyOf(policies, action);
    const begun = hasBegun(action);
    if (!begun && action.alert.resolvedAtMs > 0) return writer.cancel(action, RESOLVED);
    if (policy === undefined)
      return begun ? writer.fail(action, `${NO_POLICY}: undo it by hand`) : writer.cancel(action, NO_POLICY);
    if (action.state === 'undoing') return steps.undo(action, policy, lease);
    if (begun) return steps.goOn(action, policy, lease);
    const next = await before.prepare(action, policy, lease);
    return next === 'begin' ? steps.begin(action, policy, 0, lease) : next;
  }

  /** Ended: gives back what it no longer needs, and is undone where its alert has resolved. */
  async #settle(action: ActionDocument): Promise<Move> {
    const { shares, writer, gates, policies } = this.#options;
    const policy = policyOf(policies, action);
    const undoes = policy?.undo === 'on_resolve' && (action.state === 'done' || action.state === 'failed');
    // An undo that failed is for people: to try it for ever would hide that.
    const wasDone = action.steps.some(({ state, takesOut }) => state === 'already' && takesOut);
    const leaves = policy !== undefined && (lastToUndo(action, policy) >= 0 || (wasDone && keepsOut(action)));
    if (undoes && action.undoBy === '' && gates.live(policy) && leaves) {
      if (action.alert.resolvedAtMs > 0 || (await this.#isOver(action))) return writer.turnBack(action);
    }
    if (action.holds && !keepsOut(action)) {
      await shares.free(action);
      await writer.write(action.id, { holds: false });
    }
    const watched = action.state === 'done' && undoes;
    await writer.write(action.id, { nextAtMs: watched ? writer.nowMs + RECHECK_MS : 0 });
    return 'rest';
  }

  async #isOver(action: ActionDocument): Promise<boolean> {
    const { alerts } = this.#options;
    const alert = await alerts.current(action.alert.subject, action.alert.id).catch(() => undefined);
    return alert !== undefined && hasResolved(action, alert);
  }
}
