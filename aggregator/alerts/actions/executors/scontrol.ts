import { execFile } from 'node:child_process';
import type { StepOutcome } from '../executor.ts';
import { parseNodeJson, parseNodeLine, type SlurmNode } from './slurm-node.ts';

export interface ScontrolOptions {
  readonly command: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

type Fault = Extract<StepOutcome, { outcome: 'retry' | 'failed' }>;

interface Said {
  readonly ok: boolean;
  readonly out: string;
  /** Both streams in one line, for people. */
  readonly words: string;
  /** Of the system, where it could not be run: ENOENT, EACCES. */
  readonly code: string;
}

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** One node is some kilobytes; Slurm's JSON has all its fields. */
const MAX_BYTES = 2 ** 20;
const MAX_WORDS = 300;

/**
 * What scontrol says where waiting does not help: Slurm's slurm_errno.c and scontrol's own sentences. Not "Invalid node
 * state": that is also said of a node that has not registered since slurmctld began (seen with 22.05).
 */
const FINAL =
  /Invalid node name|^Node \S+ not found|Invalid user id|Access\/permission denied|Requested operation not permitted|does not have permission/i;
/** Where scontrol or its configuration on this machine cannot be used. */
const UNUSABLE = new Set(['ENOENT', 'EACCES', 'ENOEXEC']);
/** A build without JSON does not know the option; one without its plugin says so. */
const NO_JSON = /unrecognized option|json|serializer|data_parser/i;

/** Runs scontrol, without a shell. Never rejects. */
export class Scontrol {
  readonly #options: ScontrolOptions;
  #json = true;

  constructor(options: ScontrolOptions) {
    this.#options = options;
  }

  /** `name` has been checked to be one name. */
  async show(name: string, signal: AbortSignal): Promise<SlurmNode | Fault> {
    if (this.#json) {
      const said = await this.#run(['show', 'node', name, '--json'], signal);
      const node = said.ok && parsed(said.out, name);
      if (node) return node;
      // Also where its JSON is none: text is older than it.
      if (said.ok || NO_JSON.test(said.words)) this.#json = false;
      else return faultOf(said);
    }
    const said = await this.#run(['show', 'node', '--oneliner', name], signal);
    if (!said.ok) return faultOf(said);
    return parseNodeLine(said.out, name) ?? { outcome: 'failed', why: `Slurm knows no node ${name}` };
  }

  /** Undefined where it was done. */
  async update(name: string, changes: readonly string[], signal: AbortSignal): Promise<Fault | undefined> {
    const said = await this.#run(['update', `NodeName=${name}`, ...changes], signal);
    return said.ok ? undefined : faultOf(said);
  }

  #run(args: readonly string[], signal: AbortSignal): Promise<Said> {
    const { command, environment, timeoutMs } = this.#options;
    return new Promise((resolve) => {
      execFile(
        command,
        args,
        { env: { PATH, LC_ALL: 'C', ...environment }, timeout: timeoutMs, signal, maxBuffer: MAX_BYTES },
        (error, stdout, stderr) => {
          const late = error?.killed ? `no answer within ${timeoutMs / 1000} s` : (error?.code ?? '');
          const words = `${stderr} ${stdout}`.replaceAll(/\s+/g, ' ').trim().slice(0, MAX_WORDS);
          resolve({ ok: !error, out: stdout, words: words || String(late), code: String(error?.code ?? '') });
        },
      );
    });
  }
}

function parsed(text: string, name: string): SlurmNode | undefined {
  try {
    return parseNodeJson(text, name);
  } catch {
    return undefined;
  }
}

function faultOf({ words, code }: Said): Fault {
  const final = FINAL.test(words) || UNUSABLE.has(code);
  return { outcome: final ? 'failed' : 'retry', why: `scontrol: ${words || 'it failed without a word'}` };
}
