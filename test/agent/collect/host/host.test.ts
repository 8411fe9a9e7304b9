import { cpus, totalmem, uptime } from 'node:os';
import { describe, expect, test } from 'vitest';
import { systemClock } from '#shared/model/clock.ts';
import type { Collector, Reading } from '../../../../agent/collect/collector.ts';
import { defaultSettings } from '../../../../agent/collect/collector-settings.ts';
import { createHostCollectors } from '../../../../agent/collect/host/collector.ts';
import { kind } from '../../../../agent/collect/host/kind.ts';
import { FakeHost, patient, shown } from '../host-files/fake-host.ts';
import { MACHINE } from './machine.ts';

async function using<T>(
  host: FakeHost,
  run: (collectors: Record<string, Collector>) => Promise<T>,
  settings = {},
): Promise<T> {
  const all = createHostCollectors({ ...defaultSettings('host'), ...settings }, host.surroundings);
  try {
    return await run(Object.fromEntries(all.map((collector) => [collector.name, collector])));
  } finally {
    for (const collector of all) await collector[Symbol.asyncDispose]();
  }
}

const read = (host: FakeHost, name: string, settings = {}): Promise<Reading> =>
  using(host, (collectors) => collectors[name]!.collect(patient), settings);

// Lost without it: a number of the host in the wrong unit or under the wrong name.
test('the fast values of a machine, in base units', async () => {
  await using host = new FakeHost(MACHINE);
  const reading = await read(host, 'host');
  expect(shown(reading)).toMatchObject({
    'node_cpu_seconds_total{mode="user"}': 10073.24,
    'node_cpu_seconds_total{mode="idle"}': 35023.32,
    'node_cpu_seconds_total{mode="steal"}': 105.44,
    node_cpus_online: 63 + 64 + 1,
    node_boot_time_seconds: 1699000000,
    node_context_switches_total: 115315,
    node_procs_blocked: 2,
    node_load1: 0.35,
    node_load15: 100.7,
    node_memory_MemTotal_bytes: 24684096 * 1024,
    node_memory_HardwareCorrupted_bytes: 65536,
    node_memory_HugePages_Total: 5,
    node_memory_Slab_bytes: 'Absent',
    node_vmstat_oom_kill: 4,
    node_pressure_cpu_waiting_seconds_total: 3018.499783,
    node_pressure_io_stalled_seconds_total: 53.388211,
    node_pressure_memory_waiting_seconds_total: 'Absent',
    'node_disk_read_bytes_total{device="nvme0n1"}': 90112 * 512,
    'node_disk_io_now{device="nvme0n1"}': 3,
    'node_disk_io_time_seconds_total{device="nvme0n1"}': 1.1,
    'node_hwmon_temp_celsius{chip="coretemp",label="Package id 0",sensor="temp1"}': 45.5,
  });
  expect(Object.keys(shown(reading)).filter((key) => /loop0|nvme0n1p1|Core 0|nvme"/.test(key))).toEqual([]);
  expect([...reading.rejected]).toEqual([]);
});

// Lost without it: a disk that fills up or turns read-only, and failing memory, unseen.
test('the slow values: filesystems of this machine alone, each once; disk and memory errors', async () => {
  await using host = new FakeHost(MACHINE);
  const values = shown(await read(host, 'host-slow'));
  const mounts = Object.entries(values).filter(([key]) => key.startsWith('node_filesystem_readonly'));
  expect(Object.fromEntries(mounts)).toEqual({
    'node_filesystem_readonly{device="/dev/nvme0n1p1",fstype="ext4",mountpoint="/"}': 0,
    'node_filesystem_readonly{device="tmpfs",fstype="tmpfs",mountpoint="/dev/shm"}': 0,
    'node_filesystem_readonly{device="/dev/md0",fstype="xfs",mountpoint="/data set"}': 1,
  });
  expect(
    values['node_filesystem_size_bytes{device="/dev/nvme0n1p1",fstype="ext4",mountpoint="/"}'],
  ).toBeGreaterThan(0);
  expect(values['node_filesystem_size_bytes{device="/dev/md0",fstype="xfs",mountpoint="/data set"}']).toBe(
    'Absent',
  );
  expect(values).toMatchObject({
    'node_edac_correctable_errors_total{controller="0"}': 7,
    'node_edac_dimm_uncorrectable_errors_total{controller="0",dimm="dimm3",label="CPU0_DIMM_A1"}': 1,
    'node_disk_io_errors_total{device="sda"}': 31,
    'node_md_degraded{device="md0"}': 1,
    'node_ext4_errors_total{device="nvme0n1p1"}': 3,
  });
});

describe('CPU time', () => {
  // Lost without it: a CPU that one process keeps busy, hidden in the sum of 200.
  test('of each CPU where that is asked for, also of one that comes online', async () => {
    await using host = new FakeHost(MACHINE);
    await using(
      host,
      async ({ host: collector }) => {
        const first = shown(await collector!.collect(patient));
        expect(first['node_cpu_seconds_total{cpu="1",mode="iowait"}']).toBe(60.28);
        expect(first['node_cpu_seconds_total{mode="idle"}']).toBeUndefined();
        host.write('proc/stat', MACHINE['proc/stat']!.replace('intr', 'cpu7 1 2 3 4 5 6 7 8 9 0\nintr'));
        expect(shown(await collector!.collect(patient))['node_cpu_seconds_total{cpu="7",mode="nice"}']).toBe(
          0.02,
        );
      },
      { per_cpu: true },
    );
  });

  // Lost without it: false resets of idle time, each a spike of hours in a rate.
  test('does not go back by the little that the kernel takes back, and follows a real reset', async () => {
    await using host = new FakeHost(MACHINE);
    await using(host, async ({ host: collector }) => {
      const idle = async (ticks: number): Promise<number | string | undefined> => {
        host.write('proc/stat', MACHINE['proc/stat']!.replace('3502332', String(ticks)));
        return shown(await collector!.collect(patient))['node_cpu_seconds_total{mode="idle"}'];
      };
      expect(await idle(3502332)).toBe(35023.32);
      expect(await idle(3502300)).toBe(35023.32);
      expect(await idle(3502400)).toBe(35024);
      expect(await idle(100)).toBe(1);
    });
  });
});

describe('what is not there', () => {
  // Lost without it: the agent cannot say that it sees nothing, or ends its series.
  test('a host without files is a failed read, and one that gets them is read', async () => {
    await using host = new FakeHost();
    await using(host, async ({ host: collector }) => {
      const nothing = await collector!.collect(patient);
      expect(nothing.values[0]).toBe(0);
      expect(shown(nothing).node_load1).toBe('Absent');
      host.write('proc/loadavg', MACHINE['proc/loadavg']!);
      expect(shown(await collector!.collect(patient)).node_load1).toBe(0.35);
    });
  });

  // Lost without it: a tick that comes late is mistaken for a host without values.
  test('at a signal that has aborted everything is Timeout', async () => {
    await using host = new FakeHost(MACHINE);
    await using(host, async ({ host: collector }) => {
      await collector!.collect(patient);
      const reading = await collector!.collect(AbortSignal.abort());
      expect(reading.values[0]).toBe(0);
      expect(new Set(Object.values(shown(reading)))).toEqual(new Set(['Timeout']));
    });
  });
});

// Lost without it: disks that are hot-plugged, and a new plan at every read where none changed.
test('a disk that comes has series; without a change the dictionary is the same object', async () => {
  await using host = new FakeHost(MACHINE);
  await using(host, async ({ host: collector }) => {
    const first = (await collector!.collect(patient)).dictionary;
    expect((await collector!.collect(patient)).dictionary).toBe(first);
    host.write(
      'proc/diskstats',
      ` 8 0 sda 1 2 3 4 5 6 7 8 9 10 11 0 0 0 0 0 0\n${MACHINE['proc/diskstats']!}`,
    );
    const values = shown(await collector!.collect(patient));
    expect(values['node_disk_io_now{device="sda"}']).toBe(9);
    expect(values['node_disk_io_now{device="nvme0n1"}']).toBe(3);
  });
});

// Lost without it: temperatures on machines (Grace, VMs) that have no CPU chip in hwmon.
test('without a CPU sensor the thermal zones are read', async () => {
  await using host = new FakeHost({
    ...MACHINE,
    'sys/class/hwmon/hwmon1/name': 'acpitz',
    'sys/class/thermal/thermal_zone0/type': 'x86_pkg_temp',
    'sys/class/thermal/thermal_zone0/temp': '51000',
  });
  expect(shown(await read(host, 'host'))['node_thermal_zone_temp{type="x86_pkg_temp",zone="0"}']).toBe(51);
});

test('detection says where cgroups cannot be read, and that a host has no /proc', async () => {
  await using host = new FakeHost(MACHINE);
  const settings = defaultSettings('host');
  expect(await kind.detect(settings, host.surroundings)).toMatchObject({
    found: true,
    hint: expect.stringContaining('cgroup v2'),
  });
  host.write('sys/fs/cgroup/cgroup.controllers', 'cpu memory');
  expect(await kind.detect(settings, host.surroundings)).not.toHaveProperty('hint');
  await using nothing = new FakeHost();
  expect(await kind.detect(settings, nothing.surroundings)).toMatchObject({ found: false });
});

// Lost without it: what a real kernel writes, as opposed to what we believe that it writes.
test('this machine itself gives values that the operating system confirms', async () => {
  await using folder = new FakeHost();
  const real = { proc: '/proc', sys: '/sys', dev: '/dev', run: '/run', root: '/' };
  const surroundings = { ...folder.surroundings, host: real, clock: systemClock };
  const all = createHostCollectors(defaultSettings('host'), surroundings);
  const values: Record<string, number | string> = {};
  const rejected: [string, number][] = [];
  for (const collector of all) {
    const reading = await collector.collect(patient);
    Object.assign(values, shown(reading));
    rejected.push(...reading.rejected);
    await collector[Symbol.asyncDispose]();
  }
  expect(rejected).toEqual([]);
  expect(values.node_memory_MemTotal_bytes).toBe(totalmem());
  expect(values.node_cpus_online).toBe(cpus().length);
  const bootedS = Date.now() / 1000 - uptime();
  expect(Math.abs((values.node_boot_time_seconds as number) - bootedS)).toBeLessThan(120);
  expect(values.node_memory_MemAvailable_bytes).toBeGreaterThan(0);
  expect(values['node_cpu_seconds_total{mode="user"}']).toBeGreaterThan(0);
  expect(Object.keys(values).some((key) => key.startsWith('node_filesystem_avail_bytes'))).toBe(true);
});
