import { create } from '@bufbuild/protobuf';
import type { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import {
  type ClearGpuResponse,
  ClearGpuResponseSchema,
  type GetScopeHealthResponse,
  GetScopeHealthResponseSchema,
  HealthScope,
  type InjectAnomalyRequest,
  type InjectAnomalyResponse,
  InjectAnomalyResponseSchema,
  type ListAnomaliesResponse,
  ListAnomaliesResponseSchema,
  type ListPatternsResponse,
  ListPatternsResponseSchema,
  type ListRejectedSamplesResponse,
  ListRejectedSamplesResponseSchema,
  type ListTransitionsResponse,
  ListTransitionsResponseSchema,
  type MarkNodeResponse,
  MarkNodeResponseSchema,
} from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { AnomalyQuery, HealthView, MarkOrder, TransitionQuery } from './health-view.ts';
import { decodeToken, encodeToken, pageOf, pageSize } from './paging.ts';

/** What gRPC and REST both ask about health. */

const MAX_TEXT = 1024;
const KINDS: readonly string[] = ['trend', 'cooccurrence', 'lemon', 'shared_cause', 'time_of_day'];
/** A day of a metric that is ten times over its threshold says nothing more than an hour at twice it. */
const MAX_STRENGTH = 100;
const MAX_SECONDS = 3600;

interface PageOptions {
  readonly pageSize: number;
  readonly pageToken: string;
}

export function scopeHealth(view: HealthView, scope: HealthScope, name: string): GetScopeHealthResponse {
  if (scope === HealthScope.UNSPECIFIED)
    throw new FleetError('invalid_input', 'Cannot get health: scope must be node, pool or fleet');
  if ((scope === HealthScope.FLEET) !== (name === ''))
    throw new FleetError(
      'invalid_input',
      'Cannot get health: a node or a pool needs its name, the fleet has none',
    );
  const found = view.scope(scope, name);
  if (!found)
    throw new FleetError('not_found', `Cannot get health of "${name.slice(0, 253)}": it was not seen`);
  return create(GetScopeHealthResponseSchema, { health: found.health, parts: [...found.parts] });
}

export async function listTransitions(
  view: HealthView,
  filter: TransitionQuery,
  { pageSize: size, pageToken }: PageOptions,
): Promise<ListTransitionsResponse> {
  if (filter.fromMs !== undefined && filter.toMs !== undefined && filter.fromMs > filter.toMs)
    throw new FleetError('invalid_input', 'Cannot list transitions: from is later than to');
  const { transitions, next } = await view.transitions(filter, pageSize(size), decodeToken(pageToken));
  return create(ListTransitionsResponseSchema, {
    transitions: [...transitions],
    nextPageToken: next === '' ? '' : encodeToken(next),
  });
}

export function listAnomalies(
  view: HealthView,
  filter: AnomalyQuery,
  { pageSize: size, pageToken }: PageOptions,
): ListAnomaliesResponse {
  const page = pageOf(view.anomalies(filter), ({ key }) => key, size, pageToken);
  return create(ListAnomaliesResponseSchema, { ...page, anomalies: page.rows.map((row) => row.message()) });
}

export function listPatterns(view: HealthView, kind: string): ListPatternsResponse {
  if (kind !== '' && !KINDS.includes(kind))
    throw new FleetError('invalid_input', `Cannot list patterns: kind must be one of ${KINDS.join(', ')}`);
  return create(ListPatternsResponseSchema, { patterns: [...view.patterns(kind)] });
}

export function listRejected(view: HealthView, node: string): ListRejectedSamplesResponse {
  const { samples, totals } = view.rejected(node);
  return create(ListRejectedSamplesResponseSchema, {
    samples: [...samples],
    totals: Object.fromEntries(Object.entries(totals).map(([reason, count]) => [reason, BigInt(count ?? 0)])),
  });
}

export async function markNode(view: HealthView, order: MarkOrder): Promise<MarkNodeResponse> {
  requireText('mark', order.why);
  return create(MarkNodeResponseSchema, { mark: await view.mark(order) });
}

export async function unmarkNode(view: HealthView, node: string, why: string, by: string): Promise<void> {
  requireText('unmark', why);
  await view.unmark(node, why, by);
}

export function clearGpu(
  view: HealthView,
  order: { readonly uuid: string; readonly cause: string; readonly why: string },
  by: string,
): ClearGpuResponse {
  requireText('clear', order.why);
  return create(ClearGpuResponseSchema, { health: view.clear(order.uuid, order.cause, order.why, by) });
}

/** Fields of zero take their defaults. */
export function injectAnomaly(
  view: HealthView,
  order: InjectAnomalyRequest,
  by: string,
): InjectAnomalyResponse {
  const { strength, seconds } = order;
  if (!(strength >= 0 && strength <= MAX_STRENGTH))
    throw new FleetError('invalid_input', `Cannot inject: strength must be at most ${MAX_STRENGTH}`);
  if (!(seconds >= 0 && seconds <= MAX_SECONDS))
    throw new FleetError('invalid_input', `Cannot inject: it may last at most ${MAX_SECONDS} seconds`);
  if (order.uuid === '' && (order.node === '' || order.gpu === ''))
    throw new FleetError('invalid_input', 'Cannot inject: name a GPU by uuid, or by node and gpu');
  return create(InjectAnomalyResponseSchema, { anomaly: view.inject(order, by) });
}

/** Nobody can follow later what nobody gave a reason for. */
function requireText(action: string, why: string): void {
  if (why.trim() === '') throw new FleetError('invalid_input', `Cannot ${action}: say why`);
  if (why.length > MAX_TEXT)
    throw new FleetError('invalid_input', `Cannot ${action}: why is longer than ${MAX_TEXT} characters`);
}

/** 0 matches every state. */
export const ANY_STATE = 0 as HealthState;
