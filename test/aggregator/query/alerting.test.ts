import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { ActionState, AlertService, NotificationState } from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import type { Caller } from '#shared/security/tokens.ts';
import { FakeView, startApi } from './fake-view.ts';

const CALLERS: Readonly<Record<string, Caller>> = {
  'operators-own-token': { role: 'operator', name: 'mina', node: undefined },
  'viewers-own-token': { role: 'viewer', name: '', node: undefined },
};
const access = { check: (token?: string) => CALLERS[token ?? ''], anonymousRead: true };
const OPERATOR = 'operators-own-token';
const LATER = timestampFromMs(Date.UTC(2027, 0, 1));

function clientOf(url: string, token?: string): Client<typeof AlertService> {
  return createClient(
    AlertService,
    createGrpcTransport({
      baseUrl: url,
      interceptors: [
        (next) => (request) => {
          if (token !== undefined) request.header.set('authorization', `Bearer ${token}`);
          return next(request);
        },
      ],
    }),
  );
}

async function rest(url: string, path: string, body?: unknown, token = OPERATOR) {
  const response = await fetch(`${url}/api/v1/${path}`, {
    ...(body !== undefined && { method: 'POST', body: JSON.stringify(body) }),
    headers: { authorization: `Bearer ${token}` },
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

test('every list is answered over gRPC and over REST alike, page by page', async () => {
  const view = new FakeView();
  await using api = await startApi({ view, access });
  const client = clientOf(api.url);
  const operator = clientOf(api.url, OPERATOR);
  await operator.setSilence({ matchers: ['node=node-1'], endsAt: LATER, comment: 'fan' });
  await operator.setSilence({ matchers: ['node=node-2'], endsAt: LATER, comment: 'fan' });

  const first = await client.listSilences({ pageSize: 1, expired: true });
  expect(first.silences).toMatchObject([{ id: 's1', matchers: ['node=node-1'], createdBy: 'mina' }]);
  const second = await client.listSilences({ pageSize: 1, pageToken: first.nextPageToken });
  expect(second).toMatchObject({ silences: [{ id: 's2' }], nextPageToken: '' });
  expect((await rest(api.url, 'silences?expired=true')).body).toMatchObject({
    silences: [{ id: 's1', state: 'SILENCE_STATE_ACTIVE', alerts: 2 }, { id: 's2' }],
  });
  expect(view.alerting.calls.at(-1)).toEqual({ silences: true });

  expect(await client.listRules({})).toMatchObject({
    rules: [{ name: 'gpu-temperature' }, { enabled: false }],
  });
  expect((await rest(api.url, 'rules')).body).toMatchObject({ fault: '', rules: [{ firing: 3 }, {}] });
  await client.listNotifications({ state: NotificationState.DEAD, receiver: 'on-call' });
  expect(view.alerting.calls.at(-1)).toEqual({ notifications: NotificationState.DEAD, receiver: 'on-call' });
  expect((await rest(api.url, 'notifications?state=dead&page_size=1')).body).toMatchObject({
    notifications: [{ id: 'n1', why: 'channel_not_found', severity: 'SEVERITY_CRITICAL' }],
  });
  expect((await client.listActions({ state: ActionState.PENDING })).actions).toHaveLength(2);
  expect((await rest(api.url, 'actions?state=pending&node=node-1')).body).toMatchObject({
    actions: [{ id: 'a1', steps: [{ kind: 'mark', state: 'done' }, {}] }, { id: 'a2' }],
  });
  expect(view.alerting.calls.at(-1)).toEqual({ actions: ActionState.PENDING, node: 'node-1' });
  const page = await client.listAudit({ pageSize: 2 });
  expect(page.entries.map(({ id }) => id)).toEqual(['e1', 'e2']);
  expect(await client.listAudit({ pageSize: 2, pageToken: page.nextPageToken })).toMatchObject({
    entries: [{ id: 'e3' }],
    nextPageToken: '',
  });
  const audited = 'audit?who=mina&subject=s1&from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z';
  expect((await rest(api.url, audited)).body).toMatchObject({ entries: [{ what: 'silence.set' }, {}, {}] });
  expect(view.alerting.calls.at(-1)).toEqual({
    audit: { node: '', who: 'mina', subject: 's1', fromMs: 1_767_225_600_000, toMs: 1_769_904_000_000 },
  });
});

// A record of who silenced a pager is worth nothing where the name is what the caller says it is.
test('whatever changes something needs an operator, and carries the name of its token', async () => {
  const view = new FakeView();
  await using api = await startApi({ view, access });
  const writes = (client: Client<typeof AlertService>): readonly (() => Promise<unknown>)[] => [
    () => client.acknowledgeAlert({ id: 'x', comment: 'mine' }),
    () => client.acknowledgeAlert({ id: 'x', withdraw: true }),
    () => client.setSilence({ matchers: ['node=a'], endsAt: LATER, comment: 'fan' }),
    () => client.expireSilence({ id: 's1' }),
    () => client.reloadRules({}),
    () => client.resendNotifications({ ids: ['n1'] }),
    () => client.approveAction({ id: 'a1' }),
    () => client.rejectAction({ id: 'a1', comment: 'not now' }),
    () => client.undoAction({ id: 'a1', comment: 'fixed' }),
  ];
  for (const token of ['viewers-own-token', undefined])
    for (const call of writes(clientOf(api.url, token)))
      expect([Code.PermissionDenied, Code.Unauthenticated]).toContain(
        await call().then(
          () => undefined,
          (error: unknown) => ConnectError.from(error).code,
        ),
      );
  expect(view.alerting.calls).toEqual([]);
  for (const call of writes(clientOf(api.url, OPERATOR))) await call();
  const order = { id: '', matchers: ['node=a'], startsAtMs: undefined, endsAtMs: Date.UTC(2027, 0, 1) };
  const expected = [
    { acknowledge: 'x', comment: 'mine', by: 'mina' },
    { withdraw: 'x', by: 'mina' },
    { set: { ...order, comment: 'fan' }, by: 'mina' },
    { expire: 's1', by: 'mina' },
    { reload: 'mina' },
    { resend: ['n1'], by: 'mina' },
    { approve: 'a1', comment: '', by: 'mina' },
    { reject: 'a1', comment: 'not now', by: 'mina' },
    { undo: 'a1', comment: 'fixed', by: 'mina' },
  ];
  expect(view.alerting.calls).toEqual(expected);

  view.alerting.calls.length = 0;
  await rest(api.url, 'alerts/x/acknowledge', { comment: 'mine' });
  await rest(api.url, 'alerts/x/acknowledge', { withdraw: true });
  await rest(api.url, 'silences', { matchers: ['node=a'], ends_at: '2027-01-01T00:00:00Z', comment: 'fan' });
  await rest(api.url, 'silences/s1/expire', {});
  await rest(api.url, 'rules/reload', {});
  await rest(api.url, 'notifications/resend', { ids: ['n1'] });
  await rest(api.url, 'actions/a1/approve', {});
  await rest(api.url, 'actions/a1/reject', { comment: 'not now' });
  await rest(api.url, 'actions/a1/undo', { comment: 'fixed' });
  expect(view.alerting.calls).toEqual(expected);
  expect((await rest(api.url, 'silences', {}, 'viewers-own-token')).status).toBe(403);
});

test.each<[string, string, unknown, number, RegExp]>([
  ['an alert that is none', 'alerts/none/acknowledge', {}, 404, /no such alert/],
  ['a comment that is too long', 'alerts/x/acknowledge', { comment: 'x'.repeat(2000) }, 400, /1024/],
  [
    'a silence of everything',
    'silences',
    { matchers: [], ends_at: '2027-01-01T00:00:00Z', comment: 'x' },
    400,
    /1 to 20 matchers/,
  ],
  ['a silence without end', 'silences', { matchers: ['a=b'], comment: 'x' }, 400, /ends_at/],
  [
    'a silence without a reason',
    'silences',
    { matchers: ['a=b'], ends_at: '2027-01-01T00:00:00Z' },
    400,
    /say why/,
  ],
  [
    'a matcher that is none',
    'silences',
    { matchers: ['nonsense'], ends_at: '2027-01-01T00:00:00Z', comment: 'x' },
    400,
    /operator/,
  ],
  ['a field that is none', 'silences', { matcher: 'a=b' }, 400, /matcher/],
  ['a silence that is none', 'silences/none/expire', {}, 404, /no such silence/],
  ['too many ids', 'notifications/resend', { ids: Array.from({ length: 1001 }, String) }, 400, /1000/],
  ['a rejection without a reason', 'actions/a1/reject', {}, 400, /say why/],
  ['an action that is none', 'actions/none/approve', {}, 404, /none/],
  ['an unknown state', 'actions?state=sleeping', undefined, 400, /awaiting_approval/],
])('refused, with words that say what to do: %s', async (_, path, body, status, words) => {
  await using api = await startApi({ view: new FakeView(), access });
  const answer = await rest(api.url, path, body);
  expect(answer.status).toBe(status);
  expect(JSON.stringify(answer.body)).toMatch(words);
});

test('a rules file that cannot be used is refused with its faults', async () => {
  const view = new FakeView();
  view.alerting.fault = 'Cannot read alert rules rules.yaml:3:5: rules[0].name: is missing';
  await using api = await startApi({ view, access });
  const refused = await rest(api.url, 'rules/reload', {});
  expect(refused).toMatchObject({
    status: 400,
    body: { error: { message: expect.stringContaining('rules.yaml:3:5') } },
  });
  expect((await rest(api.url, 'rules')).body).toMatchObject({ fault: view.alerting.fault });
});
