import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { FleetService } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { Health } from '#proto/grpc/health/v1/health_pb.ts';
import { ServerReflection } from '#proto/grpc/reflection/v1/reflection_pb.ts';
import type { Role } from '#shared/security/tokens.ts';
import type { AccessOptions } from '../../../aggregator/query/callers.ts';
import { alertOf, FakeView, startApi } from './fake-view.ts';

const TOKENS: Readonly<Record<string, Role>> = { v: 'viewer', o: 'operator', a: 'agent' };
const check: AccessOptions['check'] = (token) =>
  token !== undefined && TOKENS[token] ? { role: TOKENS[token], name: '', node: undefined } : undefined;

const NONE = { check: undefined, anonymousRead: false };
const FILE = { check, anonymousRead: false };
const ANONYMOUS = { check, anonymousRead: true };

type Row = [string, AccessOptions, string | undefined, [number, string], [number, string]];

// A wrong row here is a stranger who silences alerts, or an operator who cannot.
const ROWS: Row[] = [
  ['no file, no token', NONE, undefined, [200, 'ok'], [403, 'permission_denied']],
  ['no file, some token', NONE, 'Bearer o', [200, 'ok'], [403, 'permission_denied']],
  ['no token', FILE, undefined, [401, 'unauthenticated'], [401, 'unauthenticated']],
  ['an empty token', FILE, 'Bearer ', [401, 'unauthenticated'], [401, 'unauthenticated']],
  ['a wrong token', FILE, 'Bearer x', [401, 'unauthenticated'], [401, 'unauthenticated']],
  ['another scheme', FILE, 'Basic bzpv', [401, 'unauthenticated'], [401, 'unauthenticated']],
  ['a viewer', FILE, 'Bearer v', [200, 'ok'], [403, 'permission_denied']],
  ['an agent', FILE, 'Bearer a', [403, 'permission_denied'], [403, 'permission_denied']],
  ['an operator', FILE, 'Bearer o', [200, 'ok'], [200, 'ok']],
  ['an operator, scheme in lower case', FILE, 'bearer o', [200, 'ok'], [200, 'ok']],
  ['anonymous reads, no token', ANONYMOUS, undefined, [200, 'ok'], [401, 'unauthenticated']],
  [
    'anonymous reads, a wrong token',
    ANONYMOUS,
    'Bearer x',
    [401, 'unauthenticated'],
    [401, 'unauthenticated'],
  ],
  [
    'anonymous reads, an agent',
    ANONYMOUS,
    'Bearer a',
    [403, 'permission_denied'],
    [403, 'permission_denied'],
  ],
  ['anonymous reads, an operator', ANONYMOUS, 'Bearer o', [200, 'ok'], [200, 'ok']],
];

test.each(ROWS)(
  '%s: REST and gRPC say the same of reads and writes',
  async (_, access, header, read, write) => {
    const view = new FakeView();
    view.change(alertOf('rest'));
    view.change(alertOf('grpc'));
    await using server = await startApi({ view, access });
    const headers = header === undefined ? {} : { authorization: header };
    const get = (path: string) => fetch(server.url + path, { headers });
    for (const path of [
      '/api/v1/nodes',
      '/api/v1/alerts',
      '/api/v1/losses',
      '/api/v1/dead-letters',
      '/metrics',
    ])
      expect((await get(path)).status, path).toBe(read[0]);
    const resolved = await fetch(`${server.url}/api/v1/alerts/rest/resolve`, { method: 'POST', headers });
    expect(resolved.status).toBe(write[0]);
    expect(resolved.headers.get('www-authenticate')).toBe(write[0] === 401 ? 'Bearer' : null);
    const post = (path: string, body: unknown) =>
      fetch(server.url + path, { method: 'POST', headers, body: JSON.stringify(body) });
    expect((await post('/api/v1/replay', { from: 1 })).status).toBe(write[0]);
    expect((await post('/api/v1/dead-letters/replay', { ids: [] })).status).toBe(write[0]);

    const transport = createGrpcTransport({ baseUrl: server.url });
    const client = createClient(FleetService, transport);
    const outcome = async (call: Promise<unknown>): Promise<string> => {
      try {
        await call;
        return 'ok';
      } catch (error) {
        return /\[(\w+)\]/.exec(String(error))?.[1] ?? String(error);
      }
    };
    expect(await outcome(client.listNodes({}, { headers }))).toBe(read[1]);
    const watch = client.watchAlerts({}, { headers })[Symbol.asyncIterator]();
    expect(await outcome(watch.next())).toBe(read[1]);
    const reflection = createClient(ServerReflection, transport).serverReflectionInfo(
      (async function* () {
        yield { messageRequest: { case: 'listServices', value: '' } } as const;
      })(),
      { headers },
    );
    expect(await outcome(reflection[Symbol.asyncIterator]().next())).toBe(read[1]);
    expect(await outcome(client.listLosses({}, { headers }))).toBe(read[1]);
    expect(await outcome(client.listDeadLetters({}, { headers }))).toBe(read[1]);
    expect(await outcome(client.resolveAlert({ id: 'grpc' }, { headers }))).toBe(write[1]);
    expect(await outcome(client.replay({ from: { seconds: 1n } }, { headers }))).toBe(write[1]);
    expect(await outcome(client.replayDeadLetters({}, { headers }))).toBe(write[1]);
    const asked = write[0] === 200 ? 2 : 0;
    expect([view.replays.length, view.replayedLetters.length]).toEqual([asked, asked]);
    expect(view.alert('grpc')!.state === view.alert('rest')!.state).toBe(true);
  },
);

test('an orchestrator asks for health without a token', async () => {
  await using server = await startApi({ access: FILE });
  for (const path of ['/healthz', '/readyz']) expect((await fetch(server.url + path)).status).toBe(200);
  const health = createClient(Health, createGrpcTransport({ baseUrl: server.url }));
  await expect(health.check({})).resolves.toMatchObject({ status: 1 });
});
