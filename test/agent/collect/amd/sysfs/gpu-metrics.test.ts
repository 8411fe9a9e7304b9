import { describe, expect, test } from 'vitest';
import { readGpuMetrics } from '../../../../../agent/collect/amd/sysfs/gpu-metrics.ts';
import { damagedInputs } from '../../../../support/damaged-inputs.ts';
import { metricsTable } from './sysfs-tree.ts';

// Size, and the offset of energy, link width, first xGMI read, first graphics clock, memory clock.
const LAYOUTS = [
  [4, 288, 24, 48, 104, 240, 280],
  [5, 328, 56, 80, 144, 280, 320],
  [6, 1664, 16, 60, 128, 264, 304],
  [7, 2208, 24, 68, 136, 296, 336],
  [8, 3360, 24, 68, 136, 296, 336],
] as const;

// Lost without it: MI300 values read at another version's offsets.
test.each(LAYOUTS)('version 1.%i', (revision, size, energy, width, xgmi, gfxclk, uclk) => {
  const table = metricsTable(size, revision, [
    [4, 2, 71],
    [10, 2, 542],
    [energy, 8, 123n],
    [width, 2, 16],
    [width + 2, 2, 320],
    [xgmi + 8, 8, 77n],
    [xgmi + 64, 8, 78n],
    [gfxclk, 2, 2100],
    [uclk, 2, 1300],
  ]);
  const fields = readGpuMetrics(table)!;
  const known = Object.fromEntries([...fields].filter(([, value]) => !Number.isNaN(value)));
  expect(known).toEqual({
    temperature_hotspot: 71,
    socket_power: 542,
    energy_accumulator: 123,
    pcie_link_width: 16,
    pcie_link_speed: 320,
    'xgmi_read_data_acc[1]': 77,
    'xgmi_write_data_acc[0]': 78,
    'current_gfxclk[0]': 2100,
    current_uclk: 1300,
  });
});

describe('version 1.3', () => {
  const bit = (n: number): bigint => 1n << BigInt(n);
  const mi200 = (status: bigint) =>
    metricsTable(120, 3, [
      [4, 2, 40],
      [22, 2, 387],
      [24, 8, 65_536n],
      [88, 2, 50],
      [112, 8, status],
    ]);

  test('has edge and HBM temperatures', () => {
    const fields = readGpuMetrics(mi200(0n))!;
    expect(fields.get('temperature_edge')).toBe(40);
    expect(fields.get('temperature_hbm[0]')).toBe(50);
    expect(fields.get('energy_accumulator')).toBe(65_536);
  });

  // Lost without it: why the clock is not higher.
  test.each([
    ['nothing', 0n, 0],
    ['PPT0', bit(0), 0x4],
    ['TDC of the graphics', bit(16), 0x4],
    ['hotspot', bit(36), 0x20],
    ['VRHOT0', bit(44), 0x40],
    ['PROCHOT', bit(47), 0x80],
    ['hotspot and PPT3', bit(36) | bit(3), 0x24],
  ])('%s', (_, status, reasons) => {
    expect(readGpuMetrics(mi200(status))!.get('clock_event_reasons')).toBe(reasons);
  });

  // Lost without it: joules of a board whose unit nobody knows.
  test('without HBM, its energy is not read', () => {
    const fields = readGpuMetrics(metricsTable(120, 3, [[24, 8, 65_536n]]))!;
    expect(fields.has('energy_accumulator')).toBe(false);
  });
});

test.each([
  ['an unknown version', metricsTable(120, 9, [])],
  ['a known version of another size', metricsTable(296, 4, [])],
  ['a table that is cut', metricsTable(1664, 6, []).subarray(0, 1000)],
  ['nothing', Buffer.of()],
])('%s is not read', (_, bytes) => {
  expect(readGpuMetrics(bytes)).toBeUndefined();
});

test('damaged, it never gives a field that the version does not have', () => {
  const table = metricsTable(1664, 6, [[4, 2, 71]]);
  const names = [...readGpuMetrics(table)!.keys()];
  let refused = 0;
  for (const { bytes } of damagedInputs(table, 3)) {
    const fields = readGpuMetrics(bytes);
    if (fields) expect([...fields.keys()]).toEqual(names);
    else refused++;
  }
  expect(refused).toBeGreaterThanOrEqual(20);
});
