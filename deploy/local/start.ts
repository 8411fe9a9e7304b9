// `npm start`: the whole product on this host, on loopback, until Ctrl-C.
import { mkdirSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { tryLockFile } from './lock.ts';
import { parseStartOptions, type StartOptions } from './options.ts';
import { agentPort, checkPorts, findServers, type Servers } from './plan.ts';
import { chooseSource } from './source.ts';
import { type Part, Stack, showEnd } from './stack.ts';
import {
  natsFlags,
  type Source,
  type StackFiles,
  victoriaMetricsFlags,
  writeStackConfig,
} from './stack-config.ts';

const ROOT = resolve(import.meta.dirname, '..', '..');

/** npm, a terminal and a shell may each pass one Ctrl-C on: signals this close together are one press. */
const SAME_PRESS_MS = 500;

function say(line: string): void {
  process.stdout.write(`gpufleet: ${line}\n`);
}

function serverParts({ data, ports }: StartOptions, servers: Servers, files: StackFiles): Part[] {
  const parts: Part[] = [];
  const { victoriaMetrics, nats } = servers;
  if (victoriaMetrics?.binary !== undefined) {
    parts.push({
      name: 'victoria-metrics',
      command: victoriaMetrics.binary,
      args: victoriaMetricsFlags(data, ports.victoriaMetrics, files.scrape),
      readyUrls: [`${victoriaMetrics.url}/health`],
      stage: 0,
    });
  }
  if (nats?.binary !== undefined) {
    parts.push({
      name: 'nats-server',
      command: nats.binary,
      args: natsFlags(data, ports.nats),
      readyUrls: [nats.url],
      stage: 0,
    });
  }
  return parts;
}

function programPart(
  name: 'agent' | 'aggregator',
  config: string,
  readyUrl: string | undefined,
  stage: number,
): Part {
  return {
    name,
    command: process.execPath,
    args: [join(ROOT, name, 'main.ts'), '--config', config],
    stage,
    ...(readyUrl === undefined ? {} : { readyUrls: [readyUrl] }),
  };
}

function wordsOf(source: Source): string {
  if ('host' in source) return source.host;
  if ('url' in source) return source.url;
  return `${source.nodes} simulated node${source.nodes > 1 ? 's' : ''} of 8 GPUs`;
}

function sayReady(
  options: StartOptions,
  servers: Servers,
  source: Source,
  exported: number | undefined,
  files: StackFiles,
): void {
  const api = `http://127.0.0.1:${options.ports.api}`;
  const what = wordsOf(source);
  const server = options.ports.api === 7480 ? '' : ` --server ${api}`;
  const show = (path: string): string => {
    const shorter = relative(process.cwd(), path);
    return shorter.startsWith('..') ? path : shorter;
  };
  const lines = [
    ['watching', what],
    ['API and console', api],
    [
      'agent metrics',
      exported === undefined ? 'off (its ports are taken)' : `http://127.0.0.1:${exported}/metrics`,
    ],
    ['VictoriaMetrics', servers.victoriaMetrics ? `${servers.victoriaMetrics.url}/vmui` : 'off: no history'],
    ['NATS', servers.nats?.url ?? 'off'],
    ['nodes', `npm run gpufleet -- nodes${server}`],
    ['data', show(options.data)],
    ['logs', join(show(options.data), 'logs')],
    ['tokens', show(files.tokens)],
  ];
  say('ready');
  for (const [name, value] of lines) process.stdout.write(`  ${name!.padEnd(16)} ${value}\n`);
  say('Ctrl-C stops it');
}

async function run(options: StartOptions, stop: AbortSignal, stack: Stack): Promise<void> {
  const servers = await findServers(options, say);
  stop.throwIfAborted();
  const source = await chooseSource(options, say);
  await checkPorts(options.ports, servers);
  const exported = await agentPort(options.ports.agent, source, say);
  const files = writeStackConfig({
    data: options.data,
    source,
    interval: options.interval,
    logLevel: options.logLevel,
    ports: { ...options.ports, agent: exported ?? options.ports.agent },
    victoriaMetrics: servers.victoriaMetrics?.url,
    nats: servers.nats?.url,
  });
  const own = serverParts(options, servers, files);
  if (own.length > 0) say(`starting ${own.map(({ name }) => name).join(' and ')}`);
  await stack.start(own, stop);
  say('starting the aggregator');
  await stack.start(
    [programPart('aggregator', files.aggregator, `http://127.0.0.1:${options.ports.api}/readyz`, 1)],
    stop,
  );
  say('starting the agent');
  const agentReady = exported === undefined ? undefined : `http://127.0.0.1:${exported}/readyz`;
  await stack.start([programPart('agent', files.agent, agentReady, 2)], stop);
  sayReady(options, servers, source, exported, files);
  const end = await Promise.race([stack.ended, aborted(stop)]);
  if (end === undefined) return;
  throw new FleetError(
    'internal',
    `Cannot go on: ${showEnd(end)} and was not asked to. Its last words, more in ` +
      `${join(options.data, 'logs', `${end.part.name}.log`)}:\n${end.lastLines}`,
  );
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    signal.addEventListener('abort', () => resolve(undefined), { once: true });
  });
}

/** First signal: stop in order. Another one, not of the same press: kill everything. */
function stopOnSignals(stack: Stack): AbortSignal {
  const controller = new AbortController();
  let firstAt: number | undefined;
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      const now = performance.now();
      if (firstAt === undefined) {
        firstAt = now;
        say('stopping (once more: at once)');
        controller.abort();
      } else if (now - firstAt > SAME_PRESS_MS) {
        stack.kill();
        process.exit(130);
      }
    });
  }
  return controller.signal;
}

/** Not describeError, which is cut to fit a log line: here the last words of a program follow. */
function explain(error: unknown): string {
  if (!(error instanceof FleetError))
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}

async function main(): Promise<number> {
  const options = parseStartOptions(process.argv.slice(2));
  mkdirSync(options.data, { recursive: true });
  const lock = tryLockFile(join(options.data, 'lock'));
  if (!('path' in lock)) {
    process.stderr.write(
      `gpufleet: Cannot use ${options.data}: another npm start (process ${lock.pid}) runs on it; ` +
        'stop that one or give --data DIR\n',
    );
    return 1;
  }
  using _lock = lock;
  const stack = new Stack(join(options.data, 'logs'));
  const stop = stopOnSignals(stack);
  let status = 0;
  try {
    await run(options, stop, stack);
  } catch (error) {
    if (!stop.aborted) {
      status = 1;
      process.stderr.write(`gpufleet: ${explain(error)}\n`);
    }
  }
  await stack[Symbol.asyncDispose]();
  if (status === 0) say('stopped; starting again goes on with the data');
  return status;
}

// Fetches and idle sockets must not hold a stopped stack's process.
process.exit(await main());
