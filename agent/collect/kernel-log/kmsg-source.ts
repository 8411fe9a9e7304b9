import { closeSync, constants, openSync, readSync } from 'node:fs';
import { setImmediate as yieldToOthers } from 'node:timers/promises';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { type KmsgRecord, parseKmsgRecord } from './kmsg-record.ts';
import type { LogRecord, LogSource, LookedAt } from './log-source.ts';

/** Twice the kernel's largest record (CONSOLE_EXT_LOG_MAX): a smaller buffer would make it unreadable. */
const MAX_RECORD_BYTES = 16_384;
/** A read takes some 5 microseconds: other work waits at most 2.5 ms. */
const READS_IN_A_ROW = 500;
/** Of one look; the rest waits in the ring for the next. */
export const MAX_READS = 20_000;

/**
 * /dev/kmsg, opened so that a read never waits (O_NONBLOCK: EAGAIN where nothing has come), which is why it can be
 * read in this thread: a read copies one record from memory, at a fifth of what a trip to a thread costs.
 *
 * A reader that is overtaken gets EPIPE and then the oldest record that is left: how many are missing, the sequence
 * tells. A FIFO or plain file, as tests use, may give several records at once or a part of one, and an end (0 bytes)
 * instead of EAGAIN; both are read alike.
 */
export class KmsgSource implements LogSource {
  readonly what: string;
  readonly #buffer = Buffer.allocUnsafe(MAX_RECORD_BYTES);
  #file = -1;
  /** Sequence that comes next; undefined: whatever is oldest. */
  #next: number | undefined;
  #rest = '';

  /** `cursor`: of the same boot, or empty. */
  constructor(path: string, cursor: string) {
    this.what = path;
    this.#next = /^\d{1,16}$/.test(cursor) ? Number(cursor) : undefined;
  }

  get cursor(): string {
    return this.#next === undefined ? '' : String(this.#next);
  }

  async look(take: (record: LogRecord) => void, signal: AbortSignal): Promise<LookedAt> {
    if (this.#file < 0) this.#file = openKmsg(this.what);
    const seen = { lost: 0, malformed: 0 };
    for (let reads = 1; reads <= MAX_READS; reads++) {
      const bytes = this.#read();
      if (bytes === 'nothing') return { ...seen, drained: true };
      if (bytes === 'overtaken') continue;
      this.#split(bytes, take, seen);
      if (reads % READS_IN_A_ROW > 0) continue;
      await yieldToOthers();
      if (signal.aborted || this.#file < 0) break;
    }
    return { ...seen, drained: false };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#close();
  }

  /** The next look opens it again. */
  #close(): void {
    if (this.#file >= 0) closeSync(this.#file);
    this.#file = -1;
  }

  #read(): Buffer | 'nothing' | 'overtaken' {
    try {
      const length = readSync(this.#file, this.#buffer, 0, MAX_RECORD_BYTES, null);
      return length === 0 ? 'nothing' : this.#buffer.subarray(0, length);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EAGAIN') return 'nothing';
      if (code === 'EPIPE') return 'overtaken';
      this.#close();
      throw new FleetError('unavailable', `Cannot read ${this.what}`, { cause: error });
    }
  }

  #split(bytes: Buffer, take: (record: LogRecord) => void, seen: { lost: number; malformed: number }): void {
    const lines = (this.#rest + bytes.toString('latin1')).split('\n');
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > MAX_RECORD_BYTES) {
      this.#rest = '';
      seen.malformed++;
    }
    for (const line of lines) {
      if (line === '' || line.startsWith(' ')) continue;
      const record = parseKmsgRecord(line);
      if (record === undefined) seen.malformed++;
      else this.#pass(record, take, seen);
    }
  }

  #pass(
    { sequence, facility, usec, text }: KmsgRecord,
    take: (record: LogRecord) => void,
    seen: { lost: number },
  ): void {
    const expected = this.#next ?? sequence;
    if (sequence < expected) return;
    seen.lost += sequence - expected;
    this.#next = sequence + 1;
    take({ facility, usec, text, wallMs: undefined, boot: undefined });
  }
}

/** Throws `permission_denied` or `unavailable`. */
export function openKmsg(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const denied = code === 'EACCES' || code === 'EPERM';
    throw new FleetError(denied ? 'permission_denied' : 'unavailable', `Cannot open ${path}`, {
      cause: error,
    });
  }
}
