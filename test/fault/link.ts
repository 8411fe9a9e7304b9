import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { promisify } from 'node:util';

const exec = promisify(execFile);

/** The way from one agent to the aggregator. */
export interface Link extends AsyncDisposable {
  /** Where the agent finds the aggregator. */
  readonly host: string;
  readonly port: number;
  /** Put before the agent's command. */
  readonly prefix: readonly string[];
  cut(): Promise<void>;
  mend(): Promise<void>;
}

/** The network namespace that we run in is ours alone: only lo is missing. */
export async function raiseLoopback(): Promise<void> {
  await exec('ip', ['link', 'set', 'lo', 'up']);
}

/**
 * A network namespace for the agent, with a virtual cable into ours. Pulling it is what a dead switch port does:
 * packets go nowhere and nobody is told. The namespace lives as long as a process that waits on our pipe: it is
 * gone when we are, however we end.
 */
export async function namespaceLink(index: number, port: number): Promise<Link> {
  const holder = spawn('unshare', ['--net', 'cat'], { stdio: ['pipe', 'ignore', 'inherit'] });
  await once(holder, 'spawn');
  const pid = String(holder.pid);
  const [ours, theirs] = [`agent${index}`, 'uplink'];
  const [host, own] = [`10.77.${index}.1`, `10.77.${index}.2`];
  const inside = ['nsenter', `--net=/proc/${pid}/ns/net`];
  await untilUnshared(pid);
  await exec('ip', ['link', 'add', ours, 'type', 'veth', 'peer', 'name', theirs, 'netns', pid]);
  await exec('ip', ['addr', 'add', `${host}/30`, 'dev', ours]);
  await exec('ip', ['link', 'set', ours, 'up']);
  for (const args of [
    ['addr', 'add', `${own}/30`, 'dev', theirs],
    ['link', 'set', theirs, 'up'],
    ['link', 'set', 'lo', 'up'],
  ]) {
    await exec(inside[0]!, [...inside.slice(1), 'ip', ...args]);
  }
  return {
    host,
    port,
    prefix: inside,
    cut: async () => void (await exec('ip', ['link', 'set', ours, 'down'])),
    mend: async () => void (await exec('ip', ['link', 'set', ours, 'up'])),
    [Symbol.asyncDispose]: () => ended(holder),
  };
}

/** Where namespaces cannot be made: a proxy that stops passing bytes on, without closing anything. */
export async function proxyLink(port: number): Promise<Link> {
  const sockets = new Set<Socket>();
  let isCut = false;
  const server: Server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
      from.on('data', (chunk) => {
        if (!isCut) to.write(chunk);
      });
      if (isCut) from.pause();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return {
    host: '127.0.0.1',
    port: typeof address === 'object' && address !== null ? address.port : 0,
    prefix: [],
    async cut() {
      isCut = true;
      for (const socket of sockets) socket.pause();
    },
    async mend() {
      isCut = false;
      // Bytes were dropped: what is left of these connections is of no use, as after a long cut.
      for (const socket of sockets) socket.destroy();
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** `unshare` needs a moment before it is in a namespace of its own. */
async function untilUnshared(pid: string): Promise<void> {
  const { stdout: ours } = await exec('readlink', ['/proc/self/ns/net']);
  for (let look = 0; look < 500; look++) {
    const { stdout } = await exec('readlink', [`/proc/${pid}/ns/net`]);
    if (stdout !== ours) return;
  }
  throw new Error('Cannot make a network namespace: unshare did not leave ours');
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.stdin?.end();
  await once(child, 'exit');
}
