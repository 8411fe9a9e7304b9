import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { seriesFault } from '#shared/wire/dictionary.ts';
import { createDeviceMetricsExporterCollector } from '../../../../../agent/collect/amd/device-metrics-exporter/collector.ts';
import type { Collector, Reading } from '../../../../../agent/collect/collector.ts';
import { damagedInputs } from '../../../../support/damaged-inputs.ts';
import { ROOT, sharedData } from '../../../../support/data.ts';
import { tempDir } from '../../../../support/temp.ts';
import { shown } from '../../nvidia/dcgm-exporter/scraped-node.ts';
import { PageServer } from '../../prometheus/page-server.ts';
import { textCard, writeCard } from '../sysfs/sysfs-tree.ts';
import { valuesOf } from '../told.ts';

let server: PageServer;
let collector: Collector;
let now = 0;
let sys = '/nowhere';
beforeEach(async () => {
  server = await PageServer.listen();
  collector = create();
});
afterEach(async () => {
  await collector[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

function create(): Collector {
  return createDeviceMetricsExporterCollector({
    url: server.url,
    sys,
    intervalMs: 1000,
    timeoutMs: 5000,
    maxBodyBytes: 2 ** 20,
    clock: { now: () => now, monotonic: () => now },
    logger: silentLogger,
  });
}

async function scrape(page: string | Buffer, from = collector): Promise<Reading> {
  now += 1000;
  server.page = page as typeof server.page;
  return await from.collect(new AbortController().signal);
}

const line = (name: string, labels: Record<string, string>, value: number | string): string => {
  const all = { card_series: 'AMD Instinct MI300X', gpu_id: '0', serial_number: '692251001124', ...labels };
  return `${name}{${Object.entries(all)
    .map(([label, said]) => `${label}="${said}"`)
    .join(',')}} ${value}\n`;
};
const I = 'gpu="0",model="AMD Instinct MI300X"';
const U = 'uuid="0000692251001124"';

// Lost without it: nodes where only AMD's exporter may talk to the GPUs.
test('names and units of the exporter become canonical series', async () => {
  const reading = await scrape(
    [
      line('gpu_package_power', {}, 542),
      line('gpu_junction_temperature', {}, 71),
      line('gpu_hbm_temperature', { hbm_index: '3' }, 60),
      line('gpu_energy_consumed', {}, '5.0e+09'),
      line('gpu_total_vram', {}, 196_592),
      line('gpu_gfx_activity', {}, 87),
      line('gpu_clock', { clock_type: 'system', clock_index: '0' }, 2103),
      line('gpu_clock', { clock_type: 'system', clock_index: '1' }, 2100),
      line('gpu_ecc_correct_total', {}, 5),
      line('gpu_ecc_uncorrect_umc', {}, 1),
      line('gpu_ecc_deferred_bif', {}, 0),
      line('gpu_xgmi_link_rx', { link_index: '1' }, '2.5e+06'),
      line('pcie_speed', {}, 32),
      line('gpu_voltage', {}, 65_535),
      line('gpu_health', { pod: 'train-0', namespace: 'team-a', container: 'main' }, 1),
      'site_temperature{node="rack-7"} 21.5\n',
    ].join(''),
  );
  const series = shown(reading);
  expect(series).toEqual({
    [`gpu_up{${I},${U}}`]: 1,
    [`gpu_info{${I},serial="692251001124",${U},vendor="amd"}`]: 1,
    [`gpu_power_watts{${I},${U}}`]: 542,
    [`gpu_temperature_celsius{${I},sensor="hotspot",${U}}`]: 71,
    [`gpu_temperature_celsius{${I},sensor="hbm3",${U}}`]: 60,
    [`gpu_energy_joules_total{${I},${U}}`]: 5000,
    [`gpu_memory_total_bytes{${I},${U}}`]: 196_592 * 2 ** 20,
    [`gpu_utilization_ratio{${I},task="general",${U}}`]: 0.87,
    [`gpu_clock_hertz{domain="sm",${I},${U}}`]: 2_103_000_000,
    [`gpu_ecc_errors_total{${I},scope="volatile",type="corrected",${U}}`]: 5,
    [`gpu_ecc_errors_by_location_total{gpu="0",location="umc",model="AMD Instinct MI300X",scope="volatile",type="uncorrected",${U}}`]: 1,
    [`gpu_ecc_errors_by_location_total{gpu="0",location="pcie_bif",model="AMD Instinct MI300X",scope="volatile",type="deferred",${U}}`]: 0,
    [`gpu_link_bytes_total{direction="receive",gpu="0",link="1",model="AMD Instinct MI300X",${U}}`]: 2_560_000_000,
    [`gpu_pcie_link_generation{${I},${U}}`]: 5,
    [`gpu_voltage_volts{${I},rail="soc",${U}}`]: 'Blank',
    [`gpu_job_info{container="main",${I},namespace="team-a",pod="train-0",${U}}`]: 1,
    'gpu_clock{card_series="AMD Instinct MI300X",clock_index="1",clock_type="system",gpu_id="0",serial_number="692251001124"}': 2100,
    'gpu_health{card_series="AMD Instinct MI300X",container="main",gpu_id="0",namespace="team-a",pod="train-0",serial_number="692251001124"}': 1,
    'site_temperature{exported_node="rack-7"}': 21.5,
  });
  expect(reading.dictionary.series.filter((one) => seriesFault(one) !== undefined)).toEqual([]);
});

// Lost without it: each GPU twice, by the driver's UUID and by the exporter's serial number.
test('a GPU has the UUID that the driver gives it, also where two are on one board', async () => {
  await using dir = tempDir('exporter');
  const serial = '692251001124';
  await writeCard(dir.path, 'card0', textCard({ pci: '0000:0c:00.0', uniqueId: 'abc', serial: 'other' }));
  await writeCard(dir.path, 'card1', textCard({ pci: '0000:2c:00.0', uniqueId: '2', serial }));
  await writeCard(dir.path, 'card2', textCard({ pci: '0000:1c:00.0', uniqueId: '1', serial }));
  sys = dir.path;
  await using local = create();
  sys = '/nowhere';
  const page =
    line('gpu_package_power', { gpu_id: '1' }, 542) +
    line('gpu_package_power', { gpu_id: '2' }, 402) +
    line('gpu_package_power', { serial_number: 'other' }, 99);
  expect(shown(await scrape(page, local))).toMatchObject({
    'gpu_power_watts{gpu="0",model="AMD Instinct MI300X",uuid="0000000000000abc"}': 99,
    'gpu_power_watts{gpu="1",model="AMD Instinct MI300X",uuid="0000000000000001"}': 542,
    'gpu_power_watts{gpu="2",model="AMD Instinct MI300X",uuid="0000000000000002"}': 402,
  });
});

// Lost without it: partitions of one GPU written over each other.
test('partitions are series of their own', async () => {
  const cpx = (partition: string) => ({ gpu_compute_partition_type: 'cpx', gpu_partition_id: partition });
  const series = shown(
    await scrape(line('gpu_gfx_activity', cpx('0'), 10) + line('gpu_gfx_activity', cpx('1'), 20)),
  );
  const of = (id: string) =>
    `gpu_utilization_ratio{gpu="0",mig_id="${id}",mig_profile="cpx",model="AMD Instinct MI300X",task="general",${U}}`;
  expect(series).toMatchObject({ [of('0')]: 0.1, [of('1')]: 0.2 });
});

test('a GPU that is no longer on the page is lost, and back when it is', async () => {
  const both =
    line('gpu_package_power', {}, 1) + line('gpu_package_power', { gpu_id: '1', serial_number: 'b' }, 2);
  await scrape(both);
  const gone = await scrape(line('gpu_package_power', {}, 1));
  expect(gone.events).toMatchObject([{ type: 'gpu_lost', gpu: '1' }]);
  expect(shown(gone)['gpu_up{gpu="1",model="AMD Instinct MI300X",uuid="000000000000000b"}']).toBe(0);
  expect((await scrape(both)).events).toMatchObject([{ type: 'gpu_back', gpu: '1' }]);
});

test('an exporter that does not answer is down, and its series stay', async () => {
  await scrape(line('gpu_package_power', {}, 1));
  await server[Symbol.asyncDispose]();
  const reading = await collector.collect(new AbortController().signal);
  expect(shown(reading, { own: true })).toMatchObject({
    'up{source="device-metrics-exporter"}': 0,
    [`gpu_power_watts{${I},${U}}`]: 'Absent',
  });
});

const folder = sharedData('samples/device-metrics-exporter');
describe.skipIf(folder === undefined)('the lines that AMD documents', () => {
  const capture = folder ? readFileSync(`${folder}/documented-examples.metrics`) : Buffer.of();

  test('give the expected series', async () => {
    const file = join(ROOT, 'test', 'fixtures', 'amd', 'device-metrics-exporter_documented.expected.json');
    expect(shown(await scrape(capture))).toEqual(JSON.parse(readFileSync(file, 'utf8')));
  });

  test('damaged, they give nothing that they did not say', async () => {
    const whole = valuesOf(await scrape(capture));
    const numbers = new Set(capture.toString('latin1').match(/[\d.]+(e\+?\d+)?/g));
    let malformed = 0;
    for (const { what, bytes } of damagedInputs(capture, 11)) {
      await using fresh = create();
      const reading = await scrape(bytes, fresh);
      malformed += reading.rejected.get('malformed') ?? 0;
      const foreign = [...valuesOf(reading)].filter((value) => !whole.has(value));
      const made = (bytes.toString('latin1').match(/[\d.]+(e\+?\d+)?/g) ?? []).filter((n) => !numbers.has(n));
      // A number that the damage made, or one whose unit the damage changed with its name.
      expect(foreign.length, `${what}: ${foreign.join()}`).toBeLessThanOrEqual(made.length + 1);
    }
    expect(malformed).toBeGreaterThan(0);
  });
});
