import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { HealthScope, HealthService } from '#proto/gpufleet/health/v1/health_service_pb.ts';
import type { Caller } from '#shared/security/tokens.ts';
import { FakeView, startApi } from './fake-view.ts';

const CALLERS: Readonly<Record<string, Caller>> = {
  'operators-own-token': { role: 'operator', name: 'mina', node: undefined },
  'viewers-own-token': { role: 'viewer', name: '', node: undefined },
};
const access = { check: (token?: string) => CALLERS[token ?? ''], anonymousRead: true };

function clientOf(url: string, token?: string): Client<typeof HealthService> {
  return createClient(
    HealthService,
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

async function rest(url: string, path: string, body?: unknown, token?: string) {
  const response = await fetch(`${url}/api/v1/${path}`, {
    ...(body !== undefined && { method: 'POST', body: JSON.stringify(body) }),
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

const codeOf = (call: Promise<unknown>): Promise<Code | undefined> =>
  call.then(
    () => undefined,
    (error: unknown) => ConnectError.from(error).code,
  );

test('every question is answered over gRPC and over REST alike', async () => {
  const view = new FakeView();
  await using api = await startApi({ view });
  const client = clientOf(api.url);

  expect((await client.getScopeHealth({ scope: HealthScope.FLEET })).health?.critical).toBe(1);
  expect((await rest(api.url, 'health/fleet')).body).toMatchObject({ health: { score: 62.5, gpu_count: 8 } });
  expect((await rest(api.url, 'health/nodes/node-1')).body).toMatchObject({ health: { name: 'node-1' } });
  expect((await rest(api.url, 'health/pools/train')).body).toMatchObject({ health: { name: 'train' } });

  const page = await client.listTransitions({ gpuUuid: 'GPU-1', to: HealthState.CRITICAL, pageSize: 5 });
  expect(page.transitions[0]).toMatchObject({ cause: 'cap', score: 10 });
  const last = await client.listTransitions({ pageToken: page.nextPageToken });
  expect(last.nextPageToken).toBe('');
  expect(view.health.calls).toMatchObject([
    { transitions: { gpuUuid: 'GPU-1', to: HealthState.CRITICAL }, size: 5, cursor: '' },
    { size: 100, cursor: '7' },
  ]);
  const filtered = 'health/transitions?to_state=critical&from=2026-01-01T00:00:00Z&node=node-1';
  expect((await rest(api.url, filtered)).body).toMatchObject({ transitions: [{ why: /Xid 79/ }] });
  expect(view.health.calls.at(-1)).toMatchObject({
    transitions: { to: HealthState.CRITICAL, fromMs: 1_767_225_600_000, node: 'node-1' },
  });

  expect((await client.listAnomalies({})).anomalies.map(({ id }) => id)).toEqual(['a1']);
  expect((await rest(api.url, 'anomalies?include_ended=true&page_size=1')).body).toMatchObject({
    total: 2,
    anomalies: [{ id: 'a1', contributions: [{ detector: 'peer', strength: 2.5 }] }],
  });
  expect((await client.listPatterns({ kind: 'lemon' })).patterns).toHaveLength(1);
  expect((await rest(api.url, 'patterns?kind=trend')).body).toEqual({ patterns: [] });
  expect((await client.listRejectedSamples({})).totals).toEqual({ out_of_range: 12n });
  expect((await rest(api.url, 'rejected-samples?node=node-1')).body).toMatchObject({
    samples: [{ reason: 'out_of_range', value: 4e9 }],
    totals: { out_of_range: '12' },
  });
});

// A record of who did what is worth nothing where the name is what the caller says it is.
test('writes need an operator, and carry the name of its token', async () => {
  const view = new FakeView();
  await using api = await startApi({ view, access });
  const operator = clientOf(api.url, 'operators-own-token');

  const { mark } = await operator.markNode({ node: 'node-1', mark: 'drained', why: 'fan' });
  expect(mark).toMatchObject({ by: 'mina', mark: 'drained' });
  expect((await rest(api.url, 'node-marks')).body).toMatchObject({ marks: [{ node: 'node-1', why: 'fan' }] });
  await operator.unmarkNode({ node: 'node-1', why: 'done' });
  await operator.clearGpu({ uuid: 'GPU-1', cause: 'repair', why: 'new board' });
  await operator.injectAnomaly({ node: 'node-1', gpu: '0', seconds: 5 });
  const inject = await rest(api.url, 'gpus/GPU-1/inject', { strength: 3 }, 'operators-own-token');
  expect(inject.body).toMatchObject({ anomaly: { test: true } });
  expect(view.health.calls).toEqual([
    { unmark: 'node-1', why: 'done', by: 'mina' },
    { clear: 'GPU-1', cause: 'repair', why: 'new board', by: 'mina' },
    { inject: 'node-1/0', metric: '', strength: 0, seconds: 5, by: 'mina' },
    { inject: 'GPU-1', metric: '', strength: 3, seconds: 0, by: 'mina' },
  ]);

  const viewer = clientOf(api.url, 'viewers-own-token');
  for (const call of [
    viewer.markNode({ node: 'node-1', mark: 'drained', why: 'x' }),
    viewer.unmarkNode({ node: 'node-1', why: 'x' }),
    viewer.clearGpu({ uuid: 'GPU-1', cause: 'repair', why: 'x' }),
    viewer.injectAnomaly({ uuid: 'GPU-1' }),
  ])
    expect(await codeOf(call)).toBe(Code.PermissionDenied);
  expect((await rest(api.url, 'gpus/GPU-1/clear', { cause: 'repair', why: 'x' })).status).toBe(401);
});

test.each<[string, string, unknown, number, RegExp]>([
  ['a node that was never seen', 'health/nodes/none', undefined, 404, /none/],
  ['an unknown state', 'health/transitions?to_state=sick', undefined, 400, /to_state/],
  ['a range that runs backwards', 'health/transitions?from=20&to=10', undefined, 400, /later/],
  ['an unknown kind of pattern', 'patterns?kind=odd', undefined, 400, /lemon/],
  ['a mark without a reason', 'nodes/node-1/mark', { mark: 'drained' }, 400, /say why/],
  ['a reason that is too long', 'nodes/node-1/mark', { mark: 'drained', why: 'x'.repeat(2000) }, 400, /1024/],
  [
    'a mark that ends at no time',
    'nodes/node-1/mark',
    { mark: 'drained', why: 'x', until: 'soon' },
    400,
    /until/,
  ],
  ['a field that is not known', 'nodes/node-1/mark', { state: 'drained' }, 400, /state/],
  ['a text that is a number', 'gpus/GPU-1/clear', { cause: 1, why: 'x' }, 400, /body/],
  ['clearing a GPU that was never seen', 'gpus/GPU-9/clear', { cause: 'repair', why: 'x' }, 404, /GPU-9/],
  ['unmarking what has no mark', 'nodes/node-2/unmark', { why: 'x' }, 404, /no mark/],
  ['an anomaly that is too strong', 'gpus/GPU-1/inject', { strength: 1e9 }, 400, /strength/],
  ['an anomaly without an end', 'gpus/GPU-1/inject', { seconds: 1e9 }, 400, /3600/],
  ['a strength in words', 'gpus/GPU-1/inject', { strength: 'much' }, 400, /number/],
])('%s is refused in words', async (_, path, body, status, words) => {
  await using api = await startApi({ view: new FakeView(), access });
  const answer = await rest(api.url, path, body, 'operators-own-token');
  expect(answer.status).toBe(status);
  expect((answer.body.error as { message: string }).message).toMatch(words);
});
