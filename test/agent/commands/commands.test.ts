import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { type CheckOptions, check } from '../../../agent/commands/check.ts';
import { type DiagnosticOptions, diagnostic } from '../../../agent/commands/diagnostic-event.ts';
import { HELP } from '../../../agent/commands/help.ts';
import { pause, reload, resume } from '../../../agent/commands/pause.ts';
import { renderStatus, status } from '../../../agent/commands/status.ts';
import { renderTable } from '../../../agent/commands/table.ts';
import { type AgentStatus, troublesOf } from '../../../agent/control/agent-status.ts';
import { ControlServer } from '../../../agent/control/control-server.ts';
import { tempDir } from '../../support/temp.ts';
import { factsOf, fakeControl, fakeTerminal, gpuOf, NOW, statusOf } from '../control/fake-control.ts';

async function agent(overrides: Parameters<typeof fakeControl>[0] = {}) {
  const dir = tempDir('commands');
  const socket = join(dir.path, 's');
  const { control, calls } = fakeControl(overrides);
  const server = await ControlServer.listen({ path: socket, control, logger: silentLogger });
  return {
    dir: dir.path,
    socket,
    calls,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

const widest = (text: string): number => Math.max(...text.split('\n').map((line) => line.length));

describe('status', () => {
  const source = statusOf().sources[0]!;
  const troubled: readonly (readonly [part: string, Partial<AgentStatus>])[] = [
    [
      'nvml is failing: Cannot read',
      { sources: [{ ...source, state: 'failing', reason: 'Cannot read the driver' }] },
    ],
    [
      'nvml is stuck: hangs in rm_ioctl',
      { sources: [{ ...source, state: 'stuck', reason: 'hangs in rm_ioctl' }] },
    ],
    ['nvml was last read 60 s ago', { sources: [{ ...source, last_read_ms: NOW - 60_000 }] }],
    ['No source', { sources: [] }],
    ['Paused until 2027-01-15T08:10:00.000Z', { paused_until_ms: NOW + 600_000 }],
    ['1 of 8 GPUs are missing (config)', { gpus: 7 }],
    [
      'Not connected to agg-1.example:7400: no route',
      { uplink: { ...statusOf().uplink, connected: false, problem: 'no route' } },
    ],
    ['differ by -5000 ms', { uplink: { ...statusOf().uplink, clock_skew_ms: -5_000 } }],
    [
      'The buffer cannot be written: 12 records',
      { buffer: { ...statusOf().buffer, writable: false, unbuffered_records: 12 } },
    ],
    ['77 samples were lost since the start (trimmed)', { lost_samples: { trimmed: 77, corrupt: 0 } }],
  ];

  // Lost without it: a script that watches the exit code sees nothing of a degraded agent.
  test.each(troubled)('says %s', async (part, overrides) => {
    await using one = await agent({ status: async () => statusOf(overrides) });
    const terminal = fakeTerminal();
    expect(await status(terminal, { socket: one.socket, json: false, timeoutMs: 5_000 })).toBe(1);
    expect(terminal.text.replaceAll(/\s+/g, ' ')).toContain(part);
    expect(widest(terminal.text)).toBeLessThanOrEqual(100);
    const json = fakeTerminal();
    await status(json, { socket: one.socket, json: true, timeoutMs: 5_000 });
    expect(JSON.parse(json.text)).toMatchObject({ running: true, troubles: [expect.stringContaining(part)] });
  });

  test('all is well: 0, and everything that people ask for is on the page', async () => {
    await using one = await agent();
    const terminal = fakeTerminal();
    expect(await status(terminal, { socket: one.socket, json: false, timeoutMs: 5_000 })).toBe(0);
    expect(terminal.text).toBe(
      [
        'Agent        gpufleet-agent 1.2.3, process 42, up 2h',
        'Node         gpu-7 in cluster east, run 01234567',
        'GPUs         8 of 8 (config)',
        'Aggregator   connected to agg-1.example:7400',
        'Pending      0 records, about 0 samples',
        'Not durable  since 31s',
        'Buffer       5.0 MiB of 2.0 GiB',
        'Lost         nothing',
        'Clock skew   3 ms against the aggregator',
        '',
        'SOURCE  STATE    EVERY  LAST  SERIES  ABSENT  REJECTED  FAILED  MISSED',
        'nvml    reading  1s     0.4s  520     8       0         0       0',
        '',
        '  nvml: NVML 590.48.01, 8 GPUs; without a value: 8 not supported',
        '',
        'All is well.',
        '',
      ].join('\n'),
    );
  });

  test('words of others do not move the cursor', () => {
    const told = statusOf({ node: 'a\x1b[2Jb', sources: [{ ...source, what: 'x\ny' }] });
    const text = renderStatus(told, troublesOf(told), 100);
    expect(text).not.toContain('\x1b');
    expect(text).toContain('x y');
  });

  test('nobody runs: 3, in both forms', async () => {
    const options = { socket: '/nowhere/s', timeoutMs: 1_000 };
    const [text, json] = [fakeTerminal(), fakeTerminal()];
    expect(await status(text, { ...options, json: false })).toBe(3);
    expect(text.text).toContain('No agent answers on /nowhere/s');
    expect(await status(json, { ...options, json: true })).toBe(3);
    expect(JSON.parse(json.text)).toMatchObject({ running: false });
  });
});

test('pause, resume and reload reach the agent and say what happened', async () => {
  await using one = await agent();
  const terminal = fakeTerminal();
  expect(await pause(terminal, one.socket, 600_000)).toBe(0);
  expect(await resume(terminal, one.socket)).toBe(0);
  expect(await reload(terminal, one.socket)).toBe(0);
  expect(one.calls).toEqual([['pause', 600_000], ['resume'], ['reload']]);
  expect(terminal.text).toContain('until 2027-01-15T08:10:00Z');
  expect(terminal.text).toContain('changed: collectors');
});

describe('check', () => {
  const options = (socket: string): CheckOptions => ({
    socket,
    gpus: undefined,
    requireAggregator: false,
    ignore: new Set(),
    timeoutMs: 2_000,
    json: false,
    direct: undefined,
  });

  test('one line and the code, from what the running agent knows', async () => {
    await using one = await agent({ gateFacts: () => factsOf({ gpus: [gpuOf({ lost: true })] }) });
    const terminal = fakeTerminal();
    expect(await check(terminal, options(one.socket))).toBe(11);
    expect(terminal.text).toBe('lost: GPU 0 does not answer\n');
    const json = fakeTerminal();
    expect(await check(json, { ...options(one.socket), json: true })).toBe(11);
    expect(JSON.parse(json.text)).toMatchObject({
      condition: 'lost',
      code: 11,
      gpu: '0',
      facts: { gpus: [{ lost: true }] },
    });
  });

  // Lost without it: a node whose agent died takes jobs that nobody watches, or none where that was meant.
  test('no agent: 3, or ok where that is ignored, or what a direct read says, with its limits', async () => {
    const nowhere = options('/nowhere/s');
    expect(await check(fakeTerminal(), nowhere)).toBe(3);
    expect(await check(fakeTerminal(), { ...nowhere, ignore: new Set(['not-running']) })).toBe(0);
    const terminal = fakeTerminal();
    expect(await check(terminal, { ...nowhere, direct: async () => factsOf() })).toBe(0);
    expect(terminal.text).toContain('ok: 1 GPU (read directly: Xids since boot');
    await expect(
      check(fakeTerminal(), {
        ...nowhere,
        direct: () => Promise.reject(new FleetError('not_found', 'no source')),
      }),
    ).rejects.toThrow('no source');
  });

  test('an agent that hangs: 4, within the time', async () => {
    await using one = await agent({
      gateFacts: () => {
        throw new FleetError('internal', 'it is broken');
      },
    });
    expect(await check(fakeTerminal(), options(one.socket))).toBe(4);
  });
});

describe('event diag', () => {
  const options = (socket: string): DiagnosticOptions => ({
    socket,
    timeoutMs: 2_000,
    source: 'nccl',
    result: 'pass',
    gpu: 'all',
    test: undefined,
    file: undefined,
  });

  test('a result in words, with the end of a log', async () => {
    await using one = await agent();
    const file = join(one.dir, 'nccl.log');
    await writeFile(file, `${'x'.repeat(10_000)}\n# Avg bus bandwidth    : 361.5\n`);
    const terminal = fakeTerminal();
    expect(await diagnostic(terminal, { ...options(one.socket), gpu: '3', test: 'all_reduce', file })).toBe(
      0,
    );
    expect(terminal.text).toBe('GPU 3: nccl (all_reduce) passed\n');
    const [, event] = one.calls[0] as [string, { text: string }];
    expect(event).toMatchObject({
      type: 'diagnostic',
      gpu: '3',
      gpuUuid: '',
      attributes: { result: 'pass', source: 'nccl', test: 'all_reduce', gpu: '3' },
    });
    expect(event.text).toMatch(/Avg bus bandwidth {4}: 361.5\n$/);
    expect(event.text.length).toBeLessThan(4_096);
  });

  test('a UUID is one, and all GPUs are none', async () => {
    await using one = await agent();
    await diagnostic(fakeTerminal(), {
      ...options(one.socket),
      gpu: 'GPU-72c85d2c-82ce-31c2-c0fd-fbccbfed4f6d',
    });
    await diagnostic(fakeTerminal(), options(one.socket));
    expect(one.calls.map(([, event]) => event)).toMatchObject([
      { gpu: '', gpuUuid: 'GPU-72c85d2c-82ce-31c2-c0fd-fbccbfed4f6d' },
      { gpu: '', gpuUuid: '', attributes: { gpu: 'all' } },
    ]);
  });

  test('the output of dcgmi gives an event for each GPU; what contradicts it is refused', async () => {
    await using one = await agent();
    const file = join(one.dir, 'diag.json');
    const results = [
      { gpu_ids: '0', status: 'PASS' },
      { gpu_ids: '1', status: 'FAIL' },
    ];
    await writeFile(
      file,
      JSON.stringify({
        'DCGM GPU Diagnostic': { test_categories: [{ tests: [{ name: 'Memory', results }] }] },
      }),
    );
    const ask = { ...options(one.socket), source: 'dcgmi', file };
    await diagnostic(fakeTerminal(), { ...ask, result: undefined });
    expect(one.calls.map(([, event]) => (event as { attributes: unknown }).attributes)).toEqual([
      { result: 'pass', source: 'dcgmi', gpu: '0', test: 'Memory' },
      { result: 'fail', source: 'dcgmi', gpu: '1', test: 'Memory' },
    ]);
    await expect(diagnostic(fakeTerminal(), ask)).rejects.toThrow('does not say pass');
    await expect(diagnostic(fakeTerminal(), { ...ask, result: undefined, gpu: '7' })).rejects.toThrow(
      'no result of GPU 7',
    );
    expect(one.calls).toHaveLength(2);
  });

  test('without a result, a file that is not there, one that is too large: said, and nothing is recorded', async () => {
    await using one = await agent();
    const ask = { ...options(one.socket), result: undefined };
    await expect(diagnostic(fakeTerminal(), ask)).rejects.toThrow('Cannot tell the result');
    await expect(diagnostic(fakeTerminal(), { ...ask, file: '/nowhere/x' })).rejects.toThrow(
      'Cannot read /nowhere/x',
    );
    const large = join(one.dir, 'large');
    await writeFile(large, Buffer.alloc(5 * 2 ** 20));
    await expect(diagnostic(fakeTerminal(), { ...ask, file: large })).rejects.toMatchObject({
      cause: { message: expect.stringContaining('larger than') },
    });
    expect(one.calls).toEqual([]);
  });
});

test('tables wrap their last column and keep within the width', () => {
  const text = renderTable(['A', 'WHAT'], [['one', 'some words that do not fit into the line']], 30);
  expect(text).toBe('A    WHAT\none  some words that do not\n     fit into the line\n');
});

// Lost without it: help that wraps in the middle of a table on an ordinary terminal.
test.each(Object.entries(HELP))('the help of %s fits into 100 columns', (_name, text) => {
  expect(widest(text)).toBeLessThanOrEqual(100);
});
