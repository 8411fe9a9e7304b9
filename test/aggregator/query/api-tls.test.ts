import { readFile } from 'node:fs/promises';
import { connect as http2 } from 'node:http2';
import { request } from 'node:https';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { expect, test } from 'vitest';
import { FleetService } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { readListenerTls } from '#shared/security/listener-tls.ts';
import { type CertificateFiles, TestAuthority } from '../../shared/security/certificates.ts';
import { startApi } from './fake-view.ts';

interface ClientTls {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

async function clientTls(ca: string, files?: CertificateFiles): Promise<ClientTls> {
  return {
    ca: await readFile(ca),
    ...(files && { cert: await readFile(files.cert), key: await readFile(files.key) }),
  };
}

function overHttp1(url: string, tls: ClientTls): Promise<number> {
  return new Promise((resolve, reject) => {
    request(`${url}/api/v1/nodes`, { ...tls, agent: false }, (response) => {
      response.resume().once('end', () => resolve(response.statusCode!));
    })
      .once('error', reject)
      .end();
  });
}

const overGrpc = (baseUrl: string, nodeOptions: ClientTls) =>
  createClient(FleetService, createGrpcTransport({ baseUrl, nodeOptions })).listNodes({});

test('over TLS gRPC and REST share the port; a client that does not know the authority refuses', async () => {
  await using authority = await TestAuthority.create();
  const files = await authority.issue('server', 'DNS:localhost,IP:127.0.0.1');
  const server = await startApi({ tls: await readListenerTls(files) });
  try {
    const trusted = await clientTls(authority.ca);
    expect(await overHttp1(server.url, trusted)).toBe(200);
    expect((await overGrpc(server.url, trusted)).total).toBe(3);
    await expect(overHttp1(server.url, {})).rejects.toThrow(/certificate|issuer/);
    // In clear to the TLS port: no answer, and nothing is harmed.
    await expect(fetch(server.url.replace('https', 'http'))).rejects.toThrow();
    expect(await overHttp1(server.url, trusted)).toBe(200);
    const session = http2(server.url, trusted);
    session.on('error', () => {});
    const stopped = server[Symbol.asyncDispose]();
    await stopped;
    session.destroy();
  } finally {
    await server[Symbol.asyncDispose]();
  }
});

// With a CA configured, being able to reach the port must not be enough.
test('with a CA only certificates of it get in, over HTTP/1.1 and HTTP/2', async () => {
  await using authority = await TestAuthority.create();
  await using stranger = await TestAuthority.create();
  const files = await authority.issue('server', 'IP:127.0.0.1');
  await using server = await startApi({ tls: await readListenerTls({ ...files, ca: authority.ca }) });
  const known = await clientTls(authority.ca, await authority.issue('operator'));
  const foreign = await clientTls(authority.ca, await stranger.issue('operator'));
  const without = await clientTls(authority.ca);
  expect(await overHttp1(server.url, known)).toBe(200);
  expect((await overGrpc(server.url, known)).total).toBe(3);
  for (const tls of [foreign, without]) {
    await expect(overHttp1(server.url, tls)).rejects.toThrow();
    await expect(overGrpc(server.url, tls)).rejects.toThrow();
  }
});
