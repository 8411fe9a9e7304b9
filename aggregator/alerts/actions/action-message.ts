import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import {
  type Action,
  ActionSchema,
  ActionState as MessageState,
} from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import type { ActionDocument, ActionState } from './action-document.ts';

const STATES: Readonly<Record<ActionState, MessageState>> = {
  dry_run: MessageState.DRY_RUN,
  awaiting_approval: MessageState.AWAITING_APPROVAL,
  pending: MessageState.PENDING,
  running: MessageState.RUNNING,
  done: MessageState.DONE,
  failed: MessageState.FAILED,
  cancelled: MessageState.CANCELLED,
  undoing: MessageState.UNDOING,
  undone: MessageState.UNDONE,
};
const SEVERITIES = { info: Severity.INFO, warning: Severity.WARNING, critical: Severity.CRITICAL } as const;

/** The action as the service tells of it. */
export function actionMessage(action: ActionDocument): Action {
  const { id, policy, target, pool, alert, reason, why, steps, decidedBy } = action;
  return create(ActionSchema, {
    ...{ id, policy, pool, reason, why, decidedBy },
    state: STATES[action.state],
    cluster: target.cluster,
    node: target.node,
    gpu: target.gpu,
    alertId: alert.id,
    rule: alert.rule,
    severity: SEVERITIES[alert.severity],
    steps: steps.map(({ kind, state, detail, attempts }) => ({ kind, state, detail, attempts })),
    createdAt: timestampFromMs(action.createdAtMs),
    updatedAt: timestampFromMs(action.updatedAtMs),
    ...(action.nextAtMs > 0 ? { nextAt: timestampFromMs(action.nextAtMs) } : {}),
  });
}

/** The state of the service's filter; undefined for any. */
export function stateOf(state: MessageState): ActionState | undefined {
  for (const name in STATES) if (STATES[name as ActionState] === state) return name as ActionState;
  return undefined;
}
