import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createLogger } from '#shared/logging/logger.ts';
import { seriesFault } from '#shared/wire/dictionary.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import type { DcgmExporterOptions } from '../../../../../agent/collect/nvidia/dcgm-exporter/collector.ts';
import { fixture, ScrapedNode, shown } from './scraped-node.ts';

let node: ScrapedNode;
beforeEach(async () => {
  node = await ScrapedNode.start();
});
afterEach(async () => {
  await node[Symbol.asyncDispose]();
});

async function restart(options: Partial<DcgmExporterOptions>): Promise<void> {
  await node[Symbol.asyncDispose]();
  node = await ScrapedNode.start(options);
}

const U0 = 'GPU-00000000-aaaa-bbbb-cccc-000000000000';
const U1 = 'GPU-00000001-aaaa-bbbb-cccc-000000000000';
const H100 = 'model="NVIDIA H100 80GB HBM3"';

// Lost without it: names, units and labels that dashboards, rules and health are built on.
test('a page becomes canonical series, infos, and what passes through', async () => {
  const reading = await node.scrape(fixture('two-h100-pods.metrics'));
  const zero = `gpu="0",${H100}`;
  const series = shown(reading);
  expect(series).toMatchObject({
    [`gpu_clock_hertz{domain="sm",${zero},uuid="${U0}"}`]: 1_755_000_000,
    [`gpu_temperature_celsius{${zero},sensor="core",uuid="${U0}"}`]: 61,
    [`gpu_power_watts{${zero},uuid="${U0}"}`]: 512.433,
    [`gpu_energy_joules_total{${zero},uuid="${U0}"}`]: 9_876_543_210.433,
    [`gpu_utilization_ratio{${zero},task="general",uuid="${U0}"}`]: 0.97,
    [`gpu_memory_used_bytes{${zero},uuid="${U0}"}`]: 73_401_368_576,
    [`gpu_engine_active_ratio{${zero},uuid="${U0}"}`]: 0.812345,
    [`gpu_io_bytes_per_second{bus="pcie",direction="transmit",${zero},uuid="${U0}"}`]: 123_456_789,
    [`gpu_clock_event_seconds_total{${zero},reason="sw_power_cap",uuid="${U0}"}`]: 1.500000001,
    [`gpu_nvlink_throughput_bytes_per_second{${zero},uuid="${U0}"}`]: 421_888_000,
    [`gpu_remapped_rows{cause="uncorrectable",${zero},uuid="${U0}"}`]: 2,
    [`gpu_power_watts{gpu="1",${H100},uuid="${U1}"}`]: 71.02,
    [`gpu_info{device="nvidia0",driver_version="570.10.01",gpu="0",hostname="node-a",${H100},pci_bus_id="00000000:10:00.0",uuid="${U0}",vendor="nvidia"}`]: 1,
    [`gpu_job_info{container="main",gpu="0",${H100},namespace="team-a",pod="train-0",uuid="${U0}"}`]: 1,
    'site_power_draw_watts{exported_cluster="feed-1",exported_node="pdu-7"}': 5120.25,
    [`DCGM_FI_DEV_VGPU_LICENSE_STATUS{DCGM_FI_DRIVER_VERSION="570.10.01",Hostname="node-a",UUID="${U1}",device="nvidia1",gpu="1",modelName="NVIDIA H100 80GB HBM3",pci_bus_id="00000000:11:00.0"}`]: 0,
  });
  // 24 mapped and 3 passed through, 2 GPUs, 1 job.
  expect(Object.keys(series)).toHaveLength(24 + 3 + 2 + 1);
  expect(reading.rejected).toEqual(new Map());
  expect(reading.dictionary.series.filter((one) => seriesFault(one) !== undefined)).toEqual([]);
});

test('says of itself that it is up, how long it took and how many samples it got', async () => {
  const reading = await node.scrape('a 1\nb 2\n');
  expect(shown(reading, { own: true })).toEqual({
    'up{source="dcgm-exporter"}': 1,
    'scrape_duration_seconds{source="dcgm-exporter"}': 0.004,
    'scrape_samples_scraped{source="dcgm-exporter"}': 2,
    a: 1,
    b: 2,
  });
});

// Lost without it: series that end when DCGM is upgraded, and links that no GPU is known of.
test('names and labels of DCGM 4.6 give the same series', async () => {
  const series = shown(await node.scrape(fixture('dcgm-4.6-names.metrics')));
  expect(series).toEqual({
    [`gpu_temperature_celsius{gpu="0",model="NVIDIA B200",sensor="core",uuid="${U0}"}`]: 48,
    [`gpu_power_watts{gpu="0",model="NVIDIA B200",uuid="${U0}"}`]: 640.125,
    [`gpu_utilization_ratio{gpu="0",model="NVIDIA B200",task="general",uuid="${U0}"}`]: 0.55,
    [`gpu_xid_last{gpu="0",model="NVIDIA B200",uuid="${U0}"}`]: 0,
    [`gpu_link_bytes_total{direction="transmit",gpu="0",link="0",model="NVIDIA B200",uuid="${U0}"}`]: 2e16,
    [`gpu_link_bytes_total{direction="transmit",gpu="0",link="1",model="NVIDIA B200",uuid="${U0}"}`]: 123,
    'nvswitch_temperature_celsius{hostname="node-b",nvswitch="2"}': 44,
    [`gpu_info{device="nvidia0",driver_version="590.1",gpu="0",hostname="node-b",model="NVIDIA B200",pci_bus_id="00000000:10:00.0",serial="1700000000",uuid="${U0}",vendor="nvidia"}`]: 1,
  });
});

// Lost without it: instances of one GPU written over each other.
test('MIG instances are series of their own', async () => {
  const small = `gpu="0",mig_id="7",mig_profile="1g.10gb",${H100}`;
  expect(shown(await node.scrape(fixture('mig.metrics')))).toEqual({
    [`gpu_engine_active_ratio{${small},uuid="${U0}"}`]: 0.75,
    [`gpu_engine_active_ratio{gpu="0",mig_id="2",mig_profile="3g.40gb",${H100},uuid="${U0}"}`]: 0.25,
    [`gpu_memory_used_bytes{${small},uuid="${U0}"}`]: 8_957_984_768,
    [`gpu_temperature_celsius{gpu="0",${H100},sensor="core",uuid="${U0}"}`]: 51,
    [`gpu_info{device="nvidia0",gpu="0",hostname="node-a",${H100},uuid="${U0}",vendor="nvidia"}`]: 1,
    [`gpu_job_info{container="main",gpu="0",mig_id="7",mig_profile="1g.10gb",${H100},namespace="team-a",pod="infer-0",uuid="${U0}"}`]: 1,
  });
});

describe('labels that nobody documented', () => {
  const line = (labels: string, value: number, field = 'GPU_TEMP') =>
    `DCGM_FI_DEV_${field}{gpu="0",UUID="GPU-0",${labels}} ${value}\n`;

  test('describe the GPU where they are the same on all of its lines', async () => {
    const page = line('rack="r7"', 40) + line('rack="r7"', 50, 'MEMORY_TEMP');
    expect(shown(await node.scrape(page))).toMatchObject({
      'gpu_temperature_celsius{gpu="0",sensor="core",uuid="GPU-0"}': 40,
      'gpu_info{gpu="0",rack="r7",uuid="GPU-0",vendor="nvidia"}': 1,
    });
  });

  test('describe the job where the line names one', async () => {
    const page = line('pod="p",team="red"', 40) + line('pod="p",team="red"', 50, 'MEMORY_TEMP');
    expect(shown(await node.scrape(page))).toMatchObject({
      'gpu_job_info{gpu="0",pod="p",team="red",uuid="GPU-0"}': 1,
      'gpu_info{gpu="0",uuid="GPU-0",vendor="nvidia"}': 1,
    });
  });

  // Lost without it: two sensors become one series, and one of them is thrown away.
  test('stay on the series where they tell lines apart', async () => {
    const reading = await node.scrape(line('die="0"', 40) + line('die="1"', 50));
    expect(shown(reading)).toMatchObject({
      'gpu_temperature_celsius{die="0",gpu="0",sensor="core",uuid="GPU-0"}': 40,
      'gpu_temperature_celsius{die="1",gpu="0",sensor="core",uuid="GPU-0"}': 50,
    });
    expect(reading.rejected).toEqual(new Map());
  });

  test('may have the names of object properties, or of ours', async () => {
    const page = line('constructor="x",toString="y",vendor="other",node="n"', 40);
    expect(shown(await node.scrape(page))).toMatchObject({
      'gpu_info{constructor="x",exported_node="n",exported_vendor="other",gpu="0",toString="y",uuid="GPU-0",vendor="nvidia"}': 1,
    });
  });
});

// Lost without it: a new job makes new series of every metric.
test('another pod changes gpu_job_info and no other series', async () => {
  const page = fixture('two-h100-pods.metrics');
  const before = Object.keys(shown(await node.scrape(page)));
  const after = Object.keys(shown(await node.scrape(page.replaceAll('train-0', 'train-1'))));
  const fresh = after.filter((series) => !before.includes(series) && !series.startsWith('DCGM_'));
  expect(fresh).toEqual([expect.stringMatching(/^gpu_job_info\{.*pod="train-1"/)]);
});

// Lost without it: GPUs shared by pods are counted twice.
test('a GPU that two pods share is one series with two users', async () => {
  const line = (pod: string) => `DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-0",pod="${pod}"} 50\n`;
  const reading = await node.scrape(line('a') + line('b'));
  expect(shown(reading)).toEqual({
    'gpu_utilization_ratio{gpu="0",task="general",uuid="GPU-0"}': 0.5,
    'gpu_info{gpu="0",uuid="GPU-0",vendor="nvidia"}': 1,
    'gpu_job_info{gpu="0",pod="a",uuid="GPU-0"}': 1,
    'gpu_job_info{gpu="0",pod="b",uuid="GPU-0"}': 1,
  });
  expect(reading.rejected).toEqual(new Map([['duplicate', 1]]));
});

// Lost without it: a counter that jumps between two fields that mean the same.
test('of two fields for one series the first that has a value keeps it', async () => {
  const page = (first: string, second: number) =>
    `DCGM_FI_DEV_POWER_VIOLATION{gpu="0",UUID="GPU-0"} ${first}\n` +
    `DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP_NS{gpu="0",UUID="GPU-0"} ${second}\n`;
  const series = 'gpu_clock_event_seconds_total{gpu="0",reason="sw_power_cap",uuid="GPU-0"}';
  const BLANK = '9223372036854775794';
  expect(shown(await node.scrape(page(BLANK, 2e9)))[series]).toBe(2);
  expect(shown(await node.scrape(page('5000000000', 3e9)))[series]).toBe(3);
  expect(shown(await node.scrape(page('6000000000', Number.NaN)))[series]).toBe('Quarantined');
});

// Lost without it: "not supported" drawn as a value, or a broken sensor believed.
test('blanks are told from what is missing, absurd values are quarantined, each counted', async () => {
  const reading = await node.scrape(fixture('blanks.metrics'));
  expect(shown(reading)).toMatchObject({
    'gpu_temperature_celsius{gpu="0",sensor="memory",uuid="GPU-0"}': 'Blank',
    'gpu_temperature_celsius{gpu="1",sensor="memory",uuid="GPU-1"}': 'Blank',
    'gpu_temperature_celsius{gpu="2",sensor="memory",uuid="GPU-2"}': 'Blank',
    'gpu_pcie_link_generation{gpu="0",uuid="GPU-0"}': 'Blank',
    'gpu_power_watts{gpu="0",uuid="GPU-0"}': 'Blank',
    'gpu_energy_joules_total{gpu="0",uuid="GPU-0"}': 'Blank',
    'gpu_energy_joules_total{gpu="1",uuid="GPU-1"}': 140_737_488_355.329,
    'gpu_utilization_ratio{gpu="0",task="general",uuid="GPU-0"}': 'Quarantined',
    'gpu_utilization_ratio{gpu="1",task="general",uuid="GPU-1"}': 'Quarantined',
    'gpu_temperature_celsius{gpu="0",sensor="core",uuid="GPU-0"}': 'Quarantined',
    'gpu_temperature_celsius{gpu="1",sensor="core",uuid="GPU-1"}': 'Quarantined',
    'gpu_temperature_celsius{gpu="2",sensor="core",uuid="GPU-2"}': 'Quarantined',
    'DCGM_FI_DEV_FIELD_OF_NEXT_YEAR{UUID="GPU-0",gpu="0"}': 'Blank',
    'gpu_clock_hertz{domain="sm",gpu="0",uuid="GPU-0"}': 1_980_000_000,
  });
  expect(reading.rejected).toEqual(
    new Map([
      ['blank', 7],
      ['out_of_range', 4],
      ['not_a_number', 1],
    ]),
  );
});

test('what passes through may be infinite, and NaN is quarantined', async () => {
  const reading = await node.scrape('a +Inf\nb -Inf\nc NaN\nd -0\n');
  expect(shown(reading)).toEqual({
    a: Number.POSITIVE_INFINITY,
    b: Number.NEGATIVE_INFINITY,
    c: 'Quarantined',
    d: 0,
  });
  expect(reading.rejected).toEqual(new Map([['not_a_number', 1]]));
});

test('what passes through keeps type, help, unit and the decimals it was first printed with', async () => {
  const page = '# HELP a_total Things.\n# TYPE a_total counter\n# UNIT a_total things\na_total 1.250\nb 3\n';
  const { dictionary } = await node.scrape(page);
  expect(dictionary.series.slice(3)).toEqual([
    { name: 'a_total', labels: [], kind: 'counter', decimals: 3, help: 'Things.', unit: 'things' },
    { name: 'b', labels: [], kind: 'gauge', decimals: 0, help: '', unit: '' },
  ]);
});

describe('naming', () => {
  // Lost without it: people's own dashboards and rules.
  test('dcgm writes names, labels and values as the exporter gave them', async () => {
    await restart({ naming: 'dcgm' });
    const labels = `DCGM_FI_DRIVER_VERSION="570.10.01",Hostname="node-a",UUID="${U0}",container="main",device="nvidia0",gpu="0",modelName="NVIDIA H100 80GB HBM3",namespace="team-a",pci_bus_id="00000000:10:00.0",pod="train-0"`;
    const series = shown(await node.scrape(fixture('two-h100-pods.metrics')));
    expect(series).toMatchObject({
      [`DCGM_FI_DEV_SM_CLOCK{${labels}}`]: 1755,
      [`DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{${labels}}`]: 9_876_543_210_433,
      [`DCGM_FI_DEV_GPU_UTIL{${labels}}`]: 97,
    });
    expect(Object.keys(series)).toHaveLength(27);
  });

  test('dcgm leaves blanks out all the same', async () => {
    await restart({ naming: 'dcgm' });
    const reading = await node.scrape(fixture('blanks.metrics'));
    expect(shown(reading)).toMatchObject({
      'DCGM_FI_DEV_MEMORY_TEMP{UUID="GPU-0",gpu="0"}': 'Blank',
      'DCGM_FI_DEV_GPU_UTIL{UUID="GPU-0",gpu="0"}': 'Quarantined',
    });
    expect(reading.rejected.get('blank')).toBe(7);
  });

  test('both writes both', async () => {
    const page = fixture('two-h100-pods.metrics');
    const canonical = Object.keys(shown(await node.scrape(page)));
    await restart({ naming: 'dcgm' });
    const dcgm = Object.keys(shown(await node.scrape(page)));
    await restart({ naming: 'both' });
    const both = Object.keys(shown(await node.scrape(page)));
    expect(new Set(both)).toEqual(new Set([...canonical, ...dcgm]));
  });
});

describe('limits', () => {
  // Lost without it: an endpoint's invented labels take the memory of agent, aggregator and store.
  test('series over the limit are refused, counted and named; the GPUs come first', async () => {
    const logger = createLogger('test', 'silent');
    const warn = vi.spyOn(logger, 'warn');
    await restart({ seriesLimit: 10, logger });
    const bomb = Array.from({ length: 20 }, (_, i) => `bomb{id="${i}"} ${i}\n`).join('');
    const page = `${bomb}DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-0"} 50\n`;
    const reading = await node.scrape(page);
    expect(reading.dictionary.series).toHaveLength(10);
    expect(shown(reading)).toMatchObject({
      'gpu_temperature_celsius{gpu="0",sensor="core",uuid="GPU-0"}': 50,
      'bomb{id="0"}': 0,
    });
    expect(reading.rejected).toEqual(new Map([['series_limit', 15]]));
    const again = await node.scrape(page);
    expect(again.dictionary).toBe(reading.dictionary);
    expect(again.rejected).toEqual(new Map([['series_limit', 15]]));
    expect(warn.mock.calls).toEqual([[expect.objectContaining({ names: 'bomb' }), expect.any(String)]]);
  });

  test('lines far over the limit are counted without being read', async () => {
    await restart({ seriesLimit: 5 });
    const reading = await node.scrape(Array.from({ length: 100 }, (_, i) => `bomb{id="${i}"} 1\n`).join(''));
    expect(Object.keys(shown(reading))).toEqual(['bomb{id="0"}', 'bomb{id="1"}']);
    expect(shown(reading, { own: true })).toMatchObject({
      'scrape_samples_scraped{source="dcgm-exporter"}': 100,
    });
    expect(reading.rejected).toEqual(new Map([['series_limit', 98]]));
  });

  test('a series of too many labels, or too long ones, is refused and counted', async () => {
    const many = Array.from({ length: 25 }, (_, i) => `l${i}="x"`).join(',');
    const page = `a{${many}} 1\nb{l="${'x'.repeat(1025)}"} 2\n${'n'.repeat(1025)} 3\nc{l="${'x'.repeat(1024)}"} 4\n`;
    const reading = await node.scrape(page);
    expect(Object.values(shown(reading))).toEqual([4]);
    expect(reading.rejected).toEqual(new Map([['label_limit', 3]]));
  });

  test('an info series keeps the labels that fit', async () => {
    const many = Array.from({ length: 30 }, (_, i) => `l${String(i).padStart(2, '0')}="x"`).join(',');
    const reading = await node.scrape(
      `DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-0",long="${'x'.repeat(2000)}",${many}} 50\n`,
    );
    expect(reading.dictionary.series.find(({ name }) => name === 'gpu_info')?.labels).toHaveLength(24);
    // 30 + 1, and gpu, uuid, vendor take three of the 24.
    expect(reading.rejected).toEqual(new Map([['label_limit', 31 - 21]]));
  });

  test('the same line twice: the first wins', async () => {
    const reading = await node.scrape('a{x="1",y="2"} 1\na{y="2",x="1"} 2\na{x="1",y="2"} 3\n');
    expect(shown(reading)).toEqual({ 'a{x="1",y="2"}': 1 });
    expect(reading.rejected).toEqual(new Map([['duplicate', 2]]));
  });

  test('malformed lines are counted, the others kept', async () => {
    const reading = await node.scrape(`rubbish\n${fixture('mig.metrics')}a{b="\n`);
    expect(reading.rejected).toEqual(new Map([['malformed', 2]]));
    expect(shown(reading)).toMatchObject({
      [`gpu_temperature_celsius{gpu="0",${H100},sensor="core",uuid="${U0}"}`]: 51,
    });
  });

  test('a body over the limit fails the scrape', async () => {
    await restart({ maxBodyBytes: 1000 });
    expect(shown(await node.scrape('x'.repeat(1001)), { own: true })).toMatchObject({
      'up{source="dcgm-exporter"}': 0,
    });
  });
});

describe('from one scrape to the next', () => {
  // Lost without it: a dictionary for each tick, sent, stored and indexed.
  test('the same lines keep dictionary and arrays', async () => {
    const first = await node.scrape('a 1\nb 2\n');
    const second = await node.scrape('b 4\na 3\n');
    expect(second.dictionary).toBe(first.dictionary);
    expect(second.values).toBe(first.values);
    expect(shown(second)).toEqual({ a: 3, b: 4 });
  });

  test('a series that is missing is absent for two scrapes, and then gone', async () => {
    const first = await node.scrape('a 1\nb 2\n');
    const second = await node.scrape('a 1\n');
    expect(shown(second)).toEqual({ a: 1, b: 'Absent' });
    const third = await node.scrape();
    expect(third.dictionary).toBe(first.dictionary);
    expect(shown(await node.scrape())).toEqual({ a: 1 });
  });

  test('a new series is there at once', async () => {
    const first = await node.scrape('a 1\n');
    const second = await node.scrape('a 1\nb 2\n');
    expect(second.dictionary).not.toBe(first.dictionary);
    expect(shown(second)).toEqual({ a: 1, b: 2 });
  });

  // Lost without it: values that change on their way, or a tick that the codec refuses.
  test('readings go through the wire codec as they are', async () => {
    const { dictionary, values, states, timestampMs } = await node.scrape(fixture('two-h100-pods.metrics'));
    const decoder = new FrameDecoder(dictionary);
    decoder.decode(new FrameEncoder(dictionary).encode({ timestampMs, values, states }));
    expect([...decoder.values]).toEqual([...values]);
    expect([...decoder.states]).toEqual([...states]);
  });
});

describe('a scrape that fails', () => {
  // Lost without it: an exporter that never answered is nowhere to be seen.
  test('says up 0 also before any has worked', async () => {
    const failed = await node.scrape((_, response) => response.writeHead(500).end());
    expect(shown(failed, { own: true })).toMatchObject({ 'up{source="dcgm-exporter"}': 0 });
    expect(failed.dictionary.series).toHaveLength(3);
    expect(failed.problem).toContain('it answered 500');
    expect(shown(await node.scrape('a 1\n'), { own: true })).toMatchObject({
      'up{source="dcgm-exporter"}': 1,
      a: 1,
    });
  });

  // Lost without it: an exporter that died looks like a node without news.
  test('is a reading with up 0 and everything else absent after one has worked', async () => {
    const { dictionary } = await node.scrape('a 1\n');
    const failed = await node.scrape((_, response) => response.writeHead(500).end());
    expect(failed.dictionary).toBe(dictionary);
    expect(shown(failed, { own: true })).toEqual({
      'up{source="dcgm-exporter"}': 0,
      'scrape_duration_seconds{source="dcgm-exporter"}': 0.004,
      'scrape_samples_scraped{source="dcgm-exporter"}': 0,
      a: 'Absent',
    });
    expect(shown(await node.scrape('a 2\n'), { own: true })).toMatchObject({
      'up{source="dcgm-exporter"}': 1,
      a: 2,
    });
  });

  test('by its own timeout or the signal of the scheduler is a timeout', async () => {
    await restart({ timeoutMs: 100 });
    await node.scrape('a 1\n');
    expect(shown(await node.scrape(() => {}))).toEqual({ a: 'Timeout' });
    const deadline = new AbortController();
    const late = node.scrape(() => deadline.abort(), deadline.signal);
    expect(shown(await late)).toEqual({ a: 'Timeout' });
  });

  // Lost without it: a login page ends every series of the node and reports its GPUs lost.
  test('is a page of which no line is Prometheus text', async () => {
    const page = '<html>\n<p>Sign in</p>\n</html>\n';
    const logger = createLogger('test', 'silent');
    const warn = vi.spyOn(logger, 'warn');
    await restart({ logger });
    await node.scrape('a 1\n');
    expect(shown(await node.scrape(page))).toEqual({ a: 'Absent' });
    expect(warn.mock.calls[0]?.[1]).toContain('/metrics: none of its 3 lines is Prometheus text');
  });

  test('is logged once for each cause', async () => {
    const logger = createLogger('test', 'silent');
    const warn = vi.spyOn(logger, 'warn');
    await restart({ logger });
    const broken = (status: number) => node.scrape((_, response) => response.writeHead(status).end());
    await node.scrape('a 1\n');
    await broken(500);
    await broken(500);
    await broken(503);
    await node.scrape('a 1\n');
    await broken(503);
    const codes = warn.mock.calls.map((call) => /it answered (\d+)/.exec(String(call[1]))?.[1]);
    expect(codes).toEqual(['500', '503', '503']);
  });
});

test('dispose may be called twice', async () => {
  await node.scrape('a 1\n');
  await node.collector[Symbol.asyncDispose]();
  await node.collector[Symbol.asyncDispose]();
});
