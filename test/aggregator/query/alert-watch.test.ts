import { once } from 'node:events';
import { connect } from 'node:http2';
import { create, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { type Alert, AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { FleetService, WatchAlertsRequestSchema } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { Health } from '#proto/grpc/health/v1/health_pb.ts';
import { AlertWatches } from '../../../aggregator/query/alert-watch.ts';
import { until } from '../../support/wait.ts';
import { alertOf, FakeView, startApi } from './fake-view.ts';

const MAX_BEHIND = 1_000;
const MAX_WATCHERS = 1_000;

/** The next ids that a watcher is told. */
async function take(watch: AsyncIterator<Alert>, count: number): Promise<string[]> {
  const ids: string[] = [];
  while (ids.length < count) ids.push((await watch.next()).value.id);
  return ids;
}

function clientOf(url: string) {
  return createClient(FleetService, createGrpcTransport({ baseUrl: url }));
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return error === undefined ? 'none' : Code[ConnectError.from(error).code];
}

test('a watcher hears what is active now, then each transition in order', async () => {
  const view = new FakeView();
  view.change(alertOf('b'));
  view.change(alertOf('a', { state: AlertState.PENDING }));
  view.change(alertOf('gone', { state: AlertState.RESOLVED }));
  const stop = new AbortController();
  const watch = new AlertWatches(view).watch({}, false, stop.signal);
  expect(await take(watch, 2)).toEqual(['a', 'b']);
  const next = watch.next();
  view.change(alertOf('b', { state: AlertState.RESOLVED }));
  view.change(alertOf('c'));
  expect((await next).value).toMatchObject({ id: 'b', state: AlertState.RESOLVED });
  expect(await take(watch, 1)).toEqual(['c']);
  stop.abort();
  await expect(watch.next()).resolves.toMatchObject({ done: true });
  expect(view.listeners.size).toBe(0);
});

test('only_changes leaves out what is active; the filter holds for both', async () => {
  const view = new FakeView();
  view.change(alertOf('a', { severity: Severity.CRITICAL }));
  view.change(alertOf('b', { severity: Severity.INFO }));
  const watches = new AlertWatches(view);
  const { signal } = new AbortController();
  const critical = watches.watch({ minSeverity: Severity.CRITICAL }, false, signal);
  expect(await take(critical, 1)).toEqual(['a']);
  const changes = watches.watch({ node: 'node-2' }, true, signal);
  const next = changes.next();
  view.change(alertOf('c', { node: 'node-1' }));
  view.change(alertOf('d', { node: 'node-2' }));
  expect((await next).value.id).toBe('d');
});

test('what changes while the list is given comes after it, not never', async () => {
  const view = new FakeView();
  for (const id of ['a', 'b']) view.change(alertOf(id));
  const watch = new AlertWatches(view).watch({}, false, new AbortController().signal);
  await take(watch, 1);
  view.change(alertOf('b', { state: AlertState.RESOLVED }));
  await take(watch, 1);
  expect((await watch.next()).value).toMatchObject({ id: 'b', state: AlertState.RESOLVED });
});

// One stuck console must neither fill the memory nor hold up the pager beside it.
test('a reader that is too far behind is told so; the one beside it misses nothing', async () => {
  const view = new FakeView();
  const watches = new AlertWatches(view);
  const { signal } = new AbortController();
  const slow = watches.watch({}, true, signal);
  const quick = watches.watch({}, true, signal);
  const [first, second] = [slow.next(), quick.next()];
  view.change(alertOf('first'));
  await first;
  await second;
  const heard: string[] = [];
  for (let n = 0; n < MAX_BEHIND; n++) {
    view.change(alertOf(`n${n}`));
    heard.push(...(await take(quick, 1)));
  }
  expect(heard).toEqual(Array.from({ length: MAX_BEHIND }, (_, n) => `n${n}`));
  view.change(alertOf('one too many'));
  await expect(slow.next()).rejects.toMatchObject({
    code: 'resource_exhausted',
    message: expect.stringContaining('1000 transitions behind'),
  });
  expect(await take(quick, 1)).toEqual(['one too many']);
  expect(watches.count).toBe(1);
});

test('as many behind as are allowed all arrive', async () => {
  const view = new FakeView();
  const watch = new AlertWatches(view).watch({}, true, new AbortController().signal);
  const first = watch.next();
  view.change(alertOf('first'));
  await first;
  const ids = Array.from({ length: MAX_BEHIND }, (_, n) => `n${n}`);
  for (const id of ids) view.change(alertOf(id));
  expect(await take(watch, MAX_BEHIND)).toEqual(ids);
});

test('one watcher too many is refused, and finds room when another goes', async () => {
  const view = new FakeView();
  view.change(alertOf('a'));
  const watches = new AlertWatches(view);
  const { signal } = new AbortController();
  const open = Array.from({ length: MAX_WATCHERS }, () => watches.watch({}, false, signal));
  await Promise.all(open.map((watch) => watch.next()));
  expect(watches.count).toBe(MAX_WATCHERS);
  await expect(watches.watch({}, false, signal).next()).rejects.toMatchObject({ code: 'resource_exhausted' });
  await open[0]!.return(undefined);
  await expect(watches.watch({}, false, signal).next()).resolves.toMatchObject({ done: false });
  await Promise.all(open.map((watch) => watch.return(undefined)));
  expect([watches.count, view.listeners.size]).toEqual([1, 1]);
});

test.each(['gRPC', 'Connect over HTTP/1.1'])(
  'over %s: active, then changes, and a cancel frees the watcher',
  async (kind) => {
    const view = new FakeView();
    view.change(alertOf('a'));
    await using server = await startApi({ view });
    const client =
      kind === 'gRPC'
        ? clientOf(server.url)
        : createClient(FleetService, createConnectTransport({ baseUrl: server.url, httpVersion: '1.1' }));
    const stop = new AbortController();
    const watch = client.watchAlerts({}, { signal: stop.signal })[Symbol.asyncIterator]();
    expect((await watch.next()).value?.alert?.id).toBe('a');
    const next = watch.next();
    await until(() => view.listeners.size === 1, { timeoutMs: 5_000, what: 'it watches' });
    view.change(alertOf('b'));
    expect((await next).value?.alert?.id).toBe('b');
    stop.abort();
    expect(await codeOf(watch.next())).toBe('Canceled');
    await until(() => view.listeners.size === 0, { timeoutMs: 5_000, what: 'the watcher is freed' });
  },
);

/** A WatchAlerts call whose answer nobody reads: the window of HTTP/2 fills, and the server has to wait. */
function unreadWatch(url: string) {
  const session = connect(url);
  const stream = session.request({
    ':method': 'POST',
    ':path': `/${FleetService.typeName}/WatchAlerts`,
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  const message = toBinary(WatchAlertsRequestSchema, create(WatchAlertsRequestSchema, { onlyChanges: true }));
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  stream.end(Buffer.concat([prefix, message]));
  return {
    /** Reads at last: bytes, and the status that ended the stream. */
    async read(): Promise<{ bytes: number; status: unknown }> {
      let bytes = 0;
      stream.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
      });
      const [trailers] = await once(stream, 'trailers');
      return { bytes, status: trailers['grpc-status'] };
    },
    [Symbol.dispose]: () => session.destroy(),
  };
}

test('over the socket: one that does not read ends with RESOURCE_EXHAUSTED, the other goes on', async () => {
  const view = new FakeView();
  await using server = await startApi({ view });
  using slow = unreadWatch(server.url);
  const quick = clientOf(server.url).watchAlerts({ onlyChanges: true })[Symbol.asyncIterator]();
  const first = quick.next();
  await until(() => view.listeners.size === 2, { timeoutMs: 5_000, what: 'both watch' });
  view.change(alertOf('first'));
  await first;
  const summary = 'x'.repeat(1_024);
  for (let round = 0; round < 30; round++) {
    const ids = Array.from({ length: MAX_BEHIND / 10 }, (_, n) => `${round}-${n}`);
    for (const id of ids) view.change(alertOf(id, { summary }));
    for (const id of ids) expect((await quick.next()).value?.alert?.id).toBe(id);
  }
  const { bytes, status } = await slow.read();
  expect(status, 'RESOURCE_EXHAUSTED').toBe('8');
  expect(bytes).toBeLessThan(3 * MAX_BEHIND * summary.length);
});

test('a client that goes while its stream is stuck frees its watcher too', async () => {
  const view = new FakeView();
  await using server = await startApi({ view });
  const stop = new AbortController();
  const stuck = clientOf(server.url).watchAlerts({}, { signal: stop.signal })[Symbol.asyncIterator]();
  const first = stuck.next();
  await until(() => view.listeners.size === 1, { timeoutMs: 5_000, what: 'it watches' });
  view.change(alertOf('first'));
  await first;
  const large = 'x'.repeat(65_536);
  for (let n = 0; n < 200; n++) view.change(alertOf(`n${n}`, { summary: large }));
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(view.listeners.size).toBe(1);
  stop.abort();
  expect(await codeOf(stuck.next())).toBe('Canceled');
  await until(() => view.listeners.size === 0, { timeoutMs: 5_000, what: 'the watcher is freed' });
});

test('a server that stops ends its streams with UNAVAILABLE: the client goes elsewhere', async () => {
  const view = new FakeView();
  const server = await startApi({ view });
  const watch = clientOf(server.url).watchAlerts({})[Symbol.asyncIterator]();
  const next = watch.next();
  await until(() => view.listeners.size === 1, { timeoutMs: 5_000, what: 'it watches' });
  const [code] = await Promise.all([codeOf(next), server[Symbol.asyncDispose]()]);
  expect(code).toBe('Unavailable');
  expect(view.listeners.size).toBe(0);
});

test('so does a health watch', async () => {
  const server = await startApi();
  const health = createClient(Health, createGrpcTransport({ baseUrl: server.url }));
  const watch = health.watch({})[Symbol.asyncIterator]();
  await watch.next();
  const [code] = await Promise.all([codeOf(watch.next()), server[Symbol.asyncDispose]()]);
  expect(code).toBe('Unavailable');
});
