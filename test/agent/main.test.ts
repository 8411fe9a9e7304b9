import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { AgentStatus } from '../../agent/control/agent-status.ts';
import { ROOT } from '../support/data.ts';
import { parsePage } from '../support/exposition-parser.ts';
import { freePort } from '../support/ports.ts';
import { startProgram } from '../support/process.ts';
import { tempDir } from '../support/temp.ts';
import { until } from '../support/wait.ts';

const run = promisify(execFile);

/** Runs a command of the agent to its end. */
async function command(file: string, ...args: string[]): Promise<{ code: number; out: string }> {
  const all = [join(ROOT, 'agent/main.ts'), '--config', file, ...args];
  try {
    const { stdout } = await run(process.execPath, all, { env: { PATH: process.env.PATH } });
    return { code: 0, out: stdout };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, out: stdout + stderr };
  }
}

const settings = (directory: string, more: string): string =>
  `node: n\nmachine_id: m\ndata_dir: ${directory}/data\ncollection_interval: 100ms\naggregators: ["127.0.0.1:1"]\n${more}`;

describe('the agent with its commands', () => {
  // Lost without it: none of the commands reaches a real agent, or a reload costs ticks.
  test('runs, is asked, paused, gated, reloaded and stopped', async () => {
    await using dir = tempDir('main');
    const file = join(dir.path, 'agent.yaml');
    const port = await freePort();
    await writeFile(file, settings(dir.path, 'collectors: { simulated: { gpus: 4 } }'));
    expect((await command(file, 'check')).code).toBe(3);
    await using agent = await startProgram('agent/main.ts', {
      args: ['--config', file],
      env: { EXPORTER_PORT: String(port) },
    });
    const status = async () =>
      JSON.parse((await command(file, 'status', '--json')).out) as AgentStatus & { running: boolean };
    const ready = async () => {
      const { running, sources } = await status();
      return running && sources.length > 0 && sources.every(({ state }) => state === 'reading');
    };
    await until(ready, { timeoutMs: 20_000, what: 'the first read' });
    expect(await status()).toMatchObject({
      node: 'n',
      gpus: 4,
      uplink: { connected: false, aggregator: '127.0.0.1:1' },
    });

    expect(await command(file, 'check', '--gpus', '4')).toEqual({ code: 0, out: 'ok: 4 GPUs\n' });
    expect((await command(file, 'check', '--gpus', '5')).code).toBe(10);
    expect((await command(file, 'check', '--require-aggregator')).code).toBe(22);
    expect(
      (await command(file, 'event', 'diag', '--source', 'burn-in', '--result', 'fail', '--gpu', '3')).code,
    ).toBe(0);
    expect(await command(file, 'check')).toMatchObject({
      code: 17,
      out: expect.stringContaining('GPU 3 failed burn-in'),
    });
    expect((await command(file, 'event', 'diag', '--source', 'nccl', '--result', 'pass')).code).toBe(0);
    expect((await command(file, 'check')).code).toBe(0);
    expect((await command(file, 'pause', '10m')).code).toBe(0);
    expect((await command(file, 'check')).code).toBe(21);
    expect((await command(file, 'resume')).code).toBe(0);

    for (const [format, accept] of [
      ['text', '*/*'],
      ['openmetrics', 'application/openmetrics-text; version=1.0.0'],
    ] as const) {
      const response = await fetch(`http://127.0.0.1:${port}/metrics`, { headers: { accept } });
      const page = parsePage(await response.text(), format);
      for (const { name, help, samples } of page.values())
        if (samples.length > 0) expect(help, name).not.toBe('');
    }

    const before = await status();
    await writeFile(
      file,
      settings(
        dir.path,
        'cluster: other\nexpected_gpus: 4\nlog_level: warn\ncollectors: { simulated: { gpus: 3 } }',
      ),
    );
    process.kill(agent.pid!, 'SIGHUP');
    await until(async () => (await command(file, 'check')).code === 10, {
      timeoutMs: 20_000,
      what: 'the reload',
    });
    const after = await status();
    expect(after).toMatchObject({
      run: before.run,
      cluster: 'default',
      gpus: 3,
      expected_gpus: { count: 4, from: 'config' },
    });
    expect(after.sources.every(({ missed_ticks: missed }) => missed === 0)).toBe(true);
    expect(agent.output).toContain('cluster changed in the file: only a restart takes it on');

    await writeFile(file, 'collectors: [');
    expect((await command(file, '--config', file, 'reload')).code).not.toBe(0);
    await writeFile(file, settings(dir.path, 'log_level: loud'));
    const refused = await command(file, 'reload');
    expect(refused).toMatchObject({ code: 2, out: expect.stringContaining('log_level: must be one of') });
    expect((await status()).gpus).toBe(3);
    await agent.stop(10_000);
    expect((await command(file, 'status')).code).toBe(3);
  });

  test('what is typed wrong is usage: 2', async () => {
    await using dir = tempDir('main');
    const file = join(dir.path, 'agent.yaml');
    await writeFile(file, settings(dir.path, ''));
    expect(await command(file, 'statsu')).toMatchObject({
      code: 2,
      out: expect.stringContaining('there is no command statsu'),
    });
    expect((await command(file, 'pause', '25h')).code).toBe(2);
    expect((await command(file, 'check', '--gpus', 'many')).code).toBe(2);
    expect((await command(file, 'event', 'diag', '--source', 'nccl')).code).toBe(2);
    expect((await command(file, 'check-config')).code).toBe(0);
    expect((await command(file, '--check-config')).code).toBe(0);
  });
});
