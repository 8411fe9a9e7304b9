import { readFileSync } from 'node:fs';
import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { AlertService } from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import { FleetService } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { HealthService } from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { plain } from './format.ts';

export type FleetClient = Client<typeof FleetService>;
export type HealthClient = Client<typeof HealthService>;

export interface Clients {
  readonly client: FleetClient;
  readonly health: HealthClient;
  readonly alerting: Client<typeof AlertService>;
}

export interface ConnectionOptions {
  /** http:// or https:// */
  readonly server: string;
  readonly token: string | undefined;
  readonly tokenFile: string | undefined;
  /** PEM of the authority that signed the server's certificate. */
  readonly ca: string | undefined;
  readonly timeoutMs: number;
}

/** Clients of an aggregator, on one connection. Throws `invalid_config` for an address or file that cannot be used. */
export function connect({ server, token, tokenFile, ca, timeoutMs }: ConnectionOptions): Clients {
  if (!/^https?:\/\//.test(server) || !URL.canParse(server)) {
    throw new FleetError(
      'invalid_config',
      `Cannot use server "${server}": it must be http://host:port or https://host:port`,
    );
  }
  const bearer = token ?? (tokenFile === undefined ? undefined : tokenOf(readText(tokenFile), tokenFile));
  const transport = createGrpcTransport({
    baseUrl: server,
    defaultTimeoutMs: timeoutMs,
    ...(ca !== undefined && { nodeOptions: { ca: readText(ca) } }),
    interceptors: [
      (next) => (request) => {
        if (bearer !== undefined) request.header.set('authorization', `Bearer ${bearer}`);
        return next(request);
      },
    ],
  });
  return {
    client: createClient(FleetService, transport),
    health: createClient(HealthService, transport),
    alerting: createClient(AlertService, transport),
  };
}

/** A file with a bare token, or a token file of an aggregator: then the first operator's, else the first. */
export function tokenOf(text: string, file: string): string {
  const lines = text
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '');
  const entries = lines.map((line) => line.split(/\s+/));
  const operator = entries.find(([role, token]) => role === 'operator' && token !== undefined);
  const token = operator?.[1] ?? (entries[0]?.length === 1 ? entries[0][0] : entries[0]?.[1]);
  if (token === undefined)
    throw new FleetError('invalid_config', `Cannot use token file ${file}: there is no token in it`);
  return token;
}

/** Exit codes, documented in --help. */
export const EXIT = { ok: 0, error: 1, usage: 2, notFound: 3, denied: 4, unavailable: 5 } as const;

export function exitCodeOf(error: unknown): number {
  if (error instanceof FleetError) return error.code === 'invalid_config' ? EXIT.usage : EXIT.error;
  switch (ConnectError.from(error).code) {
    case Code.InvalidArgument:
      return EXIT.usage;
    case Code.NotFound:
      return EXIT.notFound;
    case Code.Unauthenticated:
    case Code.PermissionDenied:
      return EXIT.denied;
    case Code.Unavailable:
    case Code.DeadlineExceeded:
      return EXIT.unavailable;
    default:
      return EXIT.error;
  }
}

/** One sentence for people. */
export function sentenceOf(error: unknown, server: string): string {
  if (error instanceof FleetError) return error.message;
  const { rawMessage, code } = ConnectError.from(error);
  if (code === Code.Unavailable || code === Code.DeadlineExceeded)
    return `Cannot reach the aggregator at ${server}: ${plain(rawMessage)}`;
  return plain(rawMessage);
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new FleetError('invalid_config', `Cannot read ${file}: ${(error as NodeJS.ErrnoException).code}`, {
      cause: error,
    });
  }
}
