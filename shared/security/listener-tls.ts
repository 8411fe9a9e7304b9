import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { FleetError } from '#shared/errors/fleet-error.ts';

/** PEM contents for a listener. With `ca`, clients must show a certificate of it. */
export interface ListenerTls {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer | undefined;
}

/** Reads the files. Throws `invalid_config` where one cannot be read, or key and certificate do not belong together. */
export async function readListenerTls(files: {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string | undefined;
}): Promise<ListenerTls> {
  const [cert, key] = await Promise.all([readPem(files.cert), readPem(files.key)]);
  const ca = files.ca === undefined ? undefined : await readPem(files.ca);
  try {
    if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) {
      throw new Error('they do not belong together');
    }
  } catch (error) {
    throw new FleetError('invalid_config', `Cannot use certificate ${files.cert} with key ${files.key}`, {
      cause: error,
    });
  }
  return { cert, key, ca };
}

async function readPem(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    throw new FleetError('invalid_config', `Cannot read TLS file ${file}`, { cause: error });
  }
}

/** What a peer certificate says, as Node's tls gives it. */
export interface PeerCertificateFacts {
  readonly subject?: { readonly CN?: string | readonly string[] };
  readonly subjectaltname?: string;
}

/** Node writes `DNS:a, URI:b`, and a name that has a comma in quotes: it must not pass for two. */
const ALTERNATIVE_NAME = /(?:[^",]|"(?:\\.|[^"\\])*")+/g;
const SPIFFE_NODE = /^URI:spiffe:\/\/[^/]+\/(?:.*\/)?node\/([^/]+)$/;

/**
 * The node that a client certificate belongs to: a SPIFFE id that ends in /node/<name>, else the first DNS name,
 * else the common name; undefined where there is none.
 */
export function certificateNode(certificate: PeerCertificateFacts | undefined): string | undefined {
  const names = certificate?.subjectaltname?.match(ALTERNATIVE_NAME)?.map((name) => name.trim()) ?? [];
  for (const name of names) {
    const spiffe = SPIFFE_NODE.exec(name)?.[1];
    if (spiffe) return spiffe;
  }
  const dns = names.find((name) => name.startsWith('DNS:'))?.slice(4);
  const common = certificate?.subject?.CN;
  return dns ?? (typeof common === 'string' ? common : common?.[0]);
}
