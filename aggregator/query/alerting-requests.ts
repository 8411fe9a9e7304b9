import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  type AcknowledgeAlertRequest,
  type AcknowledgeAlertResponse,
  AcknowledgeAlertResponseSchema,
  type Action,
  type ListActionsRequest,
  type ListActionsResponse,
  ListActionsResponseSchema,
  type ListAuditRequest,
  type ListAuditResponse,
  ListAuditResponseSchema,
  type ListNotificationsRequest,
  type ListNotificationsResponse,
  ListNotificationsResponseSchema,
  type ListRulesRequest,
  type ListRulesResponse,
  ListRulesResponseSchema,
  type ListSilencesRequest,
  type ListSilencesResponse,
  ListSilencesResponseSchema,
  type ReloadRulesResponse,
  ReloadRulesResponseSchema,
  type ResendNotificationsRequest,
  type ResendNotificationsResponse,
  ResendNotificationsResponseSchema,
  type SetSilenceRequest,
  type SetSilenceResponse,
  SetSilenceResponseSchema,
  type Silence,
} from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { AlertingView } from './alerting-view.ts';
import { timeOf } from './loss-requests.ts';
import { decodeToken, encodeToken, pageOf, pageSize } from './paging.ts';

/** What gRPC and REST both ask about what is done for alerts: a request in, its answer out. */

const MAX_TEXT = 1024;
const MAX_MATCHERS = 20;
const MAX_IDS = 1000;

export async function acknowledge(
  view: AlertingView,
  { id, comment, withdraw }: AcknowledgeAlertRequest,
  by: string,
): Promise<AcknowledgeAlertResponse> {
  requireShort('acknowledge', comment);
  const alert = await (withdraw ? view.withdrawAcknowledgement(id, by) : view.acknowledge(id, comment, by));
  return create(AcknowledgeAlertResponseSchema, { alert });
}

export function listSilences(
  view: AlertingView,
  { expired, pageSize, pageToken }: ListSilencesRequest,
): ListSilencesResponse {
  const page = pageOf(view.silences(expired), ({ id }) => id, pageSize, pageToken);
  return create(ListSilencesResponseSchema, { ...page, silences: page.rows });
}

export async function setSilence(
  view: AlertingView,
  { id, matchers, startsAt, endsAt, comment }: SetSilenceRequest,
  by: string,
): Promise<SetSilenceResponse> {
  requireText('silence', comment);
  if (matchers.length === 0 || matchers.length > MAX_MATCHERS)
    throw new FleetError('invalid_input', `Cannot silence: there must be 1 to ${MAX_MATCHERS} matchers`);
  const endsAtMs = timeOf(endsAt, 'ends_at');
  if (endsAtMs === undefined)
    throw new FleetError('invalid_input', 'Cannot silence: ends_at is missing, the time when it ends');
  const startsAtMs = timeOf(startsAt, 'starts_at');
  const silence = await view.setSilence({ id, matchers, startsAtMs, endsAtMs, comment }, by);
  return create(SetSilenceResponseSchema, { silence });
}

export function expireSilence(view: AlertingView, id: string, by: string): Promise<Silence> {
  return view.expireSilence(id, by);
}

export function listRules(view: AlertingView, { pageSize, pageToken }: ListRulesRequest): ListRulesResponse {
  const { rules, loadedAtMs, fault } = view.rules();
  const page = pageOf(rules, ({ name }) => name, pageSize, pageToken);
  return create(ListRulesResponseSchema, {
    ...{ ...page, rules: page.rows, fault },
    loadedAt: timestampFromMs(loadedAtMs),
  });
}

export async function reloadRules(view: AlertingView, by: string): Promise<ReloadRulesResponse> {
  return create(ReloadRulesResponseSchema, await view.reloadRules(by));
}

export function listNotifications(
  view: AlertingView,
  { state, receiver, pageSize, pageToken }: ListNotificationsRequest,
): ListNotificationsResponse {
  const page = pageOf(view.notifications({ state, receiver }), ({ key }) => key, pageSize, pageToken);
  const notifications = page.rows.map((row) => row.message());
  return create(ListNotificationsResponseSchema, { ...page, notifications });
}

export async function resend(
  view: AlertingView,
  { ids }: ResendNotificationsRequest,
  by: string,
): Promise<ResendNotificationsResponse> {
  if (ids.length > MAX_IDS)
    throw new FleetError('invalid_input', `Cannot resend: at most ${MAX_IDS} ids at a time`);
  return create(ResendNotificationsResponseSchema, { resent: await view.resend(ids, by) });
}

export function listActions(
  view: AlertingView,
  { state, node, pageSize, pageToken }: ListActionsRequest,
): ListActionsResponse {
  const page = pageOf(view.actions({ state, node }), ({ key }) => key, pageSize, pageToken);
  return create(ListActionsResponseSchema, { ...page, actions: page.rows.map((row) => row.message()) });
}

export type Decision = 'approve' | 'reject' | 'undo';

/** Whoever says no, or takes back, says why; whoever says yes may. */
export async function decide(
  view: AlertingView,
  decision: Decision,
  { id, comment }: { readonly id: string; readonly comment: string },
  by: string,
): Promise<{ readonly action: Action }> {
  if (decision === 'approve') requireShort(decision, comment);
  else requireText(decision, comment);
  return { action: await view[decision](id, comment, by) };
}

export async function listAudit(view: AlertingView, request: ListAuditRequest): Promise<ListAuditResponse> {
  const { node, who, subject, from, to, pageSize: size, pageToken } = request;
  const filter = { node, who, subject, fromMs: timeOf(from, 'from'), toMs: timeOf(to, 'to') };
  const { entries, next } = await view.audit(filter, pageSize(size), decodeToken(pageToken));
  return create(ListAuditResponseSchema, {
    entries: [...entries],
    nextPageToken: next === '' ? '' : encodeToken(next),
  });
}

function requireText(action: string, text: string): void {
  if (text.trim() === '') throw new FleetError('invalid_input', `Cannot ${action}: say why (comment)`);
  requireShort(action, text);
}

function requireShort(action: string, text: string): void {
  if (text.length > MAX_TEXT)
    throw new FleetError(
      'invalid_input',
      `Cannot ${action}: the comment is longer than ${MAX_TEXT} characters`,
    );
}
