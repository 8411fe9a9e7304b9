import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { inject } from 'vitest';
import { skipLoudly } from './data.ts';
import { freePort } from './ports.ts';
import { Child } from './process.ts';
import { type TempDir, tempDir } from './temp.ts';
import { until } from './wait.ts';

const execute = promisify(execFile);
const READY_TIMEOUT_MS = 60_000;
const COMMAND_TIMEOUT_MS = 30_000;
/** Linux' number for NVIDIA's devices; nothing opens them, so no driver is needed. */
const MAJOR = 195;

/** Whether a real Slurm can be started here, for `describe.skipIf(!hasSlurm())`; under CI it answers yes. */
export function hasSlurm(): boolean {
  const found = inject('slurm');
  if (found.programs !== undefined || process.env.CI) return true;
  skipLoudly(`tests that need Slurm: ${found.reason}`);
  return false;
}

export interface SlurmOptions {
  /** Minor numbers of the node's GPUs: `/dev/nvidia<minor>` in a folder of its own. */
  readonly gpus: readonly number[];
  /** Lines to add to slurm.conf, such as Prolog or HealthCheckProgram. */
  readonly config?: readonly string[];
}

/**
 * A cluster of one node, `node-a`, with Debian's munged, slurmctld and slurmd on free ports and in a folder of its
 * own. No system service, user or folder is touched. `await using` it: jobs are cancelled and the daemons stopped.
 */
export class SlurmCluster implements AsyncDisposable {
  readonly node = 'node-a';
  /** For programs that are to find scontrol and its configuration: PATH, SLURM_CONF, LD_LIBRARY_PATH. */
  readonly env: Readonly<Record<string, string>>;
  readonly folder: string;
  readonly #temp: TempDir;
  readonly #children: Child[] = [];

  private constructor(temp: TempDir, env: Readonly<Record<string, string>>) {
    this.#temp = temp;
    this.folder = temp.path;
    this.env = env;
  }

  static async start(options: SlurmOptions): Promise<SlurmCluster> {
    const found = inject('slurm');
    if (found.programs === undefined) throw new Error(`Cannot run Slurm: ${found.reason}`);
    const temp = tempDir('slurm');
    const bin = join(temp.path, 'bin');
    mkdirSync(bin);
    // Slurm's daemons know themselves by the name that they are called by; as slurmd-wlm they pass over Gres.
    for (const [name, file] of Object.entries(found.programs)) symlinkSync(file, join(bin, name));
    const cluster = new SlurmCluster(temp, {
      PATH: `${bin}:${process.env.PATH ?? ''}`,
      SLURM_CONF: join(temp.path, 'slurm.conf'),
      LD_LIBRARY_PATH: found.libraries.join(':'),
    });
    try {
      await cluster.#configure(options, found.plugins);
      await cluster.#startDaemons();
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Runs one of Slurm's commands to its end; its output, trimmed. */
  async run(command: string, ...args: readonly string[]): Promise<string> {
    const { stdout } = await execute(join(this.folder, 'bin', command), args, {
      env: { ...process.env, ...this.env },
      timeout: COMMAND_TIMEOUT_MS,
    });
    return stdout.trim();
  }

  /** Submits a batch script; the job's id. */
  async submit(script: string, ...options: readonly string[]): Promise<string> {
    const file = join(this.folder, `job-${randomBytes(4).toString('hex')}.sh`);
    writeFileSync(file, `#!/bin/sh\n${script}\n`);
    const output = `--output=${join(this.folder, 'job-%j.out')}`;
    return (await this.run('sbatch', '--parsable', output, ...options, file)).split(';')[0]!;
  }

  /** `RUNNING`, `COMPLETED`, `CANCELLED` ... */
  async jobState(id: string): Promise<string> {
    return /JobState=(\S+)/.exec(await this.run('scontrol', 'show', 'job', '-o', id))?.[1] ?? '';
  }

  /** `idle`, `mixed`, `drained`, with Slurm's marks: as sinfo prints it. */
  nodeState(): Promise<string> {
    return this.run('sinfo', '--noheader', '--Node', '--format=%T');
  }

  /** Ends slurmctld as a crash would; slurmd and jobs go on. */
  async killController(): Promise<void> {
    const at = this.#children.findIndex(({ name }) => name === 'slurmctld');
    const [controller] = this.#children.splice(at, 1);
    await controller!.kill9();
  }

  /** Starts it again on the state that it left; resolves when it answers. */
  async startController(): Promise<void> {
    await this.#start('slurmctld', '-D', '-f', join(this.folder, 'slurm.conf'));
    await this.until('slurmctld answers', async () => (await this.nodeState()) !== '');
  }

  async until(what: string, predicate: () => Promise<boolean>): Promise<void> {
    await until(predicate, {
      timeoutMs: READY_TIMEOUT_MS,
      what,
      everyMs: 100,
      hopeless: () => this.#ended(),
      detail: () => this.#children.map((child) => `${child.name}: ${child.lastLines(5)}`).join('\n'),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const isUp = this.#children.length === 3 && this.#ended() === undefined;
    if (isUp) {
      // A step outlives its slurmd, in a process group of its own.
      await this.run('scancel', '--user=root').catch(() => {});
      const empty = async (): Promise<boolean> => (await this.run('squeue', '--noheader')) === '';
      await this.until('all jobs end', empty).catch(() => {});
    }
    for (const child of this.#children.toReversed()) await child[Symbol.asyncDispose]();
    await this.#temp[Symbol.asyncDispose]();
  }

  #ended(): string | undefined {
    const gone = this.#children.find((child) => child.exit !== undefined);
    return gone && `${gone.name} ended`;
  }

  async #configure({ gpus, config = [] }: SlurmOptions, plugins: string): Promise<void> {
    const at = (name: string): string => join(this.folder, name);
    for (const name of ['state', 'spool', 'dev']) mkdirSync(at(name));
    const files = gpus.map((minor) => join(at('dev'), `nvidia${minor}`));
    for (const [i, file] of files.entries()) {
      await execute('mknod', [file, 'c', String(MAJOR), String(gpus[i])]);
    }
    writeFileSync(at('munge.key'), randomBytes(128));
    chmodSync(at('munge.key'), 0o400);
    writeFileSync(at('gres.conf'), files.map((file) => `Name=gpu File=${file}\n`).join(''));
    const host = hostname().split('.')[0]!;
    const lines = [
      'ClusterName=test',
      `SlurmctldHost=${host}(127.0.0.1)`,
      `SlurmctldPort=${await freePort()}`,
      'SlurmUser=root',
      'SlurmdUser=root',
      'AuthType=auth/munge',
      `AuthInfo=socket=${at('munge.socket')}`,
      'CredType=cred/munge',
      `PluginDir=${plugins}`,
      `StateSaveLocation=${at('state')}`,
      `SlurmdSpoolDir=${at('spool')}`,
      `SlurmctldPidFile=${at('slurmctld.pid')}`,
      `SlurmdPidFile=${at('slurmd.pid')}`,
      'ProctrackType=proctrack/linuxproc',
      'TaskPlugin=task/none',
      'JobAcctGatherType=jobacct_gather/none',
      'SelectType=select/cons_tres',
      'SelectTypeParameters=CR_Core',
      'MpiDefault=none',
      'SwitchType=switch/none',
      'ReturnToService=2',
      // A job's end is waited for in tests.
      'KillWait=2',
      'GresTypes=gpu',
      ...config,
      `NodeName=${this.node} NodeHostname=${host} NodeAddr=127.0.0.1 Port=${await freePort()} CPUs=1 RealMemory=64 Gres=gpu:${gpus.length} State=UNKNOWN`,
      'PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8',
    ];
    writeFileSync(at('slurm.conf'), `${lines.join('\n')}\n`);
  }

  async #startDaemons(): Promise<void> {
    const at = (name: string): string => join(this.folder, name);
    const munge = ['key', 'log', 'pid', 'seed'].map((name) => `--${name}-file=${at(`munge.${name}`)}`);
    await this.#start('munged', '--foreground', '--force', `--socket=${at('munge.socket')}`, ...munge);
    await this.#start('slurmctld', '-D', '-c', '-f', at('slurm.conf'));
    await this.#start('slurmd', '-D', '-N', this.node, '-f', at('slurm.conf'), '-d', at('bin/slurmstepd'));
    await this.until('the node is idle', async () => (await this.nodeState()) === 'idle');
  }

  async #start(name: string, ...args: string[]): Promise<void> {
    const command = join(this.folder, 'bin', name);
    this.#children.push(await Child.start({ name, command, args, env: this.env, cwd: this.folder }));
  }
}
