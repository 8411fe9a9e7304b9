import { create } from '@bufbuild/protobuf';
import { AlertSchema, AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import {
  GetNodeResponseSchema,
  LatestSampleSchema,
  ListAlertsResponseSchema,
  ListDeadLettersResponseSchema,
  ListLossesResponseSchema,
  ListNodesResponseSchema,
  NodeState,
  ReplayDeadLettersResponseSchema,
  ReplayResponseSchema,
} from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { type ErrorCode, FleetError } from '#shared/errors/fleet-error.ts';
import { ACTIVE, enumValue, filterAlerts } from './alert-filter.ts';
import { ALERTING_ROUTES } from './alerting-routes.ts';
import type { Access } from './callers.ts';
import { resolveAlert } from './fleet-service.ts';
import type { FleetView, NodeRow } from './fleet-view.ts';
import { HEALTH_ROUTES } from './health-routes.ts';
import { listDeadLetters, listLosses, parseTime, replayDeadLetters, requestReplay } from './loss-requests.ts';
import { decodeToken, encodeToken, pageOf, pageSize } from './paging.ts';
import {
  fieldsOf,
  json,
  PAGE,
  pageIn,
  type RestRequest,
  type Route,
  sizeOf,
  timeIn,
  tokenOf,
  wrongBody,
} from './rest-route.ts';

const ALERT_FILTER = ['node', 'gpu_uuid', 'rule', 'severity', ...PAGE] as const;

/** The REST paths: the messages of FleetService as JSON, field names as in proto/. */
const FLEET_ROUTES: readonly Route[] = [
  {
    method: 'GET',
    path: /^\/api\/v1\/nodes$/,
    access: 'read',
    parameters: ['state', ...PAGE],
    answer: (view, _, { query }) => {
      const state = query.get('state');
      const wanted = state === null ? undefined : enumValue<NodeState>(NodeState, state, 'state');
      const rows = view.nodes().filter((row) => wanted === undefined || row.state === wanted);
      const page = pageOf(rows, (row) => row.key, sizeOf(query), tokenOf(query));
      return json(
        ListNodesResponseSchema,
        create(ListNodesResponseSchema, { ...page, nodes: page.rows.map((row) => row.message()) }),
      );
    },
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/nodes\/([^/]+)$/,
    access: 'read',
    parameters: [],
    answer: (view, [name]) => {
      const row = nodeOf(view, name!);
      return json(
        GetNodeResponseSchema,
        create(GetNodeResponseSchema, { node: row.message(), gpus: row.gpus().map((gpu) => gpu.message()) }),
      );
    },
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/nodes\/([^/]+)\/metrics$/,
    access: 'read',
    parameters: ['name', 'uuid', ...PAGE],
    answer: (view, [name], { query }) => samplesPage([nodeOf(view, name!)], query),
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/metrics\/latest$/,
    access: 'read',
    parameters: ['node', 'name', 'uuid', ...PAGE],
    answer: (view, _, { query }) => {
      const node = query.get('node');
      const uuid = query.get('uuid');
      if (node !== null) return samplesPage([nodeOf(view, node)], query);
      return samplesPage(uuid === null ? view.nodes() : nodesWith(view, uuid), query);
    },
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/alerts$/,
    access: 'read',
    parameters: ['state', ...ALERT_FILTER],
    answer: (view, _, { query }) => {
      const state = query.get('state');
      return alertsPage(
        view,
        state === null ? [] : [enumValue<AlertState>(AlertState, state, 'state')],
        query,
      );
    },
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/alerts\/active$/,
    access: 'read',
    parameters: ALERT_FILTER,
    answer: (view, _, { query }) => alertsPage(view, ACTIVE, query),
  },
  {
    method: 'POST',
    path: /^\/api\/v1\/alerts\/([^/]+)\/resolve$/,
    access: 'write',
    parameters: [],
    answer: async (view, [id], { body, by }) => ({
      alert: json(AlertSchema, await resolveAlert(view, id!, commentOf(body), by)),
    }),
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/losses$/,
    access: 'read',
    parameters: ['node', 'reason', 'from', 'to', ...PAGE],
    answer: (view, _, { query }) =>
      json(
        ListLossesResponseSchema,
        listLosses(
          view,
          {
            node: query.get('node') ?? '',
            reason: query.get('reason') ?? '',
            fromMs: timeIn(query.get('from'), 'from'),
            toMs: timeIn(query.get('to'), 'to'),
          },
          pageIn(query),
        ),
      ),
  },
  {
    method: 'POST',
    path: /^\/api\/v1\/replay$/,
    access: 'write',
    parameters: [],
    answer: async (view, _, { body }) =>
      json(ReplayResponseSchema, await requestReplay(view, replayIn(body))),
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/dead-letters$/,
    access: 'read',
    parameters: ['node', ...PAGE],
    answer: (view, _, { query }) =>
      json(ListDeadLettersResponseSchema, listDeadLetters(view, query.get('node') ?? '', pageIn(query))),
  },
  {
    method: 'POST',
    path: /^\/api\/v1\/dead-letters\/replay$/,
    access: 'write',
    parameters: [],
    answer: async (view, _, { body }) =>
      json(ReplayDeadLettersResponseSchema, await replayDeadLetters(view, idsIn(body))),
  },
];

const ROUTES = [...FLEET_ROUTES, ...HEALTH_ROUTES, ...ALERTING_ROUTES];

export interface MatchedRoute {
  readonly access: Access;
  answer(view: FleetView, request: RestRequest): unknown;
}

/** The route of a request. Throws `not_found`, or `invalid_input` for another method or a parameter that is not known. */
export function matchRoute(request: RestRequest): MatchedRoute {
  const matching = ROUTES.filter(({ path }) => path.test(request.path));
  if (matching.length === 0) throw new FleetError('not_found', `Cannot find ${request.path.slice(0, 200)}`);
  const route = matching.find(
    ({ method }) => method === request.method || (method === 'GET' && request.method === 'HEAD'),
  );
  if (!route)
    throw new MethodNotAllowed(
      request.method,
      matching.map(({ method }) => method),
    );
  for (const parameter of request.query.keys()) {
    if (route.parameters.includes(parameter)) continue;
    const known =
      route.parameters.length > 0 ? `there are: ${route.parameters.join(', ')}` : 'there are none';
    throw new FleetError('invalid_input', `Cannot use parameter "${parameter.slice(0, 50)}": ${known}`);
  }
  const parts = route.path.exec(request.path)!.slice(1).map(decodePart);
  return { access: route.access, answer: (view, wanted) => route.answer(view, parts, wanted) };
}

export class MethodNotAllowed extends FleetError {
  readonly allow: string;

  constructor(method: string, allowed: readonly string[]) {
    super('invalid_input', `Cannot ${method.slice(0, 20)} here: only ${allowed.join(', ')}`);
    this.allow = allowed.join(', ');
  }
}

const STATUS: Record<ErrorCode, number> = {
  invalid_config: 500,
  invalid_input: 400,
  unavailable: 503,
  unauthenticated: 401,
  permission_denied: 403,
  not_found: 404,
  resource_exhausted: 429,
  version_mismatch: 400,
  data_loss: 500,
  internal: 500,
};

/** Status and body of an error. What is not a FleetError says nothing of its inside. */
export function errorAnswer(error: unknown): {
  readonly status: number;
  readonly body: { error: { code: string; message: string } };
} {
  if (!(error instanceof FleetError))
    return { status: 500, body: { error: { code: 'internal', message: 'internal error' } } };
  const status = error instanceof MethodNotAllowed ? 405 : STATUS[error.code];
  return { status, body: { error: { code: error.code, message: error.message } } };
}

/**
 * Series that one page looks at, at most, about 20 ms: the event loop that answers also takes the samples in, and a
 * fleet has millions. A filter that matches little gives short pages: only an empty token says that there is no more.
 */
const MAX_LOOKED_AT = 100_000;

/** A page of the series of all rows. Series have no name to page by but their place: node, then number within it. */
function samplesPage(rows: readonly NodeRow[], query: URLSearchParams): unknown {
  const name = query.get('name');
  const uuid = query.get('uuid');
  const size = pageSize(sizeOf(query));
  const samples: unknown[] = [];
  let lookedAt = 0;
  let last = '';
  for (const { key, sample } of samplesAfter(rows, decodeToken(tokenOf(query)))) {
    // Only what comes after a full page tells whether there is more.
    if (samples.length === size || lookedAt === MAX_LOOKED_AT)
      return { samples, next_page_token: encodeToken(last) };
    lookedAt++;
    last = key;
    if ((name === null || sample.name === name) && (uuid === null || sample.uuid === uuid))
      samples.push(json(LatestSampleSchema, sample.message()));
  }
  return { samples, next_page_token: '' };
}

function* samplesAfter(rows: readonly NodeRow[], after: string) {
  for (const row of rows) {
    // A colon sorts after every digit: a node whose last series is not after the token's is not gone through.
    if (`${row.key}\n:` <= after) continue;
    let number = 0;
    for (const sample of row.samples()) {
      const key = `${row.key}\n${String(number++).padStart(7, '0')}`;
      if (key > after) yield { key, sample };
    }
  }
}

/** The node that has a GPU; none where nobody has it. */
function nodesWith(view: FleetView, uuid: string): readonly NodeRow[] {
  const gpu = view.gpu(uuid);
  return gpu ? view.nodes().filter(({ key }) => gpu.key.startsWith(`${key}\n`)) : [];
}

function alertsPage(view: FleetView, states: readonly AlertState[], query: URLSearchParams): unknown {
  const severity = query.get('severity');
  const alerts = filterAlerts(view.alerts(), {
    states,
    node: query.get('node') ?? '',
    gpuUuid: query.get('gpu_uuid') ?? '',
    rule: query.get('rule') ?? '',
    minSeverity: severity === null ? 0 : enumValue<Severity>(Severity, severity, 'severity'),
  });
  const page = pageOf(alerts, (alert) => alert.id, sizeOf(query), tokenOf(query));
  const shown = page.rows.map((alert) => view.shown(alert));
  return json(ListAlertsResponseSchema, create(ListAlertsResponseSchema, { ...page, alerts: shown }));
}

function nodeOf(view: FleetView, name: string): NodeRow {
  const row = view.node(name);
  if (!row)
    throw new FleetError(
      'not_found',
      `Cannot get node "${name.slice(0, 253)}": no agent of that name was seen`,
    );
  return row;
}

function commentOf(body: unknown): string {
  if (body === undefined) return '';
  const comment = typeof body === 'object' && body !== null ? (body as { comment?: unknown }).comment : null;
  if (comment === undefined) return '';
  if (typeof comment !== 'string')
    throw new FleetError('invalid_input', 'Cannot read body: it must be {"comment": "..."}');
  return comment;
}

const REPLAY_BODY = '{"from": time, "to": time, "node": "...", "comment": "..."}, of which from is needed';

/** Times are texts, or numbers of Unix seconds. */
function replayIn(body: unknown) {
  const { from, to, node, comment } = fieldsOf(body, ['from', 'to', 'node', 'comment'], REPLAY_BODY);
  if (typeof (node ?? '') !== 'string' || typeof (comment ?? '') !== 'string') throw wrongBody(REPLAY_BODY);
  const time = (value: unknown, field: string): number | undefined => {
    if (value === undefined) return undefined;
    if (typeof value !== 'string' && typeof value !== 'number') throw wrongBody(REPLAY_BODY);
    return parseTime(String(value), field);
  };
  return {
    fromMs: time(from, 'from'),
    toMs: time(to, 'to'),
    node: (node ?? '') as string,
    comment: (comment ?? '') as string,
  };
}

const IDS_BODY = '{"ids": ["...", ...]}, and an empty list for all';

/** All only where an empty list says so: an empty body is more likely a mistake. */
function idsIn(body: unknown): string[] {
  const { ids } = fieldsOf(body, ['ids'], IDS_BODY);
  if (!Array.isArray(ids) || !ids.every((id) => typeof id === 'string')) throw wrongBody(IDS_BODY);
  return ids;
}

function decodePart(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch (error) {
    throw new FleetError('invalid_input', 'Cannot read path: its percent-encoding is broken', {
      cause: error,
    });
  }
}
