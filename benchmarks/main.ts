import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { describeError } from '#shared/errors/fleet-error.ts';
import packageJson from '../package.json' with { type: 'json' };
import { CASES } from './cases.ts';
import { withCpuTaken } from './cpu-taken.ts';
import { profiled } from './profile.ts';
import { type CaseResult, surroundings, toJson, toTable } from './report.ts';

const positive = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('must be a whole number from 1');
  return value;
};

const command = new Command('npm run bench --')
  .description(
    'Measures. Medians of several runs, with the spread and the CPU that other work took meanwhile.',
  )
  .argument('[regex]', 'cases whose name matches; all without it', '')
  .option('--json', 'the last line of the output is one JSON object')
  .option('--runs <n>', 'runs of each case', positive, 5)
  .option('--seed <s>', 'seed of generated input', positive, 1)
  .option('--tiny', 'run each case for a moment only: proves that it works, measures nothing')
  .option('--profile <file>', 'write a CPU profile (.cpuprofile) of the runs')
  .addHelpText(
    'after',
    `\nCases:\n${CASES.map(({ name, description }) => `  ${name.padEnd(12)} ${description}`).join('\n')}\n\nGPUFLEET_DATA names the folder with the reference trace (default ../shared/data).`,
  )
  .parse(process.argv);
const options = command.opts<{
  json?: boolean;
  runs: number;
  seed: number;
  tiny?: boolean;
  profile?: string;
}>();

const pattern = new RegExp(command.args[0] ?? '');
const chosen = CASES.filter(({ name }) => pattern.test(name));
if (chosen.length === 0)
  command.error(`no case matches ${pattern}; there are: ${CASES.map(({ name }) => name).join(', ')}`, {
    exitCode: 2,
  });

const dataDir = resolve(process.env.GPUFLEET_DATA ?? new URL('../../shared/data', import.meta.url).pathname);
const log = (line: string): void => void process.stderr.write(`${line}\n`);

const results: CaseResult[] = [];
await profiled(options.profile, async () => {
  for (const one of chosen) {
    const runs: CaseResult['runs'][number][] = [];
    const otherCores: number[] = [];
    for (let run = 1; run <= options.runs; run++) {
      log(`${one.name}: run ${run} of ${options.runs}`);
      const { result, otherCores: others } = await withCpuTaken(() =>
        one.run({
          seed: options.seed,
          tiny: options.tiny ?? false,
          dataDir: existsSync(dataDir) ? dataDir : undefined,
          log,
        }),
      );
      runs.push(result);
      otherCores.push(others);
    }
    results.push({ name: one.name, runs, otherCores });
  }
}).catch((error: unknown) => {
  log(describeError(error));
  process.exit(1);
});

process.stdout.write(`${surroundings(packageJson.version)}\n\n${toTable(results)}\n`);
if (options.json) process.stdout.write(`${toJson(results)}\n`);
process.exit(0);
