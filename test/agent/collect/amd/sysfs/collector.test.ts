import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { seriesFault } from '#shared/wire/dictionary.ts';
import { shown } from '../../nvidia/dcgm-exporter/scraped-node.ts';
import { AmdNode, errno } from './amd-node.ts';
import { metricsTable, removeCard, textCard, writeCard } from './sysfs-tree.ts';

const ZERO = { pci: '0000:0c:00.0', uniqueId: '2f048617326b1ea' };
const ONE = { pci: '0000:22:00.0', uniqueId: '7e8f7e20764e2714' };
const G0 = 'gpu="0",model="AMD Instinct MI250X"';
const U0 = 'uuid="02f048617326b1ea"';
const G1 = 'gpu="1",model="AMD Instinct MI250X"';
const U1 = 'uuid="7e8f7e20764e2714"';

let node: AmdNode;
beforeEach(async () => {
  node = new AmdNode();
  await writeCard(node.sys, 'card0', textCard(ZERO));
  await writeCard(node.sys, 'card1', textCard(ONE));
  // A board management controller's display, and a connector.
  await writeCard(node.sys, 'card2', { uevent: 'DRIVER=ast\nPCI_SLOT_NAME=0000:03:00.0\n' });
  await writeCard(node.sys, 'card0-DP-1', { uevent: '' });
});
afterEach(async () => {
  await node[Symbol.asyncDispose]();
});

// Lost without it: AMD GPUs on nodes without ROCm's tools.
test('text attributes become canonical series with their units', async () => {
  const reading = await node.read();
  const series = shown(reading);
  expect(series).toMatchObject({
    [`gpu_up{${G0},${U0}}`]: 1,
    [`gpu_temperature_celsius{${G0},sensor="core",${U0}}`]: 45,
    [`gpu_temperature_celsius{${G0},sensor="hotspot",${U0}}`]: 61.5,
    [`gpu_temperature_celsius{${G0},sensor="memory",${U0}}`]: 58,
    [`gpu_temperature_limit_celsius{gpu="0",limit="slowdown",model="AMD Instinct MI250X",${U0}}`]: 100,
    [`gpu_temperature_limit_celsius{gpu="0",limit="shutdown",model="AMD Instinct MI250X",${U0}}`]: 105,
    [`gpu_temperature_limit_celsius{gpu="0",limit="memory_max_operating",model="AMD Instinct MI250X",${U0}}`]: 105,
    [`gpu_power_watts{${G0},${U0}}`]: 387,
    [`gpu_power_limit_watts{gpu="0",limit="enforced",model="AMD Instinct MI250X",${U0}}`]: 560,
    [`gpu_voltage_volts{${G0},rail="gfx",${U0}}`]: 0.812,
    [`gpu_clock_hertz{domain="sm",${G0},${U0}}`]: 1_695_000_000,
    [`gpu_clock_hertz{domain="memory",${G0},${U0}}`]: 1_600_000_000,
    [`gpu_clock_limit_hertz{domain="sm",gpu="0",limit="max",model="AMD Instinct MI250X",${U0}}`]: 1_700_000_000,
    [`gpu_utilization_ratio{${G0},task="general",${U0}}`]: 0.97,
    [`gpu_memory_controller_utilization_ratio{${G0},${U0}}`]: 0.41,
    [`gpu_memory_total_bytes{${G0},${U0}}`]: 68_702_699_520,
    [`gpu_memory_used_bytes{${G0},${U0}}`]: 60_129_542_144,
    [`gpu_pcie_link_generation{${G0},${U0}}`]: 4,
    [`gpu_pcie_link_width{${G0},${U0}}`]: 16,
    [`gpu_pcie_replay_total{${G0},${U0}}`]: 3,
    [`gpu_info{device="card0",${G0},pci_bus_id="0000:0c:00.0",product_number="102-D65205",serial="692024000810",${U0},vbios_version="113-D65205-073",vendor="amd"}`]: 1,
    [`gpu_power_watts{${G1},${U1}}`]: 387,
  });
  expect(reading.rejected).toEqual(new Map());
  expect(reading.dictionary.series.filter((one) => seriesFault(one) !== undefined)).toEqual([]);
});

// Lost without it: a field that the board does not have taken for one that is broken, or for 0.
test('what is missing is not supported, and never a number', async () => {
  const series = shown(await node.read());
  expect(series[`gpu_energy_joules_total{${G0},${U0}}`]).toBe('NotSupported');
  expect(series[`gpu_power_instant_watts{${G0},${U0}}`]).toBe('NotSupported');
  expect(series[`gpu_fan_ratio{${G0},${U0}}`]).toBe('NotSupported');
});

describe('RAS', () => {
  // Lost without it: ECC errors of AMD GPUs, and boards that need a replacement.
  test('counts by block, their totals and bad pages', async () => {
    await node.read();
    const by = (location: string, type: string) =>
      `gpu_ecc_errors_by_location_total{gpu="0",location="${location}",model="AMD Instinct MI250X",scope="volatile",type="${type}",${U0}}`;
    const total = (type: string) => `gpu_ecc_errors_total{${G0},scope="volatile",type="${type}",${U0}}`;
    const reading = await node.read(node.ras);
    const series = shown(reading);
    expect(series).toMatchObject({
      [by('umc', 'corrected')]: 42,
      [by('umc', 'uncorrected')]: 1,
      [by('gfx', 'corrected')]: 2,
      [by('xgmi_wafl', 'uncorrected')]: 0,
      [total('corrected')]: 44,
      [total('uncorrected')]: 1,
      // These blocks count none; that is not the same as none counted.
      [total('deferred')]: 'NotSupported',
      [`gpu_retired_pages{cause="bad_page",${G0},${U0}}`]: 2,
      [`gpu_retired_pages_pending{${G0},${U0}}`]: 1,
    });
    expect(Object.keys(series).filter((key) => key.includes('sdma') || key.includes('deferred",'))).toEqual([
      total('deferred'),
      total('deferred').replace(G0, G1).replace(U0, U1),
    ]);
    expect(reading.rejected).toEqual(new Map());
  });

  // Lost without it: a total that falls because one block did not answer, read as a counter reset.
  test('there is no total while one block does not answer', async () => {
    await node.read();
    await node.read(node.ras);
    node.readFaults.set('card0/device/ras/umc_err_count', errno('EIO'));
    const series = shown(await node.read(node.ras));
    expect(series[`gpu_ecc_errors_total{${G0},scope="volatile",type="corrected",${U0}}`]).toBe('Absent');
    expect(series[`gpu_ecc_errors_total{${G1},scope="volatile",type="corrected",${U1}}`]).toBe(44);
  });

  // Lost without it: xGMI errors, which the driver forgets when they are read.
  test('xGMI errors since the last read are added up', async () => {
    await node.read();
    const key = `gpu_link_rx_errors_total{gpu="0",kind="errors",model="AMD Instinct MI250X",${U0}}`;
    for (const [said, sum] of [
      ['2', 2],
      ['0', 2],
      ['1', 3],
    ] as const) {
      await writeCard(node.sys, 'card0', { xgmi_error: `${said}\n` });
      expect(shown(await node.read(node.ras))[key]).toBe(sum);
    }
  });
});

describe('gpu_metrics', () => {
  const MI300 = metricsTable(1664, 6, [
    [4, 2, 71],
    [6, 2, 62],
    [10, 2, 542],
    [12, 2, 87],
    [14, 2, 41],
    [16, 8, 65_536n * 1000n],
    [32, 4, 10_000],
    [36, 4, 0],
    [40, 4, 5000],
    [44, 4, 0],
    [48, 4, 0],
    [52, 4, 0],
    [60, 2, 16],
    [62, 2, 320],
    [96, 8, 1],
    [104, 8, 3],
    [112, 8, 0],
    [120, 4, 0],
    [124, 4, 2],
    [128, 8, 1000],
    [192, 8, 2000],
    [264, 2, 2103],
    [304, 2, 1300],
  ]);
  const E = `${G0},${U0}`;

  // Lost without it: energy, throttling, links and PCIe errors of MI300, which no text file has.
  test('the table is preferred, and gives what the files do not', async () => {
    await writeCard(node.sys, 'card0', { gpu_metrics: MI300 });
    expect(shown(await node.read())).toMatchObject({
      [`gpu_temperature_celsius{${G0},sensor="hotspot",${U0}}`]: 71,
      // The table of MI300 has no edge sensor: the file says it.
      [`gpu_temperature_celsius{${G0},sensor="core",${U0}}`]: 45,
      [`gpu_power_watts{${E}}`]: 542,
      [`gpu_energy_joules_total{${E}}`]: 1000,
      [`gpu_clock_hertz{domain="sm",${E}}`]: 2_103_000_000,
      [`gpu_clock_hertz{domain="video",${E}}`]: 'Blank',
      [`gpu_pcie_link_generation{${E}}`]: 5,
      [`gpu_pcie_recovery_total{${E}}`]: 1,
      [`gpu_pcie_nak_total{direction="receive",${E}}`]: 2,
      [`gpu_link_bytes_total{direction="receive",gpu="0",link="0",model="AMD Instinct MI250X",${U0}}`]: 1_024_000,
      [`gpu_link_bytes_total{direction="transmit",gpu="0",link="0",model="AMD Instinct MI250X",${U0}}`]: 2_048_000,
      [`gpu_link_bytes_total{direction="receive",gpu="0",link="7",model="AMD Instinct MI250X",${U0}}`]:
        'Blank',
    });
  });

  // Lost without it: thermal and power slowdown in health, which wants seconds and gets cycles.
  test('residencies in cycles become seconds: share of cycles by elapsed time', async () => {
    await writeCard(node.sys, 'card0', { gpu_metrics: MI300 });
    const key = `gpu_clock_event_seconds_total{${G0},reason="sw_power_cap",${U0}}`;
    expect(shown(await node.read())[key]).toBe(0);
    const later = Buffer.from(MI300);
    later.writeUInt32LE(11_000, 32);
    later.writeUInt32LE(5250, 40);
    await writeCard(node.sys, 'card0', { gpu_metrics: later });
    // A quarter of 1000 cycles in a second.
    expect(shown(await node.read())[key]).toBe(0.25);
    // The driver was loaded again: what happened meanwhile is not known, and nothing is added.
    await writeCard(node.sys, 'card0', { gpu_metrics: MI300 });
    expect(shown(await node.read())[key]).toBe(0.25);
  });
});

describe('the firmware does not know', () => {
  // Lost without it: 65535 MHz in a dashboard.
  test('65535 and unknown are blank', async () => {
    await writeCard(node.sys, 'card0', {
      pp_dpm_sclk: '0: 65535Mhz *\n',
      current_link_speed: 'Unknown\n',
      current_link_width: '63\n',
      gpu_busy_percent: '65535\n',
    });
    const reading = await node.read();
    expect(shown(reading)).toMatchObject({
      [`gpu_clock_hertz{domain="sm",${G0},${U0}}`]: 'Blank',
      [`gpu_pcie_link_generation{${G0},${U0}}`]: 'Blank',
      [`gpu_pcie_link_width{${G0},${U0}}`]: 'Blank',
      [`gpu_utilization_ratio{${G0},task="general",${U0}}`]: 'Blank',
    });
    expect(reading.rejected.get('blank')).toBe(5);
  });

  // Lost without it: an MI250X whose second die looks as if it drew nothing.
  test('no GPU draws 0 W', async () => {
    await writeCard(node.sys, 'card0', { 'hwmon/hwmon7/power1_average': '0\n' });
    expect(shown(await node.read())[`gpu_power_watts{${G0},${U0}}`]).toBe('Blank');
  });

  test('what is no number is counted and absent', async () => {
    await writeCard(node.sys, 'card0', { gpu_busy_percent: 'busy\n', mem_info_vram_used: '12 34\n' });
    const reading = await node.read();
    expect(shown(reading)[`gpu_utilization_ratio{${G0},task="general",${U0}}`]).toBe('Absent');
    expect(shown(reading)[`gpu_memory_used_bytes{${G0},${U0}}`]).toBe('Absent');
    expect(reading.rejected.get('malformed')).toBe(2);
  });
});

// Lost without it: rights that are missing, shown as a board that lacks the field.
test('a file that may not be read is a matter of permission', async () => {
  node.openFaults.set('power1_average', errno('EACCES'));
  expect(shown(await node.read())[`gpu_power_watts{${G0},${U0}}`]).toBe('NoPermission');
});

// Lost without it: a GPU reset shown as a lack of rights.
test('a read that the driver refuses while it resets the GPU says nothing of the field', async () => {
  node.readFaults.set('gpu_busy_percent', errno('EPERM'));
  expect(shown(await node.read())[`gpu_utilization_ratio{${G0},task="general",${U0}}`]).toBe('Absent');
});

describe('a GPU is lost', () => {
  const lost = { type: 'gpu_lost', gpu: '1', gpuUuid: '7e8f7e20764e2714' };
  const back = { type: 'gpu_back', gpu: '1', gpuUuid: '7e8f7e20764e2714' };
  const up = `gpu_up{${G1},${U1}}`;
  const power = `gpu_power_watts{${G1},${U1}}`;

  // Lost without it: a card that fell off the bus, silent.
  test('when it vanishes, at once and once; the others keep their index; and it is known when it is back', async () => {
    await node.read();
    await removeCard(node.sys, 'card1');
    const gone = await node.read();
    expect(gone.events).toMatchObject([lost]);
    expect(shown(gone)).toMatchObject({ [up]: 0, [power]: 'GpuLost', [`gpu_power_watts{${G0},${U0}}`]: 387 });
    expect((await node.read()).events).toEqual([]);
    await writeCard(node.sys, 'card1', textCard(ONE));
    const again = await node.read();
    expect(again.events).toMatchObject([back]);
    expect(shown(again)).toMatchObject({ [up]: 1, [power]: 387 });
  });

  test('and the first one does not give its index away', async () => {
    await node.read();
    await removeCard(node.sys, 'card0');
    const series = shown(await node.read());
    expect(series).toMatchObject({ [`gpu_up{${G0},${U0}}`]: 0, [power]: 387 });
  });

  test('when its PCI configuration reads as ones', async () => {
    await node.read();
    await writeCard(node.sys, 'card1', { config: Buffer.alloc(4, 0xff) });
    const reading = await node.read();
    expect(reading.events).toMatchObject([lost]);
    expect(shown(reading)).toMatchObject({ [up]: 0, [power]: 'GpuLost' });
    await writeCard(node.sys, 'card1', textCard(ONE));
    expect((await node.read()).events).toMatchObject([back]);
  });

  test.each(['ENODEV', 'EIO'])('when every answer that needs it is %s', async (code) => {
    await node.read();
    node.readFaults.set('card1/device', errno(code));
    const reading = await node.read();
    expect(reading.events).toMatchObject([lost]);
    expect(shown(reading)[up]).toBe(0);
  });

  // Lost without it: an alarm for a GPU whose one sensor fails.
  test('but not when one file fails and others answer', async () => {
    await node.read();
    node.readFaults.set('card1/device/gpu_busy_percent', errno('EIO'));
    const reading = await node.read();
    expect(reading.events).toEqual([]);
    expect(shown(reading)).toMatchObject({
      [up]: 1,
      [power]: 387,
      [`gpu_utilization_ratio{${G1},task="general",${U1}}`]: 'Absent',
    });
  });

  // Lost without it: a card lost over a reboot, before anyone saw that it is gone.
  test('when it was there before the agent was started again', async () => {
    await node.read();
    await using restarted = new AmdNode(node.facts);
    await writeCard(restarted.sys, 'card0', textCard(ZERO));
    expect((await restarted.read()).events).toMatchObject([lost]);
  });

  test('and another board in its place is said to be one', async () => {
    await node.read();
    await removeCard(node.sys, 'card1');
    await node.read();
    await writeCard(node.sys, 'card1', textCard({ ...ONE, uniqueId: 'abc' }));
    const { events } = await node.read();
    expect(events).toMatchObject([{ ...back, gpuUuid: '0000000000000abc' }]);
    expect(events[0]!.text).toContain('another board');
  });
});

// Lost without it: a driver that hangs in one file stops all file access of the agent.
test('a card that hangs is timed out, left alone and reported, while the other goes on', async () => {
  await node.read();
  node.readFaults.set('card1/device/pp_dpm_sclk', 'hang');
  const abort = new AbortController();
  setTimeout(() => abort.abort(), 1000);
  const stuck = await node.read(node.metrics, abort.signal);
  expect(stuck.events).toMatchObject([{ type: 'collector_stuck', gpu: '1' }]);
  expect(shown(stuck)).toMatchObject({
    [`gpu_power_watts{${G1},${U1}}`]: 'Timeout',
    [`gpu_power_watts{${G0},${U0}}`]: 387,
  });
  // Not waited for again: without a deadline this read would not end.
  const next = await node.read();
  expect(next.events).toEqual([]);
  expect(shown(next)[`gpu_power_watts{${G1},${U1}}`]).toBe('Timeout');
  node.release();
  await expect.poll(async () => shown(await node.read())[`gpu_power_watts{${G1},${U1}}`]).toBe(387);
});

test('a node without GPUs says so', async () => {
  await using empty = new AmdNode();
  expect(await empty.read()).toMatchObject({ problem: expect.stringContaining('no GPU of amdgpu') });
});
