import { type ChildProcess, spawn } from 'node:child_process';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { ChildWatch, type ChildWatchOptions } from './child-watch.ts';

export interface ToolOptions extends Omit<ChildWatchOptions, 'key'> {
  /** Absolute, or a name to be found on PATH. */
  readonly command: string;
  readonly args: readonly string[];
  /** More output than that is a failure. */
  readonly maxBytes: number;
  /** Instead of the agent's own environment; PATH and LC_ALL=C are added where it has none. */
  readonly env?: Readonly<Record<string, string>>;
  /**
   * For a tool that answers although it complains: an exit status is no failure, and the output begins with the line
   * that it said on standard error, at most MAX_COMPLAINT bytes.
   */
  readonly keepComplaints?: boolean;
}

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Enough for the sentence that says what is wrong. */
const MAX_COMPLAINT = 512;

/**
 * Runs a vendor's command line tool, one process a read, with a deadline. At the deadline the process gets SIGTERM
 * once and the read is over; while it has not exited every further read fails and none is started. See ChildWatch.
 */
export class Tool implements AsyncDisposable {
  readonly #options: ToolOptions;
  readonly #watch: ChildWatch;

  constructor(options: ToolOptions) {
    this.#options = options;
    this.#watch = new ChildWatch({ ...options, key: `${options.name} ${options.command}` });
  }

  /** A process of it was asked to end and does not. */
  get stuck(): boolean {
    return this.#watch.stuck;
  }

  /** `collector_stuck`, once when it begins and once when it is over. */
  takeEvents(): FleetEvent[] {
    return this.#watch.takeEvents();
  }

  /**
   * Its standard output. Throws `unavailable` (not found, failed, no answer before the signal, an earlier one hangs)
   * or `resource_exhausted` (more than maxBytes). Never two at once: a run beside another one fails.
   */
  async run(signal: AbortSignal, args: readonly string[] = this.#options.args): Promise<Buffer> {
    const { command, env } = this.#options;
    if (this.#watch.child) throw this.#failure(this.#watch.why);
    if (signal.aborted) throw this.#failure('no time left');
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(env && { env: { PATH, LC_ALL: 'C', ...env } }),
    });
    if (child.pid !== undefined) this.#watch.watch(child);
    return await this.#output(child, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#watch.release();
  }

  #output(child: ChildProcess, signal: AbortSignal): Promise<Buffer> {
    const { maxBytes, command, keepComplaints } = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    const chunks: Buffer[] = [];
    let size = 0;
    let complaint = '';
    const giveUp = (error: FleetError): void => {
      reject(error);
      this.#watch.end();
      // What it still prints has no reader; it also lets go of the pipe that a process of the tool's own may hold.
      child.stdout?.destroy();
      child.stderr?.destroy();
    };
    const late = (): void => giveUp(this.#failure('no answer within its deadline'));
    signal.addEventListener('abort', late, { once: true });
    child.stdout?.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= maxBytes) chunks.push(chunk);
      else giveUp(tooMuch(command, maxBytes));
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      complaint = (complaint + chunk.toString()).slice(0, MAX_COMPLAINT);
    });
    child.once('error', (error) => reject(this.#failure(describeError(error), error)));
    child.once('close', (code, killedBy) => {
      const output = Buffer.concat(chunks);
      if (keepComplaints && code !== null) resolve(Buffer.concat([Buffer.from(line(complaint)), output]));
      else if (code === 0) resolve(output);
      else reject(this.#failure(`${exitOf(code, killedBy)}${said(complaint, output)}`));
    });
    return promise.finally(() => signal.removeEventListener('abort', late));
  }

  #failure(why: string, cause?: unknown): FleetError {
    return new FleetError('unavailable', `Cannot run ${this.#options.command}: ${why}`, { cause });
  }
}

function tooMuch(command: string, maxBytes: number): FleetError {
  return new FleetError(
    'resource_exhausted',
    `Cannot run ${command}: it printed more than ${maxBytes} bytes`,
  );
}

function exitOf(code: number | null, killedBy: string | null): string {
  return code === null ? `ended by ${killedBy}` : `exit status ${code}`;
}

function line(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}\n`;
}

/** nvidia-smi and its like complain on either. */
function said(complaint: string, output: Buffer): string {
  const text = complaint.trim() || output.subarray(0, MAX_COMPLAINT).toString().trim();
  return text === '' ? '' : `: ${text.replaceAll(/\s+/g, ' ')}`;
}
