import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import {
  AckSchema,
  IngestService,
  type StreamRequest,
  StreamRequestSchema,
  type StreamResponse,
  StreamResponseSchema,
  WelcomeSchema,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { serve } from './program.ts';

/*
 * What the transport alone costs: a server that takes the agents' stream with grpc-js, reads each message's envelope,
 * and acknowledges it. No frame is decoded and nothing is kept, evaluated or written.
 */
export interface GrpcEchoRequest {
  readonly port: number;
}

const WINDOW_BYTES = 1024 * 1024;

serve<GrpcEchoRequest>(async ({ port }) => {
  const server = new Server();
  server.addService(
    {
      Stream: {
        path: `/${IngestService.typeName}/Stream`,
        requestStream: true,
        responseStream: true,
        requestDeserialize: (bytes: Buffer) => fromBinary(StreamRequestSchema, bytes),
        requestSerialize: (message: StreamRequest) => Buffer.from(toBinary(StreamRequestSchema, message)),
        responseDeserialize: (bytes: Buffer) => fromBinary(StreamResponseSchema, bytes),
        responseSerialize: (message: StreamResponse) => Buffer.from(toBinary(StreamResponseSchema, message)),
      },
    },
    { Stream: answer },
  );
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error) =>
    error ? reject(error) : resolve(),
  );
  await promise;
});

function answer(call: ServerDuplexStream<StreamRequest, StreamResponse>): void {
  const reply = (message: StreamResponse['message']) => call.write(create(StreamResponseSchema, { message }));
  call.on('error', () => {});
  call.on('data', ({ message }: StreamRequest) => {
    if (message.case === 'hello') {
      const value = create(WelcomeSchema, { protocolVersion: 1, windowBytes: WINDOW_BYTES });
      reply({ case: 'welcome', value });
    } else if (message.case === 'record' && message.value.sequence > 0n) {
      const { run, sequence } = message.value;
      const value = create(AckSchema, { accepted: [{ run, first: sequence, last: sequence }] });
      reply({ case: 'ack', value });
    }
  });
}
