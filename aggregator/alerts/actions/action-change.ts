import { FleetError } from '#shared/errors/fleet-error.ts';
import type { ActionDocument, ActionState, AuditDraft, StepRecord } from './action-document.ts';

/** What may follow a state. */
const NEXT: Readonly<Record<ActionState, readonly ActionState[]>> = {
  pending: ['dry_run', 'awaiting_approval', 'running', 'failed', 'cancelled', 'undoing'],
  awaiting_approval: ['pending', 'cancelled'],
  running: ['pending', 'done', 'failed', 'cancelled', 'undoing'],
  done: ['undoing'],
  failed: ['undoing'],
  cancelled: [],
  undoing: ['undone', 'failed'],
  dry_run: [],
  undone: [],
};

/** Longest `why`, and detail of a step. */
const MAX_TEXT = 400;
/** Lines that wait for the audit log: the driver writes them before its next move, so there are never many. */
const MAX_OUTBOX = 12;

/** What changes; whatever is not named stays. */
export interface ActionChange {
  readonly state?: ActionState;
  readonly why?: string;
  readonly pool?: string;
  readonly nextAtMs?: number;
  readonly step?: { readonly index: number } & Partial<StepRecord>;
  readonly alert?: Partial<ActionDocument['alert']>;
  readonly decidedBy?: string;
  readonly undoBy?: string;
  readonly actedAtMs?: number;
  readonly holds?: boolean;
  readonly tries?: number;
  readonly owner?: string;
  readonly beat?: number;
  /** Lines of the audit log that tell of it. */
  readonly audit?: readonly Omit<AuditDraft, 'id' | 'atMs'>[];
}

/**
 * The one way in which an action changes. Throws `internal` where the state may not follow the one before, and
 * `unavailable` where too many lines wait for the audit log: what cannot be audited is not done.
 */
export function changed(action: ActionDocument, change: ActionChange, nowMs: number): ActionDocument {
  const { step, alert, audit, ...plain } = change;
  const state = change.state ?? action.state;
  if (state !== action.state && !NEXT[action.state].includes(state))
    throw new FleetError('internal', `Cannot change action ${action.id} from ${action.state} to ${state}`);
  return {
    ...action,
    ...plain,
    state,
    why: (change.why ?? action.why).slice(0, MAX_TEXT),
    steps:
      step === undefined
        ? action.steps
        : action.steps.map((one, i) => (i === step.index ? merge(one, step) : one)),
    alert: alert === undefined ? action.alert : { ...action.alert, ...alert },
    outbox: audit === undefined ? action.outbox : withDrafts(action, audit, nowMs),
    updatedAtMs: Math.max(action.updatedAtMs, nowMs),
  };
}

function merge(one: StepRecord, { index: _, ...more }: NonNullable<ActionChange['step']>): StepRecord {
  return { ...one, ...more, detail: (more.detail ?? one.detail).slice(0, MAX_TEXT) };
}

function withDrafts(
  action: ActionDocument,
  audit: readonly Omit<AuditDraft, 'id' | 'atMs'>[],
  nowMs: number,
): ActionDocument['outbox'] {
  if (action.outbox.length + audit.length > MAX_OUTBOX)
    throw new FleetError('unavailable', `Cannot change action ${action.id}: its audit log cannot be written`);
  // The beat rises with each claim and renewal and the time with each change: no two lines share a name.
  return [
    ...action.outbox,
    ...audit.map((one, i) => ({
      ...one,
      why: one.why.slice(0, MAX_TEXT),
      id: `${action.beat}.${nowMs}.${action.outbox.length + i}.${one.what}`,
      atMs: nowMs,
    })),
  ];
}
