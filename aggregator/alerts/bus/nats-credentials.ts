import { readFile } from 'node:fs/promises';
import { credsAuthenticator } from '@nats-io/transport-node';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { NatsLinkOptions } from './nats-link.ts';

/** Reads a NATS credentials file (.creds: user JWT and seed). Throws `invalid_config`. */
export async function readNatsCredentials(
  file: string,
): Promise<NonNullable<NatsLinkOptions['credentials']>> {
  try {
    return { authenticator: credsAuthenticator(await readFile(file)) };
  } catch (error) {
    throw new FleetError('invalid_config', `Cannot read NATS credentials ${file}`, { cause: error });
  }
}
