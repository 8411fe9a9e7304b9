import { type ChildProcess, spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import type { Readable, Writable } from 'node:stream';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { ChildWatch, type ChildWatchOptions } from './child-watch.ts';
import { CrashLog } from './crash-log.ts';
import { type Frame, FrameReader } from './frame-reader.ts';
import { ANSWER_FD, FrameKind, REQUEST_BYTES, SLOT_BYTES } from './frames.ts';

export interface LibraryProbeOptions extends Omit<ChildWatchOptions, 'key'> {
  /** URL of a module that exports an OpenLibrary; only the child loads it. */
  readonly module: string;
  /** For `open`; becomes JSON. */
  readonly options: unknown;
  /** A read that takes longer is given up and the child asked to end. Longer than the caller's own deadline. */
  readonly timeoutMs: number;
  /** The same for a child's first read, in which it loads and opens the library. */
  readonly startTimeoutMs: number;
}

/** One read's outcome. Arrays are the probe's and valid until its next read. */
export type ProbeAnswer =
  | {
      /** The same object as long as nothing changed; undefined never: a child describes before it reads. */
      readonly description: object;
      readonly values: Float64Array;
      readonly states: Uint8Array;
    }
  | { readonly failure: string; readonly state: Exclude<SlotState, typeof SlotState.Present> };

interface Request {
  readonly id: number;
  readonly settled: Promise<ProbeAnswer>;
  /** Resolves after SLOW_MS where there is no answer by then. */
  readonly slow: Promise<undefined>;
  readonly settle: (answer: ProbeAnswer) => void;
}

/** By name: in a bundle it is not beside this file. */
const ENTRY = createRequire(import.meta.url).resolve('#entry/probe');
/**
 * The child's heap holds one node's numbers: a young generation of 1 MiB and few helper threads keep its memory
 * down at no cost that was measurable.
 */
const NODE_FLAGS = ['--max-semi-space-size=1', '--max-old-space-size=64', '--v8-pool-size=1'];
const MAX_COMPLAINT = 512;
/**
 * Nearly every answer comes sooner: only for one that does not is the caller's signal listened to, which costs more
 * than the rest of a read. So a read may overrun its signal by this much.
 */
const SLOW_MS = 20;

/**
 * A vendor's library in a process of its own, kept over reads. A call that hangs, in user space or in the kernel,
 * costs readings of this source and nothing else; a call that crashes ends the child, and the next read after a
 * pause that grows (see CrashLog) starts another one. See ChildWatch for a child that hangs.
 *
 * Expected outcomes are answers and never throws: Timeout while a read takes too long or hangs, Absent where the
 * child crashed, what the library says otherwise.
 */
export class LibraryProbe implements AsyncDisposable {
  readonly #options: LibraryProbeOptions;
  readonly #watch: ChildWatch;
  readonly #crashes: CrashLog;
  readonly #request = Buffer.alloc(REQUEST_BYTES);
  #lastId = 0;
  #pending: Request | undefined;
  #timer: NodeJS.Timeout | undefined;
  #answered = false;
  #description: object | undefined;
  #bytes = new Uint8Array(0);
  #values = new Float64Array(0);
  #states = new Uint8Array(0);
  #disposed = false;

  constructor(options: LibraryProbeOptions) {
    this.#options = options;
    this.#watch = new ChildWatch({ ...options, key: `${options.module} ${JSON.stringify(options.options)}` });
    this.#crashes = new CrashLog(options);
  }

  get stuck(): boolean {
    return this.#watch.stuck;
  }

  /** Children that ended by themselves since the probe was made. */
  get crashes(): number {
    return this.#crashes.count;
  }

  /** `collector_stuck` and `collector_crashed`. */
  takeEvents(): FleetEvent[] {
    return [...this.#watch.takeEvents(), ...this.#crashes.takeEvents()];
  }

  /** Callers may overlap: one read is under way at a time, the others wait for it as long as their signal lets them. */
  async read(group: number, signal: AbortSignal): Promise<ProbeAnswer> {
    while (this.#pending) {
      await settledOrAborted(this.#pending.settled, signal);
      if (signal.aborted) return LATE;
    }
    const why = this.#unable();
    if (why) return why;
    const request = this.#send(group);
    const quick = await Promise.race([request.settled, request.slow]);
    return quick ?? (await settledOrAborted(request.settled, signal)) ?? LATE;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    // Closing its input is enough for a child that is not inside the library.
    this.#watch.child?.stdin?.destroy();
    await this.#watch.release();
    this.#settle(LATE);
  }

  /** Makes sure that there is a child, or says why there is none. */
  #unable(): ProbeAnswer | undefined {
    if (this.#disposed) return { failure: 'the agent lets go of it', state: SlotState.Absent };
    if (this.#watch.stuck || this.#watch.ending)
      return { failure: this.#watch.why, state: SlotState.Timeout };
    if (this.#watch.child) return undefined;
    const pause = this.#crashes.pause;
    if (pause) return { failure: pause, state: SlotState.Absent };
    return this.#start();
  }

  #start(): ProbeAnswer | undefined {
    const { module, options } = this.#options;
    const child = spawn(process.execPath, [...NODE_FLAGS, ENTRY, module, JSON.stringify(options)], {
      stdio: ['pipe', 'ignore', 'pipe', 'pipe'],
    });
    child.once('error', (error) =>
      this.#options.logger.warn({ source: this.#options.name }, describeError(error)),
    );
    if (child.pid === undefined) {
      this.#crashes.add('cannot be started');
      return { failure: 'its process cannot be started', state: SlotState.Absent };
    }
    this.#answered = false;
    this.#description = undefined;
    this.#watch.watch(child);
    this.#crashes.started();
    this.#listen(child);
    return undefined;
  }

  #listen(child: ChildProcess): void {
    const frames = new FrameReader();
    let complaint = '';
    (child.stdio[ANSWER_FD] as Readable).on('data', (chunk: Buffer) => {
      try {
        for (const frame of frames.push(chunk)) this.#take(frame);
      } catch (error) {
        this.#options.logger.error(
          { source: this.#options.name },
          `unreadable answer: ${describeError(error)}`,
        );
        this.#giveUp();
      }
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      complaint = (complaint + chunk.toString()).slice(-MAX_COMPLAINT);
    });
    // A child that ended takes its pipe with it; its exit tells.
    child.stdin?.on('error', () => {});
    child.once('exit', (code, killedBy) => {
      const how = killedBy ? `ended by ${killedBy}` : `exit status ${code}`;
      const asked = code === 0 || this.#watch.asked || this.#disposed;
      if (!asked) this.#crashes.add(how, complaint);
      this.#settle({ failure: `its process ${how}`, state: asked ? SlotState.Timeout : SlotState.Absent });
    });
  }

  #send(group: number): Request {
    const { timeoutMs, startTimeoutMs } = this.#options;
    const { promise, resolve } = Promise.withResolvers<ProbeAnswer>();
    const slow = Promise.withResolvers<undefined>();
    this.#lastId = (this.#lastId + 1) >>> 0;
    const request: Request = { id: this.#lastId, settled: promise, slow: slow.promise, settle: resolve };
    this.#pending = request;
    this.#request.writeUInt32LE(request.id, 0);
    this.#request.writeUInt8(group, 4);
    (this.#watch.child!.stdin as Writable).write(this.#request);
    const limitMs = this.#answered ? timeoutMs : startTimeoutMs;
    this.#timer = setTimeout(() => {
      slow.resolve(undefined);
      this.#timer = setTimeout(() => this.#giveUp(), limitMs - SLOW_MS);
    }, SLOW_MS);
    return request;
  }

  #take(frame: Frame): void {
    if (frame.kind === FrameKind.Description) {
      this.#description = JSON.parse(frame.payload.toString()) as object;
      return;
    }
    if (frame.id !== this.#pending?.id) return;
    this.#answered = true;
    this.#crashes.answered();
    this.#settle(this.#answer(frame));
  }

  #answer({ kind, state, payload }: Frame): ProbeAnswer {
    if (kind === FrameKind.Failure) {
      return { failure: payload.toString(), state: state as Exclude<SlotState, typeof SlotState.Present> };
    }
    if (!this.#description) throw new RangeError('a reading that nothing describes');
    const count = payload.length / SLOT_BYTES;
    if (count !== this.#values.length) {
      this.#bytes = new Uint8Array(payload.length);
      this.#values = new Float64Array(this.#bytes.buffer, 0, count);
      this.#states = this.#bytes.subarray(count * 8);
    }
    // A copy: what came is not aligned for float64, and the pipe's buffer is used again.
    this.#bytes.set(payload);
    return { description: this.#description, values: this.#values, states: this.#states };
  }

  #giveUp(): void {
    this.#watch.end();
    this.#settle(LATE);
  }

  #settle(answer: ProbeAnswer): void {
    clearTimeout(this.#timer);
    const pending = this.#pending;
    this.#pending = undefined;
    pending?.settle(answer);
  }
}

const LATE: ProbeAnswer = { failure: 'no answer within its deadline', state: SlotState.Timeout };

/** The value, or undefined where the signal aborts first. Leaves no listener behind. */
async function settledOrAborted<T>(settled: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  if (signal.aborted) return undefined;
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const abort = (): void => resolve(undefined);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([settled, promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
