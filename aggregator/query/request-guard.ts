import { isIP } from 'node:net';
import { FleetError } from '#shared/errors/fleet-error.ts';

export interface GuardOptions {
  /** Host names, with or without port, that clients may use beside localhost and addresses. */
  readonly allowedHosts: readonly string[];
  /** Origins (`https://console.example`) whose pages may call. */
  readonly allowedOrigins: readonly string[];
}

const HOST = /^(?:\[([\da-f:.]+)\]|([\w.-]+))(?::\d{1,5})?$/i;

/**
 * Keeps a page that someone happens to look at from using a browser's way in. The Host must be a name of ours: a
 * foreign name that resolves to this machine is DNS rebinding. An Origin must be our own or a configured one.
 * Throws `permission_denied`.
 */
export function guardRequest(
  host: string | undefined,
  origin: string | undefined,
  { allowedHosts, allowedOrigins }: GuardOptions,
): void {
  if (host === undefined || host === '')
    throw new FleetError('permission_denied', 'Cannot answer: the request names no host');
  const name = hostName(host);
  const allowed =
    name === 'localhost' || isIP(name) !== 0 || allowedHosts.includes(host) || allowedHosts.includes(name);
  if (!allowed) {
    throw new FleetError(
      'permission_denied',
      `Cannot answer for host "${host.slice(0, 100)}": name it in api.allowed_hosts if it is meant`,
    );
  }
  if (origin === undefined || allowedOrigins.includes(origin)) return;
  const own = URL.canParse(origin) && new URL(origin).host === host;
  if (!own)
    throw new FleetError(
      'permission_denied',
      `Cannot answer a page of "${origin.slice(0, 100)}": name it in api.allowed_origins if it is meant`,
    );
}

/** The name of a Host header, in lower case; empty where it is not `name`, `name:port` or `[address]:port`. */
function hostName(host: string): string {
  const [, address, name] = HOST.exec(host) ?? [];
  // What is no part of a URL would be an error further on.
  if (!URL.canParse(`http://${host}`)) return '';
  return (address ?? name ?? '').toLowerCase();
}
