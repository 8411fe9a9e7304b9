import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { isPortFree } from '../../deploy/local/ports.ts';
import { type LocalStack, startLocalStack } from '../support/local-stack.ts';
import { startProgram } from '../support/process.ts';
import { hasNatsServer, hasVictoriaMetrics } from '../support/servers.ts';
import { tempDir } from '../support/temp.ts';
import { until } from '../support/wait.ts';

/** What the product promises from "ready" on: 15 s. Twice that here, for a machine that tests in parallel. */
const VISIBLE_MS = 30_000;
/** Ctrl-C until nothing is left. */
const STOP_MS = 8_000;

/** `gpufleet nodes --json`: the names. */
async function nodesOfCli(stack: LocalStack): Promise<string[]> {
  await using cli = await startProgram('aggregator/cli/main.ts', {
    args: ['nodes', '--json', '--server', stack.api],
    env: { GPUFLEET_TOKEN: stack.token('viewer') },
  });
  const { status } = await cli.exited;
  if (status !== 0) throw new Error(`gpufleet nodes ended with ${status}: ${cli.output}`);
  return [...cli.output.matchAll(/"name":\s*"([^"]+)"/g)].map((match) => match[1]!);
}

/** The health scores of a node's GPUs in the API. */
async function scoresOf(stack: LocalStack, node: string): Promise<number[]> {
  const response = await fetch(`${stack.api}/api/v1/nodes/${node}`, {
    headers: { authorization: `Bearer ${stack.token('viewer')}` },
  });
  if (!response.ok) throw new Error(`GET ${response.url}: ${response.status} ${await response.text()}`);
  const { gpus } = (await response.json()) as { gpus: { health?: { score?: number } }[] };
  return gpus.flatMap(({ health }) => (health === undefined ? [] : [health.score ?? 0]));
}

/** Samples of a series that VictoriaMetrics has. */
async function storedSamples(stack: LocalStack, match: string): Promise<{ timestamps: number[] }[]> {
  await fetch(`${stack.victoriaMetrics}/internal/force_flush`);
  const response = await fetch(`${stack.victoriaMetrics}/api/v1/export?match[]=${encodeURIComponent(match)}`);
  const lines = (await response.text()).split('\n').filter(Boolean);
  return lines.map((line) => JSON.parse(line) as { timestamps: number[] });
}

/** Processes that have `data` in their command line: everything that belongs to this stack. */
function processesOf(data: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map((pid) => {
      try {
        return `${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')}`;
      } catch {
        return '';
      }
    })
    .filter((line) => line.includes(data));
}

/** Ctrl-C as a terminal does it: SIGINT to npm's whole process group. Everything must be gone in time. */
async function pressCtrlC(stack: LocalStack, data: string): Promise<void> {
  expect(processesOf(data).length).toBeGreaterThan(2);
  stack.npm.signal('SIGINT');
  await until(() => stack.npm.exit !== undefined && processesOf(data).length === 0, {
    timeoutMs: STOP_MS,
    what: 'npm start and all that it started are gone',
    detail: () => [...processesOf(data), stack.npm.output].join('\n'),
  });
  expect(stack.npm.output).toContain('stopped');
  for (const port of stack.ports) expect(await isPortFree(port), `port ${port}`).toBe(true);
}

async function seesTheNode(stack: LocalStack): Promise<void> {
  const detail = (): string => stack.npm.output;
  const wait = { timeoutMs: VISIBLE_MS, everyMs: 250, detail };
  await until(async () => (await nodesOfCli(stack)).includes('sim-000'), {
    ...wait,
    what: 'the CLI lists the node',
  });
  await until(async () => (await scoresOf(stack, 'sim-000')).length === 8, {
    ...wait,
    what: 'every GPU has a score',
  });
  for (const score of await scoresOf(stack, 'sim-000')) expect(score).toBeGreaterThanOrEqual(0);
}

const POWER = 'gpu_power_watts{node="sim-000"}';

// Lost without it: the first five minutes of every user.
describe('npm start', () => {
  test.skipIf(!hasVictoriaMetrics() || !hasNatsServer())(
    'shows a simulated node everywhere, stops without a trace, and goes on with the data',
    async () => {
      await using dir = tempDir('npm-start');
      let before: number[];
      {
        await using stack = await startLocalStack(dir.path, ['--nodes', '1']);
        await seesTheNode(stack);
        await until(async () => (await storedSamples(stack, POWER)).length === 8, {
          timeoutMs: VISIBLE_MS,
          everyMs: 250,
          what: 'the series of eight GPUs are in VictoriaMetrics',
        });
        expect((await fetch(`${stack.agent}/metrics`)).status).toBe(200);
        before = (await storedSamples(stack, POWER))[0]!.timestamps;
        await pressCtrlC(stack, dir.path);
      }
      await using again = await startLocalStack(dir.path, ['--nodes', '1']);
      await seesTheNode(again);
      const after = await until(
        async () => {
          const stored = (await storedSamples(again, POWER))[0]?.timestamps ?? [];
          return stored.length > before.length + 3 && stored;
        },
        { timeoutMs: VISIBLE_MS, everyMs: 250, what: 'new samples follow the former ones' },
      );
      expect(after.slice(0, before.length)).toEqual(before);
      expect(new Set(after).size).toBe(after.length);
      await pressCtrlC(again, dir.path);
    },
    180_000,
  );

  test('--embedded shows the node without the servers, and stops without a trace', async () => {
    await using dir = tempDir('npm-start');
    await using stack = await startLocalStack(dir.path, ['--nodes', '1', '--embedded']);
    await seesTheNode(stack);
    expect(
      processesOf(dir.path).filter((line) => /victoria-metrics|nats-server/.test(line.split(' --')[0]!)),
    ).toEqual([]);
    await pressCtrlC(stack, dir.path);
  }, 120_000);
});
