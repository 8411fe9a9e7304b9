import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { describeError } from '#shared/errors/fleet-error.ts';
import { freePort } from '../../test/support/ports.ts';

/** Where a program runs: the nodes, the shipper or aggregator in the middle, the store. */
export type Place = 'node' | 'hub' | 'store';

/** Bytes on the two hops, both directions, as the kernel counted them: Ethernet, IP and TCP headers included. */
export interface WireBytes {
  readonly nodeToHub: number;
  readonly hubToStore: number;
}

/** Three places that programs run in, and what passes between them. */
export interface Network extends Disposable {
  /** Put before a command that shall run in this place. */
  prefix(place: Place): string[];
  /** Where programs of the place listen. */
  listenHost(place: Place): string;
  /** Where the next place, towards the nodes, reaches it. */
  dataHost(place: Place): string;
  /** Where the benchmark itself reaches it; these bytes are not counted. */
  controlHost(place: Place): string;
  /** A port to listen on there. */
  freePort(place: Place): Promise<number>;
  /** Undefined where nothing can be counted. */
  wireBytes(): WireBytes | undefined;
}

const RUN_FOLDER = '/run/netns';
const PREFIX = 'gpufleet-bench-';
/** In a namespace of its own every port is free. */
const FIRST_PORT = 17_000;

/**
 * Network namespaces joined by veth pairs, node - hub - store, so that the kernel counts what a network card
 * would; on loopback, and said so, where this user may not make them.
 */
export function openNetwork(log: (line: string) => void): Network {
  try {
    return new Namespaces();
  } catch (error) {
    log(
      `SKIPPED wire bytes: no network namespaces here, everything runs on loopback (${describeError(error)})`,
    );
    return new Loopback();
  }
}

class Loopback implements Network {
  prefix(): string[] {
    return [];
  }

  listenHost(): string {
    return '127.0.0.1';
  }

  dataHost(): string {
    return '127.0.0.1';
  }

  controlHost(): string {
    return '127.0.0.1';
  }

  freePort(): Promise<number> {
    return freePort();
  }

  wireBytes(): undefined {
    return undefined;
  }

  [Symbol.dispose](): void {}
}

let opened = 0;

/*
 *   node .1 -- .2 hub .5 -- .6 store        198.18.x.0/24, the range for benchmarks (RFC 2544)
 *    |.9        |.13         |.17
 *    |.10       |.14         |.18
 *   +--------- here -----------+             control: not counted
 */
class Namespaces implements Network {
  readonly #name: string;
  readonly #subnet: string;
  #port = FIRST_PORT;

  constructor() {
    removeLeftovers();
    const number = opened++;
    const octet = freeOctet();
    this.#name = `${PREFIX}${process.pid}-${number}`;
    this.#subnet = `198.18.${octet}`;
    try {
      for (const place of ['node', 'hub', 'store'] as const) {
        ip('netns', 'add', this.#namespace(place));
        ip('-n', this.#namespace(place), 'link', 'set', 'lo', 'up');
      }
      this.#join('node', 'to-hub', 1, 'hub', 'to-node', 2);
      this.#join('hub', 'to-store', 5, 'store', 'to-hub', 6);
      (['node', 'hub', 'store'] as const).forEach((place, i) => {
        const here = `gfb${octet}-${i}`;
        const namespace = this.#namespace(place);
        ip('link', 'add', here, 'type', 'veth', 'peer', 'name', 'control', 'netns', namespace);
        ip('addr', 'add', `${this.#subnet}.${10 + 4 * i}/30`, 'dev', here);
        ip('link', 'set', here, 'up');
        ip('-n', namespace, 'addr', 'add', `${this.#subnet}.${9 + 4 * i}/30`, 'dev', 'control');
        ip('-n', namespace, 'link', 'set', 'control', 'up');
      });
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  prefix(place: Place): string[] {
    return ['ip', 'netns', 'exec', this.#namespace(place)];
  }

  /** Every address of the namespace; nothing but its neighbours reaches those. */
  listenHost(): string {
    return '0.0.0.0';
  }

  dataHost(place: Place): string {
    return `${this.#subnet}.${{ node: 1, hub: 2, store: 6 }[place]}`;
  }

  controlHost(place: Place): string {
    return `${this.#subnet}.${{ node: 9, hub: 13, store: 17 }[place]}`;
  }

  async freePort(): Promise<number> {
    return this.#port++;
  }

  wireBytes(): WireBytes {
    const text = ip('netns', 'exec', this.#namespace('hub'), 'cat', '/proc/net/dev');
    // "  name: <received bytes> <7 more> <sent bytes> ..."
    const bytes = (device: string): number => {
      const line = text.split('\n').find((one) => one.trim().startsWith(`${device}:`)) ?? '';
      const numbers = line
        .slice(line.indexOf(':') + 1)
        .trim()
        .split(/\s+/)
        .map(Number);
      return numbers[0]! + numbers[8]!;
    };
    return { nodeToHub: bytes('to-node'), hubToStore: bytes('to-store') };
  }

  [Symbol.dispose](): void {
    // Both ends of a veth pair go with the namespace of one.
    for (const place of ['node', 'hub', 'store'] as const) removeNamespace(this.#namespace(place));
  }

  #namespace(place: Place): string {
    return `${this.#name}-${place}`;
  }

  /** A segment is a packet on this link, as on a wire: else the kernel counts one header for up to 64 KiB. */
  #join(a: Place, deviceA: string, lastA: number, b: Place, deviceB: string, lastB: number): void {
    const [from, to] = [this.#namespace(a), this.#namespace(b)];
    ip('link', 'add', deviceA, 'netns', from, 'type', 'veth', 'peer', 'name', deviceB, 'netns', to);
    for (const [namespace, device, last] of [
      [from, deviceA, lastA],
      [to, deviceB, lastB],
    ] as const) {
      ip('-n', namespace, 'addr', 'add', `${this.#subnet}.${last}/30`, 'dev', device);
      ip('-n', namespace, 'link', 'set', device, 'up', 'gso_max_segs', '1');
    }
  }
}

function ip(...args: string[]): string {
  return execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function removeNamespace(name: string): void {
  try {
    ip('netns', 'del', name);
  } catch {
    // It was never made.
  }
}

/** Of runs that were killed. */
function removeLeftovers(): void {
  let names: string[];
  try {
    names = readdirSync(RUN_FOLDER);
  } catch {
    return;
  }
  for (const name of names) {
    const pid = Number(/^gpufleet-bench-(\d+)-/.exec(name)?.[1]);
    if (pid > 0 && !isAlive(pid)) removeNamespace(name);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

/** The third number of a subnet that no interface of this machine has. */
function freeOctet(): number {
  const taken = ip('-o', 'addr');
  for (let i = 0; i < 254; i++) {
    const octet = 1 + ((process.pid + i) % 254);
    if (!taken.includes(`198.18.${octet}.`)) return octet;
  }
  throw new Error('no free subnet of 198.18.0.0/16');
}
