import { create } from '@bufbuild/protobuf';
import type { ServiceImpl } from '@connectrpc/connect';
import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import {
  type FleetService,
  GetGpuResponseSchema,
  GetNodeResponseSchema,
  ListAlertsResponseSchema,
  ListGpusResponseSchema,
  ListNodesResponseSchema,
  ResolveAlertResponseSchema,
  WatchAlertsResponseSchema,
} from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { filterAlerts } from './alert-filter.ts';
import type { AlertWatches } from './alert-watch.ts';
import { answer, callerKey, toConnectError } from './callers.ts';
import type { FleetView, GpuRow } from './fleet-view.ts';
import { listDeadLetters, listLosses, replayDeadLetters, requestReplay, timeOf } from './loss-requests.ts';
import { pageOf } from './paging.ts';

const MAX_COMMENT = 1024;

/** FleetService over a view; the REST paths call the same functions. */
export function fleetService(view: FleetView, watches: AlertWatches): ServiceImpl<typeof FleetService> {
  return {
    listNodes: ({ pageSize, pageToken, state }) =>
      answer(() => {
        const rows = view.nodes().filter((row) => state === 0 || row.state === state);
        const page = pageOf(rows, (row) => row.key, pageSize, pageToken);
        return create(ListNodesResponseSchema, { ...page, nodes: page.rows.map((row) => row.message()) });
      }),
    getNode: ({ node }) =>
      answer(() => {
        const row = view.node(node);
        if (!row)
          throw new FleetError('not_found', `Cannot get node "${node}": no agent of that name was seen`);
        return create(GetNodeResponseSchema, {
          node: row.message(),
          gpus: row.gpus().map((gpu) => gpu.message()),
        });
      }),
    listGpus: ({ pageSize, pageToken, node, model, healthState }) =>
      answer(() => {
        const rows: GpuRow[] = [];
        for (const row of node === '' ? view.nodes() : view.nodes().filter(({ name }) => name === node)) {
          for (const gpu of row.gpus()) {
            if (
              (model === '' || gpu.model === model) &&
              (healthState === 0 || gpu.healthState === healthState)
            )
              rows.push(gpu);
          }
        }
        const page = pageOf(rows, (row) => row.key, pageSize, pageToken);
        return create(ListGpusResponseSchema, { ...page, gpus: page.rows.map((row) => row.message()) });
      }),
    getGpu: ({ uuid, node, index }) =>
      answer(() => {
        const row =
          uuid !== ''
            ? view.gpu(uuid)
            : view
                .node(node)
                ?.gpus()
                .find((gpu) => gpu.index === index);
        if (!row)
          throw new FleetError(
            'not_found',
            `Cannot get GPU ${uuid || `${index} of node "${node}"`}: it was not seen`,
          );
        return create(GetGpuResponseSchema, { gpu: row.message(), samples: [...row.samples()] });
      }),
    listAlerts: ({ pageSize, pageToken, ...filter }) =>
      answer(() => {
        const page = pageOf(filterAlerts(view.alerts(), filter), (alert) => alert.id, pageSize, pageToken);
        return create(ListAlertsResponseSchema, { ...page, alerts: page.rows.map((row) => view.shown(row)) });
      }),
    async *watchAlerts({ onlyChanges, ...filter }, { signal }) {
      try {
        for await (const alert of watches.watch(filter, onlyChanges, signal))
          yield create(WatchAlertsResponseSchema, { alert });
        // A stream that only ended would look complete: the client must hear that the server stops.
        signal.throwIfAborted();
      } catch (error) {
        throw toConnectError(error);
      }
    },
    resolveAlert: ({ id, comment }, { values }) =>
      answer(async () =>
        create(ResolveAlertResponseSchema, {
          alert: await resolveAlert(view, id, comment, values.get(callerKey)),
        }),
      ),
    listLosses: ({ node, reason, from, to, ...page }) =>
      answer(() =>
        listLosses(view, { node, reason, fromMs: timeOf(from, 'from'), toMs: timeOf(to, 'to') }, page),
      ),
    replay: ({ from, to, node, comment }) =>
      answer(() =>
        requestReplay(view, { fromMs: timeOf(from, 'from'), toMs: timeOf(to, 'to'), node, comment }),
      ),
    listDeadLetters: ({ node, ...page }) => answer(() => listDeadLetters(view, node, page)),
    replayDeadLetters: ({ ids }) => answer(() => replayDeadLetters(view, ids)),
  };
}

/** Resolves for an operator. Throws `not_found`, or `invalid_input` for an alert that is not active. */
export async function resolveAlert(view: FleetView, id: string, comment: string, by: string): Promise<Alert> {
  if (comment.length > MAX_COMMENT)
    throw new FleetError(
      'invalid_input',
      `Cannot resolve: the comment is longer than ${MAX_COMMENT} characters`,
    );
  const outcome = await view.resolveAlert(id, comment, by);
  if (outcome === 'not_found')
    throw new FleetError('not_found', `Cannot resolve alert ${id.slice(0, 64)}: there is no such alert`);
  if (outcome === 'not_active')
    throw new FleetError('invalid_input', `Cannot resolve alert ${id}: it is not active`);
  return view.shown(view.alert(id)!);
}
