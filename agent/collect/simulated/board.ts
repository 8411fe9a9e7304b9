import type { Prng } from './prng.ts';
import type { GpuProfile, Vendor } from './profiles.ts';

/** Who a board is. */
export interface Board {
  readonly index: number;
  readonly uuid: string;
  /** As the kernel log writes it: 0000:1b:00 in an Xid, 0000:0c:00.0 in a line of amdgpu. */
  readonly pciAddress: string;
  /** Labels of gpu_info besides gpu, uuid and model. */
  readonly facts: Readonly<Record<string, string>>;
}

/** PCI buses of the eight boards of a DGX H100, and of an MI300X platform; a ninth and later ones take numbers that these leave free. */
const PCI_BUSES: Record<Vendor, readonly number[]> = {
  nvidia: [0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf],
  amd: [0x0c, 0x22, 0x38, 0x5c, 0x9f, 0xaf, 0xbf, 0xdf],
};
const NVIDIA_DRIVER = '580.105.08';
/** Of ROCm 7.0. */
const AMD_DRIVER = '6.14.14';

/** The same random stream makes the same board: its history outlives a restart of the agent. */
export function boardOf(index: number, profile: GpuProfile, random: Prng): Board {
  const bus = (PCI_BUSES[profile.vendor][index] ?? 0xe0 + index).toString(16).padStart(2, '0');
  return profile.vendor === 'amd'
    ? amdBoard(index, bus, profile, random)
    : nvidiaBoard(index, bus, profile, random);
}

function nvidiaBoard(index: number, bus: string, profile: GpuProfile, random: Prng): Board {
  const parts = [8, 4, 4, 4, 12].map((digits) => random.hex(digits));
  return {
    index,
    uuid: `GPU-${parts.join('-')}`,
    pciAddress: `0000:${bus}:00`,
    facts: {
      driver_version: NVIDIA_DRIVER,
      pci_bus_id: `00000000:${bus.toUpperCase()}:00.0`,
      serial: `165${String(random.below(10 ** 10)).padStart(10, '0')}`,
      vbios_version: profile.vbios,
      vendor: 'nvidia',
    },
  };
}

/** Known by the serial number of the ASIC, sysfs' `unique_id`. */
function amdBoard(index: number, bus: string, profile: GpuProfile, random: Prng): Board {
  return {
    index,
    uuid: random.hex(16),
    pciAddress: `0000:${bus}:00.0`,
    facts: {
      driver_version: AMD_DRIVER,
      pci_bus_id: `0000:${bus}:00.0`,
      serial: `6925${String(random.below(10 ** 8)).padStart(8, '0')}`,
      vbios_version: profile.vbios,
      vendor: 'amd',
    },
  };
}
