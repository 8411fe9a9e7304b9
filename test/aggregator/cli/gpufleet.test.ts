import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FleetStack } from '../../support/fleet-stack.ts';
import { startProgram } from '../../support/process.ts';
import { type TempDir, tempDir } from '../../support/temp.ts';
import { startTextServer, type TextServer } from '../../support/text-server.ts';
import { until } from '../../support/wait.ts';

const OPERATOR = 'operator-token-0123456789';
const page = (celsius: number): string =>
  [0, 1]
    .map(
      (gpu) =>
        `DCGM_FI_DEV_GPU_TEMP{gpu="${gpu}",UUID="GPU-${gpu}",modelName="NVIDIA H100",Hostname="h"} ${gpu === 1 ? celsius : 41}\n`,
    )
    .join('');

/** One real stack for all: the command only looks, but for `resolve`, which is last. */
describe('the command, against a real aggregator', () => {
  let exporter: TextServer;
  let stack: FleetStack;
  let dir: TempDir;
  beforeAll(async () => {
    exporter = await startTextServer(page(40));
    dir = tempDir('cli');
    const tokens = join(dir.path, 'tokens');
    writeFileSync(tokens, `operator ${OPERATOR} ann\nviewer viewer-token-0123456789\n`, { mode: 0o600 });
    stack = await FleetStack.start({
      embedded: true,
      agent: { collection_interval: '200ms', collectors: { dcgm_exporter: { url: exporter.url } } },
      aggregator: { api: { tokens, anonymous_read: true } },
    });
  });
  afterAll(async () => {
    await stack?.[Symbol.asyncDispose]();
    await exporter?.[Symbol.asyncDispose]();
    await dir?.[Symbol.asyncDispose]();
  });

  /** Runs it to its end. Both outputs come as one. */
  async function gpufleet(...args: string[]): Promise<{ code: number | null; output: string }> {
    await using child = await startProgram('aggregator/cli/main.ts', {
      args,
      env: { GPUFLEET_SERVER: stack.api, NO_COLOR: '1' },
    });
    const { status } = await child.exited;
    return { code: status, output: child.output };
  }

  test('nodes and gpus, as tables and as JSON', async () => {
    await until(async () => (await gpufleet('nodes', '--json')).output.includes('"gpu_count":2'), {
      timeoutMs: 20_000,
      what: 'the node with its GPUs',
    });
    const nodes = await gpufleet('nodes');
    expect(nodes.code).toBe(0);
    expect(nodes.output).toMatch(
      /^NAME +CLUSTER +STATE +GPUS +HEALTH +ALERTS +LAST SAMPLE +AGENT\nnode-1 +test +(up|stale) +2 /,
    );
    const gpus = await gpufleet('gpus', '--node', 'node-1', '--json');
    expect(
      (JSON.parse(gpus.output) as { gpus: { uuid: string; temperature_celsius: number }[] }).gpus.map(
        (gpu) => gpu.uuid,
      ),
    ).toEqual(['GPU-0', 'GPU-1']);
    const one = await gpufleet('gpu', 'node-1/0');
    expect(one.output).toMatch(
      /node-1\/0 {2}NVIDIA H100 {2}GPU-0[\s\S]* 41 {2}gpu_temperature_celsius\{sensor="core"\}/,
    );
    const top = await gpufleet('top');
    expect(top.output).toMatch(/^1\/1 nodes up {2}2 GPUs/);
  });

  test('the ledger of a fleet that lost nothing is empty, and a replay reaches the agent that is connected', async () => {
    expect(await gpufleet('losses')).toEqual({ code: 0, output: 'nothing is lost\n' });
    expect(await gpufleet('dead-letters')).toEqual({ code: 0, output: 'no dead letters\n' });
    const asked = await gpufleet('replay', '--from', '1h', '--token', OPERATOR);
    expect(asked).toEqual({
      code: 0,
      output: expect.stringMatching(/^1 agent was asked to send again since /),
    });
    const elsewhere = await gpufleet('replay', '--from', '1h', '--node', 'nobody', '--token', OPERATOR);
    expect(elsewhere.output).toMatch(/^0 agents were asked/);
  });

  test('each kind of failure has its exit code and one sentence', async () => {
    expect(await gpufleet('gpu', 'GPU-none')).toEqual({
      code: 3,
      output: 'Cannot get GPU GPU-none: it was not seen\n',
    });
    expect(await gpufleet('alerts', 'resolve', 'x')).toEqual({
      code: 4,
      output: 'Cannot answer: a token is needed to write\n',
    });
    expect(await gpufleet('nodes', '--token', 'not-a-token-0123456')).toEqual({
      code: 4,
      output: 'Cannot answer: the token is wrong\n',
    });
    expect((await gpufleet('nodes', '--server', 'http://127.0.0.1:1')).code).toBe(5);
    expect((await gpufleet('nodes', '--server', 'nowhere')).code).toBe(2);
    expect((await gpufleet('nodes', '--limit', '0')).code).toBe(2);
    expect((await gpufleet('nope')).code).toBe(2);
    const help = await gpufleet('--help');
    expect(help.code).toBe(0);
    expect(help.output).toContain('Exit codes: 0 good');
  });

  test('an alert: watched as it fires, listed, resolved by an operator, silent while it still burns', async () => {
    await using watch = await startProgram('aggregator/cli/main.ts', {
      args: ['alerts', '--watch', '--json'],
      env: { GPUFLEET_SERVER: stack.api },
    });
    exporter.text = page(97);
    await until(() => watch.output.includes('ALERT_STATE_FIRING'), {
      timeoutMs: 20_000,
      what: 'the alert in the watch',
    });
    const { id } = JSON.parse(watch.output.split('\n')[0]!) as { id: string };
    expect((await gpufleet('alerts', '--active')).output).toMatch(
      new RegExp(`critical +firing +node-1 +1 +gpu-temperature +\\d+s +${id}`),
    );
    const resolved = await gpufleet('alerts', 'resolve', id, '--token', OPERATOR, '--comment', 'fan');
    expect(resolved).toEqual({
      code: 0,
      output: `${id} is resolved; it stays silent until its condition clears\n`,
    });
    expect((await gpufleet('alerts', '--active')).output).toBe('no active alerts\n');
    watch.signal('SIGINT');
    expect((await watch.exited).status).toBe(0);
  });
});
