import type { Collector } from '../../../../agent/collect/collector.ts';
import { defaultSettings } from '../../../../agent/collect/collector-settings.ts';
import { createNetworkCollector } from '../../../../agent/collect/network/collector.ts';
import type { NetworkSettings } from '../../../../agent/collect/network/settings.ts';
import type { FakeHost } from '../host-files/fake-host.ts';

export function networkOf(host: FakeHost, settings: Partial<NetworkSettings> = {}): Collector {
  return createNetworkCollector({ ...defaultSettings('network'), ...settings }, host.surroundings);
}

/** One port of our own writing. */
export function port(device: string, files: Readonly<Record<string, string>> = {}): Record<string, string> {
  const all = {
    state: '4: ACTIVE',
    phys_state: '5: LinkUp',
    rate: '400 Gb/sec (4X NDR)',
    link_layer: 'InfiniBand',
    'counters/link_downed': '0',
    'counters/symbol_error': '12',
    'counters/port_xmit_data': '123456789',
    'hw_counters/out_of_sequence': '34',
    'hw_counters/rx_write_requests': '99',
    'hw_counters/lifespan': '12',
    ...files,
  };
  return Object.fromEntries(
    Object.entries(all).map(([name, text]) => [`sys/class/infiniband/${device}/ports/1/${name}`, text]),
  );
}

export function statePath(device: string): string {
  return `sys/class/infiniband/${device}/ports/1`;
}
