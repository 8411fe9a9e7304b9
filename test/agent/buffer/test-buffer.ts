import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Tick } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { Loss } from '#shared/model/loss.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { decodeLossWire, lossFromWire, RecordKind, splitTick } from '#shared/wire/record.ts';
import { RecordBuffer, type RecordBufferOptions } from '../../../agent/buffer/record-buffer.ts';

export const START = 1_780_000_000_000;

/** Wall and monotonic time are one, and the test's to move. */
export const clockAt = (time: { now: number }): Clock => ({
  now: () => time.now,
  monotonic: () => time.now,
});

export const dictionaryOf = (group: string, names: string[]): Dictionary =>
  createDictionary(
    group,
    1000,
    names.map((name) => ({ name, labels: [], kind: 'gauge', decimals: 0, help: '', unit: '' })),
  );

export function openBuffer(
  directory: string,
  overrides: Partial<RecordBufferOptions> = {},
): Promise<RecordBuffer> {
  return RecordBuffer.open({
    directory,
    machineId: 'machine-1',
    maxAgeMs: 86_400_000,
    maxBytes: 2 ** 22,
    clock: clockAt({ now: START }),
    logger: silentLogger,
    registry: createRegistry(),
    ...overrides,
  });
}

export function tickOf(dictionary: Dictionary, timestampMs: number, ...values: number[]): Tick {
  return {
    dictionary,
    timestampMs,
    values: Float64Array.from(values),
    states: new Uint8Array(values.length),
  };
}

/** Time and values of every tick of a run that can be read. */
export async function ticksOf(buffer: RecordBuffer, run = buffer.runs[0]!): Promise<[number, number[]][]> {
  const found: [number, number[]][] = [];
  const decoders = new Map<bigint, FrameDecoder>();
  for (const record of await buffer.read(run, run.first, run.last, 1e9)) {
    if (!record.ok || record.kind !== RecordKind.Tick) continue;
    const { hash, frame } = splitTick(record.body);
    const decoder = decoders.get(hash) ?? new FrameDecoder(buffer.dictionaries.get(hash)!);
    decoders.set(hash, decoder);
    found.push([decoder.decode(frame), [...decoder.values]]);
  }
  return found;
}

/** The loss records of the live run. */
export async function lossesOf(buffer: RecordBuffer): Promise<Loss[]> {
  const { live } = buffer;
  const records = await buffer.read(live, live.first, live.last, 1e9);
  return records.flatMap((record) =>
    record.ok && record.kind === RecordKind.Loss ? [lossFromWire(decodeLossWire(record.body))] : [],
  );
}
