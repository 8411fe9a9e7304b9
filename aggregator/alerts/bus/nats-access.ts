import { readFileSync } from 'node:fs';
import {
  credsAuthenticator,
  nkeyAuthenticator,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from '@nats-io/transport-node';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { NatsLinkOptions } from './nats-link.ts';

/** How to be let in by nats-server, one way at most, and TLS beside it. Secrets are in files alone. */
export interface NatsAccess {
  /** A .creds file: a user's JWT and seed, as `nsc` writes it. */
  readonly credentials?: string | undefined;
  /** A file with the seed of an nkey user (SU...). */
  readonly nkey_file?: string | undefined;
  readonly user?: string | undefined;
  readonly password_file?: string | undefined;
  readonly token_file?: string | undefined;
  /** When given, even empty, nothing is said to a server without TLS. Without `ca` the system's authorities count. */
  readonly tls?:
    | {
        readonly ca?: string | undefined;
        /** For a server that verifies its clients. */
        readonly cert?: string | undefined;
        readonly key?: string | undefined;
      }
    | undefined;
}

/** Secrets are small: a file beyond this is not one. */
const MAX_SECRET_BYTES = 64 * 1024;

/**
 * What the client needs of these settings. Files are read now, so that a wrong path is told at the start, and again at
 * each connection: a secret that was replaced counts from the next one. Throws `invalid_config`.
 */
export function natsAccess(access: NatsAccess): NonNullable<NatsLinkOptions['credentials']> {
  const { credentials, nkey_file, user, password_file, token_file, tls } = access;
  const ways = [credentials, nkey_file, user, token_file].filter((way) => way !== undefined);
  if (ways.length > 1) fail('only one of credentials, nkey_file, user and token_file can be used');
  if ((user === undefined) !== (password_file === undefined)) fail('user and password_file go together');
  if ((tls?.cert === undefined) !== (tls?.key === undefined)) fail('tls.cert and tls.key go together');
  for (const file of [credentials, nkey_file, password_file, token_file, tls?.ca, tls?.cert, tls?.key]) {
    if (file !== undefined) secret(file);
  }
  const authenticator = authenticatorOf(access);
  return {
    ...(authenticator && { authenticator }),
    ...(tls && {
      tls: {
        ...(tls.ca !== undefined && { caFile: tls.ca }),
        ...(tls.cert !== undefined && { certFile: tls.cert }),
        ...(tls.key !== undefined && { keyFile: tls.key }),
      },
    }),
  };
}

function authenticatorOf({ credentials, nkey_file, user, password_file, token_file }: NatsAccess) {
  if (credentials !== undefined) return credsAuthenticator(() => secret(credentials));
  if (nkey_file !== undefined) return nkeyAuthenticator(() => bytes(text(nkey_file)));
  if (token_file !== undefined) return tokenAuthenticator(() => text(token_file));
  if (user === undefined || password_file === undefined) return undefined;
  return usernamePasswordAuthenticator(user, () => text(password_file));
}

function text(file: string): string {
  return new TextDecoder().decode(secret(file)).trim();
}

function bytes(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

function secret(file: string): Uint8Array {
  let content: Uint8Array;
  try {
    content = readFileSync(file);
  } catch (error) {
    throw new FleetError('invalid_config', `Cannot read ${file}, which access to NATS needs`, {
      cause: error,
    });
  }
  if (content.length === 0 || content.length > MAX_SECRET_BYTES)
    fail(`${file} is empty or larger than ${MAX_SECRET_BYTES} bytes`);
  return content;
}

function fail(why: string): never {
  throw new FleetError('invalid_config', `Cannot set up access to NATS: ${why}`);
}
