import type { Clock } from '#shared/model/clock.ts';
import { type ActionChange, changed } from './action-change.ts';
import type { ActionDocument, AuditDraft } from './action-document.ts';
import type { ActionLeases } from './action-leases.ts';
import type { ActionMetrics } from './action-metrics.ts';
import type { ActionOutbox } from './action-outbox.ts';
import type { ActionTable } from './action-table.ts';
import type { Wait } from './node-turns.ts';

/** `rest`: nothing more for now; undefined: the next move at once. */
export type Move = 'rest' | undefined;

export const RESOLVED = 'the alert resolved';

/** The lease went to another, or the document went: no more of this action here. */
export class LeaseLost extends Error {}

interface WriterOptions {
  readonly table: ActionTable;
  readonly leases: ActionLeases;
  readonly outbox: ActionOutbox;
  readonly clock: Clock;
  readonly metrics: ActionMetrics;
  /** An action came to `failed`. Must not throw. */
  readonly onFailed: (action: ActionDocument) => void;
}

/** Writes what the driver decides, for as long as the lease is ours. */
export class ActionWriter {
  readonly #options: WriterOptions;

  constructor(options: WriterOptions) {
    this.#options = options;
  }

  get nowMs(): number {
    return this.#options.clock.now();
  }

  /** Throws LeaseLost, and `unavailable` where the store is away. */
  async write(id: string, change: ActionChange): Promise<ActionDocument> {
    const { table, leases, outbox, clock, metrics } = this.#options;
    let from: ActionDocument['state'] | undefined;
    const next = await table.change(id, (latest) => {
      from = latest.state;
      return latest.owner === leases.owner ? changed(outbox.cleared(latest), change, clock.now()) : undefined;
    });
    if (next === undefined) throw new LeaseLost();
    if (next.state !== from) metrics.entered(next);
    return next;
  }

  async change(action: ActionDocument, change: ActionChange): Promise<Move> {
    await this.write(action.id, change);
    return undefined;
  }

  /** Writes the lines to the audit log that came with a change. */
  flush(action: ActionDocument): Promise<void> {
    return this.#options.outbox.flush(action);
  }

  /** Pending, with the reason; audited where the reason is another. */
  async wait(action: ActionDocument, wait: Wait): Promise<Move> {
    await this.change(action, {
      state: 'pending',
      why: wait.why,
      nextAtMs: wait.untilMs === 0 ? this.nowMs : wait.untilMs,
      ...(sameWords(action.why, wait.why)
        ? {}
        : { audit: [line(action, 'action.pending', wait.why, 'pending')] }),
    });
    return 'rest';
  }

  cancel(action: ActionDocument, why: string): Promise<Move> {
    return this.change(action, {
      state: 'cancelled',
      why,
      nextAtMs: this.nowMs,
      audit: [line(action, 'action.cancel', why, 'cancelled')],
    });
  }

  async fail(action: ActionDocument, why: string): Promise<Move> {
    const next = await this.write(action.id, {
      state: 'failed',
      why,
      tries: 0,
      nextAtMs: this.nowMs,
      audit: [line(action, 'action.failed', why, 'failed')],
    });
    this.#options.onFailed(next);
    return undefined;
  }

  turnBack(action: ActionDocument): Promise<Move> {
    return this.change(action, {
      state: 'undoing',
      why: RESOLVED,
      undoBy: policyName(action),
      tries: 0,
      audit: [line(action, 'action.undo', RESOLVED, 'undoing')],
    });
  }
}

/** A line of the audit log, said by the policy. */
export function line(
  action: ActionDocument,
  what: string,
  why: string,
  result: string,
  before?: AuditDraft['before'],
  after?: AuditDraft['after'],
): Omit<AuditDraft, 'id' | 'atMs'> {
  return {
    who: policyName(action),
    what,
    why,
    result,
    ...(before === undefined ? {} : { before }),
    ...(after === undefined ? {} : { after }),
  };
}

/** Numbers aside (ports, counts, seconds): what differs only in those is no news for the audit log. */
export function sameWords(a: string, b: string): boolean {
  return a.replace(/\d+/g, '0') === b.replace(/\d+/g, '0');
}

/** Who a policy is in the audit log. */
export function policyName({ policy }: ActionDocument): string {
  return `policy ${policy}`;
}
