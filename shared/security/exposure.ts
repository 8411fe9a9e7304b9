import { isIP } from 'node:net';
import type { Fault } from '#shared/config/load-config.ts';
import { type Address, showAddress } from '#shared/config/values.ts';

/** True for addresses that only this machine can reach. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

/** A listener that others can reach and that asks nobody who they are is a fault, unless it was meant. */
export function exposureFault(
  path: string,
  listener: {
    readonly listen: Address;
    readonly tokens?: string | undefined;
    readonly tls?: { readonly ca?: string | undefined } | undefined;
    readonly allow_unauthenticated: boolean;
  },
): Fault | undefined {
  const asks = listener.tokens !== undefined || listener.tls?.ca !== undefined;
  if (asks || listener.allow_unauthenticated || isLoopback(listener.listen.host)) return undefined;
  return {
    path: `${path}.listen`,
    message: `${showAddress(listener.listen)} is not loopback: set ${path}.tokens or ${path}.tls.ca, or ${path}.allow_unauthenticated: true if that is meant`,
  };
}
