import { connect } from 'node:net';
import { type ErrorCode, FleetError } from '#shared/errors/fleet-error.ts';
import {
  type ControlAnswers,
  type ControlReply,
  type ControlRequest,
  MAX_ANSWER_BYTES,
} from './control-messages.ts';

/** No agent listens on the socket: it is not running, or has another data_dir. */
export class AgentNotRunning extends FleetError {
  constructor(path: string, cause: unknown) {
    super('unavailable', `No agent answers on ${path}`, { cause });
    this.name = 'AgentNotRunning';
  }
}

/**
 * Asks the agent behind a control socket, once. Throws AgentNotRunning where nobody listens, `permission_denied`
 * where this user may not ask, `unavailable` where no answer comes in time, and what the agent says otherwise.
 */
export async function askAgent<C extends ControlRequest['command']>(
  path: string,
  request: Extract<ControlRequest, { command: C }>,
  timeoutMs: number,
): Promise<ControlAnswers[C]> {
  const line = await exchange(path, `${JSON.stringify(request)}\n`, timeoutMs);
  let reply: ControlReply;
  try {
    reply = JSON.parse(line) as ControlReply;
  } catch (error) {
    throw new FleetError('unavailable', `Cannot understand the agent on ${path}`, { cause: error });
  }
  if (!reply.ok) throw new FleetError(reply.code as ErrorCode, reply.message);
  return reply.result as ControlAnswers[C];
}

function exchange(path: string, line: string, timeoutMs: number): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = connect(path);
  const chunks: Buffer[] = [];
  let size = 0;
  const timer = setTimeout(() => {
    socket.destroy();
    reject(new FleetError('unavailable', `The agent on ${path} did not answer within ${timeoutMs} ms`));
  }, timeoutMs);
  socket.on('connect', () => socket.write(line));
  socket.on('data', (chunk) => {
    size += chunk.length;
    chunks.push(chunk);
    if (size <= MAX_ANSWER_BYTES) return;
    socket.destroy();
    reject(
      new FleetError('resource_exhausted', `The agent on ${path} says more than ${MAX_ANSWER_BYTES} bytes`),
    );
  });
  socket.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
  socket.on('error', (error: NodeJS.ErrnoException) => reject(failureOf(path, error)));
  socket.on('close', () => {
    clearTimeout(timer);
    reject(new FleetError('unavailable', `The agent on ${path} ended without an answer`));
  });
  return promise;
}

function failureOf(path: string, error: NodeJS.ErrnoException): FleetError {
  if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') return new AgentNotRunning(path, error);
  if (error.code === 'EACCES' || error.code === 'EPERM') {
    return new FleetError(
      'permission_denied',
      `Cannot ask the agent on ${path}: only its own user and root may`,
      { cause: error },
    );
  }
  return new FleetError('unavailable', `Cannot ask the agent on ${path}`, { cause: error });
}
