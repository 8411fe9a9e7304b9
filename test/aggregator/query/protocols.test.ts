import { Agent, get } from 'node:http';
import { connect } from 'node:http2';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { createClient } from '@connectrpc/connect';
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from '@connectrpc/connect-node';
import { credentials, makeGenericClientConstructor } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import { AlertService } from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import {
  FleetService,
  ListNodesRequestSchema,
  type ListNodesResponse,
  ListNodesResponseSchema,
} from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { HealthService } from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { Health, HealthCheckResponse_ServingStatus } from '#proto/grpc/health/v1/health_pb.ts';
import { ServerReflection } from '#proto/grpc/reflection/v1/reflection_pb.ts';
import { until } from '../../support/wait.ts';
import { startApi } from './fake-view.ts';

const NAMES = ['node-1', 'node-2', 'rack/7 ü'];
const named = ({ nodes }: { nodes: readonly { name: string }[] }): string[] => nodes.map(({ name }) => name);

// One contract, many clients: whoever's language speaks only one of these would be shut out.
test.each([
  ['gRPC', (baseUrl: string) => createGrpcTransport({ baseUrl })],
  ['gRPC-Web over HTTP/1.1', (baseUrl: string) => createGrpcWebTransport({ baseUrl, httpVersion: '1.1' })],
  ['gRPC-Web over HTTP/2', (baseUrl: string) => createGrpcWebTransport({ baseUrl, httpVersion: '2' })],
  ['Connect over HTTP/2', (baseUrl: string) => createConnectTransport({ baseUrl, httpVersion: '2' })],
  [
    'Connect in JSON over HTTP/1.1',
    (baseUrl: string) => createConnectTransport({ baseUrl, httpVersion: '1.1', useBinaryFormat: false }),
  ],
])('ListNodes and its errors are the same over %s', async (_, transport) => {
  await using server = await startApi();
  const client = createClient(FleetService, transport(server.url));
  const answer = await client.listNodes({});
  expect(named(answer)).toEqual(NAMES);
  expect(answer.total).toBe(3);
  await expect(client.getNode({ node: 'nobody' })).rejects.toThrow(/\[not_found\].*nobody/);
  await expect(client.listNodes({ pageSize: 1001 })).rejects.toThrow(/\[invalid_argument\].*1 to 1000/);
});

test('ListNodes answers a plain grpc-js client, as other languages write one', async () => {
  await using server = await startApi();
  const Client = makeGenericClientConstructor(
    {
      listNodes: {
        path: `/${FleetService.typeName}/ListNodes`,
        requestStream: false,
        responseStream: false,
        requestSerialize: (message: ReturnType<typeof ListNodesRequest>) =>
          Buffer.from(toBinary(ListNodesRequestSchema, message)),
        requestDeserialize: (bytes: Buffer) => fromBinary(ListNodesRequestSchema, bytes),
        responseSerialize: (message: ListNodesResponse) =>
          Buffer.from(toBinary(ListNodesResponseSchema, message)),
        responseDeserialize: (bytes: Buffer) => fromBinary(ListNodesResponseSchema, bytes),
      },
    },
    'FleetService',
  );
  const client = new Client(`127.0.0.1:${server.port}`, credentials.createInsecure());
  try {
    const answer = await new Promise<ListNodesResponse>((resolve, reject) =>
      client.listNodes!(ListNodesRequest(), (error: Error | null, response: ListNodesResponse) =>
        error ? reject(error) : resolve(response),
      ),
    );
    expect(named(answer)).toEqual(NAMES);
  } finally {
    client.close();
  }
});

function ListNodesRequest() {
  return fromBinary(ListNodesRequestSchema, new Uint8Array());
}

test('a unary call is one POST of JSON by fetch, and its error is JSON with a code', async () => {
  await using server = await startApi();
  const call = (method: string, body: unknown): Promise<Response> =>
    fetch(`${server.url}/${FleetService.typeName}/${method}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  expect(named((await (await call('ListNodes', { pageSize: 2 })).json()) as ListNodesResponse)).toEqual(
    NAMES.slice(0, 2),
  );
  const missing = await call('GetNode', { node: 'nobody' });
  expect([missing.status, ((await missing.json()) as { code: string }).code]).toEqual([404, 'not_found']);
});

test('ListGpus filters by node and model, GetGpu finds by UUID or by node and index', async () => {
  await using server = await startApi();
  const client = createClient(FleetService, createGrpcTransport({ baseUrl: server.url }));
  const uuids = async (filter: object) => (await client.listGpus(filter)).gpus.map(({ uuid }) => uuid);
  expect(await uuids({ node: 'node-1' })).toEqual(['GPU-node-1-0', 'GPU-node-1-1']);
  expect(await uuids({ model: 'NVIDIA A100', node: 'node-2' })).toEqual(['GPU-node-2-1']);
  expect(await uuids({ node: 'nobody' })).toEqual([]);
  const byUuid = await client.getGpu({ uuid: 'GPU-node-2-1' });
  expect(byUuid.samples.map(({ name, value }) => [name, value])).toContainEqual(['gpu_power_watts', 101]);
  expect((await client.getGpu({ node: 'node-2', index: '1' })).gpu?.uuid).toBe('GPU-node-2-1');
  await expect(client.getGpu({ node: 'node-2', index: '9' })).rejects.toThrow(/\[not_found\]/);
  await expect(client.getGpu({})).rejects.toThrow(/\[not_found\]/);
});

test('gRPC health: an orchestrator sees serving, an unknown service is NOT_FOUND, Watch says so and stays', async () => {
  await using server = await startApi();
  const client = createClient(Health, createGrpcTransport({ baseUrl: server.url }));
  const { SERVING, SERVICE_UNKNOWN } = HealthCheckResponse_ServingStatus;
  expect((await client.check({})).status).toBe(SERVING);
  expect((await client.check({ service: FleetService.typeName })).status).toBe(SERVING);
  await expect(client.check({ service: 'no.such.Service' })).rejects.toThrow(/\[not_found\]/);
  for (const [service, expected] of [
    ['', SERVING],
    ['no.such.Service', SERVICE_UNKNOWN],
  ] as const) {
    const stop = new AbortController();
    const watch = client.watch({ service }, { signal: stop.signal })[Symbol.asyncIterator]();
    expect((await watch.next()).value?.status).toBe(expected);
    stop.abort();
    await expect(watch.next()).rejects.toThrow(/canceled|aborted/);
  }
});

test('reflection: grpcurl finds the services and a descriptor that parses, with all that it needs', async () => {
  await using server = await startApi();
  const client = createClient(ServerReflection, createGrpcTransport({ baseUrl: server.url }));
  async function* requests() {
    yield { messageRequest: { case: 'listServices', value: '' } } as const;
    yield { messageRequest: { case: 'fileContainingSymbol', value: FleetService.typeName } } as const;
    yield { messageRequest: { case: 'fileByFilename', value: 'google/protobuf/timestamp.proto' } } as const;
    yield { messageRequest: { case: 'fileContainingSymbol', value: 'no.such.Symbol' } } as const;
    yield { messageRequest: { case: 'allExtensionNumbersOfType', value: 'x' } } as const;
  }
  const answers = [];
  for await (const { messageResponse } of client.serverReflectionInfo(requests()))
    answers.push(messageResponse);
  const [list, bySymbol, byName, unknown, extensions] = answers;
  if (list?.case !== 'listServicesResponse') throw new Error(`${list?.case}`);
  expect(list.value.service.map(({ name }) => name)).toEqual([
    FleetService.typeName,
    HealthService.typeName,
    AlertService.typeName,
    Health.typeName,
    ServerReflection.typeName,
  ]);
  if (bySymbol?.case !== 'fileDescriptorResponse') throw new Error(`${bySymbol?.case}`);
  const files = bySymbol.value.fileDescriptorProto.map((bytes) =>
    fromBinary(FileDescriptorProtoSchema, bytes),
  );
  expect(files.flatMap((file) => file.service.map(({ name }) => name))).toContain('FleetService');
  const names = new Set(files.map(({ name }) => name));
  expect(files.flatMap(({ dependency }) => dependency).filter((name) => !names.has(name))).toEqual([]);
  expect(byName?.case).toBe('fileDescriptorResponse');
  expect(unknown?.case === 'errorResponse' && unknown.value.errorCode).toBe(5);
  expect(extensions?.case === 'errorResponse' && extensions.value.errorCode).toBe(12);
});

test('an HTTP/1.1 keep-alive connection and an HTTP/2 session use the one port at the same time', async () => {
  await using server = await startApi();
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ports = new Set<number | undefined>();
  const overHttp1 = (): Promise<number | undefined> =>
    new Promise((resolve, reject) => {
      get(`${server.url}/api/v1/nodes`, { agent }, (response) => {
        ports.add(response.socket.localPort);
        response.resume().once('end', () => resolve(response.statusCode));
      }).once('error', reject);
    });
  const session = connect(server.url);
  const overHttp2 = (): Promise<number> =>
    new Promise((resolve, reject) => {
      const stream = session.request({ ':path': '/api/v1/nodes' });
      let status = 0;
      stream.once('response', (headers) => {
        status = Number(headers[':status']);
      });
      stream.once('error', reject).once('end', () => resolve(status));
      stream.resume().end();
    });
  try {
    for (let round = 0; round < 3; round++)
      expect(await Promise.all([overHttp1(), overHttp2(), overHttp2()])).toEqual([200, 200, 200]);
    expect(ports.size, 'the HTTP/1.1 connection was kept').toBe(1);
  } finally {
    agent.destroy();
    session.destroy();
  }
});

test('/, /healthz, /readyz with its notes, and /metrics that counts requests by kind', async () => {
  await using server = await startApi({ notes: () => ['NATS is away'] });
  const text = async (path: string) => (await fetch(server.url + path)).text();
  expect(await text('/healthz')).toBe('ok\n');
  expect(await text('/readyz')).toBe('ready\nNATS is away\n');
  expect(await text('/')).toContain('/api/v1');
  await fetch(`${server.url}/api/v1/nope`);
  const metrics = await fetch(`${server.url}/metrics`);
  expect(metrics.headers.get('content-type')).toContain('version=0.0.4');
  await metrics.text();
  await until(
    async () =>
      (await text('/metrics')).includes('gpufleet_api_requests_total{kind="rest",status="4xx"} 1\n'),
    { timeoutMs: 5_000, what: 'the request is counted' },
  );
});
