import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { isPortFree } from '../../deploy/local/ports.ts';

/**
 * Below the ports that systems hand out by themselves (Linux: 32768 and up, net.ipv4.ip_local_port_range; elsewhere
 * 49152 and up, RFC 6335), so that no connection of another program takes one between our look and its use.
 */
const FIRST_PORT = 12_000;
const LAST_PORT = 31_999;
const ATTEMPTS = 100;

/**
 * A loopback port to give to a program that must be told one. It is this process's until it ends: no other call gets
 * it, in this process or another of this network namespace, although nobody listens on it yet.
 *
 * @throws Error where a hundred ports in a row were taken
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = randomInt(FIRST_PORT, LAST_PORT + 1);
    if ((await claimed(port)) && (await isPortFree(port))) return port;
  }
  throw new Error(`${ATTEMPTS} ports between ${FIRST_PORT} and ${LAST_PORT} are taken: free some`);
}

const claims = new Set<number>();

/** By a socket in Linux's abstract namespace, which goes with the process; elsewhere only within the process. */
function claimed(port: number): Promise<boolean> {
  if (claims.has(port)) return Promise.resolve(false);
  claims.add(port);
  if (process.platform !== 'linux') return Promise.resolve(true);
  return new Promise((resolve) => {
    const claim = createServer((socket) => socket.destroy());
    claim.once('error', () => resolve(false));
    claim.listen(`\0gpufleet-port-${port}`, () => resolve(true));
    claim.unref();
  });
}
