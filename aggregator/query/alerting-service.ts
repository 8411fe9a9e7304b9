import { create } from '@bufbuild/protobuf';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import {
  type AlertService,
  ApproveActionResponseSchema,
  ExpireSilenceResponseSchema,
  RejectActionResponseSchema,
  UndoActionResponseSchema,
} from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import {
  acknowledge,
  decide,
  expireSilence,
  listActions,
  listAudit,
  listNotifications,
  listRules,
  listSilences,
  reloadRules,
  resend,
  setSilence,
} from './alerting-requests.ts';
import type { AlertingView } from './alerting-view.ts';
import { answer, callerKey } from './callers.ts';

/** AlertService over a view; the REST paths call the same functions. */
export function alertingService(view: AlertingView): ServiceImpl<typeof AlertService> {
  return {
    acknowledgeAlert: (request, context) => answer(() => acknowledge(view, request, by(context))),
    listSilences: (request) => answer(() => listSilences(view, request)),
    setSilence: (request, context) => answer(() => setSilence(view, request, by(context))),
    expireSilence: ({ id }, context) =>
      answer(async () =>
        create(ExpireSilenceResponseSchema, { silence: await expireSilence(view, id, by(context)) }),
      ),
    listRules: (request) => answer(() => listRules(view, request)),
    reloadRules: (_, context) => answer(() => reloadRules(view, by(context))),
    listNotifications: (request) => answer(() => listNotifications(view, request)),
    resendNotifications: (request, context) => answer(() => resend(view, request, by(context))),
    listActions: (request) => answer(() => listActions(view, request)),
    approveAction: (request, context) =>
      answer(async () =>
        create(ApproveActionResponseSchema, await decide(view, 'approve', request, by(context))),
      ),
    rejectAction: (request, context) =>
      answer(async () =>
        create(RejectActionResponseSchema, await decide(view, 'reject', request, by(context))),
      ),
    undoAction: (request, context) =>
      answer(async () => create(UndoActionResponseSchema, await decide(view, 'undo', request, by(context)))),
    listAudit: (request) => answer(() => listAudit(view, request)),
  };
}

function by({ values }: HandlerContext): string {
  return values.get(callerKey);
}
