import { readFile } from 'node:fs/promises';
import { checkServerIdentity } from 'node:tls';
import { type ChannelCredentials, credentials } from '@grpc/grpc-js';
import { FleetError } from '#shared/errors/fleet-error.ts';

/** Files, PEM. `cert` and `key` make it mutual. */
export interface ChannelTls {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  /** The name in the aggregator's certificate, where it is not the one in its address. */
  readonly server_name?: string | undefined;
}

/** How the agent shows itself to an aggregator. Throws `invalid_config` for files that cannot be used. */
export async function channelCredentials(tls: ChannelTls | undefined): Promise<ChannelCredentials> {
  if (!tls) return credentials.createInsecure();
  const read = async (file: string | undefined): Promise<Buffer | null> =>
    file === undefined ? null : await readFile(file);
  try {
    const name = tls.server_name;
    return credentials.createSsl(
      await read(tls.ca),
      await read(tls.key),
      await read(tls.cert),
      name === undefined
        ? {}
        : { checkServerIdentity: (_, certificate) => checkServerIdentity(name, certificate) },
    );
  } catch (error) {
    throw new FleetError('invalid_config', 'Cannot use the TLS files of the agent', { cause: error });
  }
}
