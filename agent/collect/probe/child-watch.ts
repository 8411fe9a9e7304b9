import type { ChildProcess } from 'node:child_process';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { readWaitState, type WaitState } from './wait-state.ts';

export interface ChildWatchOptions {
  /**
   * What the child runs: the next owner of the same, after a pause or a new configuration, finds the one that still
   * hangs and starts none beside it.
   */
  readonly key: string;
  /** The source, in events and logs. */
  readonly name: string;
  /** /proc of this host, as this process sees its children. */
  readonly proc: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A process that can end does so in a few milliseconds; one in the kernel does not end at all. */
export const GRACE_MS = 300;
/** Children that hung when their owner let go of them, by what they are: see ChildWatchOptions.key. */
const leftBehind = new Map<string, ChildProcess>();
/** Events wait for the next collect; a source that is never collected again must not fill memory. */
const MAX_EVENTS = 8;

/**
 * Looks after one child at a time that may hang in the kernel: asks it once to end (SIGTERM), and where it does not,
 * says so and waits. Never SIGKILL: killing a collector that is stuck in a GPU's driver has itself frozen GPUs
 * (dcgm-exporter issue 84). Whoever starts children asks `child` first: no second one is started beside it.
 */
export class ChildWatch {
  readonly #options: ChildWatchOptions;
  #child: ChildProcess | undefined;
  #ending: Promise<void> = Promise.resolve();
  #asked = false;
  #timer: NodeJS.Timeout | undefined;
  #stuckSince: number | undefined;
  /** `begin` was said. */
  #told = false;
  #events: FleetEvent[] = [];

  constructor(options: ChildWatchOptions) {
    this.#options = options;
    const left = leftBehind.get(options.key);
    if (!left) return;
    this.watch(left);
    this.#asked = true;
    this.#stuckSince = options.clock.monotonic();
    // Its former owner said that it hangs; that it is over is ours to say.
    this.#told = true;
  }

  /** The child, until it has exited. */
  get child(): ChildProcess | undefined {
    return this.#child;
  }

  /** It was asked to end and has not, for GRACE_MS and more. */
  get stuck(): boolean {
    return this.#stuckSince !== undefined;
  }

  /** The child was asked to end; it may have ended since. */
  get asked(): boolean {
    return this.#asked;
  }

  /** The child was asked to end and has not yet. */
  get ending(): boolean {
    return this.#asked && this.#child !== undefined;
  }

  /** What to say to someone who wants another child now. */
  get why(): string {
    const pid = this.#child?.pid ?? 'unknown';
    if (!this.stuck) return `process ${pid} of an earlier read has not ended yet`;
    return `process ${pid} hangs and does not end; no second one is started beside it`;
  }

  /** To be called right after a successful spawn, when there is no other child. */
  watch(child: ChildProcess): void {
    this.#child = child;
    this.#asked = false;
    this.#ending = new Promise((resolve) => {
      child.once('exit', () => {
        this.#ended();
        resolve();
      });
    });
  }

  /** Asks the child to end. Further calls for the same child do nothing. */
  end(): void {
    if (!this.#child || this.#asked) return;
    this.#asked = true;
    this.#child.kill('SIGTERM');
    this.#timer = setTimeout(() => void this.#begin(), GRACE_MS).unref();
  }

  /** What happened since the last call: `collector_stuck` with `phase` begin or over. */
  takeEvents(): FleetEvent[] {
    return this.#events.splice(0);
  }

  /** Asks the child to end, waits GRACE_MS for it, and lets go of it: this process can end although it does not. */
  async release(): Promise<void> {
    const child = this.#child;
    if (!child) return;
    this.end();
    let timer: NodeJS.Timeout | undefined;
    const grace = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, this.stuck ? 0 : GRACE_MS);
    });
    await Promise.race([this.#ending, grace]);
    clearTimeout(timer);
    if (this.#child) {
      const { key } = this.#options;
      leftBehind.set(key, child);
      child.once('exit', () => leftBehind.delete(key));
    }
    child.unref();
    for (const stream of child.stdio) stream?.destroy();
  }

  async #begin(): Promise<void> {
    const { name, proc, clock, logger } = this.#options;
    const child = this.#child;
    if (!child?.pid) return;
    this.#stuckSince = clock.monotonic();
    const timestampMs = clock.now();
    let where: WaitState = { state: '', channel: '', thread: '' };
    try {
      where = await readWaitState(proc, child.pid);
    } catch (error) {
      logger.debug({ source: name }, describeError(error));
    }
    // It ended while its state was read: `over` without its `begin` would be told first.
    if (this.#child !== child) return;
    this.#told = true;
    const place = where.channel === '' ? '' : ` in ${where.channel}`;
    this.#say('begin', timestampMs, child.pid, `hangs${place} and does not end when asked to`, {
      state: where.state,
      wait_channel: where.channel,
      thread: where.thread,
    });
  }

  #ended(): void {
    const { clock } = this.#options;
    clearTimeout(this.#timer);
    const pid = this.#child?.pid ?? 0;
    this.#child = undefined;
    if (this.#stuckSince === undefined) return;
    const seconds = ((clock.monotonic() - this.#stuckSince) / 1000).toFixed(1);
    this.#stuckSince = undefined;
    if (!this.#told) return;
    this.#told = false;
    this.#say('over', clock.now(), pid, `has ended after it hung for ${seconds} s`, { stuck_s: seconds });
  }

  #say(
    phase: 'begin' | 'over',
    timestampMs: number,
    pid: number,
    what: string,
    details: Readonly<Record<string, string>>,
  ): void {
    const { name, logger } = this.#options;
    const text = `${name}: process ${pid} ${what}`;
    logger.warn({ source: name, pid, ...details }, text);
    const given = Object.entries(details).filter(([, value]) => value !== '');
    const event: FleetEvent = {
      type: 'collector_stuck',
      timestampMs,
      gpu: '',
      gpuUuid: '',
      text,
      attributes: { source: name, phase, pid: String(pid), ...Object.fromEntries(given) },
    };
    if (this.#events.length < MAX_EVENTS) this.#events.push(event);
    else logger.warn({ source: name }, 'an event that nobody took is dropped');
  }
}
