import type { DescFile, DescService } from '@bufbuild/protobuf';
import { create, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, type ServiceImpl } from '@connectrpc/connect';
import {
  type Health,
  HealthCheckResponse_ServingStatus,
  HealthCheckResponseSchema,
} from '#proto/grpc/health/v1/health_pb.ts';
import {
  type ServerReflection,
  ServerReflectionResponseSchema,
} from '#proto/grpc/reflection/v1/reflection_pb.ts';
import { aborted } from '#shared/lifecycle/wait.ts';
import { toConnectError } from './callers.ts';

const { SERVING, SERVICE_UNKNOWN } = HealthCheckResponse_ServingStatus;
/** gRPC's NOT_FOUND and UNIMPLEMENTED. */
const NOT_FOUND = 5;
const UNIMPLEMENTED = 12;

/** grpc.health.v1: serving, for the server and each of its services; `Watch` says so once and stays open. */
export function healthService(services: readonly DescService[]): ServiceImpl<typeof Health> {
  const known = new Set(['', ...services.map(({ typeName }) => typeName)]);
  return {
    check({ service }) {
      if (!known.has(service))
        throw new ConnectError(`there is no service "${service.slice(0, 100)}"`, Code.NotFound);
      return { status: SERVING };
    },
    async *watch({ service }, { signal }) {
      yield create(HealthCheckResponseSchema, { status: known.has(service) ? SERVING : SERVICE_UNKNOWN });
      await aborted(signal);
      throw toConnectError(signal.reason);
    },
  };
}

/** grpc.reflection.v1: grpcurl and its like find out by themselves what there is to call. */
export function reflectionService(services: readonly DescService[]): ServiceImpl<typeof ServerReflection> {
  const files = new Map<string, DescFile>();
  const add = (file: DescFile): void => {
    if (files.has(file.name)) return;
    files.set(file.name, file);
    file.dependencies.forEach(add);
  };
  for (const { file } of services) add(file);
  const symbols = new Map(
    [...files.values()].flatMap((file) => symbolsOf(file).map((symbol) => [symbol, file] as const)),
  );

  const describe = (file: DescFile | undefined, what: string) =>
    file
      ? {
          case: 'fileDescriptorResponse' as const,
          value: {
            fileDescriptorProto: withDependencies(file).map((one) =>
              toBinary(FileDescriptorProtoSchema, one.proto),
            ),
          },
        }
      : failure(NOT_FOUND, `${what.slice(0, 200)} is not known`);
  const failure = (errorCode: number, errorMessage: string) => ({
    case: 'errorResponse' as const,
    value: { errorCode, errorMessage },
  });

  return {
    async *serverReflectionInfo(requests) {
      for await (const request of requests) {
        const { messageRequest } = request;
        const messageResponse = (() => {
          switch (messageRequest.case) {
            case 'listServices':
              return {
                case: 'listServicesResponse' as const,
                value: { service: services.map(({ typeName }) => ({ name: typeName })) },
              };
            case 'fileByFilename':
              return describe(files.get(messageRequest.value.replace(/\.proto$/, '')), messageRequest.value);
            case 'fileContainingSymbol':
              return describe(symbols.get(messageRequest.value), messageRequest.value);
            default:
              return failure(UNIMPLEMENTED, 'there are no extensions');
          }
        })();
        yield create(ServerReflectionResponseSchema, {
          validHost: request.host,
          originalRequest: request,
          messageResponse,
        });
      }
    },
  };
}

function withDependencies(file: DescFile): DescFile[] {
  const found = new Set<DescFile>();
  const visit = (one: DescFile): void => {
    if (found.has(one)) return;
    found.add(one);
    one.dependencies.forEach(visit);
  };
  visit(file);
  return [...found];
}

function symbolsOf(file: DescFile): string[] {
  const methods = file.services.flatMap(({ typeName, methods }) => [
    typeName,
    ...methods.map(({ name }) => `${typeName}.${name}`),
  ]);
  return [
    ...methods,
    ...file.messages.map(({ typeName }) => typeName),
    ...file.enums.map(({ typeName }) => typeName),
  ];
}
