import { chmod, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import {
  CommandOutcome,
  CommandRequestSchema,
  type CommandResult,
  IngestService,
  type StreamRequest,
  StreamRequestSchema,
  type StreamResponse,
  StreamResponseSchema,
  WelcomeSchema,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import {
  certificateNode,
  type PeerCertificateFacts,
  readListenerTls,
} from '#shared/security/listener-tls.ts';
import { commandKind } from '../../aggregator/alerts/actions/executors/command.ts';
import { IngestServer } from '../../aggregator/ingest/ingest-server.ts';
import { serverCredentials } from '../../aggregator/ingest/server-credentials.ts';
import { contextOf, depsOf } from '../aggregator/alerts/actions/executors/fixtures.ts';
import { type CertificateFiles, TestAuthority } from '../shared/security/certificates.ts';
import { freePort } from '../support/ports.ts';
import { type Child, startProgram } from '../support/process.ts';
import { quietSink } from '../support/quiet-sink.ts';
import { tempDir } from '../support/temp.ts';
import { until } from '../support/wait.ts';

const WAIT_MS = 30_000;
const ORDER = { name: 'reset-gpu', args: { gpu: '3', gpu_uuid: 'GPU-1f00' } };

/** The agent's real program, and the aggregator's real listener in front of a sink that keeps events. */
class Pair implements AsyncDisposable {
  readonly events: readonly FleetEvent[];
  readonly folder: string;
  readonly server: IngestServer;
  readonly agent: Child;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    folder: string,
    server: IngestServer,
    agent: Child,
    events: readonly FleetEvent[],
    stack: AsyncDisposableStack,
  ) {
    this.events = events;
    this.folder = folder;
    this.server = server;
    this.agent = agent;
    this.#stack = stack;
  }

  static async start(
    serverTls: (CertificateFiles & { ca?: string }) | undefined,
    agentTls: object | undefined,
    commands?: object,
  ): Promise<Pair> {
    await using stack = new AsyncDisposableStack();
    const { path } = stack.use(tempDir('command'));
    const events: FleetEvent[] = [];
    let streams = 0;
    const tls = serverTls && (await readListenerTls(serverTls));
    const server = stack.use(
      await IngestServer.listen({
        listen: { host: '127.0.0.1', port: 0 },
        credentials: serverCredentials(tls),
        authenticate: (_, certificate) => ({
          node: tls?.ca && certificateNode(certificate as PeerCertificateFacts | undefined),
        }),
        sink: quietSink({
          connected() {
            streams++;
          },
          async event(_, event) {
            events.push(event);
            return { state: 'accepted', epoch: 1n };
          },
        }),
        shard: 'shard-0',
        timeBounds: () => ({ minMs: 0, maxMs: Number.MAX_SAFE_INTEGER }),
        clock: systemClock,
        logger: silentLogger,
        registry: createRegistry(),
      }),
    );
    const program = join(path, 'reset');
    await writeFile(
      program,
      `#!/bin/sh\necho "$@" >> ${path}/runs\nwhile [ -e ${path}/slow ]; do sleep 0.05; done\necho reset\n`,
    );
    await chmod(program, 0o755);
    const config = {
      cluster: 'test',
      node: 'node-1',
      machine_id: 'machine-1',
      data_dir: join(path, 'agent'),
      aggregators: [`127.0.0.1:${server.address.port}`],
      exporter: { listen: `127.0.0.1:${await freePort()}` },
      collection_interval: '200ms',
      collectors: { simulated: { gpus: 1, seed: 3 } },
      ...(agentTls && { tls: agentTls }),
      commands: commands ?? {
        'reset-gpu': { argv: [program, '--gpu-reset', '-i', '{gpu_uuid}'], timeout: '20s' },
      },
    };
    await writeFile(join(path, 'agent.yaml'), stringify(config));
    const agent = stack.use(
      await startProgram('agent/main.ts', { args: ['--config', join(path, 'agent.yaml')] }),
    );
    await until(() => streams > 0, {
      timeoutMs: WAIT_MS,
      what: 'the agent connects',
      detail: () => agent.lastLines(10),
    });
    return new Pair(path, server, agent, events, stack.move());
  }

  async runs(): Promise<string[]> {
    return await readFile(join(this.folder, 'runs'), 'utf8').then(
      (text) => text.trim().split('\n'),
      () => [],
    );
  }

  ask(id: string, ms = WAIT_MS, name = ORDER.name) {
    return this.server.command('test', 'node-1', { ...ORDER, id, name }, AbortSignal.timeout(ms));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }
}

/** Certificates of both sides. */
async function certificates() {
  const authority = await TestAuthority.create();
  const [server, own] = await Promise.all([
    authority.issue('server', 'IP:127.0.0.1'),
    authority.issue('own', 'URI:spiffe://fleet.example/node/node-1'),
  ]);
  return { authority, server, own };
}

test('over mutual TLS a command of the list runs once, its result comes back, and an event is kept', {
  timeout: 120_000,
}, async () => {
  const { authority, server, own } = await certificates();
  await using _authority = authority;
  await using pair = await Pair.start({ ...server, ca: authority.ca }, { ca: authority.ca, ...own });
  const executor = await commandKind.open(
    v.parse(commandKind.schema, { name: 'reset-gpu' }),
    depsOf({ agents: pair.server }),
  );
  const target = { cluster: 'test', node: 'node-1', gpu: '3', gpuUuid: 'GPU-1f00' };
  const execute = () => executor.execute(target, contextOf('step-1'), AbortSignal.timeout(WAIT_MS));
  const done = { outcome: 'done', before: {}, after: { status: 0, output: 'reset\n' } };
  expect(await execute()).toEqual(done);
  expect(await execute()).toEqual(done);
  expect(await pair.runs()).toEqual(['--gpu-reset -i GPU-1f00']);
  await until(() => pair.events.some(({ type }) => type === 'command_run'), {
    timeoutMs: WAIT_MS,
    what: 'the event arrives',
  });
  expect(pair.events.find(({ type }) => type === 'command_run')).toMatchObject({
    gpu: '3',
    gpuUuid: 'GPU-1f00',
    attributes: { command: 'reset-gpu', id: 'step-1', outcome: 'succeeded', status: '0' },
  });
  expect(pair.agent.output).toContain('runs a command for the aggregator');

  // Lost without it: an aggregator that was broken into runs what it likes on every node.
  expect(await pair.ask('step-2', WAIT_MS, 'rm-rf')).toMatchObject({ outcome: 'refused' });
  expect(
    await pair.server.command('test', 'node-2', { ...ORDER, id: 's' }, AbortSignal.timeout(1_000)),
  ).toMatchObject({
    outcome: 'away',
  });

  // One that takes longer than the try goes on, and the next try hears of it.
  await writeFile(join(pair.folder, 'slow'), '');
  await until(async () => (await pair.ask('step-3', 500)).outcome === 'running', {
    timeoutMs: WAIT_MS,
    what: 'it has begun',
  });
  await rm(join(pair.folder, 'slow'));
  expect(await pair.ask('step-3')).toMatchObject({ outcome: 'succeeded' });
  expect(await pair.runs()).toHaveLength(2);
});

/** An aggregator that asks whatever it is not to ask: a command at once after Hello. What the agent answers. */
async function impostorHears(start: (port: number) => Promise<Child>): Promise<CommandResult> {
  const { promise, resolve } = Promise.withResolvers<CommandResult>();
  const server = new Server();
  const definition = {
    stream: {
      path: `/${IngestService.typeName}/Stream`,
      requestStream: true,
      responseStream: true,
      requestSerialize: (bytes: Buffer) => bytes,
      requestDeserialize: (bytes: Buffer) => fromBinary(StreamRequestSchema, bytes),
      responseSerialize: (message: StreamResponse) => Buffer.from(toBinary(StreamResponseSchema, message)),
      responseDeserialize: (bytes: Buffer) => bytes,
    },
  };
  server.addService(definition, {
    stream(call: ServerDuplexStream<StreamRequest, StreamResponse>) {
      const say = (message: StreamResponse['message']) =>
        call.write(create(StreamResponseSchema, { message }));
      call.on('error', () => {});
      call.on('data', ({ message }: StreamRequest) => {
        if (message.case === 'commandResult') resolve(message.value);
        if (message.case !== 'hello') return;
        say({
          case: 'welcome',
          value: create(WelcomeSchema, { protocolVersion: 2, windowBytes: 1_000_000 }),
        });
        const request = { id: 'step-1', name: 'reset-gpu', arguments: { gpu_uuid: 'GPU-1f00' } };
        say({ case: 'commandRequest', value: create(CommandRequestSchema, request) });
      });
    },
  });
  const bound = Promise.withResolvers<number>();
  server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
    error ? bound.reject(error) : bound.resolve(port),
  );
  try {
    await using _agent = await start(await bound.promise);
    return await promise;
  } finally {
    server.forceShutdown();
  }
}

// Lost without it: whoever stands between agent and aggregator, or in the aggregator's place, runs root's commands.
describe('refused, and not run', () => {
  const REFUSED = { outcome: 'refused' };

  test('over a stream in clear', { timeout: 120_000 }, async () => {
    await using pair = await Pair.start(undefined, undefined);
    expect(await pair.ask('step-1')).toMatchObject(REFUSED);
    expect(await pair.runs()).toEqual([]);
    expect(pair.agent.output).toContain('they need tls with cert and key');
  });

  test('over TLS of the aggregator alone', { timeout: 120_000 }, async () => {
    const { authority, server } = await certificates();
    await using _authority = authority;
    await using pair = await Pair.start(server, { ca: authority.ca });
    expect(await pair.ask('step-1')).toMatchObject(REFUSED);
    expect(await pair.runs()).toEqual([]);
  });

  test('where the agent shows a certificate and the aggregator does not ask for it', {
    timeout: 120_000,
  }, async () => {
    const { authority, server, own } = await certificates();
    await using _authority = authority;
    await using pair = await Pair.start(server, { ca: authority.ca, ...own });
    expect(await pair.ask('step-1')).toMatchObject({
      ...REFUSED,
      output: expect.stringContaining('ingest.tls.ca'),
    });
    expect(await pair.runs()).toEqual([]);
  });

  test('by the agent itself, whatever an aggregator in clear asks', { timeout: 120_000 }, async () => {
    await using dir = tempDir('command');
    const ran = join(dir.path, 'ran');
    const heard = await impostorHears(async (port) => {
      const config = {
        node: 'node-1',
        machine_id: 'machine-1',
        data_dir: join(dir.path, 'agent'),
        aggregators: [`127.0.0.1:${port}`],
        exporter: { listen: `127.0.0.1:${await freePort()}` },
        collectors: { simulated: { gpus: 1, seed: 3 } },
        commands: { 'reset-gpu': { argv: ['/usr/bin/touch', ran] } },
      };
      await writeFile(join(dir.path, 'agent.yaml'), stringify(config));
      return await startProgram('agent/main.ts', { args: ['--config', join(dir.path, 'agent.yaml')] });
    });
    expect(heard).toMatchObject({ id: 'step-1', outcome: CommandOutcome.REFUSED });
    await expect(readFile(ran)).rejects.toThrow('ENOENT');
  });

  test('by an agent without a list', { timeout: 120_000 }, async () => {
    const { authority, server, own } = await certificates();
    await using _authority = authority;
    await using pair = await Pair.start({ ...server, ca: authority.ca }, { ca: authority.ca, ...own }, {});
    expect(await pair.ask('step-1')).toMatchObject({
      ...REFUSED,
      output: expect.stringContaining('no command'),
    });
  });
});
