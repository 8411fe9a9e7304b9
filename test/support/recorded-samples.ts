import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { RecordKind, splitTick } from '#shared/wire/record.ts';
import { RecordBuffer } from '../../agent/buffer/record-buffer.ts';
import type { ExportedSeries } from './victoria-metrics.ts';

/** Values by timestamp, by series; a series is its name and labels, without cluster and node. */
export type SamplesBySeries = Map<string, Map<number, number>>;

/** Everything that an agent recorded, read from its disk after it has stopped: what the store must hold. */
export async function recordedSamples(directory: string, machineId: string): Promise<SamplesBySeries> {
  await using buffer = await RecordBuffer.open({
    directory,
    machineId,
    maxAgeMs: 86_400_000,
    maxBytes: 2 ** 40,
    clock: systemClock,
    logger: silentLogger,
    registry: createRegistry(),
  });
  const samples: SamplesBySeries = new Map();
  for (const run of buffer.runs) {
    // Of one result a tick may be a difference from the one before it of the same dictionary.
    const decoders = new Map<bigint, FrameDecoder>();
    for (const record of await buffer.read(run, run.first, run.last, Number.MAX_SAFE_INTEGER)) {
      if (!record.ok) throw new Error(`record ${record.sequence} of run ${run.counter}: ${record.why}`);
      if (record.kind === RecordKind.Tick) addTick(samples, buffer, decoders, record.body);
    }
  }
  return samples;
}

function addTick(
  samples: SamplesBySeries,
  buffer: RecordBuffer,
  decoders: Map<bigint, FrameDecoder>,
  body: Uint8Array,
): void {
  const { hash, frame } = splitTick(body);
  const dictionary = buffer.dictionaries.get(hash)!;
  const decoder = decoders.get(hash) ?? new FrameDecoder(dictionary);
  decoders.set(hash, decoder);
  const timestampMs = decoder.decode(frame);
  dictionary.series.forEach((series, slot) => {
    if (decoder.states[slot] !== SlotState.Present) return;
    const key = seriesKey({ __name__: series.name, ...Object.fromEntries(series.labels) });
    let values = samples.get(key);
    if (!values) {
      values = new Map();
      samples.set(key, values);
    }
    values.set(timestampMs, decoder.values[slot]!);
  });
}

export function storedSamples(exported: readonly ExportedSeries[]): SamplesBySeries {
  const samples: SamplesBySeries = new Map();
  for (const { metric, values, timestamps } of exported) {
    const key = seriesKey(metric);
    if (samples.has(key)) throw new Error(`series twice: ${key}`);
    if (new Set(timestamps).size !== timestamps.length) throw new Error(`a timestamp twice in ${key}`);
    samples.set(key, new Map(timestamps.map((at, i) => [at, values[i]!])));
  }
  return samples;
}

/** What differs, at most ten lines: empty when each recorded sample is stored once with its value. */
export function differences(recorded: SamplesBySeries, stored: SamplesBySeries): string[] {
  const found: string[] = [];
  for (const [key, values] of recorded) {
    const there = stored.get(key);
    for (const [at, value] of values) {
      const got = there?.get(at);
      if (got === undefined) found.push(`missing: ${key} at ${at}`);
      else if (!near(got, value)) found.push(`wrong: ${key} at ${at} is ${got} and should be ${value}`);
    }
    for (const at of there?.keys() ?? []) if (!values.has(at)) found.push(`never recorded: ${key} at ${at}`);
  }
  return found.length > 10 ? [...found.slice(0, 10), `and ${found.length - 10} more`] : found;
}

export function countSamples(samples: SamplesBySeries): number {
  let count = 0;
  for (const values of samples.values()) count += values.size;
  return count;
}

/** VictoriaMetrics stores decimals: equal within 1e-11. */
function near(a: number, b: number): boolean {
  return a === b || Math.abs(a - b) <= 1e-11 * Math.max(Math.abs(a), Math.abs(b));
}

function seriesKey(metric: Readonly<Record<string, string>>): string {
  const { cluster: _cluster, node: _node, ...labels } = metric;
  return JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
}
