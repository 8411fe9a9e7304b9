import { open } from 'node:fs/promises';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { TargetSettings } from './settings.ts';

/** As node:tls takes them. */
export interface TlsFiles {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly servername?: string;
}

/** A bundle of all public roots has 250 kB. */
const MAX_FILE_BYTES = 2 ** 20;

/** What gives the Authorization header of a target; undefined where it has none. */
export function authorizationOf(
  settings: Pick<TargetSettings, 'basic_auth' | 'bearer_token_file'>,
): (() => Promise<string>) | undefined {
  const { basic_auth, bearer_token_file } = settings;
  if (bearer_token_file !== undefined) return async () => `Bearer ${await secretIn(bearer_token_file)}`;
  if (basic_auth === undefined) return undefined;
  return async () => {
    const pair = `${basic_auth.username}:${await secretIn(basic_auth.password_file)}`;
    return `Basic ${Buffer.from(pair).toString('base64')}`;
  };
}

/** What reads a target's TLS files; undefined where it has none. */
export function tlsOf({ tls }: Pick<TargetSettings, 'tls'>): (() => Promise<TlsFiles>) | undefined {
  if (tls === undefined) return undefined;
  const { ca, cert, key, server_name } = tls;
  return async () => ({
    ...(ca !== undefined && { ca: await contentOf(ca) }),
    ...(cert !== undefined && { cert: await contentOf(cert) }),
    ...(key !== undefined && { key: await contentOf(key) }),
    ...(server_name !== undefined && { servername: server_name }),
  });
}

async function secretIn(path: string): Promise<string> {
  const secret = (await contentOf(path)).toString('utf8').trim();
  // What a header cannot carry would be refused with words that show it.
  if (/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(secret)) return secret;
  throw new FleetError('invalid_config', `Cannot use ${path}: it holds no single line of printable ASCII`);
}

async function contentOf(path: string): Promise<Buffer> {
  try {
    await using file = await open(path);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_FILE_BYTES + 1), 0, MAX_FILE_BYTES + 1, 0);
    if (bytesRead <= MAX_FILE_BYTES) return buffer.subarray(0, bytesRead);
  } catch (cause) {
    throw new FleetError('unavailable', `Cannot read ${path}`, { cause });
  }
  throw new FleetError('invalid_config', `Cannot use ${path}: it is larger than ${MAX_FILE_BYTES} bytes`);
}
