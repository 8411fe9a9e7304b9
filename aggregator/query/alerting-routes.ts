import { create, type DescMessage, fromJson, type JsonValue, type MessageShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  AcknowledgeAlertRequestSchema,
  AcknowledgeAlertResponseSchema,
  ActionState,
  ApproveActionRequestSchema,
  ApproveActionResponseSchema,
  ExpireSilenceResponseSchema,
  ListActionsRequestSchema,
  ListActionsResponseSchema,
  ListAuditRequestSchema,
  ListAuditResponseSchema,
  ListNotificationsRequestSchema,
  ListNotificationsResponseSchema,
  ListRulesRequestSchema,
  ListRulesResponseSchema,
  ListSilencesRequestSchema,
  ListSilencesResponseSchema,
  NotificationState,
  ReloadRulesResponseSchema,
  ResendNotificationsRequestSchema,
  ResendNotificationsResponseSchema,
  SetSilenceRequestSchema,
  SetSilenceResponseSchema,
} from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { enumValue } from './alert-filter.ts';
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
import { flag, json, PAGE, pageIn, type Route, timeIn } from './rest-route.ts';

/** The REST paths of AlertService: its messages as JSON, field names as in proto/. */
export const ALERTING_ROUTES: readonly Route[] = [
  {
    method: 'POST',
    path: /^\/api\/v1\/alerts\/([^/]+)\/acknowledge$/,
    access: 'write',
    parameters: [],
    answer: async ({ alerting }, [id], { body, by }) => {
      const request = bodyOf(AcknowledgeAlertRequestSchema, body, { id });
      return json(AcknowledgeAlertResponseSchema, await acknowledge(alerting, request, by));
    },
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/silences$/,
    access: 'read',
    parameters: ['expired', ...PAGE],
    answer: ({ alerting }, _, { query }) => {
      const request = { ...pageIn(query), expired: flag(query.get('expired'), 'expired') };
      return json(
        ListSilencesResponseSchema,
        listSilences(alerting, create(ListSilencesRequestSchema, request)),
      );
    },
  },
  {
    method: 'POST',
    path: /^\/api\/v1\/silences$/,
    access: 'write',
    parameters: [],
    answer: async ({ alerting }, _, { body, by }) =>
      json(SetSilenceResponseSchema, await setSilence(alerting, bodyOf(SetSilenceRequestSchema, body), by)),
  },
  {
    method: 'POST',
    path: /^\/api\/v1\/silences\/([^/]+)\/expire$/,
    access: 'write',
    parameters: [],
    answer: async ({ alerting }, [id], { by }) =>
      json(
        ExpireSilenceResponseSchema,
        create(ExpireSilenceResponseSchema, { silence: await expireSilence(alerting, id!, by) }),
      ),
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/rules$/,
    access: 'read',
    parameters: PAGE,
    answer: ({ alerting }, _, { query }) =>
      json(ListRulesResponseSchema, listRules(alerting, create(ListRulesRequestSchema, pageIn(query)))),
  },
  {
    method: 'POST',
    path: /^\/api\/v1\/rules\/reload$/,
    access: 'write',
    parameters: [],
    answer: async ({ alerting }, _, { by }) =>
      json(ReloadRulesResponseSchema, await reloadRules(alerting, by)),
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/notifications$/,
    access: 'read',
    parameters: ['state', 'receiver', ...PAGE],
    answer: ({ alerting }, _, { query }) => {
      const request = {
        ...pageIn(query),
        receiver: query.get('receiver') ?? '',
        state: stateIn<NotificationState>(NotificationState, query),
      };
      return json(
        ListNotificationsResponseSchema,
        listNotifications(alerting, create(ListNotificationsRequestSchema, request)),
      );
    },
  },
  {
    method: 'POST',
    path: /^\/api\/v1\/notifications\/resend$/,
    access: 'write',
    parameters: [],
    answer: async ({ alerting }, _, { body, by }) =>
      json(
        ResendNotificationsResponseSchema,
        await resend(alerting, bodyOf(ResendNotificationsRequestSchema, body), by),
      ),
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/actions$/,
    access: 'read',
    parameters: ['state', 'node', ...PAGE],
    answer: ({ alerting }, _, { query }) => {
      const request = {
        ...pageIn(query),
        node: query.get('node') ?? '',
        state: stateIn<ActionState>(ActionState, query),
      };
      return json(
        ListActionsResponseSchema,
        listActions(alerting, create(ListActionsRequestSchema, request)),
      );
    },
  },
  {
    method: 'POST',
    path: /^\/api\/v1\/actions\/([^/]+)\/(approve|reject|undo)$/,
    access: 'write',
    parameters: [],
    answer: async ({ alerting }, [id, decision], { body, by }) => {
      // The three requests and their answers are of one shape.
      const request = bodyOf(ApproveActionRequestSchema, body, { id });
      const answer = await decide(alerting, decision as 'approve' | 'reject' | 'undo', request, by);
      return json(ApproveActionResponseSchema, create(ApproveActionResponseSchema, answer));
    },
  },
  {
    method: 'GET',
    path: /^\/api\/v1\/audit$/,
    access: 'read',
    parameters: ['node', 'who', 'subject', 'from', 'to', ...PAGE],
    answer: async ({ alerting }, _, { query }) => {
      const [from, to] = [timeIn(query.get('from'), 'from'), timeIn(query.get('to'), 'to')];
      const request = create(ListAuditRequestSchema, {
        ...pageIn(query),
        node: query.get('node') ?? '',
        who: query.get('who') ?? '',
        subject: query.get('subject') ?? '',
        ...(from !== undefined && { from: timestampFromMs(from) }),
        ...(to !== undefined && { to: timestampFromMs(to) }),
      });
      return json(ListAuditResponseSchema, await listAudit(alerting, request));
    },
  },
];

function stateIn<State extends number>(
  states: Record<string, string | number>,
  query: URLSearchParams,
): State {
  const text = query.get('state');
  return text === null ? (0 as State) : enumValue<State>(states, text, 'state');
}

/** A request message from a JSON body, which may be missing; what is in the path wins. */
function bodyOf<Schema extends DescMessage>(
  schema: Schema,
  body: unknown,
  path: Readonly<Record<string, string | undefined>> = {},
): MessageShape<Schema> {
  try {
    return fromJson(schema, { ...(body as object), ...path } as JsonValue);
  } catch (error) {
    throw new FleetError(
      'invalid_input',
      `Cannot read body: ${error instanceof Error ? error.message : String(error)}`.slice(0, 300),
    );
  }
}
