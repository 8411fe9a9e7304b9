import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import { type ActionChange, changed } from './action-change.ts';
import { type ActionDocument, hasBegun, isEnded } from './action-document.ts';
import type { ActionMetrics } from './action-metrics.ts';
import type { ActionTable } from './action-table.ts';
import type { PoolShares } from './pool-shares.ts';

interface DecisionsOptions {
  readonly table: ActionTable;
  readonly shares: PoolShares;
  readonly clock: Clock;
  readonly metrics: ActionMetrics;
}

/**
 * What people say about actions. Each resolves with the action as it then is, once that is stored; what follows from
 * it is the driver's. Throws `not_found`, `invalid_input` where the action is in no state for it, and `unavailable`
 * where nothing can be stored.
 */
export class ActionDecisions {
  readonly #options: DecisionsOptions;

  constructor(options: DecisionsOptions) {
    this.#options = options;
  }

  approve(id: string, by: string, comment: string): Promise<ActionDocument> {
    return this.#decide(
      id,
      'approve',
      ({ state }) => state === 'awaiting_approval',
      (nowMs) => ({
        state: 'pending',
        why: `approved by ${by}`,
        decidedBy: by,
        nextAtMs: nowMs,
        audit: [{ who: by, what: 'action.approve', why: comment, result: 'done' }],
      }),
    );
  }

  reject(id: string, by: string, comment: string): Promise<ActionDocument> {
    const may = (action: ActionDocument): boolean =>
      action.state === 'awaiting_approval' || (action.state === 'pending' && !hasBegun(action));
    return this.#decide(id, 'reject', may, (nowMs) => ({
      state: 'cancelled',
      why: `rejected by ${by}${comment === '' ? '' : `: ${comment}`}`,
      decidedBy: by,
      nextAtMs: nowMs,
      audit: [{ who: by, what: 'action.reject', why: comment, result: 'done' }],
    }));
  }

  /** Also of one that is under way, or tried in vain: it goes no further. */
  undo(id: string, by: string, comment: string): Promise<ActionDocument> {
    const may = (action: ActionDocument): boolean =>
      action.state === 'done' ||
      action.state === 'failed' ||
      ((action.state === 'pending' || action.state === 'running') && hasBegun(action));
    return this.#decide(id, 'undo', may, (nowMs) => ({
      state: 'undoing',
      why: `${by} asked for it${comment === '' ? '' : `: ${comment}`}`,
      undoBy: by,
      tries: 0,
      nextAtMs: nowMs,
      audit: [{ who: by, what: 'action.undo', why: comment, result: 'undoing' }],
    }));
  }

  /** The node is in service again by somebody else's doing: its place in the share is free. Returns how many were. */
  async nodeCleared(cluster: string, node: string, by: string, comment: string): Promise<number> {
    const { table } = this.#options;
    let freed = 0;
    for (const { id, target, holds } of table.values()) {
      if (holds && target.cluster === cluster && target.node === node && (await this.#free(id, by, comment)))
        freed++;
    }
    return freed;
  }

  async #free(id: string, by: string, comment: string): Promise<boolean> {
    const { table, shares, clock } = this.#options;
    const freed = await table.change(id, (action) =>
      isEnded(action) && action.holds
        ? changed(
            action,
            {
              holds: false,
              why: `${by} put the node back into service`,
              audit: [{ who: by, what: 'action.release', why: comment, result: 'done' }],
            },
            clock.now(),
          )
        : undefined,
    );
    // A crash here leaves a place that nobody holds: housekeeping finds it.
    if (freed !== undefined) await shares.free(freed);
    return freed !== undefined;
  }

  async #decide(
    id: string,
    verb: string,
    may: (action: ActionDocument) => boolean,
    change: (nowMs: number) => ActionChange,
  ): Promise<ActionDocument> {
    const { table, clock, metrics } = this.#options;
    const decided = await table.change(id, (action) => {
      if (!may(action))
        throw new FleetError(
          'invalid_input',
          `Cannot ${verb} action ${id}: it is ${action.state.replace('_', ' ')}`,
        );
      return changed(action, change(clock.now()), clock.now());
    });
    if (decided === undefined)
      throw new FleetError('not_found', `Cannot ${verb} action ${id}: there is none`);
    metrics.entered(decided);
    return decided;
  }
}
