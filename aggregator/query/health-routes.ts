import { create } from '@bufbuild/protobuf';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import {
  ClearGpuResponseSchema,
  GetScopeHealthResponseSchema,
  HealthScope,
  InjectAnomalyRequestSchema,
  InjectAnomalyResponseSchema,
  ListAnomaliesResponseSchema,
  ListNodeMarksResponseSchema,
  ListPatternsResponseSchema,
  ListRejectedSamplesResponseSchema,
  ListTransitionsResponseSchema,
  MarkNodeResponseSchema,
} from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { enumValue } from './alert-filter.ts';
import {
  ANY_STATE,
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
import { parseTime } from './loss-requests.ts';
import { fieldsOf, flag, json, PAGE, pageIn, type Route, timeIn, wrongBody } from './rest-route.ts';

/** The REST paths of HealthService: its messages as JSON, field names as in proto/. */
export const HEALTH_ROUTES: readonly Route[] = [
  {
    method: 'GET',
    path: /^\/api\/v1\/health\/fleet$/,
    access: 'read',
    parameters: [],
    answer: ({ health }) => json(GetScopeHealthResponseSchema, scopeHealth(health, HealthScope.FLEET, '')),
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/health\/(nodes|pools)\/([^/]+)$/,
    access: 'read',
    parameters: [],
    answer: ({ health }, [kind, name]) =>
      json(
        GetScopeHealthResponseSchema,
        scopeHealth(health, kind === 'nodes' ? HealthScope.NODE : HealthScope.POOL, name!),
      ),
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/health\/transitions$/,
    access: 'read',
    parameters: ['node', 'gpu_uuid', 'to_state', 'from', 'to', ...PAGE],
    answer: async ({ health }, _, { query }) => {
      const state = query.get('to_state');
      return json(
        ListTransitionsResponseSchema,
        await listTransitions(
          health,
          {
            node: query.get('node') ?? '',
            gpuUuid: query.get('gpu_uuid') ?? '',
            to: state === null ? ANY_STATE : enumValue<HealthState>(HealthState, state, 'to_state'),
            fromMs: timeIn(query.get('from'), 'from'),
            toMs: timeIn(query.get('to'), 'to'),
          },
          pageIn(query),
        ),
      );
    },
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/anomalies$/,
    access: 'read',
    parameters: ['node', 'gpu_uuid', 'include_ended', ...PAGE],
    answer: ({ health }, _, { query }) =>
      json(
        ListAnomaliesResponseSchema,
        listAnomalies(
          health,
          {
            node: query.get('node') ?? '',
            gpuUuid: query.get('gpu_uuid') ?? '',
            includeEnded: flag(query.get('include_ended'), 'include_ended'),
          },
          pageIn(query),
        ),
      ),
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/patterns$/,
    access: 'read',
    parameters: ['kind'],
    answer: ({ health }, _, { query }) =>
      json(ListPatternsResponseSchema, listPatterns(health, query.get('kind') ?? '')),
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/rejected-samples$/,
    access: 'read',
    parameters: ['node'],
    answer: ({ health }, _, { query }) =>
      json(ListRejectedSamplesResponseSchema, listRejected(health, query.get('node') ?? '')),
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/node-marks$/,
    access: 'read',
    parameters: [],
    answer: ({ health }) =>
      json(ListNodeMarksResponseSchema, create(ListNodeMarksResponseSchema, { marks: [...health.marks()] })),
  },
  {
    method: 'POST',
    path: /^\/api\/v1\/nodes\/([^/]+)\/mark$/,
    access: 'write',
    parameters: [],
    answer: async ({ health }, [node], { body, by }) => {
      const { mark, why, until } = textsOf(body, ['mark', 'why', 'until']);
      const untilMs = until === '' ? undefined : parseTime(until!, 'until');
      return json(
        MarkNodeResponseSchema,
        await markNode(health, { node: node!, mark: mark!, why: why!, by, untilMs }),
      );
    },
  },
  {
    method: 'POST',
    path: /^\/api\/v1\/nodes\/([^/]+)\/unmark$/,
    access: 'write',
    parameters: [],
    answer: async ({ health }, [node], { body, by }) => {
      await unmarkNode(health, node!, textsOf(body, ['why']).why!, by);
      return {};
    },
  },
  {
    method: 'POST',
    path: /^\/api\/v1\/gpus\/([^/]+)\/clear$/,
    access: 'write',
    parameters: [],
    answer: ({ health }, [uuid], { body, by }) => {
      const { cause, why } = textsOf(body, ['cause', 'why']);
      return json(ClearGpuResponseSchema, clearGpu(health, { uuid: uuid!, cause: cause!, why: why! }, by));
    },
  },
  {
    method: 'POST',
    path: /^\/api\/v1\/gpus\/([^/]+)\/inject$/,
    access: 'write',
    parameters: [],
    answer: ({ health }, [uuid], { body, by }) => {
      const fields = fieldsOf(body ?? {}, ['metric', 'strength', 'seconds'], INJECT_BODY);
      const { metric = '', strength = 0, seconds = 0 } = fields;
      if (typeof metric !== 'string' || typeof strength !== 'number' || typeof seconds !== 'number')
        throw wrongBody(INJECT_BODY);
      const order = create(InjectAnomalyRequestSchema, { uuid: uuid!, metric, strength, seconds });
      return json(InjectAnomalyResponseSchema, injectAnomaly(health, order, by));
    },
  },
];

const INJECT_BODY = '{"metric": "...", "strength": number, "seconds": number}, all of them optional';

/** Text fields; one that is not there is empty. */
function textsOf(body: unknown, names: readonly string[]): Record<string, string> {
  const shape = `{${names.map((name) => `"${name}": "..."`).join(', ')}}`;
  const fields = fieldsOf(body, names, shape);
  return Object.fromEntries(
    names.map((name) => {
      const value = fields[name] ?? '';
      if (typeof value !== 'string') throw wrongBody(shape);
      return [name, value];
    }),
  );
}
