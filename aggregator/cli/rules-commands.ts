import type { Command } from 'commander';
import type { CommandContext } from './output.ts';
import { checkRules, type ImportOptions, importPrometheusRules, runRuleTests } from './rules.ts';

/** What main.ts lends: running a command. */
interface Tools {
  run(command: (context: CommandContext) => Promise<void>): Promise<void>;
}

/** The commands about files of rules, of `gpufleet rules`, which may have others. They ask no server. */
export function addRulesCommands(program: Command, { run }: Tools): void {
  const rules =
    program.commands.find((one) => one.name() === 'rules') ??
    program.command('rules').description('alert rules');

  rules
    .command('check')
    .description(
      'say what is wrong with rules files, with line and column (no server is asked); exit 1 where something is',
    )
    .argument('<file...>')
    .action((files: string[]) => run(({ output }) => checkRules(output, files)));

  rules
    .command('test')
    .description('run unit tests of rules (no server is asked); exit 1 where one fails')
    .argument('<file...>')
    .action((files: string[]) => run(({ output }) => runRuleTests(output, files)));

  rules
    .command('import')
    .description("translate Prometheus' alerting rules, and say which cannot be and why (no server is asked)")
    .argument('<prometheus-rules.yaml>')
    .option('-o, --out <file>', 'write the rules here instead of to standard output')
    .option('--rest <file>', 'write the rules that cannot be translated here, for vmalert')
    .action((file: string, options: ImportOptions) =>
      run(({ output }) => importPrometheusRules(output, file, options)),
    );
}
