import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Collector, Reading } from './collect/collector.ts';
import { schedule } from './collect/scheduler.ts';

export interface SourceSetOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** 0 to 1: see ScheduleOptions. */
  readonly phaseOf: (source: string) => number;
  readonly nextShift: (source: string) => number;
  readonly onReading: (collector: Collector, reading: Reading) => Promise<void>;
  readonly onFailure: (source: string) => void;
  readonly onMissed: (source: string, ticks: number) => void;
  /** The source was taken away: its series end. */
  readonly onRemoved: (source: string) => Promise<void>;
  /** Instead of LOOK_AGAIN_MS. */
  readonly lookAgainMs?: number;
  /** Instead of LET_GO_MS. */
  readonly letGoMs?: number;
}

/** A source that was not there when a pause ended is looked for this often: loading a driver takes about a minute. */
const LOOK_AGAIN_MS = 30_000;
/** Letting go waits up to 2 s for a child that was asked to end (journalctl): beyond this it hangs. The process has 6 s to stop. */
const LET_GO_MS = 3_000;

/** How a source does, for people. */
export interface SourceState {
  readonly name: string;
  readonly what: string;
  readonly intervalMs: number;
  readonly state: 'waiting' | 'reading' | 'failing' | 'paused';
  /** Why it is failing. */
  readonly problem: string;
  /** Unix ms of the last read that worked; 0 where none did. */
  readonly lastReadMs: number;
  readonly series: number;
  readonly failures: number;
  readonly missed: number;
  /** Since the start, by reason. */
  readonly rejected: ReadonlyMap<string, number>;
}

interface Running {
  readonly collector: Collector;
  readonly last: AbortController;
  readonly ended: Promise<void>;
  problem: string;
  lastReadMs: number;
  series: number;
  failures: number;
  missed: number;
  readonly rejected: Map<string, number>;
}

/**
 * The collectors that run, each on its own schedule, so that one that hangs delays no other. They can be exchanged
 * while the agent runs (a new configuration), and those that hold a device can be away for a while (a driver update):
 * no read that is under way is lost for it.
 */
export class SourceSet implements AsyncDisposable {
  readonly #options: SourceSetOptions;
  #make: () => Promise<readonly Collector[]>;
  #running: Running[] = [];
  #waiting: readonly Collector[];
  #signal: AbortSignal | undefined;
  #pausedUntil: number | undefined;
  #pauseTimer: NodeJS.Timeout | undefined;
  #changing: Promise<void> = Promise.resolve();

  /** `make` gives the collectors anew: after a pause. */
  constructor(
    options: SourceSetOptions,
    collectors: readonly Collector[],
    make: () => Promise<readonly Collector[]>,
  ) {
    this.#options = options;
    this.#waiting = collectors;
    this.#make = make;
  }

  /** Wall clock, Unix ms; undefined while it is not paused. */
  get pausedUntil(): number | undefined {
    return this.#pausedUntil;
  }

  get states(): SourceState[] {
    const running = this.#running.map((one): SourceState => {
      const { collector, problem, lastReadMs, series, failures, missed, rejected } = one;
      const state = problem !== '' ? 'failing' : lastReadMs === 0 ? 'waiting' : 'reading';
      return {
        name: collector.name,
        what: collector.describe(),
        intervalMs: collector.intervalMs,
        state,
        problem,
        lastReadMs,
        series,
        failures,
        missed,
        rejected,
      };
    });
    return [...running, ...this.#away];
  }

  /** The sources that a pause took away, as they were. */
  #away: SourceState[] = [];

  /** Reads until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    this.#start(this.#waiting);
    this.#waiting = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
    await promise;
    clearTimeout(this.#pauseTimer);
    await this.#changing;
    await Promise.all(this.#running.map(({ ended }) => ended));
  }

  /**
   * Exchanges all collectors. Series that no new one gives end; those that go on have no gap. A pause stands: who is
   * in the middle of a driver upgrade does not want the device taken because a setting changed.
   */
  replace(make: () => Promise<readonly Collector[]>): Promise<void> {
    return this.#change(async () => {
      const collectors = await make();
      this.#make = make;
      const before = [...this.#running.map(({ collector }) => collector), ...this.#away];
      const unstarted = this.#waiting;
      this.#waiting = [];
      await this.#stop(this.#running);
      for (const collector of unstarted) await this.#letGo(collector);
      const waits = ({ holdsDevice }: Collector): boolean => this.#pausedUntil !== undefined && holdsDevice;
      this.#away = collectors.filter(waits).map(pausedState);
      for (const collector of collectors.filter(waits)) await this.#letGo(collector);
      if (this.#pausedUntil === undefined) clearTimeout(this.#pauseTimer);
      this.#start(collectors.filter((one) => !waits(one)));
      const names = new Set(collectors.map(({ name }) => name));
      for (const { name } of before) if (!names.has(name)) await this.#options.onRemoved(name);
    });
  }

  /** Lets go of what holds a device, for this long; again: for this long from now. */
  pause(ms: number): Promise<void> {
    return this.#change(async () => {
      const held = this.#running.filter(({ collector }) => collector.holdsDevice);
      const states = this.states.filter(({ name }) => held.some(({ collector }) => collector.name === name));
      await this.#stop(held);
      this.#away = [...this.#away, ...states].map(
        (one): SourceState => ({ ...one, state: 'paused', problem: '' }),
      );
      clearTimeout(this.#pauseTimer);
      this.#pausedUntil = this.#options.clock.now() + ms;
      this.#pauseTimer = setTimeout(() => void this.resume(), ms);
    });
  }

  /** Ends a pause before its time. */
  resume(): Promise<void> {
    return this.#change(async () => {
      if (this.#pausedUntil === undefined) return;
      this.#endPause();
      await this.#bringBack();
    });
  }

  /** What a pause took away. What is not there, as while a driver is still being exchanged, is tried again. */
  async #bringBack(): Promise<void> {
    if (this.#away.length === 0 || this.#signal?.aborted) return;
    let problem = 'it was not found again after the pause, and is looked for';
    try {
      const made = await this.#make();
      const away = new Set(this.#away.map(({ name }) => name));
      this.#away = this.#away.filter(({ name }) => !made.some((one) => one.name === name));
      for (const collector of made) if (!away.has(collector.name)) await this.#letGo(collector);
      this.#start(made.filter(({ name }) => away.has(name)));
    } catch (error) {
      problem = `Cannot take it back after the pause: ${describeError(error)}`;
    }
    if (this.#away.length === 0) return;
    this.#away = this.#away.map((one): SourceState => ({ ...one, state: 'failing', problem }));
    this.#options.logger.warn({ sources: this.#away.map(({ name }) => name) }, problem);
    this.#pauseTimer = setTimeout(
      () =>
        void this.#change(async () => {
          if (this.#pausedUntil === undefined) await this.#bringBack();
        }),
      this.#options.lookAgainMs ?? LOOK_AGAIN_MS,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#pauseTimer);
    await this.#changing;
    await this.#stop(this.#running);
    clearTimeout(this.#pauseTimer);
    for (const collector of this.#waiting) await this.#letGo(collector);
    this.#waiting = [];
  }

  #endPause(): void {
    clearTimeout(this.#pauseTimer);
    this.#pausedUntil = undefined;
  }

  /** One change at a time. */
  #change(change: () => Promise<void>): Promise<void> {
    const changed = this.#changing.then(change);
    this.#changing = changed.catch((error: unknown) => {
      this.#options.logger.error({ cause: describeError(error) }, 'cannot change the sources');
    });
    return changed;
  }

  #start(collectors: readonly Collector[]): void {
    const signal = this.#signal;
    if (!signal) {
      this.#waiting = [...this.#waiting, ...collectors];
      return;
    }
    for (const collector of collectors) this.#running.push(this.#runOne(collector, signal));
  }

  #runOne(collector: Collector, signal: AbortSignal): Running {
    const { clock, logger, phaseOf, nextShift, onReading, onFailure, onMissed } = this.#options;
    const { name } = collector;
    const last = new AbortController();
    const one: Running = {
      collector,
      last,
      ended: Promise.resolve(),
      problem: '',
      lastReadMs: 0,
      series: 0,
      failures: 0,
      missed: 0,
      rejected: new Map(),
    };
    const fail = (error: unknown): void => {
      onFailure(name);
      one.failures++;
      const problem = typeof error === 'string' ? error : describeError(error);
      if (problem !== one.problem) logger.warn({ source: name }, problem);
      one.problem = problem;
    };
    const ended = schedule(
      {
        collector,
        clock,
        phase: phaseOf(name),
        shift: () => nextShift(name),
        onReading: async (reading) => {
          if (reading.problem === undefined) {
            one.problem = '';
            one.lastReadMs = reading.timestampMs;
          } else fail(reading.problem);
          one.series = reading.dictionary.series.length;
          for (const [reason, count] of reading.rejected)
            one.rejected.set(reason, (one.rejected.get(reason) ?? 0) + count);
          await onReading(collector, reading);
        },
        onFailure: fail,
        onMissed: (ticks) => {
          one.missed += ticks;
          onMissed(name, ticks);
        },
      },
      signal,
      last.signal,
    );
    return Object.assign(one, { ended });
  }

  /** After their current read. */
  async #stop(some: readonly Running[]): Promise<void> {
    this.#running = this.#running.filter((one) => !some.includes(one));
    for (const { last } of some) last.abort();
    for (const { ended, collector } of some) {
      await ended;
      await this.#letGo(collector);
    }
  }

  /** One that cannot be let go, or not in time, keeps no other from its turn. */
  async #letGo(collector: Collector): Promise<void> {
    const { logger, letGoMs = LET_GO_MS } = this.#options;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not within ${letGoMs} ms`)), letGoMs);
    });
    try {
      await Promise.race([collector[Symbol.asyncDispose](), late]);
    } catch (error) {
      logger.error({ source: collector.name, cause: describeError(error) }, 'cannot let go of a source');
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Of a source that was not read yet because of a pause. */
function pausedState(collector: Collector): SourceState {
  return {
    name: collector.name,
    what: collector.describe(),
    intervalMs: collector.intervalMs,
    state: 'paused',
    problem: '',
    lastReadMs: 0,
    series: 0,
    failures: 0,
    missed: 0,
    rejected: new Map(),
  };
}
