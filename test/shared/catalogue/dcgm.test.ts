import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type DcgmWidth, dcgmField, isDcgmBlank, toCanonical } from '#shared/catalogue/dcgm.ts';
import { sharedData } from '../../support/data.ts';

// Lost without it: values off by a factor of a thousand or a million on every dashboard.
test.each([
  ['DCGM_FI_DEV_GPU_TEMP', 61, 'gpu_temperature_celsius', { sensor: 'core' }, 61],
  ['DCGM_FI_DEV_POWER_USAGE', 67.433, 'gpu_power_watts', {}, 67.433],
  ['DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION', 433, 'gpu_energy_joules_total', {}, 0.433],
  ['DCGM_FI_DEV_SM_CLOCK', 1980, 'gpu_clock_hertz', { domain: 'sm' }, 1_980_000_000],
  ['DCGM_FI_DEV_GPU_UTIL', 97, 'gpu_utilization_ratio', { task: 'general' }, 0.97],
  ['DCGM_FI_DEV_GPU_UTIL_RATIO', 97, 'gpu_utilization_ratio', { task: 'general' }, 0.97],
  ['DCGM_FI_PROF_GR_ENGINE_ACTIVE', 0.812345, 'gpu_engine_active_ratio', {}, 0.812345],
  ['DCGM_FI_DEV_FB_USED', 81_559, 'gpu_memory_used_bytes', {}, 85_520_809_984],
  ['DCGM_FI_DEV_FB_USED_PERCENT', 0.5, 'gpu_memory_utilization_ratio', {}, 0.5],
  [
    'DCGM_FI_DEV_THERMAL_VIOLATION',
    1_500_000_001,
    'gpu_clock_event_seconds_total',
    { reason: 'hw_thermal' },
    1.500000001,
  ],
  ['DCGM_FI_PROF_PCIE_RX_BYTES', 5, 'gpu_io_bytes_per_second', { bus: 'pcie', direction: 'receive' }, 5],
  ['DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL', 412, 'gpu_nvlink_throughput_bytes_per_second', {}, 421_888_000],
])('%s %d is %s', (name, given, canonical, labels, value) => {
  const field = dcgmField(name)!;
  expect(field.metric.name).toBe(canonical);
  expect(Object.fromEntries(field.labels)).toEqual(labels);
  expect(toCanonical(field, given)).toBe(value);
});

// Lost without it: an upgrade of DCGM ends every series.
test('old and new spelling are one field', () => {
  expect(dcgmField('DCGM_FI_DEV_XID_ERROR')).toBe(dcgmField('DCGM_FI_DEV_XID_ERRORS'));
  expect(dcgmField('DCGM_FI_DEV_BOARD_POWER_WATTS')).toBe(dcgmField('DCGM_FI_DEV_POWER_USAGE'));
});

// Lost without it: "not supported" is drawn as nine quintillion degrees, or a real counter is thrown away.
describe('a blank is a range', () => {
  test.each<[string, DcgmWidth, boolean]>([
    ['2147483631', 'narrow', false],
    ['2147483632', 'narrow', true],
    ['2147483635', 'narrow', true],
    ['2147483648', 'narrow', false],
    ['4294967295', 'narrow', false],
    ['9223372036854775794', 'narrow', true],
    ['9223372036854776000', 'narrow', true],
    ['9.22337e+18', 'narrow', true],
    ['2147483634', 'wide', false],
    ['140737488355329', 'wide', false],
    ['9223372036854775792', 'wide', true],
    ['140737488355327', 'double', false],
    ['140737488355328.000000', 'double', true],
    ['140737488355331.000000', 'double', true],
    ['9223372036854775808', 'double', true],
    ['2147483634', 'unknown', true],
    ['2147483648', 'unknown', false],
    ['140737488355330', 'unknown', true],
    ['140737488355400', 'unknown', false],
    ['NaN', 'double', false],
    ['Infinity', 'narrow', false],
    ['-5', 'narrow', false],
  ])('%s of a %s field: %s', (printed, width, blank) => {
    expect(isDcgmBlank(Number(printed), width)).toBe(blank);
  });
});

const map = sharedData('samples/catalogues/metric-map.csv');
describe.skipIf(map === undefined)('the metric map', () => {
  // Text, codes and an enum: they pass through, or come as labels.
  const notMapped =
    /DCGM_FI_(DEV_(NAME|GPU_NAME|SERIAL|BOARD_SERIAL|UUID|GPU_UUID|VBIOS_VERSION)|(SYSTEM_)?DRIVER_VERSION|DEV_NVSWITCH_(NON_)?FATAL_ERRORS|DEV_SXID_(NON_)?FATAL_ERROR|IMEX_(DOMAIN|DAEMON)_STATUS)$/;

  // Lost without it: a field whose name the vendor changed silently becomes a stranger.
  test('has no DCGM field in either spelling that is unknown', () => {
    const names = readFileSync(map!, 'utf8').match(/DCGM_FI_[A-Z0-9_]+/g)!;
    expect(names.length).toBeGreaterThan(200);
    expect(names.filter((name) => !dcgmField(name) && !notMapped.test(name))).toEqual([]);
  });
});
