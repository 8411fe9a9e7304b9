import type { Collector } from '../collector.ts';
import { PartsCollector } from '../host-files/parts-collector.ts';
import type { Surroundings } from '../source-kind.ts';
import { EthernetPart } from './ethernet.ts';
import { InfinibandPart } from './infiniband.ts';
import { LinkWatch } from './link-watch.ts';
import { NicPciePart } from './nic-pcie.ts';
import type { NetworkSettings } from './settings.ts';

/** InfiniBand and RoCE ports, Ethernet interfaces, the PCIe links of their cards, and events of all of them. */
export function createNetworkCollector(settings: NetworkSettings, surroundings: Surroundings): Collector {
  const { host, clock, facts, logger } = surroundings;
  const watch = new LinkWatch({
    clock,
    facts,
    rule: { count: settings.flap_count, windowMs: settings.flap_window },
  });
  return new PartsCollector({
    name: 'network',
    intervalMs: settings.interval,
    clock,
    logger,
    parts: (reader) => [
      new InfinibandPart(reader, host, { hwCounters: settings.hw_counters, watch }),
      new EthernetPart(reader, host, { virtual: settings.virtual_interfaces, watch }),
      new NicPciePart(reader, host, { facts, watch }),
    ],
    takeEvents: () => watch.takeEvents(),
  });
}
