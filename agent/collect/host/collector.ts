import type { Collector } from '../collector.ts';
import { PartsCollector } from '../host-files/parts-collector.ts';
import type { Surroundings } from '../source-kind.ts';
import { CgroupsPart } from './cgroups.ts';
import { ClockPart } from './clock.ts';
import { CpuPart } from './cpu.ts';
import { CpuTemperaturePart } from './cpu-temperature.ts';
import { DisksPart } from './disks.ts';
import { FilesystemsPart } from './filesystems.ts';
import { HardwareErrorsPart } from './hardware-errors.ts';
import { LinesPart } from './lines.ts';
import { LoadPart } from './load.ts';
import { PressurePart } from './pressure.ts';
import type { HostSettings } from './settings.ts';

/**
 * `host`: what moves from second to second. `host-slow`: filesystems, broken hardware, the clock; apart, so that a
 * filesystem that hangs holds up nothing else. `cgroups`: what each pod, container and job uses.
 */
export function createHostCollectors(settings: HostSettings, surroundings: Surroundings): Collector[] {
  const { host, clock, logger } = surroundings;
  const collectors = [
    new PartsCollector({
      name: 'host',
      intervalMs: settings.interval,
      clock,
      logger,
      parts: (reader) => [
        new CpuPart(reader, host, settings.per_cpu),
        new LoadPart(reader, host),
        LinesPart.meminfo(reader, host),
        LinesPart.vmstat(reader, host),
        new PressurePart(reader, host),
        new DisksPart(reader, host),
        new CpuTemperaturePart(reader, host),
      ],
    }),
    new PartsCollector({
      name: 'host-slow',
      intervalMs: settings.slow_interval,
      clock,
      logger,
      parts: (reader, gate) => [
        new FilesystemsPart(reader, gate, host),
        new HardwareErrorsPart(reader, host),
        new ClockPart({ host, clock, logger }),
      ],
    }),
  ];
  if (settings.max_cgroups === 0) return collectors;
  const cgroups = new PartsCollector({
    name: 'cgroups',
    intervalMs: settings.interval,
    clock,
    logger,
    parts: (reader) => [new CgroupsPart(reader, host, settings.max_cgroups)],
  });
  return [...collectors, cgroups];
}
