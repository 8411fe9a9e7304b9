import type { FleetEvent } from '#shared/model/event.ts';
import type { ChildWatchOptions } from './child-watch.ts';

const FIRST_PAUSE_MS = 1000;
/** A driver that is being installed takes minutes: once a minute is soon enough. */
const LONGEST_PAUSE_MS = 60_000;
/** A child that lived this long starts the pauses anew. */
const HEALTHY_MS = 60_000;
const MAX_EVENTS = 8;

/** Counts a child's crashes, says each one, and makes the pause before the next start grow: 1 s doubling to 60 s. */
export class CrashLog {
  readonly #options: Omit<ChildWatchOptions, 'key'>;
  #pauseMs = 0;
  #notBefore = Number.NEGATIVE_INFINITY;
  #startedAt = 0;
  #events: FleetEvent[] = [];
  count = 0;

  constructor(options: Omit<ChildWatchOptions, 'key'>) {
    this.#options = options;
  }

  /** Why no child is started yet, or undefined. */
  get pause(): string | undefined {
    const left = this.#notBefore - this.#options.clock.monotonic();
    return left > 0 ? `its process crashed and is started again in ${Math.ceil(left / 1000)} s` : undefined;
  }

  started(): void {
    this.#startedAt = this.#options.clock.monotonic();
  }

  /** The child answered a read. */
  answered(): void {
    if (this.#pauseMs === 0) return;
    if (this.#options.clock.monotonic() - this.#startedAt >= HEALTHY_MS) this.#pauseMs = 0;
  }

  takeEvents(): FleetEvent[] {
    return this.#events.splice(0);
  }

  add(how: string, complaint = ''): void {
    const { name, clock, logger } = this.#options;
    this.count++;
    this.#pauseMs = this.#pauseMs === 0 ? FIRST_PAUSE_MS : Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
    this.#notBefore = clock.monotonic() + this.#pauseMs;
    const said = complaint.trim().replaceAll(/\s+/g, ' ');
    const text = `${name}: the process that reads it crashed (${how})${said === '' ? '' : `: ${said}`}`;
    logger.warn({ source: name, crashes: this.count, pauseMs: this.#pauseMs }, text);
    if (this.#events.length >= MAX_EVENTS) return;
    this.#events.push({
      type: 'collector_crashed',
      timestampMs: clock.now(),
      gpu: '',
      gpuUuid: '',
      text,
      attributes: { source: name, how, crashes: String(this.count) },
    });
  }
}
