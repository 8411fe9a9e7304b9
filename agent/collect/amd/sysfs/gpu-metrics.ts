/**
 * The binary table that `gpu_metrics` gives: a header, then fields at offsets of the version. Only versions whose
 * layout is known, and whose size is the layout's: a revision of the same number with another size was seen in
 * development kernels.
 * Source: struct gpu_metrics_v1_3 to v1_8 in the kernel's drivers/gpu/drm/amd/include/kgd_pp_interface.h
 * (natural alignment, little endian). 1.3: MI200 and RDNA boards; 1.4 and later: MI300.
 */
export type GpuMetrics = ReadonlyMap<string, number>;

/** All bits set: the driver fills the table with them before the firmware's values. */
const METRICS_BLANK = Number.NaN;

type Width = 2 | 4 | 8;
type Place = readonly [name: string, offset: number, width: Width, count?: number];

interface Layout {
  readonly size: number;
  readonly places: readonly Place[];
}

const COMMON_V1_4: readonly Place[] = [
  ['temperature_hotspot', 4, 2],
  ['temperature_mem', 6, 2],
  ['socket_power', 10, 2],
  ['average_gfx_activity', 12, 2],
  ['average_umc_activity', 14, 2],
];

/** From the link width on, 1.4 to 1.8 have the same order at other offsets. */
function links(width: number, counters: number, nak: boolean, xgmi: number, clocks: number): Place[] {
  return [
    ['pcie_link_width', width, 2],
    ['pcie_link_speed', width + 2, 2],
    ['pcie_l0_to_recov_count_acc', counters, 8],
    ['pcie_replay_count_acc', counters + 8, 8],
    ['pcie_replay_rover_count_acc', counters + 16, 8],
    ...(nak
      ? ([
          ['pcie_nak_sent_count_acc', counters + 24, 4],
          ['pcie_nak_rcvd_count_acc', counters + 28, 4],
        ] as const)
      : []),
    ['xgmi_read_data_acc', xgmi, 8, 8],
    ['xgmi_write_data_acc', xgmi + 64, 8, 8],
    ['current_gfxclk', clocks, 2, 8],
    ['current_vclk0', clocks + 24, 2, 4],
    ['current_uclk', clocks + 40, 2],
  ];
}

function throttlers(at: number): Place[] {
  return [
    ['accumulation_counter', at, 4],
    ['prochot_residency_acc', at + 4, 4],
    ['ppt_residency_acc', at + 8, 4],
    ['socket_thm_residency_acc', at + 12, 4],
    ['vr_thm_residency_acc', at + 16, 4],
    ['hbm_thm_residency_acc', at + 20, 4],
  ];
}

const V1_7: readonly Place[] = [
  ...COMMON_V1_4,
  ['energy_accumulator', 24, 8],
  ...throttlers(40),
  ...links(68, 104, true, 136, 296),
  ['xgmi_link_status', 264, 2, 8],
];

const LAYOUTS: ReadonlyMap<string, Layout> = new Map([
  [
    '1.3',
    {
      size: 120,
      places: [
        ['temperature_edge', 4, 2],
        ['temperature_hotspot', 6, 2],
        ['temperature_mem', 8, 2],
        ['average_gfx_activity', 16, 2],
        ['average_umc_activity', 18, 2],
        ['socket_power', 22, 2],
        ['energy_accumulator', 24, 8],
        ['current_gfxclk', 54, 2, 1],
        ['current_uclk', 58, 2],
        ['current_vclk0', 60, 2, 1],
        ['pcie_link_width', 74, 2],
        ['pcie_link_speed', 76, 2],
        ['temperature_hbm', 88, 2, 4],
        ['voltage_soc', 104, 2],
        ['voltage_gfx', 106, 2],
        ['voltage_mem', 108, 2],
      ],
    },
  ],
  [
    '1.4',
    { size: 288, places: [...COMMON_V1_4, ['energy_accumulator', 24, 8], ...links(48, 80, false, 104, 240)] },
  ],
  [
    '1.5',
    {
      size: 328,
      places: [...COMMON_V1_4, ['energy_accumulator', 56, 8], ...links(80, 112, true, 144, 280)],
    },
  ],
  [
    '1.6',
    {
      size: 1664,
      places: [
        ...COMMON_V1_4,
        ['energy_accumulator', 16, 8],
        ...throttlers(32),
        ...links(60, 96, true, 128, 264),
      ],
    },
  ],
  ['1.7', { size: 2208, places: V1_7 }],
  ['1.8', { size: 3360, places: V1_7 }],
]);

/** Larger than the largest table. */
export const MAX_GPU_METRICS_BYTES = 8192;

/** By field, `name` or `name[i]`; NaN where the firmware said nothing. Undefined: an unknown layout. */
export function readGpuMetrics(bytes: Buffer): GpuMetrics | undefined {
  if (bytes.length < 4) return undefined;
  const size = bytes.readUInt16LE(0);
  const layout = LAYOUTS.get(`${bytes[2]}.${bytes[3]}`);
  if (!layout || layout.size !== size || bytes.length < size) return undefined;
  const fields = new Map<string, number>();
  for (const [name, offset, width, count] of layout.places) {
    if (count === undefined) fields.set(name, numberAt(bytes, offset, width));
    for (let i = 0; i < (count ?? 0); i++)
      fields.set(`${name}[${i}]`, numberAt(bytes, offset + i * width, width));
  }
  if (bytes[3] === 3) addV1_3(fields, bytes);
  return fields;
}

const UNKNOWN_64 = 0xffff_ffff_ffff_ffffn;

function numberAt(bytes: Buffer, offset: number, width: Width): number {
  if (width === 8) {
    const wide = bytes.readBigUInt64LE(offset);
    return wide === UNKNOWN_64 ? METRICS_BLANK : Number(wide);
  }
  const value = bytes.readUIntLE(offset, width);
  return value === 2 ** (8 * width) - 1 ? METRICS_BLANK : value;
}

/**
 * What 1.3 has of its own. Its energy has no unit in the header: in MI200's driver it is 2^-16 J as in 1.4, and only
 * MI200 has HBM temperatures; on other boards it is left out.
 */
function addV1_3(fields: Map<string, number>, bytes: Buffer): void {
  if (Number.isNaN(fields.get('temperature_hbm[0]'))) fields.delete('energy_accumulator');
  const status = bytes.readBigUInt64LE(112);
  fields.set('clock_event_reasons', status === UNKNOWN_64 ? METRICS_BLANK : clockEventReasons(status));
}

const bits = (from: number, to: number): bigint => ((1n << BigInt(to - from + 1)) - 1n) << BigInt(from);

/** SMU_THROTTLER_*_BIT of the kernel's amdgpu_smu.h; ours: see gpu_clock_event_reasons in the catalogue. */
const REASONS: readonly (readonly [mask: bigint, ours: number])[] = [
  // PPT0 to SPPT_APU (power), TDC and EDC (current), PPM: limits that firmware keeps
  [bits(0, 7) | bits(16, 23) | bits(56, 56), 0x4],
  // TEMP_GPU to TEMP_LIQUID1
  [bits(32, 43), 0x20],
  // VRHOT0, VRHOT1: hardware signals of the voltage regulators
  [bits(44, 45), 0x40],
  // PROCHOT_CPU, PROCHOT_GFX: asserted from outside
  [bits(46, 47), 0x80],
];

function clockEventReasons(status: bigint): number {
  let reasons = 0;
  for (const [mask, ours] of REASONS) if ((status & mask) !== 0n) reasons |= ours;
  return reasons;
}
