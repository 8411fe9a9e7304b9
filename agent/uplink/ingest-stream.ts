import { fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type ChannelCredentials,
  Client,
  type ClientDuplexStream,
  type ClientOptions,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import {
  IngestService,
  type StreamRequest,
  StreamRequestSchema,
  type StreamResponse,
  StreamResponseSchema,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';

/** The one place of the agent that knows grpc-js. */
export interface IngestStream extends Disposable {
  send(request: StreamRequest): void;
  /** Resolves when the stream ended in order, rejects with a FleetError when it broke. */
  readonly ended: Promise<void>;
  /** Half-closes: the server answers what it has, then ends. */
  end(): void;
}

const PATH = `/${IngestService.typeName}/Stream`;

const OPTIONS: ClientOptions = {
  // A dead peer is seen within 30 s also where no sample flows.
  'grpc.keepalive_time_ms': 20_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.keepalive_permit_without_calls': 0,
  // Retries keep a copy of all that a long stream ever sent (grpc-node#2371).
  'grpc.enable_retries': 0,
  // One connection for each agent, also where one process simulates many: an aggregator bounds streams by connection.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.max_receive_message_length': 1024 * 1024,
  'grpc-node.flow_control_window': 1024 * 1024,
};

/** Opens a stream to `address` (host:port). Answers go to `onResponse`, one at a time. */
export function openIngestStream(
  address: string,
  credentials: ChannelCredentials,
  token: string | undefined,
  onResponse: (response: StreamResponse) => void,
): IngestStream {
  const client = new Client(address, credentials, OPTIONS);
  const metadata = new Metadata();
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
  const call: ClientDuplexStream<StreamRequest, StreamResponse> = client.makeBidiStreamRequest(
    PATH,
    (request: StreamRequest) => Buffer.from(toBinary(StreamRequestSchema, request)),
    (bytes: Buffer) => fromBinary(StreamResponseSchema, bytes),
    metadata,
  );
  const ended = new Promise<void>((resolve, reject) => {
    call.on('data', onResponse);
    call.on('error', (error: ServiceError) => reject(toFleetError(address, error)));
    call.on('end', resolve);
  }).finally(() => client.close());
  ended.catch(() => {});
  return {
    ended,
    send: (request) => void call.write(request),
    end: () => call.end(),
    [Symbol.dispose]: () => {
      call.cancel();
      client.close();
    },
  };
}

function toFleetError(address: string, error: ServiceError): FleetError {
  const codes = new Map<number, ConstructorParameters<typeof FleetError>[0]>([
    [status.UNAUTHENTICATED, 'unauthenticated'],
    [status.PERMISSION_DENIED, 'permission_denied'],
    [status.INVALID_ARGUMENT, 'invalid_input'],
    [status.RESOURCE_EXHAUSTED, 'resource_exhausted'],
    [status.FAILED_PRECONDITION, 'version_mismatch'],
    [status.UNIMPLEMENTED, 'version_mismatch'],
  ]);
  if (error.code === status.UNIMPLEMENTED) {
    const cure = `it does not speak ${IngestService.typeName}: update the aggregator, or is this another service's port?`;
    return new FleetError('version_mismatch', `Cannot stream to ${address}: ${cure}`, { retryable: true });
  }
  const message = `Cannot stream to ${address}: ${error.details || error.message}`;
  return new FleetError(codes.get(error.code) ?? 'unavailable', message, { retryable: true });
}
