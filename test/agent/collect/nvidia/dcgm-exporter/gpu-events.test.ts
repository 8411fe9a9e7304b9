import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { XID_CATALOGUE_VERSION } from '#shared/catalogue/xid.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { rememberedXids, ScrapedNode } from './scraped-node.ts';

const remembered = rememberedXids;
let node: ScrapedNode;
beforeEach(async () => {
  node = await ScrapedNode.start();
});
afterEach(async () => {
  await node[Symbol.asyncDispose]();
});

const gpu = (index: number, field: string, value: number, more = ''): string =>
  `DCGM_${field}{gpu="${index}",UUID="GPU-${index}",modelName="H100"${more}} ${value}\n`;
const xid = (code: number, index = 0, more = ''): string => gpu(index, 'FI_DEV_XID_ERRORS', code, more);
const count = (code: number, times: number, index = 0): string =>
  gpu(index, 'EXP_XID_ERRORS_COUNT', times, `,window_size_in_ms="300000",xid="${code}"`);

async function eventsOf(page: string): Promise<readonly FleetEvent[]> {
  return (await node.scrape(page)).events;
}

async function codesOf(page: string): Promise<string[]> {
  return (await eventsOf(page)).flatMap(({ type, attributes, gpu: index }) =>
    type === 'xid' ? [`${attributes.code} on ${index}`] : [],
  );
}

// Lost without it: an Xid that nobody hears of, or one that pages again at every scrape.
describe('an Xid is an event', () => {
  test('with what an operator needs to know', async () => {
    await node.scrape(xid(0));
    const { events, timestampMs } = await node.scrape(xid(79));
    expect(events.slice(0, 1)).toEqual([
      {
        type: 'xid',
        timestampMs,
        gpu: '0',
        gpuUuid: 'GPU-0',
        text: 'Xid 79 on GPU 0: GPU has fallen off the bus. The GPU cannot be reached over PCIe.',
        attributes: {
          code: '79',
          name: 'GPU has fallen off the bus',
          severity: 'critical',
          source: 'dcgm-exporter',
          catalogue: String(XID_CATALOGUE_VERSION),
        },
      },
    ]);
  });

  test('when the last code changes, once for each GPU', async () => {
    expect(await codesOf(xid(0) + xid(0, 1))).toEqual([]);
    expect(await codesOf(xid(79) + xid(0, 1))).toEqual(['79 on 0']);
    expect(await codesOf(xid(79) + xid(31, 1))).toEqual(['31 on 1']);
    expect(await codesOf(xid(79) + xid(31, 1))).toEqual([]);
    expect(await codesOf(xid(48) + xid(31, 1))).toEqual(['48 on 0']);
  });

  test('in the spelling of DCGM 4.6, with its message kept as a label', async () => {
    await node.scrape(gpu(0, 'FI_DEV_XID_ERROR', 0));
    const page = gpu(0, 'FI_DEV_XID_ERROR', 79, ',err_code="79",err_msg="GPU has fallen off the bus"');
    const { events, dictionary } = await node.scrape(page);
    expect(events.map(({ type }) => type)).toEqual(['xid', 'gpu_lost']);
    expect(events[0]!.attributes.code).toBe('79');
    expect(dictionary.series.flatMap(({ labels }) => labels)).toContainEqual([
      'err_msg',
      'GPU has fallen off the bus',
    ]);
  });

  test('when the exporter restarted in between and the same code comes again', async () => {
    await codesOf(xid(79));
    expect(await codesOf(xid(0))).toEqual([]);
    expect(await codesOf(xid(79))).toEqual(['79 on 0']);
  });

  test('whatever the naming', async () => {
    await node[Symbol.asyncDispose]();
    node = await ScrapedNode.start({ naming: 'dcgm' });
    await node.scrape(xid(0));
    expect(await codesOf(xid(79))).toEqual(['79 on 0']);
  });

  test('only once on a GPU of several MIG instances', async () => {
    const instances = (code: number) =>
      xid(code, 0, ',GPU_I_ID="1",GPU_I_PROFILE="1g.10gb"') +
      xid(code, 0, ',GPU_I_ID="2",GPU_I_PROFILE="1g.10gb"');
    await node.scrape(instances(0));
    expect(await codesOf(instances(94))).toEqual(['94 on 0']);
    expect(await codesOf(instances(94))).toEqual([]);
  });
});

// Lost without it: a week-old Xid drains the node after every restart of the agent.
describe('an Xid is not an event', () => {
  test('at the first sight of a GPU', async () => {
    expect(await codesOf(xid(79) + count(79, 3))).toEqual([]);
    expect(await codesOf(xid(79) + count(79, 3) + xid(31, 1))).toEqual([]);
  });

  test('when a former run of the agent saw it, and is when it came in between', async () => {
    const lastXids = remembered();
    lastXids.set('GPU-0', 79);
    lastXids.set('GPU-1', 31);
    await node[Symbol.asyncDispose]();
    node = await ScrapedNode.start({ lastXids });
    expect(await codesOf(xid(79) + xid(48, 1))).toEqual(['48 on 1']);
    expect(lastXids.get('GPU-1')).toBe(48);
  });

  test('while the value is blank, absurd or not a number', async () => {
    await node.scrape(xid(0));
    for (const value of ['2147483634', '9223372036854775794', '70000', 'NaN', '-1', '3.5'])
      expect(await codesOf(`DCGM_FI_DEV_XID_ERRORS{gpu="0",UUID="GPU-0"} ${value}\n`)).toEqual([]);
    expect(await codesOf(xid(0))).toEqual([]);
  });
});

// Lost without it: the second of two equal Xids, which is what tells a bad GPU from bad luck.
describe('the count of a code', () => {
  test('makes an event when it rises, and none when its window moves on', async () => {
    await node.scrape(xid(31) + count(31, 1));
    expect(await codesOf(xid(31) + count(31, 2))).toEqual(['31 on 0']);
    expect(await codesOf(xid(31) + count(31, 2))).toEqual([]);
    expect(await codesOf(xid(31) + count(31, 1))).toEqual([]);
    expect(await codesOf(xid(31) + count(31, 2))).toEqual(['31 on 0']);
  });

  test('makes an event when the code is new to a known GPU', async () => {
    await node.scrape(gpu(0, 'FI_DEV_GPU_TEMP', 50) + xid(0));
    expect(await codesOf(xid(0) + count(48, 1))).toEqual(['48 on 0']);
  });

  test.each([
    ['at once', [xid(0), xid(48) + count(48, 1)]],
    ['before the last code', [xid(0), xid(0) + count(48, 1), xid(48) + count(48, 1)]],
    ['after the last code', [xid(0), xid(48), xid(48) + count(48, 1)]],
  ])('and the last code tell of one Xid once: %s', async (_, pages) => {
    const codes: string[] = [];
    for (const page of [...pages, pages.at(-1)!]) codes.push(...(await codesOf(page)));
    expect(codes).toEqual(['48 on 0']);
  });

  test('survives an empty page of an exporter that restarts', async () => {
    await node.scrape(xid(31) + count(31, 2));
    await node.scrape('');
    expect(await codesOf(xid(31) + count(31, 2))).toEqual([]);
  });
});

// Lost without it: a GPU that fell off the bus looks like one that has nothing to say.
describe('a GPU that vanishes', () => {
  const temperatures = (...indices: number[]): string =>
    indices.map((index) => gpu(index, 'FI_DEV_GPU_TEMP', 50)).join('');

  test('is lost after three scrapes without it, once, and back when it is', async () => {
    const types: string[] = [];
    for (const page of [
      ...[temperatures(0, 1), temperatures(0), temperatures(0), temperatures(0)],
      ...[temperatures(0), temperatures(0), temperatures(0, 1), temperatures(0, 1)],
    ]) {
      types.push((await eventsOf(page)).map((event) => `${event.type} ${event.gpuUuid}`).join() || '-');
    }
    expect(types).toEqual(['-', '-', '-', 'gpu_lost GPU-1', '-', '-', 'gpu_back GPU-1', '-']);
  });

  // Lost without it: three intervals in which jobs are still sent to it.
  test('is lost at once when the exporter says that it fell off the bus, and back with another Xid', async () => {
    const page = (code: number, ...indices: number[]) => temperatures(...indices) + xid(code) + xid(0, 1);
    const types: string[] = [];
    for (const text of [page(0, 0, 1), page(79, 0, 1), page(79, 0, 1), page(0, 0, 1), page(31, 0, 1)])
      types.push((await eventsOf(text)).map((event) => `${event.type} ${event.gpuUuid}`).join() || '-');
    expect(types).toEqual(['-', 'xid GPU-0,gpu_lost GPU-0', '-', 'gpu_back GPU-0', 'xid GPU-0']);
  });

  test('that fell off the bus and then is no longer listed is lost once, its series in that state', async () => {
    await node.scrape(temperatures(0, 1) + xid(0));
    await node.scrape(temperatures(0, 1) + xid(79));
    const { events, dictionary, states } = await node.scrape(temperatures(1));
    expect(events).toEqual([]);
    const slot = dictionary.series.findIndex(
      ({ name, labels }) =>
        name === 'gpu_temperature_celsius' && labels.some(([, value]) => value === 'GPU-0'),
    );
    expect(states[slot]).toBe(SlotState.GpuLost);
    expect((await eventsOf(temperatures(0, 1))).map(({ type }) => type)).toEqual(['gpu_back']);
  });

  test('says which it was', async () => {
    await node.scrape(temperatures(0, 1));
    for (let i = 0; i < 2; i++) await node.scrape(temperatures(0));
    expect(await eventsOf(temperatures(0))).toEqual([
      expect.objectContaining({
        gpu: '1',
        gpuUuid: 'GPU-1',
        text: 'GPU 1 is no longer listed by dcgm-exporter, which still answers',
        attributes: { source: 'dcgm-exporter' },
      }),
    ]);
  });

  test('for a moment, or while the exporter does not answer, is not lost', async () => {
    await node.scrape(temperatures(0, 1));
    for (let i = 0; i < 6; i++) {
      expect(await eventsOf(temperatures(0))).toEqual([]);
      const failed = await node.scrape((_, response) => response.writeHead(500).end());
      expect(failed.events).toEqual([]);
      expect(await eventsOf(temperatures(0, 1))).toEqual([]);
    }
  });

  // Lost without it: a page of invented GPUs makes an event for each, for ever.
  test('is watched only among the first 256', async () => {
    const many = temperatures(...Array.from({ length: 300 }, (_, i) => i));
    await node.scrape(many);
    for (let i = 0; i < 2; i++) await node.scrape('a 1\n');
    expect(await eventsOf('a 1\n')).toHaveLength(256);
  });
});
