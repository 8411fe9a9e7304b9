import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** Files below a card's device folder, by their relative path. */
export type CardFiles = Readonly<Record<string, string | Buffer>>;

/** A /sys with amdgpu cards, of our own description. */
export async function writeCard(sys: string, name: string, files: CardFiles): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    const file = join(sys, 'class', 'drm', name, 'device', path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, content);
  }
}

export async function removeCard(sys: string, name: string): Promise<void> {
  await rm(join(sys, 'class', 'drm', name), { recursive: true });
}

export interface CardIdentity {
  readonly pci: string;
  readonly uniqueId: string;
  readonly serial?: string;
}

/** An MI250X-like card: every text attribute that the collector knows, no gpu_metrics. */
export function textCard({ pci, uniqueId, serial = '692024000810' }: CardIdentity): CardFiles {
  return {
    uevent: `DRIVER=amdgpu\nPCI_CLASS=38000\nPCI_ID=1002:7408\nPCI_SLOT_NAME=${pci}\n`,
    config: Buffer.from('02100874', 'hex'),
    unique_id: `${uniqueId}\n`,
    serial_number: `${serial}\n`,
    product_name: 'AMD Instinct MI250X\n',
    product_number: '102-D65205\n',
    vbios_version: '113-D65205-073\n',
    gpu_busy_percent: '97\n',
    mem_busy_percent: '41\n',
    mem_info_vram_total: '68702699520\n',
    mem_info_vram_used: '60129542144\n',
    pp_dpm_sclk: '0: 500Mhz\n1: 1695Mhz *\n2: 1700Mhz\n',
    pp_dpm_mclk: '0: 400Mhz\n1: 1600Mhz *\n',
    current_link_speed: '16.0 GT/s PCIe\n',
    current_link_width: '16\n',
    max_link_speed: '16.0 GT/s PCIe\n',
    max_link_width: '16\n',
    pcie_replay_count: '3\n',
    'hwmon/hwmon7/name': 'amdgpu\n',
    'hwmon/hwmon7/temp1_label': 'edge\n',
    'hwmon/hwmon7/temp1_input': '45000\n',
    'hwmon/hwmon7/temp2_label': 'junction\n',
    'hwmon/hwmon7/temp2_input': '61500\n',
    'hwmon/hwmon7/temp2_crit': '100000\n',
    'hwmon/hwmon7/temp2_emergency': '105000\n',
    'hwmon/hwmon7/temp3_label': 'mem\n',
    'hwmon/hwmon7/temp3_input': '58000\n',
    'hwmon/hwmon7/temp3_crit': '105000\n',
    'hwmon/hwmon7/power1_average': '387000000\n',
    'hwmon/hwmon7/power1_cap': '560000000\n',
    'hwmon/hwmon7/power1_cap_default': '560000000\n',
    'hwmon/hwmon7/power1_cap_min': '0\n',
    'hwmon/hwmon7/power1_cap_max': '560000000\n',
    'hwmon/hwmon7/in0_label': 'vddgfx\n',
    'hwmon/hwmon7/in0_input': '812\n',
    'ras/umc_err_count': 'ue: 1\nce: 42\n',
    'ras/gfx_err_count': 'ue: 0\nce: 2\n',
    'ras/xgmi_wafl_err_count': 'ue: 0\nce: 0\n',
    'ras/gpu_vram_bad_pages':
      '0x00000001 : 0x00001000 : R\n0x00000007 : 0x00001000 : R\n0x0000000a : 0x00001000 : P\n',
    xgmi_error: '0\n',
  };
}

/** A gpu_metrics table with all bits set, and the fields given: [offset, bytes, value]. */
export function metricsTable(
  size: number,
  revision: number,
  fields: readonly (readonly [offset: number, bytes: 2 | 4 | 8, value: number | bigint])[],
): Buffer {
  const table = Buffer.alloc(size, 0xff);
  table.writeUInt16LE(size, 0);
  table[2] = 1;
  table[3] = revision;
  for (const [offset, bytes, value] of fields) {
    if (bytes === 8) table.writeBigUInt64LE(BigInt(value), offset);
    else table.writeUIntLE(Number(value), offset, bytes);
  }
  return table;
}
