import { stat } from 'node:fs/promises';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { canonicalSeries } from '../canonical-series.ts';
import { stateOf } from '../host-files/file-reader.ts';
import type { Part } from '../host-files/parts-collector.ts';
import { SampleSet } from '../host-files/sample-set.ts';
import { Tool } from '../probe/tool.ts';
import type { HostPaths } from '../source-kind.ts';
import { chronyTracking } from './chrony.ts';

const METRICS = [
  'node_timex_sync_status',
  'node_timex_maxerror_seconds',
  'node_clock_offset_seconds',
  'node_clock_last_sync_timestamp_seconds',
];
const STATUS = 0;
const MAX_ERROR = 1;
const OFFSET = 2;
const LAST_SYNC = 3;
/** timesyncd asks at least every 2048 s (timesyncd.conf(5), PollIntervalMaxSec): two misses are too many. */
const TIMESYNCD_STALE_MS = 2 * 2_048_000;
const CHRONYC = ['-c', 'tracking'];
const MAX_ANSWER_BYTES = 4096;

export interface ClockPartOptions {
  readonly host: HostPaths;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Found on PATH. */
  readonly chronyc?: string;
}

/**
 * Whether something keeps the clock right, and how far it is off: from chronyd, where <run>/chrony is there, else
 * from the file that systemd-timesyncd touches at each synchronisation. Where neither runs nothing is said.
 */
export class ClockPart implements Part {
  readonly samples = new SampleSet();
  readonly #host: HostPaths;
  readonly #clock: Clock;
  readonly #tool: Tool;
  #service = '';

  constructor({ host, clock, logger, chronyc = 'chronyc' }: ClockPartOptions) {
    this.#host = host;
    this.#clock = clock;
    this.#tool = new Tool({
      name: 'chronyc',
      command: chronyc,
      args: CHRONYC,
      maxBytes: MAX_ANSWER_BYTES,
      proc: host.proc,
      clock,
      logger,
    });
  }

  describe(): string {
    return this.#service === '' ? '' : `clock of ${this.#service}`;
  }

  takeEvents(): readonly FleetEvent[] {
    return this.#tool.takeEvents();
  }

  async sample(signal: AbortSignal): Promise<void> {
    if ((await modifiedMs(`${this.#host.run}/chrony`)) !== undefined) {
      this.#use('chronyd');
      await this.#askChrony(signal);
    } else if ((await modifiedMs(`${this.#host.run}/systemd/timesync`)) !== undefined) {
      this.#use('systemd-timesyncd');
      await this.#lookAtTimesyncd();
    } else {
      this.#use('');
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tool[Symbol.asyncDispose]();
  }

  async #askChrony(signal: AbortSignal): Promise<void> {
    const { samples } = this;
    let answer: string;
    try {
      answer = (await this.#tool.run(signal)).toString('utf8');
    } catch (error) {
      samples.missAll(signal.aborted || this.#tool.stuck ? SlotState.Timeout : stateOf(error));
      return;
    }
    const tracking = chronyTracking(answer);
    if (!tracking) {
      samples.malformed();
      return;
    }
    samples.put(STATUS, tracking.synchronised ? 1 : 0);
    samples.miss(LAST_SYNC, SlotState.NotSupported);
    if (!tracking.synchronised) return;
    samples.put(MAX_ERROR, tracking.maxErrorSeconds);
    samples.put(OFFSET, tracking.offsetSeconds);
  }

  async #lookAtTimesyncd(): Promise<void> {
    const { samples } = this;
    const lastMs = await modifiedMs(`${this.#host.run}/systemd/timesync/synchronized`);
    const age = lastMs === undefined ? Number.POSITIVE_INFINITY : this.#clock.now() - lastMs;
    samples.put(STATUS, age <= TIMESYNCD_STALE_MS ? 1 : 0);
    if (lastMs !== undefined) samples.put(LAST_SYNC, Math.floor(lastMs) / 1000);
    samples.miss(MAX_ERROR, SlotState.NotSupported);
    samples.miss(OFFSET, SlotState.NotSupported);
  }

  #use(service: string): void {
    if (service !== this.#service)
      this.samples.plan(service === '' ? [] : METRICS.map((name) => canonicalSeries(name)));
    this.#service = service;
    this.samples.clear();
  }
}

/** When the file or folder was changed; undefined where there is none. */
async function modifiedMs(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).mtimeMs;
  } catch {
    return undefined;
  }
}
