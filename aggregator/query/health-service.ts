import { create } from '@bufbuild/protobuf';
import type { HandlerContext, ServiceImpl } from '@connectrpc/connect';
import {
  type HealthService,
  ListNodeMarksResponseSchema,
  UnmarkNodeResponseSchema,
} from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { answer, callerKey } from './callers.ts';
import {
  clearGpu,
  injectAnomaly,
  listAnomalies,
  listPatterns,
  listRejected,
  listTransitions,
  markNode,
  scopeHealth,
  unmarkNode,
} from './health-requests.ts';
import type { HealthView } from './health-view.ts';
import { timeOf } from './loss-requests.ts';

/** HealthService over a view; the REST paths call the same functions. */
export function fleetHealthService(view: HealthView): ServiceImpl<typeof HealthService> {
  return {
    getScopeHealth: ({ scope, name }) => answer(() => scopeHealth(view, scope, name)),
    listTransitions: ({ node, gpuUuid, to, fromTime, toTime, ...page }) =>
      answer(() =>
        listTransitions(
          view,
          { node, gpuUuid, to, fromMs: timeOf(fromTime, 'from_time'), toMs: timeOf(toTime, 'to_time') },
          page,
        ),
      ),
    listAnomalies: ({ node, gpuUuid, includeEnded, ...page }) =>
      answer(() => listAnomalies(view, { node, gpuUuid, includeEnded }, page)),
    listPatterns: ({ kind }) => answer(() => listPatterns(view, kind)),
    listRejectedSamples: ({ node }) => answer(() => listRejected(view, node)),
    listNodeMarks: () => answer(() => create(ListNodeMarksResponseSchema, { marks: [...view.marks()] })),
    markNode: ({ node, mark, why, until }, context) =>
      answer(() => markNode(view, { node, mark, why, by: by(context), untilMs: timeOf(until, 'until') })),
    unmarkNode: ({ node, why }, context) =>
      answer(async () => {
        await unmarkNode(view, node, why, by(context));
        return create(UnmarkNodeResponseSchema);
      }),
    clearGpu: (order, context) => answer(() => clearGpu(view, order, by(context))),
    injectAnomaly: (order, context) => answer(() => injectAnomaly(view, order, by(context))),
  };
}

function by({ values }: HandlerContext): string {
  return values.get(callerKey);
}
