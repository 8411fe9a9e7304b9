import { cpSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { StreamRequestSchema } from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Tick } from '#shared/model/block.ts';
import { systemClock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { decodeEventWire, eventFromWire, RecordKind, splitTick } from '#shared/wire/record.ts';
import { RecordBuffer } from '../../agent/buffer/record-buffer.ts';
import { DEFAULT_LIMITS } from '../../aggregator/ingest/admission.ts';
import { AgentStream } from '../../aggregator/ingest/agent-stream.ts';
import { ingestMetrics } from '../../aggregator/ingest/ingest-metrics.ts';
import { SpanTable } from '../../aggregator/ingest/span-table.ts';
import { quietSink } from '../support/quiet-sink.ts';
import { tempDir } from '../support/temp.ts';
import type { ExpectedRecords } from './recorded-version.ts';

const VERSIONS = join(import.meta.dirname, '../fixtures/versions');

/** Series with a value, and those that are absent for a reason: what both sides must agree on. */
type Seen = Map<string, number | string>;

function seen(series: readonly string[], values: ArrayLike<number>, states: ArrayLike<number>): Seen {
  return new Map(
    series.map((one, slot) => [
      one,
      states[slot] === SlotState.Present ? values[slot]! : `state ${states[slot]}`,
    ]),
  );
}

function seenOf({ dictionary, values, states }: Pick<Tick, 'dictionary' | 'values' | 'states'>): Seen {
  return seen(
    dictionary.series.map(({ name, labels }) => JSON.stringify([name, labels])),
    values,
    states,
  );
}

const shortEvent = ({ type, gpu, attributes }: FleetEvent) => ({ type, gpu, attributes });

describe.each(readdirSync(VERSIONS))('version %s', (version) => {
  const folder = join(VERSIONS, version);
  const expected = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8')) as ExpectedRecords;
  const expectedTicks = expected.ticks.map(({ values, states }) => seen(expected.series, values, states));

  test('its stream is understood: an agent that was not upgraded yet must not lose a sample', async () => {
    const ticks: Seen[] = [];
    const events: FleetEvent[] = [];
    const accepted = { state: 'accepted', epoch: 1n } as const;
    const stream = new AgentStream({
      sink: quietSink({
        async block(block) {
          ticks.push(seenOf(block));
          return accepted;
        },
        async event(_, event) {
          events.push(event);
          return accepted;
        },
      }),
      limits: DEFAULT_LIMITS,
      windowBytes: 2 ** 20,
      backfillWindowBytes: () => 2 ** 20,
      spans: new SpanTable(),
      shard: 's',
      boundNode: undefined,
      address: '',
      clock: systemClock,
      timeBounds: () => ({ minMs: 0, maxMs: Number.MAX_SAFE_INTEGER }),
      onHello: () => {},
      send: () => {},
      metrics: ingestMetrics(createRegistry(), () => 1),
    });
    const bytes = readFileSync(join(folder, 'stream.bin'));
    for (let at = 0; at < bytes.length; ) {
      const length = bytes.readUInt32LE(at);
      stream.receive(fromBinary(StreamRequestSchema, bytes.subarray(at + 4, at + 4 + length)));
      at += 4 + length;
    }
    stream.close();
    expect(stream.peer?.source).toEqual({
      cluster: 'recorded',
      node: 'recorded',
      externalLabels: [['rack', 'r1']],
    });
    expect(ticks).toEqual(expectedTicks.slice(0, ticks.length));
    expect(ticks.length).toBeGreaterThanOrEqual(expectedTicks.length - 1);
    expect(events.map(shortEvent)).toEqual(expected.events);
    expect(expected.events.length).toBeGreaterThan(0);
  });

  test('its buffer is read: an upgrade of the agent must not lose the backlog', async () => {
    await using dir = tempDir();
    cpSync(folder, dir.path, { recursive: true });
    await using buffer = await RecordBuffer.open({
      directory: dir.path,
      machineId: 'recorded-machine',
      maxAgeMs: 2 ** 45,
      maxBytes: 2 ** 40,
      clock: systemClock,
      logger: silentLogger,
      registry: createRegistry(),
    });
    const run = buffer.runs[0]!;
    const ticks: Seen[] = [];
    const events: FleetEvent[] = [];
    for (const record of await buffer.read(run, run.first, run.last, 1e9)) {
      if (!record.ok) throw new Error(`record ${record.sequence}: ${record.why}`);
      if (record.kind === RecordKind.Event) events.push(eventFromWire(decodeEventWire(record.body)));
      if (record.kind !== RecordKind.Tick) continue;
      const { hash, frame } = splitTick(record.body);
      const decoder = new FrameDecoder(buffer.dictionaries.get(hash)!);
      decoder.decode(frame);
      ticks.push(seenOf(decoder));
    }
    expect(ticks).toEqual(expectedTicks.slice(0, ticks.length));
    expect(ticks.length).toBeGreaterThanOrEqual(expectedTicks.length - 1);
    expect(events.map(shortEvent)).toEqual(expected.events);
  });
});
