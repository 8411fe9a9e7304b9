import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Series } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { canonicalSeries } from '../canonical-series.ts';
import type { Collector, Reading } from '../collector.ts';
import { ReadingTable } from '../reading-table.ts';
import type { Facts, HostPaths } from '../source-kind.ts';
import { Counters } from './counters.ts';
import { crashEvents } from './crash-events.ts';
import { KernelClock } from './kernel-clock.ts';
import { KernelEvents, type LocateGpu } from './kernel-events.ts';
import type { GpuOfProcess } from './lines/oom.ts';
import type { LogRecord, LogSource } from './log-source.ts';
import { readCrashDumps } from './pstore.ts';
import { loadState, reportedDumps, type SavedState, saveReportedDumps, saveState } from './saved-state.ts';
import type { Verdicts } from './verdicts.ts';

export interface KernelLogOptions {
  readonly intervalMs: number;
  /** `kmsg` or `journal`, and how to open it at a cursor. */
  readonly from: string;
  readonly open: (cursor: string) => LogSource;
  readonly verdicts: Verdicts;
  readonly acceptInjected: boolean;
  readonly host: HostPaths;
  readonly facts: Facts;
  readonly clock: Clock;
  /** Index and UUID of the GPU at a PCI address. */
  readonly locate: LocateGpu;
  /** The GPU that a process holds, so that an OOM kill of a GPU job is known as such. */
  readonly gpuOf: GpuOfProcess;
}

const NAME = 'kernel-log';
/** The kernel is the origin of what others tell of Xids: it goes before NVML (see SOURCE_RANK). */
const RANK = 5;
/** Where lines came but no event, the cursor is kept this often: reading them again tells nothing new. */
const SAVE_QUIET_MS = 5_000;
const LINES = 0;
const LOST = 1;

/**
 * Follows the kernel's log and tells what it says of GPUs and their host.
 *
 * Where it is in the log is kept in the agent's facts when what was read has been taken over: at the next collect,
 * and at dispose. So a restart reports nothing twice and everything once; after a kill, what was read last may be
 * reported again, with the same time and incident.
 */
export class KernelLogCollector implements Collector {
  readonly name = NAME;
  readonly rank = RANK;
  readonly holdsDevice = false;
  readonly intervalMs: number;
  readonly #options: KernelLogOptions;
  readonly #table: ReadingTable;
  readonly #counters = new Counters();
  readonly #own: readonly Series[] = ['kernel_log_lines_total', 'kernel_log_lost_lines_total'].map((name) =>
    canonicalSeries(name),
  );
  #planned: readonly Series[] = [];
  #running: Running | undefined;
  #lines = 0;
  #lost = 0;
  /** Read and given out, not yet known to be on record. */
  #unsaved: SavedState | undefined;
  /** Crash dumps that are reported by then. */
  #dumps: readonly string[] | undefined;
  #savedAt = Number.NEGATIVE_INFINITY;
  #given = false;
  /** The collect was ended while it ran: what it gave may have been dropped. */
  #doubtful = false;

  constructor(options: KernelLogOptions) {
    this.#options = options;
    this.intervalMs = options.intervalMs;
    this.#table = new ReadingTable({ source: NAME, intervalMs: options.intervalMs, clock: options.clock });
  }

  describe(): string {
    return `kernel log from ${this.#running?.source.what ?? this.#options.from}, ${this.#lines} lines read`;
  }

  async collect(signal: AbortSignal): Promise<Reading> {
    this.#save();
    this.#table.begin();
    const events: FleetEvent[] = [];
    try {
      this.#running ??= await this.#begin(events, signal);
      await this.#look(this.#running, events, signal);
    } catch (error) {
      return this.#failed(error, events);
    } finally {
      // After a deadline the reading is taken over all the same.
      this.#doubtful = signal.aborted && (signal.reason as Error | undefined)?.name !== 'TimeoutError';
    }
    this.#plan();
    this.#table.put(LINES, this.#lines);
    this.#table.put(LOST, this.#lost);
    this.#counters.values.forEach((value, index) => {
      this.#table.put(this.#own.length + index, value);
    });
    return this.#table.finish(events);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#given = true;
    this.#save();
    await this.#running?.source[Symbol.asyncDispose]();
    this.#running = undefined;
  }

  /** First what an earlier agent held back and what the last crash left, then this boot's log from where that was. */
  async #begin(events: FleetEvent[], signal: AbortSignal): Promise<Running> {
    const { host, facts, clock, from, open } = this.#options;
    const boot = (await readText(join(host.proc, 'sys/kernel/random/boot_id'))).trim().replaceAll('-', '');
    const uptimeMs = Number((await readText(join(host.proc, 'uptime'))).split(' ')[0]) * 1000;
    if (!/^[0-9a-f]{8,64}$/.test(boot) || !Number.isFinite(uptimeMs))
      throw new FleetError('unavailable', `Cannot read the boot id and uptime under ${host.proc}`);
    const saved = loadState(facts);
    await this.#reportCrashes(saved?.boot === boot ? undefined : saved, events, signal);
    const sameBoot = saved?.boot === boot;
    const cursor =
      saved !== undefined && saved.from === from && (sameBoot || from === 'journal') ? saved.cursor : '';
    const running: Running = {
      boot,
      source: open(cursor),
      time: new KernelClock(clock, uptimeMs, sameBoot ? saved.driftMs : 0),
      events: this.#eventsOf(boot, false),
      eventsBoot: boot,
      // Of the other source, only the time tells what was read.
      readUsec: sameBoot && cursor === '' ? saved.usec : -1,
      newest: sameBoot ? { usec: saved.usec, wallMs: saved.wallMs } : { usec: 0, wallMs: clock.now() },
    };
    if (sameBoot) running.events.restore(saved);
    else if (saved !== undefined) {
      const before = this.#eventsOf(saved.boot, true);
      before.restore(saved);
      events.push(...before.flush());
    }
    return running;
  }

  async #reportCrashes(
    saved: SavedState | undefined,
    events: FleetEvent[],
    signal: AbortSignal,
  ): Promise<void> {
    const { host, facts, verdicts, locate, gpuOf } = this.#options;
    const reported = reportedDumps(facts);
    const dumps = (await readCrashDumps(host, signal)).filter(({ id }) => !reported.includes(id));
    if (signal.aborted || dumps.length === 0) return;
    for (const dump of dumps)
      events.push(...crashEvents(dump, saved, { verdicts, locate, gpuOf, counters: this.#counters }));
    this.#dumps = [...reported, ...dumps.map(({ id }) => id)];
  }

  async #look(running: Running, events: FleetEvent[], signal: AbortSignal): Promise<void> {
    const { time, source } = running;
    const before = this.#lines;
    const looked = await source.look((record) => this.#take(running, record, events), signal);
    if (looked.drained) time.drained();
    else time.behind();
    this.#table.reject('malformed', looked.malformed + running.events.takeMalformed());
    if (looked.lost > 0) {
      this.#lost += looked.lost;
      events.push(gapEvent(looked.lost, source.what, this.#options.clock.now()));
    }
    events.push(...running.events.take(time.now()));
    this.#given = events.length > 0;
    if (this.#lines > before || events.length > 0) this.#unsaved = this.#state(running);
  }

  #take(running: Running, record: LogRecord, events: FleetEvent[]): void {
    this.#lines++;
    const boot = record.boot ?? running.boot;
    const current = boot === running.boot;
    if (current && record.usec <= running.readUsec) return;
    if (boot !== running.eventsBoot) {
      events.push(...running.events.flush());
      running.events = this.#eventsOf(boot, !current);
      running.eventsBoot = boot;
    }
    const { time } = running;
    if (current) time.saw(record.usec);
    const wallMs = record.wallMs ?? time.wallMs(record.usec);
    if (current) running.newest = { usec: record.usec, wallMs };
    if (record.facility !== 0 && !this.#options.acceptInjected) return;
    const bootMs = current ? time.bootMs(record.usec) : record.usec / 1000;
    running.events.line({ text: record.text, wallMs, bootMs }, this.#options.clock.now());
  }

  #eventsOf(boot: string, late: boolean): KernelEvents {
    const { verdicts, locate, gpuOf } = this.#options;
    const counters = this.#counters;
    return new KernelEvents({
      source: NAME,
      boot: boot.slice(0, 8),
      verdicts,
      locate,
      gpuOf,
      counters,
      late,
    });
  }

  #plan(): void {
    const { series } = this.#counters;
    if (this.#planned.length !== this.#own.length + series.length) this.#planned = [...this.#own, ...series];
    this.#table.plan(this.#planned);
    this.#table.reject('series_limit', this.#counters.takeRefused());
  }

  #failed(error: unknown, events: FleetEvent[]): Reading {
    const problem = describeError(error);
    const denied = error instanceof FleetError && error.code === 'permission_denied';
    return this.#table.failed(denied ? SlotState.NoPermission : SlotState.Absent, events, problem);
  }

  #state({ boot, source, newest, time, events }: Running): SavedState {
    return {
      boot,
      from: this.#options.from,
      cursor: source.cursor,
      ...newest,
      driftMs: time.driftMs,
      ...events.state,
    };
  }

  /** What was given out at the last collect has been taken over by now. */
  #save(): void {
    const { facts, clock } = this.#options;
    if (this.#doubtful) return;
    if (this.#dumps !== undefined) saveReportedDumps(facts, this.#dumps);
    this.#dumps = undefined;
    if (this.#unsaved === undefined) return;
    if (!this.#given && clock.monotonic() - this.#savedAt < SAVE_QUIET_MS) return;
    saveState(facts, this.#unsaved);
    this.#savedAt = clock.monotonic();
    this.#unsaved = undefined;
  }
}

interface Running {
  readonly boot: string;
  readonly source: LogSource;
  readonly time: KernelClock;
  events: KernelEvents;
  /** Boot that `events` is of: journald may begin with an earlier one. */
  eventsBoot: string;
  /** Lines of this boot up to here were read from the other source. */
  readonly readUsec: number;
  newest: { readonly usec: number; readonly wallMs: number };
}

function gapEvent(count: number, what: string, nowMs: number): FleetEvent {
  return {
    type: 'kernel_log_gap',
    timestampMs: nowMs,
    gpu: '',
    gpuUuid: '',
    text: `${count} kernel lines were overwritten before they could be read from ${what}`,
    attributes: { count: String(count), source: NAME, severity: 'warning' },
  };
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new FleetError('unavailable', `Cannot read ${path}`, { cause: error });
  }
}
