import { Code, ConnectError, createContextKey, type Interceptor } from '@connectrpc/connect';
import { AlertService } from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import { FleetService } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { HealthService } from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { Health } from '#proto/grpc/health/v1/health_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { bearerOf, type Caller } from '#shared/security/tokens.ts';

/** What a request wants to do. Open: health checks, which an orchestrator makes without a token. */
export type Access = 'open' | 'read' | 'write';

export interface AccessOptions {
  /** The holder of a bearer token; undefined where no token file is configured. */
  readonly check: ((token: string | undefined) => Caller | undefined) | undefined;
  /** Reads without a token are allowed although there is a token file. */
  readonly anonymousRead: boolean;
}

/**
 * Who may do what. Without a token file reads are open (the listener is on loopback, or that was meant) and
 * writes are refused: nobody could say who they are.
 */
export class AccessRules {
  readonly #options: AccessOptions;

  constructor(options: AccessOptions) {
    this.#options = options;
  }

  /** Who asks, undefined where nobody said. Throws `unauthenticated` or `permission_denied`. */
  require(access: Access, authorization: string | undefined): Caller | undefined {
    if (access === 'open') return undefined;
    const { check, anonymousRead } = this.#options;
    const token = bearerOf(authorization);
    const caller = check?.(token);
    if (token !== undefined && check && !caller)
      throw new FleetError('unauthenticated', 'Cannot answer: the token is wrong');
    if (access === 'read') {
      if (caller?.role === 'viewer' || caller?.role === 'operator') return caller;
      if (!caller && (!check || anonymousRead)) return undefined;
    } else if (caller?.role === 'operator') return caller;
    if (!check)
      throw new FleetError('permission_denied', 'Cannot write: no token file is configured (api.tokens)');
    if (!caller) throw new FleetError('unauthenticated', `Cannot answer: a token is needed to ${access}`);
    throw new FleetError('permission_denied', `Cannot answer: role ${caller.role} may not ${access}`);
  }
}

/** The Authorization header of a request, for the handlers' interceptor. */
export const authorizationKey = createContextKey<string | undefined>(undefined);

/** The name of who asks, or the role of a token without one; empty where nobody said. */
export const callerKey = createContextKey<string>('');

const WRITES = new Set<string>(
  [
    FleetService.method.resolveAlert,
    FleetService.method.replay,
    FleetService.method.replayDeadLetters,
    HealthService.method.markNode,
    HealthService.method.unmarkNode,
    HealthService.method.clearGpu,
    HealthService.method.injectAnomaly,
    AlertService.method.acknowledgeAlert,
    AlertService.method.setSilence,
    AlertService.method.expireSilence,
    AlertService.method.reloadRules,
    AlertService.method.resendNotifications,
    AlertService.method.approveAction,
    AlertService.method.rejectAction,
    AlertService.method.undoAction,
  ].map(({ name }) => name),
);

export function accessInterceptor(rules: AccessRules): Interceptor {
  return (next) => async (request) => {
    const access =
      request.service.typeName === Health.typeName
        ? 'open'
        : WRITES.has(request.method.name)
          ? 'write'
          : 'read';
    try {
      const caller = rules.require(access, request.contextValues.get(authorizationKey));
      request.contextValues.set(callerKey, nameOf(caller));
    } catch (error) {
      throw toConnectError(error);
    }
    return next(request);
  };
}

/** Of a caller, for the record. */
export function nameOf(caller: Caller | undefined): string {
  return caller === undefined ? '' : caller.name || caller.role;
}

const CODES: Partial<Record<FleetError['code'], Code>> = {
  invalid_input: Code.InvalidArgument,
  not_found: Code.NotFound,
  unauthenticated: Code.Unauthenticated,
  permission_denied: Code.PermissionDenied,
  resource_exhausted: Code.ResourceExhausted,
  unavailable: Code.Unavailable,
};

export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  if (error instanceof FleetError) return new ConnectError(error.message, CODES[error.code] ?? Code.Internal);
  return new ConnectError('internal error', Code.Internal, undefined, undefined, error);
}

/** Runs a handler, its errors as Connect's. */
export async function answer<T>(handler: () => T | Promise<T>): Promise<T> {
  try {
    return await handler();
  } catch (error) {
    throw toConnectError(error);
  }
}
