import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Client, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { FleetService } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import type { Caller } from '#shared/security/tokens.ts';
import { FakeView, letterOf, lossOf, startApi } from './fake-view.ts';

const OPERATOR: Caller = { role: 'operator', name: '', node: undefined };
const HEADERS = { authorization: 'Bearer anything' };

interface Answer {
  readonly losses?: readonly { id: string; samples: string }[];
  readonly dead_letters?: readonly { id: string }[];
  readonly next_page_token?: string;
  readonly total?: number;
  readonly samples?: string;
  readonly error?: { readonly message: string };
}

/** One view behind both protocols. */
async function bothOn(view: FakeView) {
  const server = await startApi({ view, access: { check: () => OPERATOR, anonymousRead: false } });
  const client: Client<typeof FleetService> = createClient(
    FleetService,
    createGrpcTransport({ baseUrl: server.url }),
  );
  const rest = async (path: string, body?: unknown) => {
    const init =
      body === undefined
        ? { headers: HEADERS }
        : { method: 'POST', headers: HEADERS, body: JSON.stringify(body) };
    const response = await fetch(`${server.url}/api/v1/${path}`, init);
    return { status: response.status, body: (await response.json()) as Answer };
  };
  const options = { headers: HEADERS };
  return { client, rest, options, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

const LOSSES = [
  lossOf('1', { node: 'node-2' }),
  lossOf('2', { from: timestampFromMs(10_000), to: timestampFromMs(20_500), samples: 2n ** 40n }),
  lossOf('3', { from: timestampFromMs(20_500), to: timestampFromMs(30_000), reason: 'corrupt' }),
];

// A filter that means one thing here and another there makes two answers to "what did we lose".
test.each<[string, object, string, string[]]>([
  ['everything, newest first', {}, '', ['3', '2', '1']],
  ['of a node', { node: 'node-2' }, 'node=node-2', ['1']],
  ['of a reason', { reason: 'corrupt' }, 'reason=corrupt', ['3']],
  ['since', { from: timestampFromMs(20_501) }, 'from=20.501', ['3']],
  ['until', { to: timestampFromMs(10_000) }, 'to=1970-01-01T00:00:10Z', ['2', '1']],
  ['within', { from: timestampFromMs(3_000), to: timestampFromMs(9_000) }, 'from=3&to=9', []],
])('losses %s are the same over gRPC and REST', async (_, request, query, ids) => {
  const view = new FakeView();
  view.lossList.push(...LOSSES);
  await using both = await bothOn(view);
  const byGrpc = await both.client.listLosses(request, both.options);
  expect(byGrpc.losses.map(({ id }) => id)).toEqual(ids);
  const byRest = (await both.rest(`losses?${query}`)).body;
  expect(byRest.losses!.map(({ id }) => id)).toEqual(ids);
  expect([byRest.total, byRest.samples]).toEqual([byGrpc.total, String(byGrpc.samples)]);
  expect(byRest.losses!.map(({ samples }) => samples)).toEqual(
    byGrpc.losses.map(({ samples }) => String(samples)),
  );
});

test('pages of losses and dead letters hold each once; the sum is of all, not of the page', async () => {
  const view = new FakeView();
  for (let n = 0; n < 7; n++) {
    view.lossList.push(lossOf(String(n)));
    view.letterList.push(letterOf(String(n)));
  }
  await using both = await bothOn(view);
  for (const list of ['losses', 'dead-letters']) {
    const seen: string[] = [];
    let token = '';
    do {
      const { body } = await both.rest(`${list}?page_size=3&page_token=${token}`);
      const rows = (body.losses ?? body.dead_letters)!;
      seen.push(...rows.map(({ id }) => id));
      token = body.next_page_token!;
      expect(body.total).toBe(7);
      if (list === 'losses') expect(body.samples).toBe('70');
    } while (token !== '' && seen.length < 20);
    expect(seen).toEqual(['6', '5', '4', '3', '2', '1', '0']);
  }
});

test('a replay is asked for with its range, node and comment, by either protocol', async () => {
  const view = new FakeView();
  await using both = await bothOn(view);
  const order = { from: timestampFromMs(1_500), to: timestampFromMs(2_000), node: 'n', comment: 'restored' };
  expect(await both.client.replay(order, both.options)).toMatchObject({ id: 'replay-1', agents: 2 });
  const posted = await both.rest('replay', {
    from: '1970-01-01T00:00:01.5Z',
    to: 2,
    node: 'n',
    comment: 'restored',
  });
  expect(posted).toEqual({ status: 200, body: { id: 'replay-2', agents: 2 } });
  expect((await both.rest('replay', { from: 1.5 })).status).toBe(200);
  const wanted = { fromMs: 1_500, toMs: 2_000, node: 'n', comment: 'restored' };
  expect(view.replays).toEqual([wanted, wanted, { fromMs: 1_500, toMs: 0, node: '', comment: '' }]);
});

test('dead letters are listed with the words of the store, and replayed by id or all', async () => {
  const view = new FakeView();
  view.letterList.push(letterOf('1'), letterOf('2', { node: 'node-2' }));
  await using both = await bothOn(view);
  const { deadLetters } = await both.client.listDeadLetters({ node: 'node-2' }, both.options);
  expect(deadLetters).toMatchObject([{ id: '2', series: 'a{b="c"}', status: 400, answer: 'bad' }]);
  const listed = await both.rest('dead-letters?node=node-2');
  expect(listed.body.dead_letters!.map(({ id }) => id)).toEqual(['2']);
  expect(await both.client.replayDeadLetters({ ids: ['1', '2'] }, both.options)).toMatchObject({
    ...{ accepted: 1, refused: 1 },
  });
  expect((await both.rest('dead-letters/replay', { ids: [] })).body).toEqual({ accepted: 1, refused: 1 });
  expect((await both.rest('dead-letters/replay', { ids: ['9'] })).status).toBe(404);
  await expect(both.client.replayDeadLetters({ ids: ['9'] }, both.options)).rejects.toThrow(/\[not_found\]/);
});

// A replay of the whole fleet by a typing mistake loads store and network for hours.
test.each<[string, object, string, RegExp]>([
  ['without a start', { node: 'n' }, '{"node":"n"}', /from is missing/],
  [
    'with an end before its start',
    { from: { seconds: 9n }, to: { seconds: 8n } },
    '{"from":9,"to":8}',
    /later than to/,
  ],
  [
    'with a long comment',
    { from: { seconds: 1n }, comment: 'x'.repeat(1025) },
    `{"from":1,"comment":"${'x'.repeat(1025)}"}`,
    /longer than 1024/,
  ],
  [
    'of a node with an endless name',
    { from: { seconds: 1n }, node: 'x'.repeat(254) },
    `{"from":1,"node":"${'x'.repeat(254)}"}`,
    /at most 253/,
  ],
  ['from before 1970', { from: { seconds: -1n } }, '{"from":-1}', /Cannot use from/],
  ['from beyond any calendar', { from: { seconds: 2n ** 62n } }, '{"from":4e18}', /Cannot use from/],
])('a replay %s is refused by both protocols, and nobody is asked', async (_, request, body, message) => {
  const view = new FakeView();
  await using both = await bothOn(view);
  const error = await both.client
    .replay(request, both.options)
    .catch((thrown: unknown) => ConnectError.from(thrown));
  expect(String(error)).toMatch(/\[invalid_argument\]/);
  expect((error as ConnectError).rawMessage).toMatch(message);
  const answer = await both.rest('replay', JSON.parse(body));
  expect(answer.status).toBe(400);
  expect(answer.body.error!.message).toMatch(message);
  expect(view.replays).toEqual([]);
});

test.each<[string, unknown, RegExp]>([
  ['replay', [], /must be \{"from"/],
  ['replay', { from: true }, /must be \{"from"/],
  ['replay', { from: 1, node: 7 }, /must be \{"from"/],
  ['replay', { from: 'yesterday' }, /RFC|such as.*"yesterday"/],
  ['replay', { from: '2026-02-31' }, /such as/],
  ['replay', { from: 1, nod: 'n' }, /"nod": there are: from, to, node, comment/],
  ['dead-letters/replay', {}, /must be \{"ids"/],
  ['dead-letters/replay', { ids: '1' }, /must be \{"ids"/],
  ['dead-letters/replay', { ids: [1] }, /must be \{"ids"/],
  ['dead-letters/replay', { ids: Array.from({ length: 1001 }, () => '1') }, /at most 1000/],
])('POST %s of %j is refused with its reason, and nothing is done', async (path, body, message) => {
  const view = new FakeView();
  await using both = await bothOn(view);
  const answer = await both.rest(path, body);
  expect([answer.status, answer.body.error!.message]).toEqual([400, expect.stringMatching(message)]);
  expect([view.replays, view.replayedLetters]).toEqual([[], []]);
});

test.each([
  ['losses?from=x', /from must be|Cannot use from/],
  ['losses?from=9&to=8', /later than to/],
  ['losses?from=2026-01-01T00:00:00', /Cannot use from/],
  ['losses?since=1', /"since".*node, reason, from, to/],
  ['dead-letters?reason=x', /"reason".*node/],
])('GET %s is refused with its reason', async (path, message) => {
  await using both = await bothOn(new FakeView());
  const answer = await both.rest(path);
  expect([answer.status, answer.body.error!.message]).toEqual([400, expect.stringMatching(message)]);
});
