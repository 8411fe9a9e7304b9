import { expect, test } from 'vitest';
import type { RecordBuffer } from '../../../../agent/buffer/record-buffer.ts';
import type { Collector } from '../../../../agent/collect/collector.ts';
import { createSimulatedCollector } from '../../../../agent/collect/simulated/collector.ts';
import { effectOf, FAULTS, type FaultKind } from '../../../../agent/collect/simulated/faults.ts';
import { GPU_PROFILES, type GpuModel } from '../../../../agent/collect/simulated/profiles.ts';
import { createTrainingCollector } from '../../../../agent/collect/simulated/training-collector.ts';
import { Recorder } from '../../../../agent/recorder.ts';
import type { Uplink } from '../../../../agent/uplink/uplink.ts';
import { createRegistry } from '../../../../shared/instruments/registry.ts';
import { silentLogger } from '../../../../shared/logging/logger.ts';
import type { Dictionary } from '../../../../shared/model/dictionary.ts';
import type { FleetEvent } from '../../../../shared/model/event.ts';
import { SlotState } from '../../../../shared/model/slot-state.ts';
import { FrameDecoder } from '../../../../shared/wire/frame-decoder.ts';
import { decodeEventWire, eventFromWire, RecordKind, splitTick } from '../../../../shared/wire/record.ts';
import { tempDir } from '../../../support/temp.ts';
import { clockAt, openBuffer, START } from '../../buffer/test-buffer.ts';
import { DayReader, type Finding } from './day-reader.ts';
import { type Expected, type ExpectedEvent, eventsOf, findingsOf, scriptOf } from './day-script.ts';

const INTERVAL_MS = 10_000;
const READS = 8640;
const READS_A_WRITE = 64;
/** Some 5 s where the machine is idle. */
const LONG_MS = 180_000;
/** Without a corrected error by chance that day, which is one in two. */
const SEED = 5;
/** No aggregator: the day is read from the disk. */
const nowhere = { offer: () => undefined } as unknown as Uplink;
/** A stuck read meets its deadline at once. */
const passed = AbortSignal.abort();

/** A day of a node, as its collectors tell it, on disk. */
async function recordDay(
  buffer: RecordBuffer,
  collectors: readonly Collector[],
  time: { now: number },
): Promise<void> {
  const recorder = new Recorder(buffer, nowhere, silentLogger, createRegistry());
  const dictionaries = new Map<Collector, Dictionary>();
  let onTheirWay: Promise<void>[] = [];
  for (let read = 0; read <= READS; read++) {
    for (const collector of collectors) {
      const reading = await collector.collect(passed);
      // A tick alone is encoded before record() returns: many may share a write. Others keep their order.
      const alone = reading.events.length === 0 && dictionaries.get(collector) === reading.dictionary;
      dictionaries.set(collector, reading.dictionary);
      if (!alone || onTheirWay.length >= READS_A_WRITE) {
        await Promise.all(onTheirWay);
        onTheirWay = [];
      }
      const recorded = recorder.record(reading);
      if (alone) onTheirWay.push(recorded);
      else await recorded;
    }
    time.now += INTERVAL_MS;
  }
  await Promise.all(onTheirWay);
}

/** What is on disk of it: the events, and what the reader finds in the samples. */
async function readDay(buffer: RecordBuffer): Promise<{ events: FleetEvent[]; findings: Finding[] }> {
  const reader = new DayReader();
  const events: FleetEvent[] = [];
  const decoders = new Map<bigint, FrameDecoder>();
  const { live } = buffer;
  for (const record of await buffer.read(live, live.first, live.last, Number.MAX_SAFE_INTEGER)) {
    if (!record.ok) throw new Error(`record ${record.sequence}: ${record.why}`);
    if (record.kind === RecordKind.Event) events.push(eventFromWire(decodeEventWire(record.body)));
    if (record.kind !== RecordKind.Tick) continue;
    const { hash, frame } = splitTick(record.body);
    const dictionary = buffer.dictionaries.get(hash)!;
    const decoder = decoders.get(hash) ?? new FrameDecoder(dictionary);
    decoders.set(hash, decoder);
    const at = (decoder.decode(frame) - START) / 1000;
    // A tick of the dictionary before, which only ends series.
    if (!decoder.states.includes(SlotState.Present)) continue;
    reader.read(dictionary, at, decoder.values, decoder.states);
  }
  return { events, findings: reader.findings };
}

const within = (value: number, from: number, late: number): boolean =>
  value >= Math.min(from, from + late) && value <= Math.max(from, from + late);

function meets(finding: Finding, { what, gpu, from, to, rose, late = [0, 0] }: Expected): boolean {
  return (
    finding.what === what &&
    finding.gpu === gpu &&
    finding.rose === rose &&
    within(finding.from, from, late[0]) &&
    within(finding.to, to, late[1])
  );
}

/** What was not found, and what was found and is not in the script. */
function differences(findings: readonly Finding[], expected: readonly Expected[]): object {
  const left = [...findings];
  const missing = expected.filter((one) => {
    const i = left.findIndex((finding) => meets(finding, one));
    if (i >= 0) left.splice(i, 1);
    return i < 0;
  });
  return { missing, 'not in the script': left };
}

const shown = ({ type, gpu, at, code }: ExpectedEvent): string =>
  `${String(at).padStart(6)} ${type} ${gpu} ${code ?? ''}`;

// Lost without it: an agent that misses a fault, says it at another time, or says one that never was.
test.each(['H100', 'MI300X'] as const satisfies GpuModel[])(
  'of a day of %s with every fault, what is on record is the script',
  async (model) => {
    const { vendor } = GPU_PROFILES[model];
    const kinds = (Object.keys(FAULTS) as FaultKind[]).filter(
      (kind) => (effectOf(kind)!.vendor ?? vendor) === vendor,
    );
    const script = scriptOf(kinds, vendor);
    expect(script.at(-1)!.at).toBeLessThan(READS * 10 - 1800);
    const time = { now: START };
    const clock = clockAt(time);
    await using directory = tempDir('day');
    await using buffer = await openBuffer(directory.path, {
      clock,
      maxAgeMs: 7 * 86_400_000,
      maxBytes: 2 ** 30,
      fsync: 'interval',
    });
    const common = { intervalMs: INTERVAL_MS, clock };
    const gpus = createSimulatedCollector({
      ...common,
      node: 'day',
      model,
      seed: SEED,
      load: 'steady',
      faults: script,
    });
    const training = createTrainingCollector({ ...common, machine: gpus.machine });
    await recordDay(buffer, [gpus, training], time);
    const { events, findings } = await readDay(buffer);

    expect(
      events
        .map(({ type, gpu, timestampMs, attributes: { code } }) =>
          shown({ type, gpu, at: (timestampMs - START) / 1000, ...(code === undefined ? {} : { code }) }),
        )
        .sort(),
    ).toEqual(eventsOf(script, vendor).map(shown).sort());
    expect(differences(findings, findingsOf(script, vendor))).toEqual({
      missing: [],
      'not in the script': [],
    });
    // The script names what falls; what has counted by then does, and nothing else.
    const named = new Set(gpus.fallingCounters);
    for (const { what, names } of findings.filter(({ names }) => names !== undefined)) {
      expect(what).toBe('counters fell');
      expect(names!.split(' ').filter((name) => !named.has(name))).toEqual([]);
      expect(names).toContain('gpu_energy_joules_total');
      expect(names).toContain('gpu_link_bytes_total');
    }
    // Its own log agrees: each began and ended with the read that the script says.
    expect(gpus.applied.map(({ kind, gpu, began }) => ({ kind, gpu, at: began }))).toEqual(
      script.map(({ kind, gpu, at }) => ({ kind, gpu, at })),
    );
    for (const [i, { duration }] of script.entries()) {
      const { began, ended } = gpus.applied[i]!;
      expect(ended).toBe(began + (duration === undefined ? 10 : duration / 1000));
    }
  },
  LONG_MS,
);
