import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Collector, Reading } from './collector.ts';
import { Deadline } from './deadline.ts';

export interface ScheduleOptions {
  readonly collector: Collector;
  readonly clock: Clock;
  /** 0 to 1: where in the interval this node reads, so that a fleet does not read all at one moment. */
  readonly phase: number;
  /**
   * How many milliseconds the grid is moved: another number at each call, also over restarts, so that a time which
   * comes twice gets stamps that it did not have before.
   */
  readonly shift: () => number;
  /** Takes each reading; the next collect waits for it. */
  readonly onReading: (reading: Reading) => Promise<void>;
  /** The source could not be read at all. */
  readonly onFailure: (error: unknown) => void;
  /** So many ticks had no read: the one before took too long, or the process did not run. */
  readonly onMissed: (ticks: number) => void;
}

/** A read may take this share of its interval, and at most LONGEST_READ_MS. */
const DEADLINE_SHARE = 0.9;
const LONGEST_READ_MS = 30_000;
/** A read that began this close to its due time is stamped with the due time: even stamps cost fewer bytes. */
const ON_TIME_MS = 50;

/**
 * Reads one source at its interval until the signal aborts: on a grid, so that intervals do not drift; never
 * twice at once; a read that overruns skips ticks and does not bunch them.
 *
 * No timestamp is issued twice: after the wall clock stepped back, and after each start, the grid moves by a
 * millisecond, so that a time that comes again gets other stamps.
 *
 * `signal` ends it at once and drops a read that is under way; `last` lets that one be taken first.
 */
export async function schedule(
  options: ScheduleOptions,
  signal: AbortSignal,
  last: AbortSignal = signal,
): Promise<void> {
  const { collector, clock, onReading, onFailure, onMissed } = options;
  const { intervalMs } = collector;
  const nextPhase = (): number => (Math.floor(options.phase * intervalMs) + options.shift()) % intervalMs;
  let phaseMs = nextPhase();
  let newest = 0;
  let beganAt: number | undefined;
  using ending = new Ending(signal, last);
  while (!ending.came) {
    const now = clock.now();
    if (newest - now >= intervalMs) {
      phaseMs = nextPhase();
      newest = 0;
    }
    // A timer may fire a millisecond early: the tick after this one is due after the last stamp, not after now.
    const due = nextDue(Math.max(now, newest), intervalMs, phaseMs);
    await ending.sleep(Math.max(0, due - now));
    if (ending.came) return;
    const began = clock.now();
    // By the clock that does not step.
    const at = clock.monotonic();
    const missed = Math.round((at - (beganAt ?? at - intervalMs)) / intervalMs) - 1;
    if (missed > 0) onMissed(missed);
    beganAt = at;
    const stamp = Math.abs(began - due) <= ON_TIME_MS ? due : began;
    if (stamp <= newest) continue;
    newest = stamp;
    const deadline = ending.read(Math.min(intervalMs * DEADLINE_SHARE, LONGEST_READ_MS));
    try {
      const reading = await collector.collect(deadline.signal);
      if (signal.aborted) return;
      await onReading({ ...reading, timestampMs: stamp });
    } catch (error) {
      if (signal.aborted) return;
      onFailure(
        deadline.passed
          ? new FleetError(
              'unavailable',
              `Cannot read source "${collector.name}": no answer within its deadline`,
              { cause: error },
            )
          : error,
      );
    } finally {
      deadline[Symbol.dispose]();
    }
  }
}

/**
 * Ends what is under way, a wait or a read: one listener on each signal for the whole schedule. Listeners
 * that come and go with each tick, on a combined signal too, cost 0.1 ms a tick more at 1 Hz, where the caches are cold
 * (measured).
 */
class Ending implements Disposable {
  readonly #now: AbortSignal;
  readonly #afterRead: AbortSignal;
  #timer: NodeJS.Timeout | undefined;
  #wake: (() => void) | undefined;
  /** Of its own for each read: what listens to its signal may forget to stop. */
  #read: Deadline | undefined;
  readonly #end = (): void => {
    this.#wake?.();
    if (this.#now.aborted) this.#read?.end(this.#now.reason);
  };

  constructor(now: AbortSignal, afterRead: AbortSignal) {
    this.#now = now;
    this.#afterRead = afterRead;
    now.addEventListener('abort', this.#end);
    afterRead.addEventListener('abort', this.#end);
  }

  get came(): boolean {
    return this.#now.aborted || this.#afterRead.aborted;
  }

  /** Resolves after `ms`, or when the end comes. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      this.#timer = setTimeout(resolve, ms);
    });
  }

  /** Aborts after `ms`, or when all ends at once; to be disposed when the read is over. */
  read(ms: number): Deadline {
    this.#read = new Deadline(ms);
    return this.#read;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#now.removeEventListener('abort', this.#end);
    this.#afterRead.removeEventListener('abort', this.#end);
  }
}

/** The first moment of the grid after `after`. */
function nextDue(after: number, intervalMs: number, phaseMs: number): number {
  return (Math.floor((after - phaseMs) / intervalMs) + 1) * intervalMs + phaseMs;
}
