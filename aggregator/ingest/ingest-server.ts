import { fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  Server,
  type ServerCredentials,
  type ServerDuplexStream,
  type ServiceDefinition,
  type StatusObject,
  status,
} from '@grpc/grpc-js';
import {
  IngestService,
  type StreamResponse,
  StreamResponseSchema,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { type Address, showAddress } from '#shared/config/values.ts';
import { describeError, type ErrorCode, FleetError } from '#shared/errors/fleet-error.ts';
import type { Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { type AdmissionLimits, DEFAULT_LIMITS } from './admission.ts';
import { away, type CommandAnswer, type CommandOrder } from './agent-commands.ts';
import { AgentStream, type TimeBounds } from './agent-stream.ts';
import { decodeRequest } from './decode-request.ts';
import { type IngestMetrics, ingestMetrics } from './ingest-metrics.ts';
import type { IngestSink, Peer, ReplayOrder } from './ingest-sink.ts';
import { SpanTable } from './span-table.ts';

/** What a stream's credential proves. */
export interface Credential {
  /** The one node that it may speak for; any where undefined. */
  readonly node: string | undefined;
}

export interface IngestServerOptions {
  readonly listen: Address;
  readonly credentials: ServerCredentials;
  /** The credential of a call from its bearer token and client certificate; undefined: refused. */
  readonly authenticate: (bearer: string | undefined, peerCertificate: unknown) => Credential | undefined;
  readonly sink: IngestSink;
  readonly shard: string;
  readonly limits?: AdmissionLimits;
  readonly timeBounds: () => TimeBounds;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
}

/** Unaccepted bytes that an agent may have under way in each lane. */
const WINDOW_BYTES = 256 * 1024;
/**
 * Unaccepted backlog of all agents together: they share it evenly, each at least MIN_BACKFILL_BYTES. It is what a
 * live tick may find in front of itself when a whole fleet drains at once: 16 MiB are about 12 million samples,
 * decoded in less than a second.
 */
const BACKFILL_BUDGET_BYTES = 16 * 2 ** 20;
const MIN_BACKFILL_BYTES = 8 * 1024;
/** Answers that an agent has not read; one that reads none is ended. */
const MAX_UNREAD_ANSWERS = 1_000;
/** A stream is closed after this and opened again: behind a balancer the fleet spreads anew. grpc-js adds 10 % jitter. */
const MAX_CONNECTION_AGE_MS = 3_600_000;
const CONNECTION_GRACE_MS = 10_000;
/** A tick of 100,000 raw values is 800 KB. */
const MAX_MESSAGE_BYTES = 4 * 2 ** 20;
const MAX_STREAMS = 20_000;
/** A stream that has not said Hello by then is closed. */
const HELLO_DEADLINE_MS = 10_000;
/** Also without records an agent hears how the store is: durable marks move by it. */
const STATUS_EVERY_MS = 5_000;
/** A second machine under a node's name is refused until the first has been silent for this long. */
const TAKEOVER_AFTER_MS = 15_000;
const DRAIN_MS = 2_000;

const GRPC_STATUS: Partial<Record<ErrorCode, status>> = {
  invalid_input: status.INVALID_ARGUMENT,
  resource_exhausted: status.RESOURCE_EXHAUSTED,
  unauthenticated: status.UNAUTHENTICATED,
  permission_denied: status.PERMISSION_DENIED,
  unavailable: status.UNAVAILABLE,
  version_mismatch: status.FAILED_PRECONDITION,
};

const DEFINITION = {
  stream: {
    path: `/${IngestService.typeName}/Stream`,
    requestStream: true,
    responseStream: true,
    requestSerialize: (bytes: Buffer) => bytes,
    // Decoded by the handler, so that what is wrong with it has a status of its own.
    requestDeserialize: (bytes: Buffer) => bytes,
    responseSerialize: (message: StreamResponse) => Buffer.from(toBinary(StreamResponseSchema, message)),
    responseDeserialize: (bytes: Buffer) => fromBinary(StreamResponseSchema, bytes),
  },
} satisfies ServiceDefinition;

/** Where agents of 0.1.0 call: they get a sentence instead of "unimplemented". */
const FORMER_DEFINITION = {
  stream: { ...DEFINITION.stream, path: '/gpufleet.telemetry.v1alpha1.IngestService/Stream' },
} satisfies ServiceDefinition;

type Call = ServerDuplexStream<Buffer, StreamResponse>;

/** Takes the fleet's streams: the one place of the aggregator that knows grpc-js. */
export class IngestServer implements AsyncDisposable {
  readonly #options: IngestServerOptions;
  readonly #server: Server;
  readonly #streams = new Set<AgentStream>();
  /** The live stream of each node. */
  readonly #nodes = new Map<
    string,
    { readonly stream: AgentStream; readonly machineId: string; end(): void }
  >();
  readonly #metrics: IngestMetrics;
  readonly #status: NodeJS.Timeout;
  readonly #spans = new SpanTable();
  #address: Address;

  private constructor(options: IngestServerOptions) {
    this.#options = options;
    this.#address = options.listen;
    this.#metrics = ingestMetrics(options.registry, () => this.#streams.size);
    this.#server = new Server({
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.max_concurrent_streams': 16,
      'grpc.keepalive_time_ms': 30_000,
      'grpc.keepalive_timeout_ms': 10_000,
      'grpc.max_connection_age_ms': MAX_CONNECTION_AGE_MS,
      'grpc.max_connection_age_grace_ms': CONNECTION_GRACE_MS,
      'grpc-node.flow_control_window': 2 ** 20,
    });
    this.#server.addService(DEFINITION, { stream: (call: Call) => this.#accept(call) });
    this.#server.addService(FORMER_DEFINITION, { stream: (call: Call) => this.#refuseFormer(call) });
    this.#status = setInterval(() => {
      for (const stream of this.#streams) if (!stream.heardWithin(STATUS_EVERY_MS)) stream.acknowledge();
    }, STATUS_EVERY_MS / 2);
  }

  /** Throws `unavailable` where the port is taken. */
  static async listen(options: IngestServerOptions): Promise<IngestServer> {
    const server = new IngestServer(options);
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    server.#server.bindAsync(showAddress(options.listen), options.credentials, (error, port) =>
      error ? reject(error) : resolve(port),
    );
    try {
      server.#address = { ...options.listen, port: await promise };
    } catch (error) {
      clearInterval(server.#status);
      server.#server.forceShutdown();
      throw new FleetError(
        'unavailable',
        `Cannot listen for agents on ${showAddress(options.listen)}: is the port taken? Choose another with ingest.listen`,
        { cause: error },
      );
    }
    options.logger.info({ address: showAddress(server.#address) }, 'listening for agents');
    return server;
  }

  get address(): Address {
    return this.#address;
  }

  /** Tells every agent how the store is now. */
  announce(): void {
    for (const stream of this.#streams) stream.acknowledge();
  }

  /** Asks the connected agents of a node, or all, to send again; returns how many were asked. */
  replay(order: ReplayOrder, node?: string): number {
    let asked = 0;
    for (const stream of this.#streams) {
      if (!stream.peer || (node !== undefined && stream.peer.source.node !== node)) continue;
      stream.replay(order);
      asked++;
    }
    return asked;
  }

  /**
   * Has the agent of a node run a command of its list, once for each id, over mutual TLS only. Never rejects: at the
   * signal it says where the command stands, and a repeat with the same id finds what became of it.
   */
  async command(
    cluster: string,
    node: string,
    order: CommandOrder,
    signal: AbortSignal,
  ): Promise<CommandAnswer> {
    const held = this.#nodes.get(keyOf(cluster, node));
    if (!held) return away('its agent is not connected to this aggregator');
    return await held.stream.command(order, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#status);
    this.announce();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.tryShutdown(() => resolve());
    for (const { end } of this.#nodes.values()) end();
    const timer = setTimeout(() => {
      this.#server.forceShutdown();
      resolve();
    }, DRAIN_MS);
    await promise;
    clearTimeout(timer);
  }

  #accept(call: Call): void {
    const end = (error: unknown): void => {
      const fault = statusOf(error);
      this.#metrics.failed(status[fault.code] ?? String(fault.code));
      this.#options.logger.warn({ address: call.getPeer(), cause: fault.details }, 'a stream was ended');
      call.emit('error', fault);
    };
    if (this.#streams.size >= MAX_STREAMS) {
      end(new FleetError('resource_exhausted', `Cannot take another stream: ${MAX_STREAMS} are open`));
      return;
    }
    const credential = this.#authenticate(call);
    if (!credential) {
      end(new FleetError('unauthenticated', 'Cannot admit stream: its token is missing or wrong'));
      return;
    }
    const stream = this.#open(call, credential, end);
    this.#streams.add(stream);
    const helloDeadline = setTimeout(() => {
      if (!stream.peer)
        end(
          new FleetError(
            'invalid_input',
            `Cannot wait longer: no Hello within ${HELLO_DEADLINE_MS / 1000} s`,
          ),
        );
    }, HELLO_DEADLINE_MS);
    const close = (): void => {
      clearTimeout(helloDeadline);
      if (!this.#streams.delete(stream)) return;
      const key = stream.peer && nodeKey(stream.peer);
      if (key !== undefined && this.#nodes.get(key)?.stream === stream) this.#nodes.delete(key);
      stream.close();
    };
    call.on('data', (bytes: Buffer) => {
      try {
        stream.receive(decodeRequest(bytes));
      } catch (error) {
        close();
        end(error);
      }
    });
    call.on('end', () => {
      // The agent drains: it has everything that can be said now.
      stream.acknowledge();
      close();
      call.end();
    });
    call.on('error', close);
    call.on('close', close);
    call.on('cancelled', close);
  }

  #refuseFormer(call: Call): void {
    const fault = new FleetError(
      'version_mismatch',
      'Cannot admit stream: this aggregator speaks gpufleet.telemetry.v1, the agent v1alpha1: update the agent. Its samples wait in its buffer',
    );
    this.#metrics.failed('FAILED_PRECONDITION');
    this.#options.logger.warn({ address: call.getPeer() }, fault.message);
    call.emit('error', statusOf(fault));
  }

  #open(call: Call, credential: Credential, end: (error: unknown) => void): AgentStream {
    const { sink, shard, limits = DEFAULT_LIMITS, clock, timeBounds } = this.#options;
    return new AgentStream({
      sink,
      shard,
      limits,
      clock,
      timeBounds,
      windowBytes: WINDOW_BYTES,
      backfillWindowBytes: () =>
        Math.max(
          MIN_BACKFILL_BYTES,
          Math.min(WINDOW_BYTES, Math.floor(BACKFILL_BUDGET_BYTES / Math.max(1, this.#streams.size))),
        ),
      spans: this.#spans,
      boundNode: credential.node,
      // A client's certificate is asked for, and then checked, only where there is a CA: see serverCredentials.
      mutual: credential.node !== undefined && call.getAuthContext().sslPeerCertificate !== undefined,
      address: call.getPeer(),
      metrics: this.#metrics,
      send: (response) => {
        if (call.writableLength < MAX_UNREAD_ANSWERS) call.write(response);
        else
          end(new FleetError('resource_exhausted', 'Cannot answer: the agent does not read what it is sent'));
      },
      onHello: (stream, peer) => this.#claim(stream, peer, end),
    });
  }

  #authenticate(call: Call): Credential | undefined {
    const header = call.metadata.get('authorization')[0];
    const bearer = typeof header === 'string' && header.startsWith('Bearer ') ? header.slice(7) : undefined;
    return this.#options.authenticate(bearer, call.getAuthContext().sslPeerCertificate);
  }

  /** One live run for each node: the same machine takes over at once, another one only from a silent one. */
  #claim(stream: AgentStream, peer: Peer, end: (error: unknown) => void): void {
    const key = nodeKey(peer);
    const held = this.#nodes.get(key);
    if (held) {
      const silentMs = this.#options.clock.monotonic() - held.stream.lastRecordAt;
      if (held.machineId !== peer.machineId && silentMs < TAKEOVER_AFTER_MS) {
        this.#conflict(held.stream.peer, peer);
        throw new FleetError(
          'permission_denied',
          `Cannot admit node "${peer.source.node}": another machine (${held.stream.peer?.address}) streams under this name`,
        );
      }
      held.end();
    }
    this.#nodes.set(key, {
      stream,
      machineId: peer.machineId,
      end: () =>
        end(
          new FleetError(
            'unavailable',
            'The stream was replaced or the aggregator is stopping: connect again',
          ),
        ),
    });
  }

  #conflict(holder: Peer | undefined, claimant: Peer): void {
    const event = {
      type: 'identity_conflict',
      timestampMs: this.#options.clock.now(),
      gpu: '',
      gpuUuid: '',
      text: `Two machines use the node name "${claimant.source.node}": ${holder?.address} and ${claimant.address}`,
      attributes: { holder: holder?.address ?? '', claimant: claimant.address },
    };
    void this.#options.sink.event(claimant.source, event, false);
  }
}

function nodeKey({ source }: Peer): string {
  return keyOf(source.cluster, source.node);
}

function keyOf(cluster: string, node: string): string {
  return `${cluster}\n${node}`;
}

function statusOf(error: unknown): Partial<StatusObject> & { code: status; details: string } {
  const code = error instanceof FleetError ? (GRPC_STATUS[error.code] ?? status.INTERNAL) : status.INTERNAL;
  return { code, details: describeError(error) };
}
