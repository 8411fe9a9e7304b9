import { expect, test } from 'vitest';
import { defaultSettings } from '../../../../agent/collect/collector-settings.ts';
import { createHostCollectors } from '../../../../agent/collect/host/collector.ts';
import { inventions } from '../host-files/damage-oracle.ts';
import { FakeHost } from '../host-files/fake-host.ts';
import { MACHINE } from './machine.ts';

const FILES = [
  ['host', 'proc/stat'],
  ['host', 'sys/devices/system/cpu/online'],
  ['host', 'proc/loadavg'],
  ['host', 'proc/meminfo'],
  ['host', 'proc/vmstat'],
  ['host', 'proc/pressure/cpu'],
  ['host', 'proc/pressure/io'],
  ['host', 'proc/diskstats'],
  ['host', 'sys/class/hwmon/hwmon1/temp1_input'],
  ['host-slow', 'proc/1/mountinfo'],
  ['host-slow', 'sys/devices/system/edac/mc/mc0/ce_count'],
  ['host-slow', 'sys/block/sda/device/ioerr_cnt'],
] as const;

// Lost without it: a value that the machine never had, because a file came cut or hurt.
test.each(FILES)(
  '%s: %s damaged in 220 ways gives no value that it does not have',
  async (name, path) => {
    await using host = new FakeHost(MACHINE);
    const collectors = createHostCollectors(defaultSettings('host'), host.surroundings);
    const collector = collectors.find((one) => one.name === name)!;
    expect(await inventions(host, collector, path, Buffer.from(`${MACHINE[path]!}\n`))).toEqual([]);
    for (const one of collectors) await one[Symbol.asyncDispose]();
  },
  60_000,
);
