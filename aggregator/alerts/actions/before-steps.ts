import { timestampMs } from '@bufbuild/protobuf/wkt';
import { type Alert, AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { ActionDocument } from './action-document.ts';
import { type ActionGates, takesOut } from './action-gates.ts';
import { type ActionWriter, line, type Move, RESOLVED } from './action-writer.ts';
import type { AlertSource } from './alert-source.ts';
import type { NodeTurns } from './node-turns.ts';
import type { OpenPolicy } from './policy.ts';
import type { PoolShares } from './pool-shares.ts';
import type { StepRunner } from './step-runner.ts';

/** An approval that nobody gave for so long is not coming. */
const APPROVAL_MS = 24 * 3_600_000;
/** How often a silence, or an alert that inhibits, is asked for again. */
const LOOK_AGAIN_MS = 60_000;
/** The same for an alert that nobody knows of. */
const ASK_AGAIN_MS = 5_000;
const NO_MATCH = 'the alert fires, but does not match the policy any more';

interface BeforeStepsOptions {
  readonly writer: ActionWriter;
  readonly gates: ActionGates;
  readonly shares: PoolShares;
  readonly turns: NodeTurns;
  readonly runner: StepRunner;
  readonly alerts: AlertSource;
  /** Ids of the silences that cover an alert. */
  readonly silencedBy: (alert: Alert) => readonly string[];
  /** Ids of the alerts that speak for it. */
  readonly inhibitedBy: (alert: Alert) => readonly string[];
}

/** What comes before the first step: `for`, the node's turn, the alert itself, approval, the window, the share. */
export class BeforeSteps {
  readonly #options: BeforeStepsOptions;

  constructor(options: BeforeStepsOptions) {
    this.#options = options;
  }

  /** Of a pending action: `begin` where its first step may be tried. */
  async prepare(action: ActionDocument, policy: OpenPolicy, lease: AbortSignal): Promise<Move | 'begin'> {
    const { writer, gates, turns } = this.#options;
    const nowMs = writer.nowMs;
    const wait = gates.early(action, policy, nowMs) ?? (await turns.take(action, policy, nowMs));
    if (wait !== undefined) return writer.wait(action, wait);
    const asked = await this.#ask(action, policy);
    if (asked !== 'begin') return asked;
    if (!gates.live(policy)) return this.#dryRun(action, policy, lease);
    if (policy.approval === 'required' && action.decidedBy === '') return this.#askApproval(action);
    const late = gates.late(action, policy, writer.nowMs);
    if (late !== undefined) return writer.wait(action, late);
    return this.#reserve(action, policy);
  }

  async awaitApproval(action: ActionDocument): Promise<Move> {
    const { writer } = this.#options;
    if (action.alert.resolvedAtMs > 0) return writer.cancel(action, RESOLVED);
    if (action.alert.matchesSinceMs === 0)
      return writer.change(action, {
        state: 'pending',
        why: NO_MATCH,
        audit: [line(action, 'action.pending', NO_MATCH, 'pending')],
      });
    if (action.nextAtMs <= writer.nowMs) return writer.cancel(action, 'nobody approved it within 24 h');
    return 'rest';
  }

  /** Whether the alert still is what the action was made for. */
  async #ask(action: ActionDocument, policy: OpenPolicy): Promise<Move | 'begin'> {
    const { writer, alerts, silencedBy, inhibitedBy } = this.#options;
    const alert = await alerts.current(action.alert.subject, action.alert.id);
    const untilMs = writer.nowMs + LOOK_AGAIN_MS;
    if (alert === undefined)
      return writer.wait(action, {
        why: 'whether the alert still fires is not known',
        untilMs: writer.nowMs + ASK_AGAIN_MS,
      });
    if (hasResolved(action, alert)) return writer.cancel(action, RESOLVED);
    if (!policy.matches(alert)) {
      await writer.write(action.id, { alert: { matchesSinceMs: 0 } });
      return writer.wait(action, { why: NO_MATCH, untilMs });
    }
    const [silence] = silencedBy(alert);
    if (silence !== undefined)
      return writer.wait(action, { why: `people know of the alert: it is silenced (${silence})`, untilMs });
    const [other] = inhibitedBy(alert);
    if (other === undefined) return 'begin';
    return writer.wait(action, { why: `another alert speaks for it: it is inhibited (${other})`, untilMs });
  }

  #askApproval(action: ActionDocument): Promise<Move> {
    const { writer } = this.#options;
    return writer.change(action, {
      state: 'awaiting_approval',
      why: 'waits for the approval of an operator',
      nextAtMs: writer.nowMs + APPROVAL_MS,
      audit: [line(action, 'action.ask_approval', 'the policy asks for approval', 'waiting')],
    });
  }

  async #dryRun(action: ActionDocument, policy: OpenPolicy, lease: AbortSignal): Promise<Move> {
    const { gates, writer, runner } = this.#options;
    const late = gates.late(action, policy, writer.nowMs);
    const parts: string[] = [];
    if (policy.approval === 'required') parts.push('would ask for approval first');
    if (late !== undefined) parts.push(`would wait now: ${late.why}`);
    for (const [index, executor] of policy.executors.entries()) {
      const detail = await runner.preview(executor, action, index, lease);
      parts.push(detail);
      await writer.write(action.id, { step: { index, detail } });
    }
    const why = parts.join('; ');
    return writer.change(action, {
      state: 'dry_run',
      why,
      nextAtMs: writer.nowMs,
      audit: [line(action, 'action.dry_run', why, 'dry_run')],
    });
  }

  async #reserve(action: ActionDocument, policy: OpenPolicy): Promise<Move | 'begin'> {
    const { writer, shares } = this.#options;
    if (!takesOut(policy)) return 'begin';
    // First the document, then the place: whatever has a place is held by an action that knows it.
    if (!action.holds) await writer.write(action.id, { holds: true });
    const why = await shares.reserve(action, policy);
    if (why === undefined) return 'begin';
    await writer.write(action.id, { holds: false });
    return writer.wait(action, { why, untilMs: 0 });
  }
}

/** The alert of the action is over: it resolved, or what fires is another one that began later. */
export function hasResolved(action: ActionDocument, alert: Alert): boolean {
  const startedAtMs = alert.startedAt === undefined ? 0 : timestampMs(alert.startedAt);
  return alert.state !== AlertState.FIRING || startedAtMs > action.alert.startedAtMs;
}
