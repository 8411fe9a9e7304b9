#!/usr/bin/env node
import { Command, InvalidArgumentError, Option } from 'commander';
import { parseDuration } from '#shared/config/values.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { runMain } from '#shared/lifecycle/run-main.ts';
import { systemClock } from '#shared/model/clock.ts';
import packageJson from '../package.json' with { type: 'json' };
import { CONDITIONS } from './commands/gate-verdict.ts';
import { HELP } from './commands/help.ts';
import type { Terminal } from './commands/terminal.ts';

/** What a command exits with where no agent answers. */
const NOT_RUNNING = 3;
const USAGE = 2;
/** Where the output is no terminal. */
const DEFAULT_COLUMNS = 100;

const duration = (text: string): number => {
  const ms = parseDuration(text);
  if (ms === undefined || ms < 100)
    throw new InvalidArgumentError('must be a duration from 100ms, such as 500ms, 10s, 5m');
  return ms;
};
const pauseTime = (text: string): number => {
  const ms = parseDuration(text);
  if (ms === undefined || ms < 1_000 || ms > 86_400_000)
    throw new InvalidArgumentError('must be a duration from 1s to 24h, such as 10m');
  return ms;
};
const gpuCount = (text: string): number | undefined => {
  if (text === 'all') return undefined;
  if (!/^\d{1,3}$/.test(text)) throw new InvalidArgumentError('must be all, or a number of GPUs');
  return Number(text);
};
const conditions = (text: string): Set<string> => {
  const names = new Set(text.split(','));
  for (const name of names)
    if (!CONDITIONS.some(([known]) => known === name))
      throw new InvalidArgumentError(`must be a list of ${CONDITIONS.map(([known]) => known).join(', ')}`);
  return names;
};

const timeoutOption = () =>
  new Option('--timeout <duration>', 'for the answer of the agent').argParser(duration).default(5_000, '5s');
const nodeOption = () => new Option('--node <name>', 'one of several simulated nodes, such as sim-003');

interface AskOptions {
  readonly node?: string;
  readonly timeout: number;
  readonly json?: boolean;
}

const program = new Command('gpufleet-agent')
  .description(
    'Collects the samples of this GPU node, keeps them on disk, and streams them to an aggregator.',
  )
  .version(packageJson.version)
  .option('--config <file>', 'YAML file; every setting is in README.md')
  .option('--check-config', 'say what is wrong with the configuration, and exit (0 good, 2 not)')
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : USAGE))
  .showHelpAfterError('(--help says more)')
  .addHelpText('after', HELP.agent)
  .allowExcessArguments()
  .action(({ checkConfig }: { checkConfig?: boolean }, command: Command) => {
    // Commander would say that there are too many arguments.
    if (command.args.length > 0) command.error(`error: there is no command ${command.args[0]}`);
    return perform(async (signal) => {
      if (checkConfig) return await checkConfiguration(configOption());
      const { run } = await import('./commands/run.ts');
      const onHangup = (reload: () => void): void => void process.on('SIGHUP', reload);
      await run({ load, version: packageJson.version, process, onHangup }, signal);
      return 0;
    });
  });

program
  .command('status')
  .description('what the running agent does: sources, stream, buffer, losses')
  .option('--json', 'one JSON document')
  .addOption(timeoutOption())
  .addOption(nodeOption())
  .addHelpText('after', HELP.status)
  .action((options: AskOptions) =>
    perform(async () => {
      const { status } = await import('./commands/status.ts');
      const { json = false, timeout: timeoutMs } = options;
      return await status(terminal, { socket: await socket(options), json, timeoutMs });
    }),
  );

program
  .command('doctor')
  .description('looks at driver, permissions, sources, disk, clock, network, certificates; says what to do')
  .option('--json', 'one JSON document')
  .addOption(timeoutOption())
  .addHelpText('after', HELP.doctor)
  .action((options: AskOptions) =>
    perform(async () => {
      const { doctor } = await import('./commands/doctor.ts');
      const { HOST } = await import('./commands/surroundings.ts');
      const { silentLogger } = await import('#shared/logging/logger.ts');
      return await doctor(terminal, {
        config: loadForCommand,
        configFile: (await commandConfig()) ?? 'the default configuration',
        socket: await socket(options),
        host: HOST,
        timeoutMs: options.timeout,
        json: options.json ?? false,
        logger: silentLogger,
      });
    }),
  );

program
  .command('collect')
  .description('reads the sources here and now, and prints their series')
  .option('--once', 'what it does anyway: there is no other way')
  .option('--source <name>', 'this source alone')
  .option('--all', 'also series without a value, with the reason')
  .addOption(new Option('--json', 'JSON').conflicts('openmetrics'))
  .option('--openmetrics', 'OpenMetrics text')
  .addHelpText('after', HELP.collect)
  .action((options: { source?: string; all?: boolean; json?: boolean; openmetrics?: boolean }) =>
    perform(async (signal) => {
      const { collectOnce } = await import('./commands/collect.ts');
      const { source, all = false, json, openmetrics } = options;
      const format = json ? 'json' : openmetrics ? 'openmetrics' : 'text';
      await using look = await lookAround(source, signal);
      return await collectOnce(terminal, look, { format, all });
    }),
  );

program
  .command('check-config')
  .description('says what is wrong with a configuration')
  .argument('[file]')
  .addHelpText('after', HELP.checkConfig)
  .action((file: string | undefined) =>
    perform(async () => await checkConfiguration(file ?? (await commandConfig()))),
  );

program
  .command('pause')
  .description('lets go of every GPU for a while: for a driver upgrade or a MIG change')
  .argument('<duration>', 'such as 10m', pauseTime)
  .addOption(nodeOption())
  .addHelpText('after', HELP.pause)
  .action((ms: number, options: { node?: string }) =>
    perform(async () => (await import('./commands/pause.ts')).pause(terminal, await socket(options), ms)),
  );

program
  .command('resume')
  .description('ends a pause before its time')
  .addOption(nodeOption())
  .addHelpText('after', HELP.resume)
  .action((options: { node?: string }) =>
    perform(async () => (await import('./commands/pause.ts')).resume(terminal, await socket(options))),
  );

program
  .command('reload')
  .description('has the running agent read its configuration again, as SIGHUP does')
  .addOption(nodeOption())
  .addHelpText('after', HELP.reload)
  .action((options: { node?: string }) =>
    perform(async () => (await import('./commands/pause.ts')).reload(terminal, await socket(options))),
  );

program
  .command('check')
  .description("the job gate: may jobs run on this node's GPUs? For Slurm and Kubernetes")
  .addOption(
    new Option('--gpus <all | number>', 'so many GPUs must be there')
      .argParser(gpuCount)
      .default(undefined, 'all'),
  )
  .addOption(
    new Option('--ignore <names>', 'conditions that do not close the gate, with commas')
      .argParser(conditions)
      .default(new Set<string>(), 'none'),
  )
  .option('--require-aggregator', 'the stream to an aggregator must stand')
  .option('--direct', 'where no agent runs, read the sources here (slow, and it may hang with a driver)')
  .option('--json', 'one JSON document, with all that was looked at')
  .addOption(timeoutOption())
  .addOption(nodeOption())
  .addHelpText('after', HELP.check)
  .action(
    (
      options: AskOptions & {
        gpus: number | undefined;
        ignore: Set<string>;
        requireAggregator?: boolean;
        direct?: boolean;
      },
    ) =>
      perform(async (signal) => {
        const { check } = await import('./commands/check.ts');
        const { gpus, ignore, requireAggregator = false, json = false, timeout: timeoutMs } = options;
        return await check(terminal, {
          socket: await socket(options),
          gpus,
          ignore,
          requireAggregator,
          json,
          timeoutMs,
          direct: options.direct ? () => readGateFacts(signal) : undefined,
        });
      }),
  );

program
  .command('event')
  .description('hands an event to the running agent')
  .command('diag')
  .description('the result of dcgmi diag, an NCCL test or a burn-in run')
  .addOption(
    new Option('--source <name>', 'what ran').choices(['dcgmi', 'nccl', 'burn-in']).makeOptionMandatory(),
  )
  .addOption(new Option('--result <result>', 'where no file of dcgmi says it').choices(['pass', 'fail']))
  .option('--gpu <index | uuid | all>', 'which GPU it is about', 'all')
  .option('--test <name>', 'which test ran')
  .option(
    '--file <file>',
    'its output, - for standard input; with --source dcgmi what `dcgmi diag -j` printed',
  )
  .addOption(timeoutOption())
  .addOption(nodeOption())
  .addHelpText('after', HELP.diag)
  .action(
    (
      options: AskOptions & {
        source: string;
        result?: 'pass' | 'fail';
        gpu: string;
        test?: string;
        file?: string;
      },
    ) =>
      perform(async () => {
        const { diagnostic } = await import('./commands/diagnostic-event.ts');
        const { source, result, gpu, test, file, timeout: timeoutMs } = options;
        const socketPath = await socket(options);
        return await diagnostic(terminal, { socket: socketPath, timeoutMs, source, result, gpu, test, file });
      }),
  );

program
  .command('hash-password')
  .description('prints what exporter.users takes, for a password on standard input')
  .addHelpText('after', HELP.hashPassword)
  .action(() =>
    perform(async () => {
      const { printPasswordHash } = await import('./commands/hash-password.ts');
      return await printPasswordHash(terminal, process.stdin);
    }),
  );

const terminal: Terminal = {
  columns: process.stdout.columns ?? DEFAULT_COLUMNS,
  clock: systemClock,
  write: (text) => void process.stdout.write(text),
};
// A reader that has seen enough (head, less) is no error.
process.stdout.on('error', () => process.exit());

await program.parseAsync(process.argv);

/** Runs a command to its exit code; what it throws becomes one. */
async function perform(command: (signal: AbortSignal) => Promise<number>): Promise<void> {
  let code = 0;
  await runMain(process, async (signal) => {
    try {
      code = await command(signal);
    } catch (error) {
      code = exitCodeOf(error);
      if (code === 0) throw error;
      process.stderr.write(`${describeError(error)}\n`);
    }
  });
  if (code !== 0) process.exitCode = code;
}

/** 0 where runMain knows. */
function exitCodeOf(error: unknown): number {
  if (!(error instanceof FleetError)) return 0;
  if (error.name === 'AgentNotRunning') return NOT_RUNNING;
  return error.code === 'invalid_input' ? USAGE : 0;
}

function configOption(): string | undefined {
  return program.opts<{ config?: string }>().config;
}

/** The agent's own: what is named, else the defaults. */
async function load() {
  const { loadAgentConfig } = await import('./config.ts');
  return await loadAgentConfig(configOption(), process.env);
}

/** Of the other commands: what is named, else what is installed, else the defaults. */
async function commandConfig(): Promise<string | undefined> {
  const { installedConfig } = await import('./control-socket.ts');
  return configOption() ?? (await installedConfig());
}

async function loadForCommand() {
  const { loadAgentConfig } = await import('./config.ts');
  return await loadAgentConfig(await commandConfig(), process.env);
}

async function checkConfiguration(file: string | undefined): Promise<number> {
  const { checkConfig } = await import('./commands/check-config.ts');
  return await checkConfig(terminal, file, process.env);
}

async function socket({ node }: { readonly node?: string }): Promise<string> {
  const { socketOf } = await import('./control-socket.ts');
  return await socketOf(configOption(), node);
}

/** What reading the sources in this process needs; its folder goes at the end. */
async function lookAround(source: string | undefined, signal: AbortSignal) {
  const { HOST, passingSurroundings } = await import('./commands/surroundings.ts');
  const { createLogger } = await import('#shared/logging/logger.ts');
  const config = await loadForCommand();
  const logger = createLogger('gpufleet-agent', 'warn');
  const surroundings = await passingSurroundings(config, HOST, systemClock, logger);
  return {
    config,
    surroundings,
    source,
    signal,
    [Symbol.asyncDispose]: () => surroundings[Symbol.asyncDispose](),
  };
}

async function readGateFacts(signal: AbortSignal) {
  const { collectGateFacts } = await import('./commands/collect.ts');
  await using look = await lookAround(undefined, signal);
  return await collectGateFacts(look);
}
