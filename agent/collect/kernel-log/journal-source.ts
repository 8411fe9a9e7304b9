import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { sleep } from '#shared/lifecycle/wait.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { LogRecord, LogSource, LookedAt } from './log-source.ts';

/** A line of JSON with all fields of a record is 1 to 3 KiB. */
const MAX_LINE = 64 * 1024;
/** journalctl waits where so many lines wait to be taken: it has them on disk. */
export const MAX_WAITING = 5_000;
/** It ended by itself: rotated away, no permission, killed. */
const RESTART_MS = 10_000;
/** journalctl has nothing to lose and ends at once; a stopping agent does not wait longer. */
const END_MS = 2_000;
const MAX_COMPLAINT = 300;

/**
 * journald's copy of the kernel log, through `journalctl --follow` as a child: for where /dev/kmsg may not be read
 * and group systemd-journal or adm is given. Also has what earlier boots said since the cursor.
 */
export class JournalSource implements LogSource {
  readonly what = 'journald';
  readonly #command: string;
  readonly #clock: Clock;
  #cursor: string;
  #child: ChildProcessByStdio<null, Readable, Readable> | undefined;
  #waiting: string[] = [];
  #rest = '';
  #tooLong = 0;
  #complaint = '';
  #endedAt = Number.NEGATIVE_INFINITY;

  /** `cursor`: journald's, or empty for this boot from its begin. */
  constructor(command: string, cursor: string, clock: Clock) {
    this.#command = command;
    this.#cursor = cursor;
    this.#clock = clock;
  }

  get cursor(): string {
    return this.#cursor;
  }

  async look(take: (record: LogRecord) => void, _: AbortSignal): Promise<LookedAt> {
    if (this.#child === undefined && this.#clock.monotonic() - this.#endedAt >= RESTART_MS) this.#start();
    const lines = this.#waiting;
    this.#waiting = [];
    this.#child?.stdout.resume();
    let malformed = 0;
    for (const line of lines) {
      const entry = parseEntry(line);
      if (entry === undefined) malformed++;
      else {
        this.#cursor = entry.cursor;
        take(entry);
      }
    }
    const lost = this.#tooLong;
    this.#tooLong = 0;
    if (this.#child === undefined && lines.length === 0) {
      const why = this.#complaint === '' ? 'journalctl ended' : this.#complaint;
      throw new FleetError('unavailable', `Cannot follow the journal: ${why}`);
    }
    return { lost, malformed, drained: lines.length < MAX_WAITING };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const over = new AbortController();
    child.once('close', () => over.abort());
    child.stdout.resume();
    child.kill('SIGTERM');
    await sleep(END_MS, over.signal);
    child.unref();
  }

  #start(): void {
    const from = this.#cursor === '' ? '--boot' : `--after-cursor=${this.#cursor}`;
    const args = ['--output=json', '--follow', '--no-tail', '--quiet', from, '_TRANSPORT=kernel'];
    const child = spawn(this.#command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const decoder = new StringDecoder('utf8');
    this.#complaint = '';
    this.#rest = '';
    this.#child = child;
    child.stdout.on('data', (bytes: Buffer) => this.#came(decoder.write(bytes)));
    child.stderr.on('data', (bytes: Buffer) => {
      this.#complaint = (this.#complaint + bytes.toString('utf8')).slice(0, MAX_COMPLAINT);
    });
    child.once('error', ({ message }) => this.#ended(child, message));
    child.once('close', () => this.#ended(child, ''));
  }

  #ended(child: object, message: string): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    this.#complaint ||= message;
    this.#endedAt = this.#clock.monotonic();
  }

  #came(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > MAX_LINE) {
      this.#rest = '';
      this.#tooLong++;
    }
    for (const line of lines) if (line !== '') this.#waiting.push(line);
    if (this.#waiting.length >= MAX_WAITING) this.#child?.stdout.pause();
  }
}

/**
 *     {"__CURSOR":"s=..;i=..","__REALTIME_TIMESTAMP":"1737426504283302","_SOURCE_MONOTONIC_TIMESTAMP":"261229012","_BOOT_ID":"4f..","SYSLOG_FACILITY":"0","PRIORITY":"4","MESSAGE":"NVRM: Xid ..."}
 *
 * A message that is not UTF-8 is an array of bytes. Undefined for what is no entry.
 */
export function parseEntry(line: string): (LogRecord & { readonly cursor: string }) | undefined {
  let entry: unknown;
  try {
    entry = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof entry !== 'object' || entry === null) return undefined;
  const field = (name: string): unknown => (entry as Record<string, unknown>)[name];
  const cursor = field('__CURSOR');
  const message = field('MESSAGE');
  const text = Array.isArray(message) ? Buffer.from(message as number[]).toString('utf8') : message;
  const realtime = Number(field('__REALTIME_TIMESTAMP'));
  const usec = Number(field('_SOURCE_MONOTONIC_TIMESTAMP') ?? field('__MONOTONIC_TIMESTAMP'));
  if (typeof cursor !== 'string' || typeof text !== 'string' || !(realtime > 0) || !(usec >= 0))
    return undefined;
  const boot = field('_BOOT_ID');
  return {
    cursor,
    text,
    usec,
    wallMs: realtime / 1000,
    boot: typeof boot === 'string' ? boot : undefined,
    facility: Number(field('SYSLOG_FACILITY') ?? 0),
  };
}
