import { expect, test } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
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
