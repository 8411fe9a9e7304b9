import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Series } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { type Collector, type Reading, SOURCE_RANK } from '../collector.ts';
import { Deadline } from '../deadline.ts';
import { ReadingTable } from '../reading-table.ts';
import { CallGate } from './call-gate.ts';
import { FileReader } from './file-reader.ts';
import type { SampleSet } from './sample-set.ts';

/** One file or one kind of device of the host. */
export interface Part extends Partial<AsyncDisposable> {
  readonly samples: SampleSet;
  /**
   * Reads, and plans `samples` anew where the series changed. What it cannot read is a state, not a throw. Never
   * called twice at once.
   */
  sample(signal: AbortSignal): Promise<void>;
  /** What it reads, for people: `8 InfiniBand ports`. Empty where it found nothing. */
  describe(): string;
  takeEvents?(): readonly FleetEvent[];
}

export interface PartsOptions {
  readonly name: string;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** In the order of their series. */
  readonly parts: (reader: FileReader, gate: CallGate) => readonly Part[];
  /** Events of what the parts share. */
  readonly takeEvents?: () => readonly FleetEvent[];
}

/** A read of the host takes some milliseconds: after this something hangs, and what is left has no value. */
const READ_LIMIT_MS = 3000;

/** A collector of files of the host, part by part. Parts read one after another: at most one call at a time. */
export class PartsCollector implements Collector {
  readonly name: string;
  readonly intervalMs: number;
  readonly rank = SOURCE_RANK.other;
  readonly holdsDevice = false;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #gate: CallGate;
  readonly #reader: FileReader;
  readonly #parts: readonly Part[];
  readonly #sharedEvents: () => readonly FleetEvent[];
  readonly #table: ReadingTable;
  #seen: (readonly Series[])[] = [];
  #planned: readonly Series[] = [];
  #lastProblem = '';

  constructor({ name, intervalMs, clock, logger, parts, takeEvents }: PartsOptions) {
    this.name = name;
    this.intervalMs = intervalMs;
    this.#clock = clock;
    this.#logger = logger;
    this.#gate = new CallGate({ source: name, logger });
    this.#reader = new FileReader(this.#gate);
    this.#parts = parts(this.#reader, this.#gate);
    this.#sharedEvents = takeEvents ?? (() => []);
    this.#table = new ReadingTable({ source: name, intervalMs, clock });
  }

  describe(): string {
    return this.#parts
      .map((part) => part.describe())
      .filter((text) => text !== '')
      .join(', ');
  }

  async collect(signal: AbortSignal): Promise<Reading> {
    const table = this.#table;
    table.begin();
    using deadline = new Deadline(READ_LIMIT_MS, signal);
    const limit = deadline.signal;
    for (const part of this.#parts) await this.#sample(part, limit);
    table.plan(this.#plan());
    let first = 0;
    let present = 0;
    for (const { samples } of this.#parts) {
      present += samples.copyTo(table, first);
      first += samples.series.length;
    }
    const events = this.#takeEvents();
    if (present > 0 || first === 0) return table.finish(events);
    return table.failed(limit.aborted ? SlotState.Timeout : SlotState.Absent, events);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const part of this.#parts) await part[Symbol.asyncDispose]?.();
    await this.#reader[Symbol.asyncDispose]();
  }

  async #sample(part: Part, signal: AbortSignal): Promise<void> {
    try {
      await part.sample(signal);
      return;
    } catch (error) {
      part.samples.missAll(SlotState.Absent);
      const problem = describeError(error);
      if (problem !== this.#lastProblem) this.#logger.warn({ source: this.name }, problem);
      this.#lastProblem = problem;
    }
  }

  /** The same array as long as no part has other series. */
  #plan(): readonly Series[] {
    const seen = this.#parts.map(({ samples }) => samples.series);
    if (seen.length !== this.#seen.length || seen.some((series, i) => series !== this.#seen[i])) {
      this.#seen = seen;
      this.#planned = seen.flat();
    }
    return this.#planned;
  }

  #takeEvents(): FleetEvent[] {
    const events = [...this.#sharedEvents(), ...this.#parts.flatMap((part) => part.takeEvents?.() ?? [])];
    for (const { what, over } of this.#gate.takeNotes()) {
      events.push({
        type: 'collector_stuck',
        timestampMs: this.#clock.now(),
        gpu: '',
        gpuUuid: '',
        text: over ? `${what} came back from the kernel` : `${what} does not come back from the kernel`,
        attributes: { source: this.name, call: what, over: String(over) },
      });
    }
    return events;
  }
}
