import { expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { Recorder } from '../../agent/recorder.ts';
import { fakeCollector } from '../support/fake-collector.ts';

type Deps = ConstructorParameters<typeof Recorder>;

const recorder = () => {
  const appended = () => ({ sequence: 1, bytes: 1, stored: Promise.resolve() });
  const buffer = { appendTick: appended, appendEvent: appended } as unknown as Deps[0];
  const uplink = { offer() {} } as unknown as Deps[1];
  return new Recorder(buffer, uplink, silentLogger, createRegistry());
};

// Lost without it: a scrape or a job gate that comes while a source reads sees a node without values, and passes
// a GPU that failed.
test('the newest tick stays as it was read while its collector reads again', async () => {
  const made = recorder();
  const source = fakeCollector(2);
  for (let read = 1; read <= 3; read++) {
    const reading = await source.collect(new AbortController().signal);
    await made.record({ ...reading, timestampMs: read });
    // As ReadingTable does at the begin of a read.
    reading.states.fill(SlotState.Absent);
    reading.values.fill(-1);
    const [tick] = made.latest;
    expect([tick?.timestampMs, [...tick!.values], [...tick!.states]]).toEqual([
      read,
      [read, 2 * read],
      [SlotState.Present, SlotState.Present],
    ]);
  }
});

const EVENT: FleetEvent = {
  ...{ type: 'xid', timestampMs: 1, gpu: '0', gpuUuid: '', text: 'Xid 79', attributes: {} },
};

// Lost without it: an alert waits for a slow disk, or an event is heard and then not kept by anybody.
test('a tick is offered while it is written, an event once it is', async () => {
  const steps: string[] = [];
  const written = Promise.withResolvers<void>();
  const append = () => ({ sequence: 1, bytes: 1, stored: written.promise });
  const buffer = { appendTick: append, appendEvent: append } as unknown as Deps[0];
  const uplink = {
    offer: (record: object) => steps.push('tick' in record ? 'tick' : 'event'),
  } as unknown as Deps[1];
  const made = new Recorder(buffer, uplink, silentLogger, createRegistry());
  const reading = await fakeCollector(1).collect(new AbortController().signal);
  const tick = made.record(reading);
  const event = made.event(EVENT);
  expect(steps).toEqual(['tick']);
  written.resolve();
  await Promise.all([tick, event]);
  expect(steps).toEqual(['tick', 'event']);
});

test('a disk that refuses a tick stops neither it nor the next', async () => {
  const seen: string[] = [];
  const refused = () => ({ sequence: 7, bytes: 1, stored: Promise.reject(new Error('no space')) });
  const buffer = { appendTick: refused, appendEvent: refused } as unknown as Deps[0];
  const uplink = {
    offer: (record: object) => seen.push('tick' in record ? 'tick' : 'event'),
  } as unknown as Deps[1];
  const made = new Recorder(buffer, uplink, silentLogger, createRegistry());
  await made.record(await fakeCollector(1).collect(new AbortController().signal));
  await made.event(EVENT);
  expect(seen).toEqual(['tick', 'event']);
});
