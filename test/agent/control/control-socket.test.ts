import { once } from 'node:events';
import { stat, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { AgentNotRunning, askAgent } from '../../../agent/control/control-client.ts';
import { MAX_REQUEST_BYTES } from '../../../agent/control/control-messages.ts';
import { ControlServer } from '../../../agent/control/control-server.ts';
import { socketOf } from '../../../agent/control-socket.ts';
import { tempDir } from '../../support/temp.ts';
import { until } from '../../support/wait.ts';
import { factsOf, fakeControl, statusOf } from './fake-control.ts';

const TIMEOUT = 5_000;

async function serve(
  overrides: Parameters<typeof fakeControl>[0] = {},
  times: { readonly idleMs?: number } = {},
) {
  const dir = tempDir('control');
  const path = join(dir.path, 'control.sock');
  const { control, calls } = fakeControl(overrides);
  const server = await ControlServer.listen({ path, control, logger: silentLogger, ...times });
  return {
    path,
    calls,
    server,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

/** What the server says to a raw line. */
async function say(path: string, bytes: string | Buffer): Promise<string> {
  const socket = connect(path);
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  socket.on('error', () => {});
  socket.write(bytes);
  await once(socket, 'close');
  return text;
}

describe('the control socket', () => {
  test('answers each request with what the agent says', async () => {
    await using agent = await serve();
    const { path, calls } = agent;
    expect(await askAgent(path, { command: 'status' }, TIMEOUT)).toEqual(statusOf());
    expect(await askAgent(path, { command: 'gate' }, TIMEOUT)).toEqual(factsOf());
    await askAgent(path, { command: 'pause', ms: 600_000 }, TIMEOUT);
    await askAgent(path, { command: 'resume' }, TIMEOUT);
    expect(await askAgent(path, { command: 'reload' }, TIMEOUT)).toEqual(['changed: collectors']);
    const event = {
      type: 'diagnostic',
      timestampMs: 1,
      gpu: '3',
      gpuUuid: '',
      text: 't',
      attributes: { result: 'pass' },
    } as const;
    await askAgent(path, { command: 'event', event }, TIMEOUT);
    expect(calls).toEqual([['pause', 600_000], ['resume'], ['reload'], ['event', event]]);
  });

  // Lost without it: any user of the node can pause the collectors, or clear a critical GPU.
  test('is open to its own user alone, and its folder keeps no trace of how it was made', async () => {
    await using agent = await serve();
    expect((await stat(agent.path)).mode & 0o777).toBe(0o600);
  });

  // Lost without it: after a kill -9 nobody can ask the agent until somebody removes a file by hand.
  test('replaces what an earlier run left, and is gone when the agent stopped', async () => {
    await using dir = tempDir('control');
    const path = join(dir.path, 'control.sock');
    await writeFile(path, 'left by an earlier run');
    const { control } = fakeControl();
    const server = await ControlServer.listen({ path, control, logger: silentLogger });
    expect((await askAgent(path, { command: 'status' }, TIMEOUT)).pid).toBe(42);
    await server[Symbol.asyncDispose]();
    await expect(askAgent(path, { command: 'status' }, TIMEOUT)).rejects.toThrow(AgentNotRunning);
  });

  test('says what the agent could not do, with its code', async () => {
    await using agent = await serve({
      reload: async () => {
        throw new FleetError('invalid_config', 'Cannot use a.yaml: 1 fault');
      },
    });
    await expect(askAgent(agent.path, { command: 'reload' }, TIMEOUT)).rejects.toMatchObject({
      code: 'invalid_config',
      message: 'Cannot use a.yaml: 1 fault',
    });
  });

  test.each([
    ['no JSON', 'hello\n', 'not JSON'],
    ['an unknown command', '{"command":"format"}\n', 'Cannot take a control request'],
    ['a pause without an end', '{"command":"pause","ms":1e12}\n', 'ms'],
    [
      'an event of another type',
      '{"command":"event","event":{"type":"xid","timestampMs":1,"gpu":"","gpuUuid":"","text":"","attributes":{}}}\n',
      'event.type',
    ],
    ['more than it should ask', '{"command":"sta', undefined],
    ['too much', Buffer.alloc(MAX_REQUEST_BYTES + 1, 0x20), 'more than 65536 bytes'],
  ])('%s changes nothing and harms nothing', async (_what, line, answer) => {
    await using agent = await serve();
    if (answer === undefined) {
      const socket = connect(agent.path);
      socket.end(line);
      await once(socket, 'close');
    } else {
      const said = JSON.parse(await say(agent.path, line)) as { ok: boolean; message: string };
      expect(said).toMatchObject({ ok: false, message: expect.stringContaining(answer) });
    }
    expect(agent.calls).toEqual([]);
    expect((await askAgent(agent.path, { command: 'status' }, TIMEOUT)).pid).toBe(42);
  });

  // Lost without it: a few clients that were stopped in the middle keep the job gate from asking.
  test('a client that never reads its answer, or never hangs up, is cut off', async () => {
    await using agent = await serve({}, { idleMs: 50 });
    const socket = connect({ path: agent.path, allowHalfOpen: true });
    socket.on('error', () => {});
    socket.write('{"command":"status"}\n');
    await until(() => agent.server.connections === 1, { timeoutMs: 5_000, what: 'it is there' });
    await until(() => agent.server.connections === 0, { timeoutMs: 5_000, what: 'it is gone' });
    socket.destroy();
  });

  // Lost without it: a data_dir with a long path keeps the agent from starting.
  test('a path that is too long for a socket is said, and the agent goes on', async () => {
    await using dir = tempDir('control');
    const path = join(dir.path, 'x'.repeat(120), 'control.sock');
    const { control } = fakeControl();
    await using server = await ControlServer.listen({ path, control, logger: silentLogger });
    expect(server.listening).toBe(false);
  });

  test('an agent that does not answer is given up in time', async () => {
    await using dir = tempDir('control');
    const path = join(dir.path, 's');
    const server = createServer(() => {}).listen(path);
    await once(server, 'listening');
    await expect(askAgent(path, { command: 'gate' }, 50)).rejects.toThrow('did not answer within 50 ms');
    server.close();
  });

  test('where nobody is, that is what is said', async () => {
    await using dir = tempDir('control');
    await expect(askAgent(join(dir.path, 's'), { command: 'gate' }, TIMEOUT)).rejects.toThrow(
      AgentNotRunning,
    );
  });
});

// Lost without it: a configuration that is wrong elsewhere keeps people from asking the agent that still runs.
test('the socket is found by data_dir, whatever else is in the file', async () => {
  await using dir = tempDir('control');
  const file = join(dir.path, 'a.yaml');
  await writeFile(file, 'data_dir: /srv/agent\nlog_level: loud\n');
  expect(await socketOf(file, undefined)).toBe('/srv/agent/control.sock');
  expect(await socketOf(file, 'sim-003')).toBe('/srv/agent/sim-003/control.sock');
  await writeFile(file, 'data_dir: [');
  expect(await socketOf(file, undefined)).toBe('/var/lib/gpufleet-agent/control.sock');
});
