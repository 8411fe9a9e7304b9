import { describe, expect, test, vi } from 'vitest';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { createLogger } from '#shared/logging/logger.ts';
import { byGpu, ownOf } from '../by-gpu.ts';
import { SmiNode } from './smi-node.ts';

const uuid = (index: number): string => `GPU-0000000${index}-aaaa-bbbb-cccc-000000000000`;
const HEADER =
  'index, uuid, name, pci.bus_id, driver_version, temperature.gpu, power.draw [W], fan.speed [%], memory.used [MiB]';

interface Row {
  temperature?: string;
  power?: string;
  fan?: string;
}

function row(index: number, { temperature = '41', power = '70.50', fan = '[N/A]' }: Row = {}): string {
  const pci = `00000000:0${index}:00.0`;
  return `${index}, ${uuid(index)}, NVIDIA H100, ${pci}, 590.48.01, ${temperature}, ${power}, ${fan}, 12`;
}

const page = (...lines: string[]): string => `${[HEADER, ...lines].join('\n')}\n`;
const of = (index: number): string => `${index} ${uuid(index)}`;

// Lost without it: "the driver refuses it" looks like "it is broken" looks like "nobody asked".
describe('what nvidia-smi prints in the place of a value', () => {
  test.each([
    ['[N/A]', 'not_supported'],
    ['N/A', 'not_supported'],
    ['[Not Supported]', 'not_supported'],
    ['[Requested functionality has been deprecated]', 'not_supported'],
    ['[Insufficient Permissions]', 'no_permission'],
    ['[Unknown Error]', 'blank'],
    ['ERR!', 'blank'],
    ['[Timeout]', 'timeout'],
    ['', 'blank'],
    ['[GPU is lost]', 'gpu_lost'],
    ['[GPU requires reset]', 'gpu_lost'],
  ])('%s is %s', async (text, state) => {
    await using node = new SmiNode('csv');
    const gpus = byGpu(await node.read(page(row(0, { power: text }), row(1))));
    expect(gpus[of(0)]!.gpu_power_watts).toBe(state);
    expect(gpus[of(1)]!.gpu_power_watts).toBe(70.5);
  });

  test('N/A of a field that had a value a moment ago is blank: it will come again', async () => {
    await using node = new SmiNode('csv');
    await node.read(page(row(0)));
    const { gpu_power_watts, gpu_fan_ratio } = byGpu(await node.read(page(row(0, { power: '[N/A]' }))))[
      of(0)
    ]!;
    expect([gpu_power_watts, gpu_fan_ratio]).toEqual(['blank', 'not_supported']);
  });

  test.each(['12 apples', '0x1f', '1e3', '--1', '70,5', 'seventy', '70.5 mW', '1'.repeat(20)])(
    'and is none of these, such as %s, is malformed and no value',
    async (power) => {
      await using node = new SmiNode('csv');
      const reading = await node.read(page(row(0, { power })));
      expect(byGpu(reading)[of(0)]?.gpu_power_watts ?? 'absent').toBe('absent');
      expect(reading.rejected.get('malformed')).toBe(1);
    },
  );

  // Lost without it: a fan that a driver reports at 3,000 % believed.
  test('outside of what can be is quarantined and counted', async () => {
    await using node = new SmiNode('csv');
    const reading = await node.read(page(row(0, { fan: '3000 %', power: '99999' })));
    expect(byGpu(reading)[of(0)]).toMatchObject({
      gpu_fan_ratio: 'quarantined',
      gpu_power_watts: 'quarantined',
    });
    expect(reading.rejected).toEqual(new Map([['out_of_range', 2]]));
  });
});

test('a column in another unit than the one that is known is not read', async () => {
  await using node = new SmiNode('csv');
  const text = page(row(0)).replace('power.draw [W]', 'power.draw [mW]');
  expect(byGpu(await node.read(text))[of(0)]).not.toHaveProperty('gpu_power_watts');
});

test('the names of older drivers give the same series', async () => {
  await using node = new SmiNode('csv');
  const header = 'index, uuid, clocks_throttle_reasons.active, clocks.sm [MHz], retired_pages.sbe';
  const text = `${header}\n0, ${uuid(0)}, 0x0000000000000044, 1755 MHz, 3\n`;
  expect(byGpu(await node.read(text))[of(0)]).toMatchObject({
    gpu_clock_event_reasons: 0x44,
    'gpu_clock_hertz{domain=sm}': 1_755_000_000,
    'gpu_retired_pages{cause=sbe}': 3,
  });
});

// Lost without it: a GPU that fell off the bus looks like one that has nothing to say.
describe('a GPU is lost', () => {
  const lost = async (node: SmiNode, output: string): Promise<string[]> =>
    (await node.read(output)).events.map(({ type, gpuUuid, text }) => `${type} ${gpuUuid || text}`);

  test('at once when it is not listed, stays visible in that state, and is back when it is listed', async () => {
    await using node = new SmiNode('csv');
    expect(await lost(node, page(row(0), row(1)))).toEqual([]);
    const reading = await node.read(page(row(0)));
    expect(reading.events.map(({ type, gpu, gpuUuid }) => [type, gpu, gpuUuid])).toEqual([
      ['gpu_lost', '1', uuid(1)],
    ]);
    for (let i = 0; i < 5; i++) {
      const later = await node.read(page(row(0)));
      expect(later.events).toEqual([]);
      expect(later.dictionary).toBe(reading.dictionary);
      expect(byGpu(later)[of(1)]).toMatchObject({
        gpu_up: 0,
        gpu_power_watts: 'gpu_lost',
        gpu_fan_ratio: 'gpu_lost',
      });
    }
    expect(await lost(node, page(row(0), row(1)))).toEqual([`gpu_back ${uuid(1)}`]);
    expect(byGpu(await node.read(page(row(0), row(1))))[of(1)]!.gpu_power_watts).toBe(70.5);
  });

  test('when its values say so', async () => {
    await using node = new SmiNode('csv');
    await node.read(page(row(0), row(1)));
    const { events } = await node.read(page(row(0), row(1, { power: '[GPU is lost]' })));
    expect(events).toEqual([
      expect.objectContaining({
        type: 'gpu_lost',
        gpuUuid: uuid(1),
        text: 'GPU 1 is lost: nvidia-smi says "[GPU is lost]"',
      }),
    ]);
    expect(await lost(node, page(row(0), row(1)))).toEqual([`gpu_back ${uuid(1)}`]);
  });

  // As drivers print it: the other GPUs' rows follow, or do not.
  test.each([
    'Unable to determine the device handle for GPU1: 0000:01:00.0: Unknown Error',
    'Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.  Reboot the system to recover this GPU',
    'Unable to determine the device handle for gpu 00000000:01:00.0: GPU is lost.',
  ])('when it cannot be opened: %s', async (line) => {
    await using node = new SmiNode('csv');
    await node.read(page(row(0), row(1)));
    const reading = await node.read(`${line}\n${page(row(0))}`);
    expect(reading.events.map(({ type, gpuUuid }) => [type, gpuUuid])).toEqual([['gpu_lost', uuid(1)]]);
    expect(reading.events[0]!.text).toMatch(/says "(Unknown Error|GPU is lost)/);
    expect(byGpu(reading)[of(0)]!.gpu_power_watts).toBe(70.5);
    expect(reading.rejected).toEqual(new Map());
  });

  test('also one that was lost before the agent came, by its address', async () => {
    await using node = new SmiNode('csv');
    const line = 'Unable to determine the device handle for GPU1: 0000:01:00.0: Unknown Error';
    expect(await lost(node, `${line}\n${page(row(0))}`)).toEqual([
      'gpu_lost GPU 0000:01:00.0 is lost: nvidia-smi says "Unknown Error"',
    ]);
    expect(await lost(node, `${line}\n${page(row(0))}`)).toEqual([]);
  });

  // Lost without it: nobody can tell which board to look at.
  test('is told with address and serial, and known again after a restart of the agent', async () => {
    await using node = new SmiNode('csv');
    await node.read(page(row(0), row(1)));
    expect((await node.read(page(row(0)))).events[0]!.attributes).toEqual({
      source: 'nvidia-smi',
      pci: '0000:01:00.0',
    });
    await using restarted = new SmiNode('csv', { identities: node.identities });
    const line = 'Unable to determine the device handle for GPU1: 0000:01:00.0: Unknown Error';
    const { events } = await restarted.read(`${line}\n${page(row(0))}`);
    expect(events.map(({ type, gpu, gpuUuid }) => [type, gpu, gpuUuid])).toEqual([
      ['gpu_lost', '1', uuid(1)],
    ]);
  });

  test('with all others when no device is found any more', async () => {
    await using node = new SmiNode('csv');
    await node.read(page(row(0), row(1)));
    const reading = await node.read('No devices were found\n');
    expect(reading.events.map(({ type }) => type)).toEqual(['gpu_lost', 'gpu_lost']);
    expect(ownOf(reading).up).toBe(1);
  });

  // Lost without it: a page for a GPU that is there, each time a line is garbled or the tool does not run.
  test('neither when a row is damaged, nor when nvidia-smi fails', async () => {
    await using node = new SmiNode('csv');
    await node.read(page(row(0), row(1)));
    const damaged = await node.read(page(row(0), row(1).slice(0, 60)));
    expect(damaged.events).toEqual([]);
    expect(damaged.rejected).toEqual(new Map([['malformed', 1]]));
    expect(byGpu(damaged)[of(1)]!.gpu_power_watts).toBe('absent');
    expect((await node.read(new FleetError('unavailable', 'Cannot run nvidia-smi: no'))).events).toEqual([]);
    expect(await lost(node, page(row(0), row(1)))).toEqual([]);
  });
});

describe('a run that fails', () => {
  // Lost without it: a dead driver looks like a node without news.
  test('says up 0, also before the first that worked, and is logged once for each cause', async () => {
    const logger = createLogger('test', 'silent');
    const warn = vi.spyOn(logger, 'warn');
    await using node = new SmiNode('csv', { logger });
    const driver = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n";
    const first = await node.read(driver);
    expect(ownOf(first)).toMatchObject({ up: 0, scrape_samples_scraped: 0 });
    expect(first.problem).toBe(`Cannot read nvidia-smi's answer: ${driver.trim()}`);
    expect(first.dictionary.series).toHaveLength(3);
    await node.read(driver);
    await node.read(page(row(0)));
    const last = await node.read(driver);
    expect(byGpu(last)[of(0)]).toMatchObject({ gpu_power_watts: 'absent' });
    expect(warn.mock.calls.map(([, text]) => text)).toEqual([
      `Cannot read nvidia-smi's answer: ${driver.trim()}`,
      `Cannot read nvidia-smi's answer: ${driver.trim()}`,
    ]);
  });

  test('hands on what its process did, such as hang', async () => {
    await using node = new SmiNode('csv');
    node.toolEvents.push({
      type: 'collector_stuck',
      timestampMs: 1,
      gpu: '',
      gpuUuid: '',
      text: 'stuck',
      attributes: {},
    });
    const { events } = await node.read(new FleetError('unavailable', 'Cannot run nvidia-smi: stuck'));
    expect(events.map(({ type }) => type)).toEqual(['collector_stuck']);
  });
});

// Lost without it: after a driver upgrade every read fails until the agent is restarted.
test('the fields are asked for once, and again when the driver is another one or refuses one', async () => {
  await using node = new SmiNode('csv');
  const helps = () => node.runs.filter(([first]) => first === '--help-query-gpu').length;
  await node.read(page(row(0)));
  await node.read(page(row(0)));
  expect(node.runs.map(([first]) => first)).toEqual([
    '--help-query-gpu',
    '--query-gpu=index,uuid,temperature.gpu',
    '--query-gpu=index,uuid,temperature.gpu',
  ]);
  await node.read(page(row(0).replace('590.48.01', '600.10')));
  await node.read(page(row(0).replace('590.48.01', '600.10')));
  expect(helps()).toBe(2);
  await node.read('Field "temperature.gpu" is not a valid field to query.\n');
  await node.read(page(row(0)));
  expect(helps()).toBe(3);
});

// Lost without it: invented GPUs fill memory, disk and store.
test('no more than 64 GPUs are read or remembered', async () => {
  await using node = new SmiNode('csv');
  const many = Array.from({ length: 100 }, (_, i) => {
    const id = `GPU-${String(i).padStart(8, '0')}-aaaa-bbbb-cccc-000000000000`;
    return row(0).replace(uuid(0), id);
  });
  const reading = await node.read(page(...many));
  expect(reading.rejected.get('malformed')).toBe(36);
  const others = await node.read(page(...many.slice(70)));
  expect(Object.keys(byGpu(others))).toHaveLength(64);
  expect(others.rejected.get('series_limit')).toBe(30);
});

test('the same lines keep dictionary and arrays; another serial or index makes new series', async () => {
  await using node = new SmiNode('csv');
  const first = await node.read(page(row(0), row(1)));
  const second = await node.read(page(row(0, { power: '71' }), row(1)));
  expect(second.dictionary).toBe(first.dictionary);
  expect(second.values).toBe(first.values);
  const third = await node.read(page(row(0).replace(/^0/, '5'), row(1)));
  expect(third.dictionary).not.toBe(first.dictionary);
  expect(byGpu(third)).toHaveProperty([`5 ${uuid(0)}`, 'gpu_power_watts'], 70.5);
});

describe('the long report', () => {
  const gpu = (index: number, more: string): string =>
    `<gpu id="x"><product_name>H200</product_name><uuid>${uuid(index)}</uuid>${more}</gpu>`;
  const report = (...gpus: string[]): string =>
    `<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v13.dtd">\n<nvidia_smi_log>${gpus.join('')}</nvidia_smi_log>\n`;
  const instance = (id: string, used: string): string =>
    `<mig_device><gpu_instance_id>${id}</gpu_instance_id><fb_memory_usage><used>${used}</used></fb_memory_usage></mig_device>`;

  // Lost without it: MIG instances written over each other, or counted once for each compute instance.
  test('gives MIG instances as series of their own, one for each GPU instance', async () => {
    await using node = new SmiNode('xml');
    const devices = `<mig_devices>${instance('2', '22 MiB')}${instance('2', '22 MiB')}${instance('9', '5 MiB')}</mig_devices>`;
    expect(byGpu(await node.read(report(gpu(0, devices))))[of(0)]).toEqual({
      'gpu_info{vendor=nvidia}': 1,
      gpu_up: 1,
      'gpu_memory_used_bytes{mig_id=2}': 22 * 2 ** 20,
      'gpu_memory_used_bytes{mig_id=9}': 5 * 2 ** 20,
    });
  });

  test('takes the index that the short report gave, and does not report losses a second time', async () => {
    await using node = new SmiNode('xml', { raisesLost: false });
    node.session.noteIndices([{ uuid: uuid(1), index: '7' }]);
    const state = '<performance_state>P0</performance_state>';
    const both = await node.read(report(gpu(0, state), gpu(1, state)));
    expect(Object.keys(byGpu(both))).toEqual([of(0), `7 ${uuid(1)}`]);
    const one = await node.read(report(gpu(0, state)));
    expect(one.events).toEqual([]);
    expect(byGpu(one)[`7 ${uuid(1)}`]).toMatchObject({ gpu_pstate: 'gpu_lost' });
  });

  // Lost without it: a crafted or damaged report that eats memory, or reaches into the program.
  test.each([
    ['entities', '<!DOCTYPE a [<!ENTITY x "9"><!ENTITY y "&x;&x;">]>', '<fan_speed>&y; %</fan_speed>'],
    ['names of object properties', '', '<__proto__>1</__proto__><constructor>2</constructor>'],
    ['a value twice', '', '<fan_speed>1 %</fan_speed><fan_speed>2 %</fan_speed>'],
    ['a block for a value', '', '<fan_speed><a>1 %</a></fan_speed>'],
    ['a value for a block', '', '<fb_memory_usage>7 MiB</fb_memory_usage>'],
  ])('gives nothing for %s', async (_, doctype, within) => {
    await using node = new SmiNode('xml');
    const text = report(gpu(0, `<performance_state>P3</performance_state>${within}`));
    const reading = await node.read(doctype === '' ? text : text.replace(/<!DOCTYPE [^>]*>/, doctype));
    const values = Object.entries(byGpu(reading)[of(0)] ?? {}).filter(
      ([, value]) => typeof value === 'number',
    );
    expect(values.filter(([key]) => !/^gpu_(info|up)/.test(key))).toEqual(
      ownOf(reading).up === 1 ? [['gpu_pstate', 3]] : [],
    );
  });

  test.each([
    ['deep nesting', `${'<a>'.repeat(5000)}${'</a>'.repeat(5000)}`],
    ['a list of clocks without its end', '<supported_clocks>'.repeat(50_000)],
  ])('fails for %s, and at once', async (_, within) => {
    await using node = new SmiNode('xml');
    expect(ownOf(await node.read(report(gpu(0, within)))).up).toBe(0);
  });
});
