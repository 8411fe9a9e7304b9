import { connect as tcp } from 'node:net';
import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { LatestSampleSchema } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import type { Caller } from '#shared/security/tokens.ts';
import type { NodeRow, SampleRow } from '../../../aggregator/query/fleet-view.ts';
import { alertOf, FakeView, startApi } from './fake-view.ts';

const OPERATOR: Caller = { role: 'operator', name: '', node: undefined };
const asOperator = { access: { check: () => OPERATOR, anonymousRead: false } };

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore format: one line a field says more
  readonly body: {
    readonly nodes?: { name: string }[]; readonly samples?: { name: string; labels: Record<string, string> }[];
    readonly alerts?: { id: string }[]; readonly gpus?: { uuid: string }[]; readonly node?: { name: string };
    readonly alert?: { state: string; suppressed: boolean; summary: string };
    readonly next_page_token?: string; readonly total?: number; readonly error?: { code: string; message: string };
  };
}

async function call(url: string, init?: RequestInit): Promise<Answer> {
  const response = await fetch(url, init);
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: text === '' ? {} : JSON.parse(text) };
}

const resolve = (url: string, id: string, body?: string): Promise<Answer> =>
  call(`${url}/api/v1/alerts/${id}/resolve`, {
    method: 'POST',
    headers: { authorization: 'Bearer anything' },
    ...(body !== undefined && { body }),
  });

/** Follows next_page_token to the end. */
async function allPages(url: string): Promise<Answer['body'][]> {
  const pages: Answer['body'][] = [];
  let token: string | undefined = '';
  do {
    const next = token === '' ? url : `${url}&page_token=${token}`;
    const { body, status }: Answer = await call(next);
    expect(status).toBe(200);
    pages.push(body);
    token = body.next_page_token;
  } while (token && pages.length < 100);
  return pages;
}

// A list that skips or repeats at a page's edge hides a broken GPU from whoever reads it by script.
test.each([1, 2, 3, 7, 1000])('pages of %i hold every node and series once, in order', async (size) => {
  const names = Array.from({ length: 7 }, (_, index) => `node-${index}`);
  await using server = await startApi({ view: new FakeView(names) });
  const nodes = await allPages(`${server.url}/api/v1/nodes?page_size=${size}`);
  expect(nodes.flatMap((page) => page.nodes!.map(({ name }) => name))).toEqual(names);
  expect(nodes.every(({ total }) => total === 7)).toBe(true);
  const samples = await allPages(`${server.url}/api/v1/metrics/latest?page_size=${size}`);
  const places = samples.flatMap((page) => page.samples!.map(({ name, labels }) => `${labels.uuid} ${name}`));
  expect(places).toEqual(
    names.flatMap((name) =>
      ['0', '1'].flatMap((gpu) =>
        ['gpu_power_watts', 'gpu_temperature_celsius'].map((series) => `GPU-${name}-${gpu} ${series}`),
      ),
    ),
  );
});

/** Nodes of many series, which counts how many were looked at. */
class LargeView extends FakeView {
  readonly #series: number;
  lookedAt = 0;

  constructor(names: readonly string[], seriesPerNode: number) {
    super(names);
    this.#series = seriesPerNode;
  }

  override nodes(): readonly NodeRow[] {
    return super.nodes().map((row) => ({ ...row, samples: () => this.#samples(row.name) }));
  }

  *#samples(node: string): Iterable<SampleRow> {
    for (let number = 0; number < this.#series; number++) {
      this.lookedAt++;
      const name = number === this.#series - 1 ? 'last' : 'other';
      yield { name, uuid: '', message: () => create(LatestSampleSchema, { name, labels: { node } }) };
    }
  }
}

// The same event loop takes the samples in: while a script reads the whole fleet, no alert may be late for it.
test('a page of series looks at 100,000 at most: a rare name comes by short pages, and every one comes', async () => {
  const view = new LargeView(['a', 'b', 'c'], 90_000);
  await using server = await startApi({ view });
  const found: string[] = [];
  let token = '';
  let pages = 0;
  do {
    view.lookedAt = 0;
    const page = await call(`${server.url}/api/v1/metrics/latest?name=last&page_token=${token}`);
    found.push(...page.body.samples!.map(({ labels }) => labels.node!));
    token = page.body.next_page_token!;
    // Up to one node more is passed over on the way to where the page begins.
    expect(view.lookedAt).toBeLessThanOrEqual(100_001 + 90_000);
    pages++;
  } while (token !== '' && pages < 10);
  expect(found).toEqual(['a', 'b', 'c']);
  expect(pages).toBe(3);
});

test('a page of series goes no further than it is full, and does not begin again at the first node', async () => {
  const view = new LargeView(['a', 'b', 'c', 'd'], 10);
  await using server = await startApi({ view });
  const first = await call(`${server.url}/api/v1/metrics/latest?page_size=25`);
  expect(view.lookedAt).toBe(26);
  view.lookedAt = 0;
  await call(`${server.url}/api/v1/metrics/latest?page_size=5&page_token=${first.body.next_page_token}`);
  expect(view.lookedAt, 'the third node, and the first of the fourth').toBe(11);
});

test('series of one GPU are found by its UUID alone; of a GPU that nobody has there are none', async () => {
  await using server = await startApi();
  const get = (uuid: string) => call(`${server.url}/api/v1/metrics/latest?uuid=${uuid}`);
  const one = await get('GPU-node-2-1');
  expect(one.body.samples!.map(({ name, labels }) => [name, labels.node, labels.gpu])).toEqual([
    ['gpu_power_watts', 'node-2', '1'],
    ['gpu_temperature_celsius', 'node-2', '1'],
  ]);
  const none = await get('GPU-none');
  expect(none.status).toBe(200);
  expect(none.body).toEqual({ samples: [], next_page_token: '' });
});

test('a node that goes between two pages leaves no hole behind it', async () => {
  const view = new FakeView(['a', 'b', 'c', 'd']);
  await using server = await startApi({ view });
  const first = await call(`${server.url}/api/v1/nodes?page_size=2`);
  (view.names as string[]).splice(0, 2);
  const second = await call(
    `${server.url}/api/v1/nodes?page_size=2&page_token=${first.body.next_page_token}`,
  );
  expect(second.body.nodes!.map(({ name }) => name)).toEqual(['c', 'd']);
});

test('nodes by state, a node with its GPUs, and names that need percent-encoding', async () => {
  await using server = await startApi();
  const get = (path: string) => call(`${server.url}/api/v1/${path}`);
  for (const state of ['down', 'NODE_STATE_DOWN']) {
    const { body } = await get(`nodes?state=${state}`);
    expect(body.nodes!.map(({ name }) => name)).toEqual(['node-2']);
  }
  const node = await get(`nodes/${encodeURIComponent('rack/7 ü')}`);
  expect(node.body.node!.name).toBe('rack/7 ü');
  expect(node.body.gpus!.map(({ uuid }) => uuid)).toEqual(['GPU-rack/7 ü-0', 'GPU-rack/7 ü-1']);
  const metrics = await get(`nodes/${encodeURIComponent('rack/7 ü')}/metrics?name=gpu_power_watts`);
  expect(metrics.body.samples!.map(({ labels }) => labels.gpu)).toEqual(['0', '1']);
  const one = await get('metrics/latest?node=node-1&uuid=GPU-node-1-1');
  expect(one.body.samples!.map(({ labels }) => labels.gpu)).toEqual(['1', '1']);
  expect((await get('metrics/latest?node=nobody')).status).toBe(404);
});

test('alerts by state, node, rule, GPU and least severity; /active leaves out what is resolved', async () => {
  const view = new FakeView();
  view.change(alertOf('a', { severity: Severity.CRITICAL, gpuUuid: 'GPU-1' }));
  view.change(alertOf('b', { state: AlertState.PENDING, rule: 'gpu_power' }));
  view.change(alertOf('c', { state: AlertState.RESOLVED, node: 'node-2' }));
  await using server = await startApi({ view });
  const ids = async (path: string) =>
    (await call(`${server.url}/api/v1/alerts${path}`)).body.alerts!.map(({ id }) => id);
  expect(await ids('')).toEqual(['a', 'b', 'c']);
  expect(await ids('/active')).toEqual(['a', 'b']);
  expect(await ids('?state=resolved')).toEqual(['c']);
  expect(await ids('?state=ALERT_STATE_FIRING')).toEqual(['a']);
  expect(await ids('?severity=critical')).toEqual(['a']);
  expect(await ids('?node=node-2')).toEqual(['c']);
  expect(await ids('/active?rule=gpu_power')).toEqual(['b']);
  expect(await ids('?gpu_uuid=GPU-1')).toEqual(['a']);
  const wrong = await call(`${server.url}/api/v1/alerts?state=burning`);
  expect(wrong.body.error!.message).toMatch(/state must be one of pending, firing, resolved.*burning/);
});

// Whoever mistypes a filter must hear of it, not get the whole fleet.
test.each([
  ['nodes?nodee=1', 400, /"nodee".*state, page_size, page_token/],
  ['nodes/node-1?state=up', 400, /"state".*there are none/],
  ['alerts/active?state=firing', 400, /"state"/],
  ['nodes?page_size=0', 400, /1 to 1000.*"0"/],
  ['nodes?page_size=1001', 400, /1 to 1000.*1001/],
  ['nodes?page_size=abc', 400, /1 to 1000.*"abc"/],
  ['nodes?page_size=', 400, /1 to 1000.*""/],
  ['nodes?page_size=-1', 400, /"-1"/],
  ['nodes?page_token=xyz', 400, /page_token/],
  ['nodes?page_token=MTp4%3D', 400, /page_token/],
  [`nodes?page_token=${'A'.repeat(5000)}`, 400, /page_token/],
  ['nodes?state=', 400, /state must be one of up, stale, down/],
  ['nodes/%E0%A4', 400, /percent-encoding/],
  ['nodes/nobody', 404, /nobody/],
  ['nodes/nobody/metrics', 404, /nobody/],
  ['nothing', 404, /Cannot find \/api\/v1\/nothing/],
])('GET %s answers %i and says why', async (path, status, message) => {
  await using server = await startApi();
  const answer = await call(`${server.url}/api/v1/${path}`);
  expect(answer.status).toBe(status);
  expect(answer.body.error!.message).toMatch(message);
});

test('targets that no URL library would send are an error of the client, not of the server', async () => {
  await using server = await startApi();
  for (const target of ['//', '//[', '/api/v1/nodes?%', 'http://[', '*'])
    expect(await rawStatus(server.port, `GET ${target} HTTP/1.1\r\nHost: localhost\r\n\r\n`), target).toMatch(
      /^HTTP\/1\.1 4\d\d/,
    );
});

async function rawStatus(port: number, text: string): Promise<string> {
  const socket = tcp(port, '127.0.0.1');
  socket.write(text);
  try {
    for await (const chunk of socket) return String(chunk);
    return 'closed';
  } finally {
    socket.destroy();
  }
}

test('another method is 405 and says which ones there are; HEAD is GET without a body', async () => {
  await using server = await startApi();
  const posted = await call(`${server.url}/api/v1/nodes`, { method: 'POST' });
  expect([posted.status, posted.headers.get('allow')]).toEqual([405, 'GET']);
  const got = await call(`${server.url}/api/v1/alerts/x/resolve`);
  expect([got.status, got.headers.get('allow')]).toEqual([405, 'POST']);
  const head = await fetch(`${server.url}/api/v1/nodes`, { method: 'HEAD' });
  expect([head.status, head.headers.get('content-type'), await head.text()]).toEqual([
    200,
    'application/json',
    '',
  ]);
  expect((await fetch(`${server.url}/api/v1/nodes/nobody`, { method: 'HEAD' })).status).toBe(404);
});

test('an operator resolves an alert, and is told when it stays suppressed, is not active, or is not there', async () => {
  const view = new FakeView();
  for (const id of ['a', 'b', 'c']) view.change(alertOf(id));
  await using server = await startApi({ view, ...asOperator });
  const done = await resolve(server.url, 'a', '{"comment":"fan replaced"}');
  expect(done.status).toBe(200);
  expect(done.body.alert).toMatchObject({
    state: 'ALERT_STATE_RESOLVED',
    suppressed: false,
    summary: 'fan replaced',
  });
  expect((await resolve(server.url, 'b', '{"comment":"still hot"}')).body.alert).toMatchObject({
    suppressed: true,
  });
  expect((await resolve(server.url, 'c')).body.alert).toMatchObject({ state: 'ALERT_STATE_RESOLVED' });
  const again = await resolve(server.url, 'a');
  expect([again.status, again.body.error!.message]).toEqual([400, expect.stringContaining('not active')]);
  const missing = await resolve(server.url, 'zzz');
  expect([missing.status, missing.body.error!.code]).toEqual([404, 'not_found']);
});

test.each([
  ['not JSON', '{"comment":', /not JSON/],
  ['a list', '[]x', /not JSON/],
  ['a number', '7', /must be/],
  ['null', 'null', /must be/],
  ['a comment that is no text', '{"comment":7}', /must be/],
  ['a comment over 1,024 characters', JSON.stringify({ comment: 'x'.repeat(1025) }), /longer than 1024/],
  ['over 64 KiB', JSON.stringify({ comment: 'x'.repeat(70_000) }), /larger than 65536/],
  ['over 1 MiB', JSON.stringify({ comment: 'x'.repeat(1_100_000) }), /larger than 65536/],
])('a body that is %s is refused with 400, and the alert stays as it was', async (_, body, message) => {
  const view = new FakeView();
  view.change(alertOf('a'));
  await using server = await startApi({ view, ...asOperator });
  const answer = await resolve(server.url, 'a', body);
  expect([answer.status, answer.body.error!.message]).toEqual([400, expect.stringMatching(message)]);
  expect(view.alert('a')!.state).toBe(AlertState.FIRING);
});
