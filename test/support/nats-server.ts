import { connect } from 'node:net';
import { freePort } from './ports.ts';
import { type Child, Child as ChildProcess } from './process.ts';
import { natsServerBinary } from './servers.ts';
import { type TempDir, tempDir } from './temp.ts';
import { until } from './wait.ts';

export interface NatsOptions {
  readonly flags?: readonly string[];
  /** Kept when given; a temp folder of its own otherwise. */
  readonly dataDir?: string;
}

const READY_TIMEOUT_MS = 20_000;

/** A real nats-server with JetStream on loopback, on a free port and a folder of its own. */
export class NatsServer implements AsyncDisposable {
  readonly port: number;
  /** nats://127.0.0.1:PORT */
  readonly url: string;
  readonly dataDir: string;
  readonly flags: readonly string[];
  #temp: TempDir | undefined;
  #child: Child | undefined;

  constructor(port: number, dataDir: string, temp: TempDir | undefined, flags: readonly string[]) {
    this.port = port;
    this.url = `nats://127.0.0.1:${port}`;
    this.dataDir = dataDir;
    this.#temp = temp;
    this.flags = ['-js', '-a', '127.0.0.1', '-p', String(port), '-sd', dataDir, ...flags];
  }

  get output(): string {
    return this.#child?.output ?? '';
  }

  /** Starts it, or starts it again on the same port and store; returns when it greets a client. */
  async restart(): Promise<void> {
    await this.stop();
    const child = await ChildProcess.start({
      name: 'nats-server',
      command: natsServerBinary(),
      args: this.flags,
    });
    this.#child = child;
    await until(async () => (await greeting(this.port)).startsWith('INFO '), {
      timeoutMs: READY_TIMEOUT_MS,
      what: 'nats-server greets',
      hopeless: () => (child.exit ? `it ended with ${child.exit.signal ?? child.exit.status}` : undefined),
      detail: () => child.lastLines(10),
    });
  }

  async kill9(): Promise<void> {
    await this.#child?.kill9();
  }

  async stop(): Promise<void> {
    await this.#child?.stop(10_000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#temp?.[Symbol.asyncDispose]();
  }
}

/** Starts one; `await using` it. */
export async function startNats(options: NatsOptions = {}): Promise<NatsServer> {
  const temp = options.dataDir === undefined ? tempDir('nats') : undefined;
  const server = new NatsServer(await freePort(), options.dataDir ?? temp!.path, temp, options.flags ?? []);
  try {
    await server.restart();
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

/** The first bytes that a server says on this port: "INFO {...}" from a nats-server that takes clients. */
export function greeting(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.setTimeout(2000, () => socket.destroy(new Error('no greeting within 2 s')));
    socket.once('data', (data) => {
      socket.destroy();
      resolve(data.toString('latin1'));
    });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('closed without a greeting')));
  });
}
