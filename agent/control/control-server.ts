import { chmod, mkdtemp, rename, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { AgentControl } from './agent-control.ts';
import {
  type ControlReply,
  type ControlRequest,
  controlRequest,
  MAX_REQUEST_BYTES,
} from './control-messages.ts';

export interface ControlServerOptions {
  /** Of the socket. A file that is there is replaced: its folder is this agent's alone (the buffer's lock). */
  readonly path: string;
  readonly control: AgentControl;
  readonly logger: Logger;
  /** Instead of IDLE_MS. */
  readonly idleMs?: number;
}

/** Commands of people and of a batch system: more at once would be a fault of theirs. */
const MAX_CONNECTIONS = 32;
/** A client that sends nothing, does not read its answer, or does not hang up after it, is not waited for. */
const IDLE_MS = 10_000;
/** sun_path of unix(7) holds 108 bytes with its end. */
const MAX_SOCKET_PATH_BYTES = 107;

/**
 * A unix socket on which this machine's operator talks to the agent: a line of JSON comes, a line of JSON goes back,
 * one request a connection. Mode 0600: the agent's user and root alone can connect, there is no other check.
 *
 * The agent goes on without it where it cannot be made: collecting never depends on being asked.
 */
export class ControlServer implements AsyncDisposable {
  readonly #server: Server | undefined;
  readonly #path: string;
  readonly #sockets: ReadonlySet<Socket>;

  private constructor(path: string, server: Server | undefined, sockets: ReadonlySet<Socket>) {
    this.#path = path;
    this.#server = server;
    this.#sockets = sockets;
  }

  static async listen({
    path,
    control,
    logger,
    idleMs = IDLE_MS,
  }: ControlServerOptions): Promise<ControlServer> {
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
      serve(socket, control, logger, idleMs);
    });
    server.maxConnections = MAX_CONNECTIONS;
    try {
      await listenPrivately(server, path);
      // A connection that cannot be taken, as where there is no file descriptor left, must not end the agent.
      server.on('error', (error) => logger.warn({ cause: describeError(error) }, 'control socket'));
      return new ControlServer(path, server, sockets);
    } catch (error) {
      server.close();
      logger.error(
        { path, cause: describeError(error) },
        'no control socket: status, check and pause cannot reach this agent',
      );
      return new ControlServer(path, undefined, sockets);
    }
  }

  /** Clients that are connected now. */
  get connections(): number {
    return this.#sockets.size;
  }

  get listening(): boolean {
    return this.#server !== undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#server?.listening) return;
    const closed = new Promise<void>((resolve) => this.#server!.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
    await rm(this.#path, { force: true });
  }
}

/**
 * Made in a folder that nobody else can enter, then moved: at no moment can another user connect, and one that an
 * earlier run left is replaced at once.
 */
async function listenPrivately(server: Server, path: string): Promise<void> {
  const folder = await mkdtemp(join(dirname(path), '.c-'));
  try {
    const hidden = join(folder, 's');
    if (
      Buffer.byteLength(hidden) > MAX_SOCKET_PATH_BYTES ||
      Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES
    ) {
      throw new FleetError(
        'invalid_config',
        `Cannot listen on ${path}: a unix socket's path has at most ${MAX_SOCKET_PATH_BYTES} bytes; choose a shorter data_dir`,
      );
    }
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(hidden, () => {
        server.off('error', reject);
        resolve();
      });
    });
    await chmod(hidden, 0o600);
    await rename(hidden, path);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function serve(socket: Socket, control: AgentControl, logger: Logger, idleMs: number): void {
  const chunks: Buffer[] = [];
  let size = 0;
  let done = false;
  // A client that went away is no event.
  socket.on('error', () => {});
  // While the agent works on the answer it is the client that waits.
  let working = false;
  socket.setTimeout(idleMs, () => {
    if (!working) socket.destroy();
  });
  const answer = (reply: ControlReply): void => {
    working = false;
    // From now on anew: it may have run out while the answer was made.
    socket.setTimeout(idleMs);
    socket.end(`${JSON.stringify(reply)}\n`);
  };
  const take = (): void => {
    done = true;
    working = true;
    perform(Buffer.concat(chunks).toString('utf8'), control, logger).then(answer, (error: unknown) =>
      answer(refusal(error)),
    );
  };
  socket.on('data', (chunk) => {
    if (done) return;
    size += chunk.length;
    const end = chunk.indexOf(0x0a);
    chunks.push(end < 0 ? chunk : chunk.subarray(0, end));
    if (size > MAX_REQUEST_BYTES) {
      done = true;
      answer({
        ok: false,
        code: 'resource_exhausted',
        message: `Cannot take a request of more than ${MAX_REQUEST_BYTES} bytes`,
      });
    } else if (end >= 0) take();
  });
  socket.on('end', () => {
    if (!done) socket.destroy();
  });
}

async function perform(line: string, control: AgentControl, logger: Logger): Promise<ControlReply> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new FleetError('invalid_input', 'Cannot read a control request: it is not JSON', { cause: error });
  }
  const parsed = v.safeParse(controlRequest, value);
  if (!parsed.success) {
    const [issue] = parsed.issues;
    throw new FleetError(
      'invalid_input',
      `Cannot take a control request: ${v.getDotPath(issue) ?? 'command'}: ${issue.message}`,
    );
  }
  const request = parsed.output;
  if (request.command !== 'status' && request.command !== 'gate')
    logger.info({ command: request.command }, 'asked over the control socket');
  return { ok: true, result: await carryOut(request, control) };
}

async function carryOut(request: ControlRequest, control: AgentControl): Promise<unknown> {
  switch (request.command) {
    case 'status':
      return await control.status();
    case 'gate':
      return control.gateFacts();
    case 'pause':
      await control.pause(request.ms);
      return null;
    case 'resume':
      await control.resume();
      return null;
    case 'reload':
      return await control.reload();
    case 'event':
      await control.recordEvent(request.event);
      return null;
  }
}

function refusal(error: unknown): ControlReply {
  const code = error instanceof FleetError ? error.code : 'internal';
  return { ok: false, code, message: describeError(error) };
}
