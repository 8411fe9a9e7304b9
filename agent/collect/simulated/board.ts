import type { Prng } from './prng.ts';
import type { GpuProfile } from './profiles.ts';

/** Who a board is. */
export interface Board {
  readonly index: number;
  readonly uuid: string;
  /** As the kernel log writes it: 0000:1b:00. */
  readonly pciAddress: string;
  /** Labels of gpu_info besides gpu, uuid and model. */
  readonly facts: Readonly<Record<string, string>>;
}

/** PCI buses of the eight boards of a DGX H100; a ninth and later ones take numbers that these leave free. */
const PCI_BUSES = [0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf];
const DRIVER_VERSION = '580.105.08';

/** The same random stream makes the same board: its history outlives a restart of the agent. */
export function boardOf(index: number, profile: GpuProfile, random: Prng): Board {
  const bus = (PCI_BUSES[index] ?? 0xe0 + index).toString(16);
  const parts = [8, 4, 4, 4, 12].map((digits) => random.hex(digits));
  return {
    index,
    uuid: `GPU-${parts.join('-')}`,
    pciAddress: `0000:${bus}:00`,
    facts: {
      driver_version: DRIVER_VERSION,
      pci_bus_id: `00000000:${bus.toUpperCase()}:00.0`,
      serial: `165${String(random.below(10 ** 10)).padStart(10, '0')}`,
      vbios_version: profile.vbios,
      vendor: 'nvidia',
    },
  };
}
