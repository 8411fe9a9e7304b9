#!/usr/bin/env node
import { Command, InvalidArgumentError, Option } from 'commander';
import { parseDuration } from '#shared/config/values.ts';
import packageJson from '../../package.json' with { type: 'json' };
import { addAlertingCommands } from './alerting-commands.ts';
import { type AlertOptions, alerts, resolveAlert, SEVERITIES, watchAlerts } from './alerts.ts';
import { connect, EXIT, exitCodeOf, sentenceOf } from './connection.ts';
import { type DeadLetterFilter, deadLetters, replayDeadLetters } from './dead-letters.ts';
import { paintWith } from './format.ts';
import { gpu } from './gpu.ts';
import { gpus } from './gpus.ts';
import { addHealthCommands } from './health-commands.ts';
import { type LossOptions, losses } from './losses.ts';
import { endOf, momentOf } from './moment.ts';
import { nodes } from './nodes.ts';
import type { CommandContext, Output } from './output.ts';
import { type ReplayOptions, replay } from './replay.ts';
import { addRulesCommands } from './rules-commands.ts';
import { top } from './top.ts';

interface GlobalOptions {
  readonly server: string;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly ca?: string;
  readonly timeout: number;
  readonly json?: boolean;
}

const duration = (text: string): number => {
  const ms = parseDuration(text);
  if (ms === undefined || ms < 100)
    throw new InvalidArgumentError('must be a duration from 100ms, such as 500ms, 10s, 1m');
  return ms;
};
const count = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('must be a whole number from 1');
  return value;
};
const moment = (text: string): number => {
  const ms = momentOf(text, Date.now());
  if (ms === undefined)
    throw new InvalidArgumentError(
      'must be a time such as 2026-01-31T12:00:00Z, or how long ago: 90s, 2h, 7d',
    );
  return ms;
};
const ending = (text: string): number => {
  const ms = endOf(text, Date.now());
  if (ms === undefined)
    throw new InvalidArgumentError(
      'must be a time such as 2026-01-31T12:00:00Z, or how long from now: 90m, 2h, 3d',
    );
  return ms;
};
const limit = () => new Option('--limit <n>', 'at most so many rows').argParser(count);

const program = new Command('gpufleet')
  .description('Looks at a GPU fleet: nodes, GPUs, health, alerts, losses.')
  .version(packageJson.version)
  .addOption(
    new Option('--server <url>', 'the aggregator').env('GPUFLEET_SERVER').default('http://127.0.0.1:7480'),
  )
  .addOption(new Option('--token <token>', 'bearer token').env('GPUFLEET_TOKEN'))
  .addOption(
    new Option('--token-file <file>', 'a file with it, or a token file of the aggregator').env(
      'GPUFLEET_TOKEN_FILE',
    ),
  )
  .option('--ca <file>', 'PEM of the authority behind an https server')
  .addOption(new Option('--timeout <duration>', 'for one call').argParser(duration).default(10_000, '10s'))
  .option('--json', 'one JSON document; with --watch one a line')
  .exitOverride((error) => process.exit(error.exitCode === 0 ? EXIT.ok : EXIT.usage))
  .addHelpText(
    'after',
    `
Examples:
  gpufleet nodes
  gpufleet gpus --node gpu-017
  gpufleet gpu gpu-017/3
  gpufleet alerts --active --severity critical
  gpufleet alerts --watch --json | jq .summary
  gpufleet alerts resolve 5f0c... --comment "fan replaced" --token-file ~/.gpufleet-token
  gpufleet ack 5f0c... --comment "on it"
  gpufleet silence node=gpu-017 'rule=~gpu-.*' --until 4h --why "fan on order"
  gpufleet actions --state awaiting_approval
  gpufleet audit --node gpu-017 --since 7d
  gpufleet losses --since 24h
  gpufleet replay --from 2h --comment "store restored from its backup"
  gpufleet dead-letters
  gpufleet health
  gpufleet transitions --since 24h --to critical
  gpufleet anomalies
  gpufleet mark gpu-017 drained --why "fan on order" --until 2d
  gpufleet clear GPU-5f0c... --cause repair --why "board replaced"
  gpufleet inject gpu-017/3
  gpufleet top

Exit codes: 0 good, 1 error, 2 usage, 3 not found, 4 no or wrong token or not allowed, 5 the aggregator cannot be reached.`,
  );

program
  .command('nodes')
  .description('nodes with their state and worst health')
  .addOption(limit())
  .action((options: { limit?: number }) => run((context) => nodes(context, options)));

program
  .command('gpus')
  .description('GPUs with health, temperature, power, load and memory')
  .option('--node <name>', 'of this node')
  .option('--model <model>', 'of this model')
  .addOption(limit())
  .action((options: { node?: string; model?: string; limit?: number }) =>
    run((context) => gpus(context, options)),
  );

program
  .command('gpu')
  .description('one GPU: its health with the reasons, and all its series')
  .argument('<uuid | node/index>')
  .action((which: string) => run((context) => gpu(context, which)));

const alertsCommand = program
  .command('alerts')
  .description('alerts')
  .option('--active', 'pending and firing ones alone')
  .option('--watch', 'what is active, then each transition as it happens')
  .option('--node <name>', 'of this node')
  .option('--rule <name>', 'of this rule')
  .addOption(new Option('--severity <severity>', 'this one and worse').choices(Object.keys(SEVERITIES)))
  .addOption(limit())
  .action((options: AlertOptions & { watch?: boolean }) =>
    run((context) => (options.watch ? watchAlerts : alerts)(context, options)),
  );

alertsCommand
  .command('resolve')
  .description("resolve an alert (operator's token); it stays silent until its condition clears")
  .argument('<id>')
  .option('--comment <text>', 'who and why, for the record', '')
  .action((id: string, { comment }: { comment: string }) =>
    run((context) => resolveAlert(context, id, comment)),
  );

program
  .command('losses')
  .description(
    'what was recorded and will never be in the store: where, when, how much and why; ~ is an estimate',
  )
  .option('--node <name>', 'of this node')
  .option(
    '--reason <reason>',
    'of this reason: trimmed, corrupt, run_vanished, unbuffered, refused, store_ignored',
  )
  .addOption(
    new Option('--since <time>', 'lost samples of that time or later; 2h is two hours ago').argParser(moment),
  )
  .addOption(new Option('--until <time>', 'lost samples of that time or earlier').argParser(moment))
  .addOption(limit())
  .action((options: LossOptions) => run((context) => losses(context, options)));

program
  .command('replay')
  .description(
    "ask agents to send again what they recorded, as far back as their buffers reach (operator's token): the cure after the store was set back",
  )
  .addOption(
    new Option('--from <time>', 'since when; 2h is two hours ago').argParser(moment).makeOptionMandatory(),
  )
  .addOption(new Option('--to <time>', 'until when; to the end where not given').argParser(moment))
  .option('--node <name>', 'this node alone')
  .option('--comment <text>', 'who and why, for the record', '')
  .action((options: ReplayOptions) => run((context) => replay(context, options)));

const deadLettersCommand = program
  .command('dead-letters')
  .description("series that the store refused for their content, with the store's words")
  .option('--node <name>', 'of this node')
  .addOption(limit())
  .action((options: DeadLetterFilter) => run((context) => deadLetters(context, options)));

deadLettersCommand
  .command('replay')
  .description(
    "offer dead letters to the store again (operator's token); those that it takes are lost no more",
  )
  .argument('[id...]')
  .option('--all', 'all of them')
  .action((ids: string[], { all }: { all?: boolean }) =>
    run((context) => replayDeadLetters(context, ids, all ?? false)),
  );

program
  .command('top')
  .description('live table, worst first; q ends it')
  .addOption(
    new Option('--interval <duration>', 'between two looks').argParser(duration).default(1_000, '1s'),
  )
  .action(({ interval }: { interval: number }) => run((context) => top(context, interval)));

addHealthCommands(program, { run, moment, ending, count });
addAlertingCommands(program, { run, moment, ending, count });
addRulesCommands(program, { run });

await program.parseAsync(process.argv);

async function run(command: (context: CommandContext) => Promise<void>): Promise<void> {
  const { server, token, tokenFile, ca, timeout, json } = program.opts<GlobalOptions>();
  const stop = new AbortController();
  process.on('SIGINT', () => stop.abort());
  process.on('SIGTERM', () => stop.abort());
  // A reader that has seen enough (head, less) is no error.
  process.stdout.on('error', () => process.exit(EXIT.ok));
  listenForQuit(stop);
  try {
    await command({
      ...connect({ server, token, tokenFile, ca, timeoutMs: timeout }),
      output: outputTo(process.stdout, json ?? false),
      signal: stop.signal,
      now: Date.now,
    });
    process.exitCode = EXIT.ok;
  } catch (error) {
    process.stderr.write(`${sentenceOf(error, server)}\n`);
    process.exitCode = exitCodeOf(error);
  }
  // The HTTP/2 session would keep the process for its idle time; what was written goes out first.
  process.stdout.write('', () => process.exit());
}

function outputTo(stream: NodeJS.WriteStream, json: boolean): Output {
  const isTerminal = stream.isTTY === true;
  return {
    json,
    isTerminal,
    paint: paintWith(isTerminal && !process.env.NO_COLOR),
    get columns() {
      return stream.columns ?? 80;
    },
    get rows() {
      return stream.rows ?? 24;
    },
    write: (text) => void stream.write(text),
  };
}

const CTRL_C = 3;

/** `q` and Ctrl-C, where keys can be read one by one. */
function listenForQuit(stop: AbortController): void {
  if (!process.stdin.isTTY || !process.stdout.isTTY || !process.argv.includes('top')) return;
  process.stdin.setRawMode(true);
  process.stdin.on('data', (keys: Buffer) => {
    if (keys.includes('q') || keys.includes(CTRL_C)) stop.abort();
  });
  process.on('exit', () => process.stdin.setRawMode(false));
}
