import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './data.ts';
import { freePort } from './ports.ts';
import { Child } from './process.ts';
import { until } from './wait.ts';

/** A running `npm start`, as a user has it. */
export interface LocalStack extends AsyncDisposable {
  readonly npm: Child;
  /** http://127.0.0.1:PORT of the API. */
  readonly api: string;
  readonly agent: string;
  readonly victoriaMetrics: string;
  readonly ports: readonly number[];
  /** The token of a role, from the token file. */
  token(role: 'viewer' | 'operator' | 'agent'): string;
}

/** Without downloads, which the test run has done before, everything is up well within this. */
const READY_TIMEOUT_MS = 60_000;

/** Runs `npm start -- --data DATA ...` on free ports, and returns when it says "ready". Always give --nodes or --source. */
export async function startLocalStack(data: string, args: readonly string[]): Promise<LocalStack> {
  const flags = ['--ingest-port', '--api-port', '--agent-port', '--victoria-metrics-port', '--nats-port'];
  const ports: number[] = [];
  for (const _ of flags) ports.push(await freePort());
  const npm = await Child.start({
    name: 'npm start',
    command: 'npm',
    args: [
      'start',
      '--',
      '--data',
      data,
      ...args,
      ...flags.flatMap((flag, index) => [flag, String(ports[index])]),
    ],
    env: { NODE_ENV: undefined, VITEST: undefined, NODE_OPTIONS: undefined, INIT_CWD: undefined },
    cwd: ROOT,
  });
  const url = (index: number): string => `http://127.0.0.1:${ports[index]}`;
  try {
    await until(() => npm.output.includes('gpufleet: ready'), {
      timeoutMs: READY_TIMEOUT_MS,
      what: 'npm start is ready',
      hopeless: () => npm.exit && `it ended with ${npm.exit.signal ?? npm.exit.status}`,
      detail: () => npm.output,
    });
  } catch (error) {
    await npm.stop(10_000);
    throw error;
  }
  return {
    npm,
    api: url(1),
    agent: url(2),
    victoriaMetrics: url(3),
    ports,
    token(role) {
      const lines = readFileSync(join(data, 'tokens'), 'utf8').split('\n');
      return lines.find((line) => line.startsWith(`${role} `))!.split(' ')[1]!;
    },
    // start.ts stops its children in order when npm's process group is asked to.
    async [Symbol.asyncDispose]() {
      await npm.stop(10_000);
    },
  };
}
