import { describeError } from '#shared/errors/fleet-error.ts';
import { counter, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Tick } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import type { Appended, RecordBuffer } from './buffer/record-buffer.ts';
import type { Reading } from './collect/collector.ts';
import { CounterResets } from './counter-resets.ts';
import type { Uplink } from './uplink/uplink.ts';

/**
 * From a reading to records: on disk, and on their way. A tick is sent while it is being written, so that a slow disk
 * delays no alert; what finds no room on the stream follows from disk. An event is on disk first: its source would
 * not tell it again, nor take it back. Keeps the newest tick of each group for the exporter, and turns series that
 * vanished into stale markers.
 */
export class Recorder {
  readonly #buffer: RecordBuffer;
  readonly #uplink: Uplink;
  readonly #logger: Logger;
  readonly #latest = new Map<string, Tick>();
  readonly #counterResets = new CounterResets();
  readonly #samples;
  readonly #rejected;
  readonly #resets;
  readonly #warned = new Set<string>();
  /** Told of every event. */
  onEvent: (event: FleetEvent) => void = () => {};

  constructor(buffer: RecordBuffer, uplink: Uplink, logger: Logger, registry: Registry) {
    this.#buffer = buffer;
    this.#uplink = uplink;
    this.#logger = logger;
    this.#samples = counter(registry, {
      name: 'gpufleet_agent_recorded_samples_total',
      help: 'Samples recorded, by source.',
      labelNames: ['source'],
    });
    this.#rejected = counter(registry, {
      name: 'gpufleet_agent_rejected_samples_total',
      help: 'What a source said and could not be used, by source and reason.',
      labelNames: ['source', 'reason'],
    });
    this.#resets = counter(registry, {
      name: 'gpufleet_agent_counter_resets_total',
      help: 'Counters of a source that fell: a driver was loaded again, a device reset, a process restarted.',
      labelNames: ['source'],
    });
  }

  /** The newest tick of each group, as it was read: a copy, for a collector's arrays are in pieces while it reads. */
  get latest(): Iterable<Tick> {
    return this.#latest.values();
  }

  get hasRead(): boolean {
    return this.#latest.size > 0;
  }

  /** Resolves when everything is on disk and offered to the uplink. */
  async record(reading: Reading): Promise<void> {
    const { group } = reading.dictionary;
    this.#countRejected(group, reading);
    for (const event of reading.events) await this.event(event);
    const resets = this.#counterResets.observe(reading);
    if (resets.count > 0) this.#resets.inc({ source: group }, resets.count);
    for (const event of resets.events) await this.event(event);
    const previous = this.#latest.get(group);
    this.#latest.set(group, copyOf(reading, previous));
    if (previous && previous.dictionary !== reading.dictionary) {
      const marker = this.#staleMarker(previous.dictionary, reading.timestampMs);
      if (marker) await this.#tick(marker);
    }
    await this.#tick(reading);
  }

  /**
   * A tick of the old dictionary that ends the series which nobody gives any more; undefined when none went. One that
   * another source gives from now on does not end.
   */
  #staleMarker(before: Dictionary, timestampMs: number): Tick | undefined {
    const kept = new Set(
      [...this.#latest.values()].flatMap(({ dictionary }) => dictionary.series.map(seriesKey)),
    );
    const states = new Uint8Array(before.series.length).fill(SlotState.Absent);
    let gone = 0;
    before.series.forEach((series, slot) => {
      if (kept.has(seriesKey(series))) return;
      states[slot] = SlotState.Stale;
      gone++;
    });
    if (gone === 0) return undefined;
    return { dictionary: before, timestampMs, values: new Float64Array(before.series.length), states };
  }

  /** The source was taken away: its series end. */
  async end(source: string, timestampMs: number): Promise<void> {
    const previous = this.#latest.get(source);
    if (!previous) return;
    this.#latest.delete(source);
    const marker = this.#staleMarker(previous.dictionary, timestampMs);
    if (marker) await this.#tick(marker);
  }

  async event(event: FleetEvent): Promise<void> {
    this.#logger.warn({ type: event.type, gpu: event.gpu, ...event.attributes }, event.text);
    this.onEvent(event);
    const appended = this.#buffer.appendEvent(event);
    await this.#settle(appended);
    this.#uplink.offer({ ...appended, event });
  }

  async #tick(tick: Tick): Promise<void> {
    const appended = this.#buffer.appendTick(tick);
    const settled = this.#settle(appended);
    this.#uplink.offer({ ...appended, tick });
    await settled;
    this.#samples.inc({ source: tick.dictionary.group }, appended.samples);
  }

  /** A disk that cannot be written does not stop the live lane; the buffer has said and counted it. */
  async #settle(appended: Appended): Promise<void> {
    try {
      await appended.stored;
    } catch (error) {
      this.#logger.debug({ cause: describeError(error) }, 'a record is not on disk');
    }
  }

  #countRejected(source: string, reading: Reading): void {
    for (const [reason, count] of reading.rejected) {
      this.#rejected.inc({ source, reason }, count);
      const key = `${source} ${reason}`;
      if (this.#warned.has(key)) continue;
      this.#warned.add(key);
      this.#logger.warn(
        { source, reason, count },
        'a source gives samples that cannot be used; further ones are only counted',
      );
    }
  }
}

/** In the arrays of the one before, where it has the same series. */
function copyOf({ dictionary, timestampMs, values, states }: Tick, before: Tick | undefined): Tick {
  if (before?.dictionary !== dictionary)
    return { dictionary, timestampMs, values: values.slice(), states: states.slice() };
  before.values.set(values);
  before.states.set(states);
  return { ...before, timestampMs };
}

function seriesKey({ name, labels }: Dictionary['series'][number]): string {
  return JSON.stringify([name, labels]);
}
