import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { describeError } from '#shared/errors/fleet-error.ts';
import { type FoundServer, findNatsServer, findVictoriaMetrics } from '../../deploy/local/servers.ts';
import { describeFault, FAULT_KINDS, type FaultKind } from './fault.ts';
import type { Task } from './inside.ts';
import { copyTree, MUTATIONS } from './mutations.ts';
import { makePlan, only } from './plan.ts';

const number = (text: string): number => {
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0) throw new InvalidArgumentError('must be a number');
  return value;
};
const minutes = (text: string): number => {
  const value = number(text);
  if (value < 2) throw new InvalidArgumentError('must be at least 2: a restored store takes that long');
  return value;
};
const kinds = (text: string): FaultKind[] =>
  text.split(',').map((name) => {
    const kind = FAULT_KINDS.find((one) => one === name);
    if (!kind) throw new InvalidArgumentError(`there are: ${FAULT_KINDS.join(', ')}`);
    return kind;
  });

const options = new Command('npm run test:fault --')
  .description(
    'Runs agents whose every sample is known, an aggregator, VictoriaMetrics and nats-server, breaks them in every ' +
      'way there is at random times, heals everything, and compares each sample with the store and the loss ledger.',
  )
  .option('--minutes <m>', 'how long faults go on', minutes, 2)
  .option('--seed <s>', 'decides the faults and the samples', number, 1)
  .option('--only <kinds>', 'leave out all other kinds of fault; separated by commas', kinds)
  .option('--plan', 'print the faults of this seed and length, and do nothing')
  .option('--no-namespaces', 'cut links by a proxy and fill no disk, as where namespaces are not allowed')
  .option('--keep', 'keep the logs also when all is well')
  .option('--mutate <name>', `break the product on purpose: ${Object.keys(MUTATIONS).join(', ')}`)
  .addHelpText('after', '\nExit codes: 0 as promised, 1 not, 2 bad usage.')
  .parse()
  .opts<{
    minutes: number;
    seed: number;
    only?: FaultKind[];
    plan?: boolean;
    keep?: boolean;
    namespaces: boolean;
    mutate?: string;
  }>();

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** A namespace of each kind of our own, and all that runs in them ends with us. */
const UNSHARE = ['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];

/** The command that makes namespaces, or undefined where that is not allowed. */
function isolation(): readonly string[] | undefined {
  const attempts = [UNSHARE, ['--map-root-user', ...UNSHARE]];
  const try_ = 'ip link set lo up && mount -t tmpfs none /mnt && umount /mnt';
  return attempts
    .map((flags) => ['unshare', ...flags])
    .find((command) => spawnSync(command[0]!, [...command.slice(1), 'sh', '-c', try_]).status === 0);
}

function binaryOf(found: FoundServer, name: string): string {
  if (found.binary === undefined) throw new Error(`Cannot run ${name}: ${found.reason}`);
  return found.binary;
}

/** Resolves with the exit status; `tree` holds the program. */
function runInside(tree: string, task: Task, isolated: readonly string[] | undefined): Promise<number> {
  const command = [
    ...(isolated ?? []),
    process.execPath,
    join(tree, 'test/fault/inside.ts'),
    JSON.stringify(task),
  ];
  return new Promise((resolve, reject) => {
    // Its standard input is our pipe: it ends when we do, even by kill -9.
    const child = spawn(command[0]!, command.slice(1), { stdio: ['pipe', 'inherit', 'inherit'] });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.on(signal, () => child.stdin.end());
    child.once('error', reject);
    child.once('exit', (status) => resolve(status ?? 1));
  });
}

async function main(): Promise<number> {
  const plan = only(makePlan(options.seed, options.minutes), options.only);
  say(`seed ${plan.seed}, ${plan.minutes} minutes, ${plan.faults.length} faults:`);
  for (const fault of plan.faults) say(`  ${fault.atS.toFixed(1).padStart(7)} s  ${describeFault(fault)}`);
  if (options.plan) return 0;
  const log = (line: string): void => void process.stderr.write(`gpufleet: ${line}\n`);
  const binaries = {
    victoriaMetrics: binaryOf(await findVictoriaMetrics(log), 'victoria-metrics'),
    nats: binaryOf(await findNatsServer(log), 'nats-server'),
  };
  const isolated = options.namespaces ? isolation() : undefined;
  if (!isolated)
    say(
      'NOTICE: no namespaces (not root and none for plain users, or not wanted): a proxy cuts the links instead, and no ' +
        'disk is filled. This run shows less than it should.',
    );
  const directory = mkdtempSync(join(tmpdir(), 'gpufleet-fault-'));
  let status = 1;
  try {
    const tree = copyTree(directory, options.mutate);
    status = await runInside(tree, { plan, directory, binaries, isolated: isolated !== undefined }, isolated);
  } finally {
    if (status === 0 && !options.keep) rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
    else say(`logs, witness and disks are in ${directory}`);
  }
  return status;
}

if (options.mutate !== undefined && !Object.hasOwn(MUTATIONS, options.mutate)) {
  say(`there is no mutation ${options.mutate}; there are: ${Object.keys(MUTATIONS).join(', ')}`);
  process.exitCode = 2;
} else {
  main().then(
    (status) => {
      process.exitCode = status;
    },
    (error: unknown) => {
      process.stderr.write(`${describeError(error)}\n`);
      process.exitCode = 1;
    },
  );
}
