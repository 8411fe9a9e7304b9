import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MAX_COUNTERS } from '../../../../agent/collect/kernel-log/counters.ts';
import { LATE_MS } from '../../../../agent/collect/kernel-log/kernel-events.ts';
import { SlotState } from '../../../../shared/model/slot-state.ts';
import { forever, KernelNode, NEXT_BOOT, readingOf, START_MS, XID_45, XID_79 } from './kernel-node.ts';

describe('a node whose GPU falls off the bus', () => {
  // Lost without it: the most important line of a node's life comes without its GPU, its time or its verdict.
  test('tells which, when, and what to do', async () => {
    await using node = new KernelNode();
    await using collector = node.collector();
    await collector.collect(forever);
    node.pass(100);
    node.log(XID_79);
    node.pass(150);
    const reading = await collector.collect(forever);
    expect(reading.events).toMatchObject([
      {
        type: 'xid',
        timestampMs: START_MS + 100,
        gpu: '3',
        gpuUuid: 'GPU-3',
        text: XID_79,
        attributes: {
          code: '79',
          severity: 'critical',
          pci: '0000:91:00.0',
          source: 'kernel-log',
          count: '1',
        },
      },
    ]);
    expect(reading.events[0]!.attributes).not.toHaveProperty('late');
    expect(readingOf(reading, 'gpu_xid_errors_total', 'xid', '79')).toBe(1);
    expect(readingOf(reading, 'kernel_log_lines_total')).toBe(1);
  });

  // Lost without it: one dead GPU is a dozen incidents.
  test('is one incident with the cleanup after it', async () => {
    await using node = new KernelNode();
    await using collector = node.collector();
    node.log(XID_79);
    node.log('NVRM: GPU 0000:91:00.0: GPU has fallen off the bus.');
    for (let i = 0; i < 9; i++) node.log(XID_45);
    const { events } = await collector.collect(forever);
    expect(events.map(({ type, attributes }) => [type, attributes.code, attributes.follows])).toEqual([
      ['xid', '79', undefined],
      ['gpu_lost', 'off_the_bus', '79'],
      ['xid', '45', '79'],
    ]);
    expect(new Set(events.map(({ attributes }) => attributes.incident)).size).toBe(1);
    node.pass(6000);
    const later = await collector.collect(forever);
    expect(later.events).toMatchObject([{ attributes: { code: '45', count: '8', follows: '79' } }]);
    expect(readingOf(later, 'gpu_xid_errors_total', 'xid', '45')).toBe(9);
  });

  // Lost without it: the table says reset where the driver itself says reboot.
  test("gets the driver's own verdict where it gives one", async () => {
    await using node = new KernelNode();
    await using collector = node.collector();
    node.log('NVRM: Xid (PCI:0000:91:00): 119, pid=1, name=x, Timeout after 6s of waiting for RPC response');
    node.log(
      'NVRM: Xid (PCI:0000:91:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)',
    );
    const { events } = await collector.collect(forever);
    expect(events[0]).toMatchObject({
      attributes: { code: '119', action: 'reboot the node', reason: 'the driver asks for it' },
    });
    expect(events[1]).toMatchObject({
      type: 'recovery_action',
      attributes: { follows: '119', action: 'reboot the node' },
    });
  });

  // Lost without it: a GPU that nobody else knows is a row without a name.
  test('is named by what the driver said before, where nobody else knows it', async () => {
    await using node = new KernelNode();
    await using collector = node.collector({ locate: () => undefined });
    node.log('NVRM: GPU at PCI:0000:91:00: GPU-b6c3b2be-c55b-d076-fa0e-d464e4c7e08b');
    node.log(XID_79);
    expect((await collector.collect(forever)).events).toMatchObject([
      { gpu: '', gpuUuid: 'GPU-b6c3b2be-c55b-d076-fa0e-d464e4c7e08b' },
    ]);
  });
});

describe('a restart of the agent', () => {
  // Lost without it: old errors are news after every update of the agent, or what happened meanwhile is not.
  test('repeats nothing and misses nothing', async () => {
    await using node = new KernelNode();
    await using first = node.collector();
    node.log(XID_79);
    expect((await first.collect(forever)).events).toHaveLength(1);
    await first[Symbol.asyncDispose]();
    node.pass(1000);
    node.log(XID_45);
    node.pass(LATE_MS + 1000);
    await using second = node.collector();
    const { events } = await second.collect(forever);
    expect(events).toMatchObject([
      { timestampMs: START_MS + 1000, attributes: { code: '45', follows: '79', late: 'true' } },
    ]);
    expect((await second.collect(forever)).events).toEqual([]);
  });

  // Lost without it: the end of a storm that an update fell into is never told.
  test('tells what the one before held back', async () => {
    await using node = new KernelNode();
    await using first = node.collector();
    for (let i = 0; i < 4; i++) node.log(XID_79);
    await first.collect(forever);
    await first[Symbol.asyncDispose]();
    node.pass(6000);
    await using second = node.collector();
    expect((await second.collect(forever)).events).toMatchObject([
      { attributes: { code: '79', count: '3' } },
    ]);
  });

  // Lost without it: kill -9 between reading and recording loses an Xid for good.
  test('that was killed reads again what may not be on record', async () => {
    await using node = new KernelNode();
    await using killed = node.collector();
    node.log(XID_79);
    await killed.collect(forever);
    await using second = node.collector();
    expect((await second.collect(forever)).events).toMatchObject([{ attributes: { code: '79' } }]);
    await second.collect(forever);
    await using third = node.collector();
    expect((await third.collect(forever)).events).toEqual([]);
  });

  // Lost without it: what was read in the moment of a stop is neither on record nor read again.
  test('that broke off a read reads it again', async () => {
    await using node = new KernelNode();
    const stopped = node.collector();
    node.log(XID_79);
    await stopped.collect(AbortSignal.abort());
    await stopped[Symbol.asyncDispose]();
    await using second = node.collector();
    expect((await second.collect(forever)).events).toHaveLength(1);
  });

  // Lost without it: after a reboot the cursor of the old boot hides the first lines of the new one.
  test('after a reboot begins with the new log', async () => {
    await using node = new KernelNode();
    await using first = node.collector();
    for (let i = 0; i < 5; i++) node.log(`chatter ${i}`);
    node.log(XID_79);
    await first.collect(forever);
    await first[Symbol.asyncDispose]();
    node.boot(NEXT_BOOT, 10_000);
    node.log(XID_45);
    await using second = node.collector();
    const { events } = await second.collect(forever);
    expect(events).toMatchObject([{ attributes: { code: '45' } }]);
    expect(events[0]!.attributes).not.toHaveProperty('follows');
  });

  test('with facts that are not what this version writes begins anew', async () => {
    await using node = new KernelNode();
    node.facts.set('kernel_log/state', '{"boot":7}');
    node.facts.set('kernel_log/dumps', 'x');
    node.log(XID_79);
    await using collector = node.collector();
    expect((await collector.collect(forever)).events).toHaveLength(1);
  });
});

describe('the log itself', () => {
  // Lost without it: errors that were overwritten before they could be read never happened.
  test('a gap is an event with its count', async () => {
    await using node = new KernelNode();
    await using collector = node.collector();
    node.log('chatter');
    await collector.collect(forever);
    node.log(XID_79, { skip: 41 });
    const reading = await collector.collect(forever);
    expect(reading.events.map(({ type, attributes }) => [type, attributes.count])).toEqual([
      ['kernel_log_gap', '41'],
      ['xid', '1'],
    ]);
    expect(readingOf(reading, 'kernel_log_lost_lines_total')).toBe(41);
  });

  // Lost without it: whoever may write to /dev/kmsg has a node drained.
  test('what a program wrote into it is believed only where that is asked for', async () => {
    await using node = new KernelNode();
    node.log(XID_79, { facility: 1 });
    await using collector = node.collector();
    expect((await collector.collect(forever)).events).toEqual([]);
    node.facts.clear();
    await using drill = node.collector({ acceptInjected: true });
    expect((await drill.collect(forever)).events).toHaveLength(1);
  });

  // Lost without it: an event of before a step of the clock is an hour off.
  test('times follow the wall clock when it steps', async () => {
    await using node = new KernelNode();
    await using collector = node.collector();
    await collector.collect(forever);
    node.now += 3_600_000;
    node.pass(100);
    node.log(XID_79);
    expect((await collector.collect(forever)).events).toMatchObject([{ timestampMs: START_MS + 3_600_100 }]);
  });

  test('what is no record is counted', async () => {
    await using node = new KernelNode();
    appendFileSync(join(node.host.dev, 'kmsg'), 'rubbish\n');
    node.log('NVRM: Xid (invalid): some error');
    await using collector = node.collector();
    expect((await collector.collect(forever)).rejected.get('malformed')).toBe(2);
  });

  // Lost without it: a node without the right to read its log looks like one without errors.
  test('that cannot be read is a failed read with its reason, and is read when it can be', async () => {
    await using node = new KernelNode();
    let there = false;
    await using collector = node.collector({
      open: () => ({
        what: 'a log',
        cursor: '',
        look: async () => {
          if (!there) throw new Error('it is away');
          return { lost: 0, malformed: 0, drained: true };
        },
        [Symbol.asyncDispose]: async () => {},
      }),
    });
    const failed = await collector.collect(forever);
    expect(readingOf(failed, 'up')).toBe(0);
    expect(failed.problem).toBe('it is away');
    there = true;
    expect(readingOf(await collector.collect(forever), 'up')).toBe(1);
  });

  // Lost without it: a flood of codes and addresses makes series without end.
  test('makes a bounded number of series', async () => {
    await using node = new KernelNode();
    for (let i = 1; i <= MAX_COUNTERS + 50; i++) node.log(`NVRM: Xid (PCI:0000:91:00): ${i}, x`);
    await using collector = node.collector();
    const reading = await collector.collect(forever);
    expect(reading.dictionary.series.length).toBeLessThanOrEqual(MAX_COUNTERS + 5);
    expect(reading.rejected.get('series_limit')).toBeGreaterThanOrEqual(50);
    expect(reading.states.every((state) => state === SlotState.Present)).toBe(true);
  });
});
