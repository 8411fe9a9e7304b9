import { timestampMs } from '@bufbuild/protobuf/wkt';
import { type Alert, AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import { alertSubject } from '../bus/alert-message.ts';
import { severityName } from '../summary.ts';
import { type ActionChange, changed } from './action-change.ts';
import { type ActionDocument, actionId, hasBegun } from './action-document.ts';
import type { ActionMetrics } from './action-metrics.ts';
import type { ActionTable } from './action-table.ts';
import type { OpenPolicy } from './policy.ts';
import type { PolicyBook } from './policy-book.ts';

/** Actions that have not ended. Each is a few KiB here and in the control store. Own judgement. */
const MAX_OPEN = 10_000;
const MAX_REASON = 200;

interface IntakeOptions {
  readonly table: ActionTable;
  readonly policies: Pick<PolicyBook, 'get' | 'values'>;
  readonly poolOf: (cluster: string, node: string) => string;
  readonly clock: Clock;
  readonly metrics: ActionMetrics;
  readonly maxOpen?: number;
}

/**
 * Turns alerts into actions: makes those that are missing and tells those that are there what became of their
 * alert. The same alert any number of times, here and at other aggregators, makes one action.
 */
export class ActionIntake {
  readonly #options: IntakeOptions;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  /** When it resolves, what follows from the alert is stored. Throws where the control store is away. */
  async take(alert: Alert): Promise<void> {
    const startedAtMs = alert.startedAt === undefined ? 0 : timestampMs(alert.startedAt);
    for (const action of this.#options.table.ofAlert(alert.id)) await this.#tell(action, alert, startedAtMs);
    if (alert.state !== AlertState.FIRING) return;
    for (const policy of this.#options.policies.values()) {
      if (alert.node !== '' && policy.matches(alert)) await this.#make(alert, startedAtMs, policy);
    }
  }

  /** Whether it would say anything new: asked for each alert now and then, should a message have been lost. */
  isNews(alert: Alert): boolean {
    if (alert.state !== AlertState.FIRING && alert.state !== AlertState.RESOLVED) return false;
    const startedAtMs = alert.startedAt === undefined ? 0 : timestampMs(alert.startedAt);
    const { table, policies } = this.#options;
    for (const action of table.ofAlert(alert.id))
      if (this.#news(action, alert, startedAtMs) !== undefined) return true;
    if (alert.state !== AlertState.FIRING || alert.node === '') return false;
    for (const policy of policies.values())
      if (policy.matches(alert) && table.get(actionId(policy.name, alert.id, startedAtMs)) === undefined)
        return true;
    return false;
  }

  async #tell(action: ActionDocument, alert: Alert, startedAtMs: number): Promise<void> {
    const { table, clock } = this.#options;
    if (this.#news(action, alert, startedAtMs) === undefined) return;
    await table.change(action.id, (latest) => {
      const news = this.#news(latest, alert, startedAtMs);
      return news === undefined ? undefined : changed(latest, news, clock.now());
    });
  }

  /** What the action does not know of its alert and has to; undefined for nothing. */
  #news(action: ActionDocument, alert: Alert, startedAtMs: number): ActionChange | undefined {
    const known = action.alert;
    // Of what began later, only that ours is over.
    const over = alert.state === AlertState.RESOLVED || startedAtMs > known.startedAtMs;
    if (startedAtMs < known.startedAtMs || known.resolvedAtMs > 0 || !isInterested(action)) return undefined;
    const nowMs = this.#options.clock.now();
    if (over) return { alert: { resolvedAtMs: endOf(alert, nowMs) }, nextAtMs: nowMs };
    const transition = Number(alert.transition);
    if (transition <= known.transition || hasBegun(action)) return undefined;
    const policy = this.#options.policies.get(action.policy);
    if (policy === undefined || alert.state !== AlertState.FIRING) return undefined;
    const matches = policy.matches(alert);
    if (matches === known.matchesSinceMs > 0) return undefined;
    return { alert: { transition, matchesSinceMs: matches ? sinceOf(alert, nowMs) : 0 }, nextAtMs: nowMs };
  }

  async #make(alert: Alert, startedAtMs: number, policy: OpenPolicy): Promise<void> {
    const { table, metrics, poolOf, clock, maxOpen = MAX_OPEN } = this.#options;
    const id = actionId(policy.name, alert.id, startedAtMs);
    if (table.get(id) !== undefined) return;
    if (table.open >= maxOpen) return metrics.refused('too_many');
    const action = actionOf(id, alert, startedAtMs, policy, poolOf(alert.cluster, alert.node), clock.now());
    try {
      if (await table.create(action)) metrics.entered(action);
    } catch (thrown) {
      // The store is full: as with too many actions, the alert is looked at again while it fires.
      if (!(thrown instanceof FleetError) || thrown.code !== 'resource_exhausted') throw thrown;
      metrics.refused('too_many');
    }
  }
}

/** What has ended for good is told nothing; what is done, or failed half way, may have to be undone. */
function isInterested({ state }: ActionDocument): boolean {
  return state !== 'dry_run' && state !== 'cancelled' && state !== 'undone' && state !== 'undoing';
}

function actionOf(
  id: string,
  alert: Alert,
  startedAtMs: number,
  policy: OpenPolicy,
  pool: string,
  nowMs: number,
): ActionDocument {
  const { cluster, node, gpu, gpuUuid, rule } = alert;
  const severity = severityName(alert.severity);
  const reason = `${rule}: ${alert.summary}`.slice(0, MAX_REASON);
  const empty: ActionDocument = {
    id,
    policy: policy.name,
    state: 'pending',
    target: { cluster, node, gpu, gpuUuid },
    pool,
    alert: {
      id: alert.id,
      subject: alertSubject(alert),
      rule,
      severity: severity === 'none' ? 'info' : severity,
      startedAtMs,
      transition: Number(alert.transition),
      matchesSinceMs: sinceOf(alert, nowMs),
      resolvedAtMs: 0,
    },
    reason,
    why: '',
    steps: policy.steps.map(({ kind, takesOut }) => ({
      kind,
      takesOut,
      state: 'waiting',
      detail: '',
      attempts: 0,
    })),
    decidedBy: '',
    undoBy: '',
    createdAtMs: nowMs,
    updatedAtMs: nowMs,
    nextAtMs: nowMs,
    actedAtMs: 0,
    holds: false,
    tries: 0,
    owner: '',
    beat: 0,
    outbox: [],
  };
  const who = `policy ${policy.name}`;
  return changed(empty, { audit: [{ who, what: 'action.create', why: reason, result: 'done' }] }, nowMs);
}

/** Since when the alert is as it is; never in the future, where a node's clock may be. */
function sinceOf(alert: Alert, nowMs: number): number {
  return Math.min(alert.updatedAt === undefined ? nowMs : timestampMs(alert.updatedAt), nowMs);
}

function endOf(alert: Alert, nowMs: number): number {
  return alert.resolvedAt === undefined ? nowMs : timestampMs(alert.resolvedAt);
}
