import { createHash } from 'node:crypto';
import * as v from 'valibot';

export const ACTION_PREFIX = 'action/';

const text = v.string();
const count = v.number();

const facts = v.record(v.string(), v.unknown());

const draft = v.object({
  /** Unique within the action. */
  id: text,
  atMs: count,
  who: text,
  what: text,
  why: text,
  before: v.optional(facts),
  after: v.optional(facts),
  result: text,
});

const step = v.object({
  kind: text,
  /** Takes the node out of service. */
  takesOut: v.boolean(),
  state: v.picklist(['waiting', 'running', 'done', 'already', 'failed', 'undone']),
  detail: text,
  /** Tries begun. A step that is running, or has failed after several tries, may have had its effect. */
  attempts: count,
  /** What its executor needs to undo it; absent where it cannot be undone. */
  undo: v.optional(facts),
});

const document = v.object({
  id: text,
  policy: text,
  state: v.picklist([
    'dry_run',
    'awaiting_approval',
    'pending',
    'running',
    'done',
    'failed',
    'cancelled',
    'undoing',
    'undone',
  ]),
  target: v.object({ cluster: text, node: text, gpu: text, gpuUuid: text }),
  pool: text,
  alert: v.object({
    id: text,
    subject: text,
    rule: text,
    severity: v.picklist(['info', 'warning', 'critical']),
    startedAtMs: count,
    /** Of the newest transition that was seen. */
    transition: count,
    /** Since when it fires and the policy's matchers match; 0 while they do not. */
    matchesSinceMs: count,
    /** 0 while it fires. */
    resolvedAtMs: count,
  }),
  reason: text,
  why: text,
  steps: v.array(step),
  /** Who approved or rejected it; empty where nobody had to. */
  decidedBy: text,
  /** Who asked for the undo, a person or the policy; empty where nobody did. */
  undoBy: text,
  createdAtMs: count,
  updatedAtMs: count,
  /** When it is looked at again; 0 for never by itself. */
  nextAtMs: count,
  /** When the first step began; 0 before. */
  actedAtMs: count,
  /** It has, or is about to take, a place in the share of its pool. */
  holds: v.boolean(),
  /** Tries in a row that came to nothing, for the wait between them. */
  tries: count,
  /** The aggregator instance that drives it; empty for none. */
  owner: text,
  /** Rises with each renewal of the lease. */
  beat: count,
  /** Lines for the audit log that are not known to be in it. */
  outbox: v.array(draft),
});

/** One action as all aggregators see it, under `action/<id>` of the control store. Times are Unix ms. */
export type ActionDocument = Readonly<v.InferOutput<typeof document>>;
export type ActionState = ActionDocument['state'];
export type StepRecord = Readonly<v.InferOutput<typeof step>>;
/** A line of the audit log, written in the same breath as the change that it tells of. */
export type AuditDraft = Readonly<v.InferOutput<typeof draft>>;

/** Undefined where it is no action, or one of a version that we do not understand. */
export function readAction(value: unknown): ActionDocument | undefined {
  const parsed = v.safeParse(document, value);
  return parsed.success ? parsed.output : undefined;
}

/**
 * 16 hex digits over the policy, the alert and when it began: whoever sees that alert makes the same action, and the
 * same alert firing anew makes another.
 */
export function actionId(policy: string, alertId: string, startedAtMs: number): string {
  return createHash('sha256')
    .update(JSON.stringify([policy, alertId, startedAtMs]))
    .digest('hex')
    .slice(0, 16);
}

export function actionKey(id: string): string {
  return `${ACTION_PREFIX}${id}`;
}

/** Nothing more happens to it by itself, but for an undo. */
export function isEnded(action: ActionDocument): boolean {
  return ENDED.has(action.state);
}

const ENDED: ReadonlySet<ActionState> = new Set(['dry_run', 'done', 'failed', 'cancelled', 'undone']);

/** Some step has been tried. */
export function hasBegun(action: ActionDocument): boolean {
  return action.steps.some((one) => one.attempts > 0);
}

/** Nobody knows how its last try ended: it may have had its effect. */
export function isUnsure(one: StepRecord): boolean {
  return (one.state === 'running' && one.attempts > 0) || (one.state === 'failed' && one.attempts > 1);
}

/**
 * The node of an action that ended is, or may be, out of service by it. What cannot be taken back (a reset) keeps it
 * out until the alert resolves; where a person asked for the undo, the person has seen to the rest.
 */
export function keepsOut(action: ActionDocument): boolean {
  if (action.state !== 'done' && action.state !== 'failed') return false;
  return action.steps.some((one) => one.takesOut && mayBeOut(action, one));
}

function mayBeOut(action: ActionDocument, one: StepRecord): boolean {
  if (one.state === 'already') return action.state === 'done';
  if (one.state === 'done') return one.undo !== undefined || action.alert.resolvedAtMs === 0;
  return isUnsure(one);
}
