import { type Command, InvalidArgumentError, Option } from 'commander';
import { type AnomalyOptions, anomalies, type InjectOptions, inject } from './anomalies.ts';
import { type ClearOptions, clear, type MarkOptions, mark, marks, unmark } from './marks.ts';
import type { CommandContext } from './output.ts';
import { patterns, rejected } from './patterns.ts';
import { health, type ScopeOptions } from './scope-health.ts';
import { STATES, type TransitionOptions, transitions } from './transitions.ts';

/** What main.ts lends: running a command, and reading its options. */
export interface Tools {
  run(command: (context: CommandContext) => Promise<void>): Promise<void>;
  moment(text: string): number;
  /** A time that is to come. */
  ending(text: string): number;
  count(text: string): number;
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && Number.isFinite(value))) throw new InvalidArgumentError('must be a number over 0');
  return value;
}

/** The commands about health, of `gpufleet`. */
export function addHealthCommands(program: Command, { run, moment, ending, count }: Tools): void {
  const limit = () => new Option('--limit <n>', 'at most so many rows').argParser(count);
  const why = () => new Option('--why <text>', 'the reason, for the record').makeOptionMandatory();

  program
    .command('health')
    .description('score of the fleet, of a pool or of a node, and who takes points off it')
    .addOption(new Option('--pool <name>', 'of this pool').conflicts('node'))
    .option('--node <name>', 'of this node')
    .action((options: ScopeOptions) => run((context) => health(context, options)));

  program
    .command('transitions')
    .description('changes of health state with their why, newest first')
    .option('--node <name>', 'of this node')
    .option('--gpu <uuid>', 'of this GPU')
    .addOption(new Option('--to <state>', 'to this state').choices(Object.keys(STATES)))
    .addOption(new Option('--since <time>', 'of that time or later; 2h is two hours ago').argParser(moment))
    .addOption(new Option('--until <time>', 'of that time or earlier').argParser(moment))
    .addOption(limit())
    .action((options: TransitionOptions) => run((context) => transitions(context, options)));

  program
    .command('anomalies')
    .description('what is unusual about GPUs right now, newest first')
    .option('--node <name>', 'of this node')
    .option('--gpu <uuid>', 'of this GPU')
    .option('--all', 'those that are over, too')
    .addOption(limit())
    .action((options: AnomalyOptions) => run((context) => anomalies(context, options)));

  program
    .command('inject')
    .description(
      "make a test anomaly on a GPU, marked as a test wherever it is shown (operator's token): does it reach you?",
    )
    .argument('<uuid | node/index>')
    .option('--metric <name>', 'what it is about', 'gpu_temperature_celsius')
    .addOption(new Option('--strength <n>', '1 is the threshold').argParser(positive).default(2))
    .addOption(new Option('--seconds <n>', 'how long it lasts').argParser(positive).default(60))
    .action((which: string, options: InjectOptions) => run((context) => inject(context, which, options)));

  program
    .command('patterns')
    .description('what repeats, drifts, or goes together')
    .option('--kind <kind>', 'trend, cooccurrence, lemon, shared_cause or time_of_day', '')
    .action(({ kind }: { kind: string }) => run((context) => patterns(context, kind)));

  program
    .command('rejected')
    .description('samples that were kept out of scores because they cannot be true')
    .option('--node <name>', 'of this node', '')
    .action(({ node }: { node: string }) => run((context) => rejected(context, node)));

  program
    .command('marks')
    .description('what operators say of nodes: degraded, drained, maintenance')
    .action(() => run((context) => marks(context)));

  program
    .command('mark')
    .description("mark a node (operator's token); drained and maintenance wake nobody")
    .argument('<node>')
    .argument('<degraded | drained | maintenance>')
    .addOption(why())
    .addOption(
      new Option('--until <time>', 'when it ends by itself: a time, or 2h from now').argParser(ending),
    )
    .action((node: string, what: string, options: MarkOptions) =>
      run((context) => mark(context, node, what, options)),
    );

  program
    .command('unmark')
    .description("take a node's mark away (operator's token)")
    .argument('<node>')
    .addOption(why())
    .action((node: string, options: { why: string }) => run((context) => unmark(context, node, options.why)));

  program
    .command('clear')
    .description(
      "say that a GPU was looked at (operator's token): ends what only a clearing event ends, such as a critical state by Xid 79",
    )
    .argument('<uuid>')
    .addOption(
      new Option('--cause <cause>', 'what was done')
        .choices(['diagnostic', 'repair', 'operator'])
        .makeOptionMandatory(),
    )
    .addOption(why())
    .action((uuid: string, options: ClearOptions) => run((context) => clear(context, uuid, options)));
}
