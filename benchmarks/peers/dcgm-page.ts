/** How a field moves from scrape to scrape, after the mix of the reference trace. */
type Motion = 'drift' | 'noise' | 'ratio' | 'flow' | 'steps' | 'rare' | 'still';

interface Field {
  readonly name: string;
  readonly type: 'gauge' | 'counter';
  readonly motion: Motion;
  readonly start: number;
  /** Width of the noise, or growth a second of a counter. */
  readonly by: number;
}

const field =
  (type: Field['type'], motion: Motion, start = 0, by = 0) =>
  (name: string): Field => ({ name: `DCGM_FI_${name}`, type, motion, start, by });

/** The 50 fields of one GPU: the names and the mix of kinds of a usual dcgm-exporter with profiling on. */
const FIELDS: readonly Field[] = [
  ...['DEV_GPU_TEMP', 'DEV_MEMORY_TEMP', 'DEV_GPU_TEMP_MARGIN'].map(field('gauge', 'drift', 55, 2)),
  ...['DEV_POWER_USAGE', 'DEV_POWER_USAGE_INSTANT'].map(field('gauge', 'noise', 480, 80)),
  ...['DEV_TOTAL_ENERGY_CONSUMPTION'].map(field('counter', 'flow', 5e9, 480_000)),
  ...['DEV_SM_CLOCK', 'DEV_MEM_CLOCK', 'DEV_VIDEO_CLOCK'].map(field('gauge', 'steps', 1_700, 60)),
  ...['DEV_GPU_UTIL', 'DEV_MEM_COPY_UTIL', 'DEV_ENC_UTIL', 'DEV_DEC_UTIL'].map(
    field('gauge', 'drift', 70, 6),
  ),
  ...['DEV_FB_FREE', 'DEV_FB_USED', 'DEV_FB_RESERVED'].map(field('gauge', 'steps', 30_000, 512)),
  ...['GR_ENGINE_ACTIVE', 'SM_ACTIVE', 'SM_OCCUPANCY', 'PIPE_TENSOR_ACTIVE', 'DRAM_ACTIVE']
    .map((name) => `PROF_${name}`)
    .map(field('gauge', 'ratio', 0.5, 0.2)),
  ...['PROF_PIPE_FP32_ACTIVE', 'PROF_PIPE_FP16_ACTIVE'].map(field('gauge', 'ratio', 0.2, 0.1)),
  ...['PROF_PIPE_FP64_ACTIVE'].map(field('gauge', 'still')),
  ...['PCIE_TX_BYTES', 'PCIE_RX_BYTES', 'NVLINK_TX_BYTES', 'NVLINK_RX_BYTES']
    .map((name) => `PROF_${name}`)
    .map(field('counter', 'flow', 1e12, 4e9)),
  ...['POWER', 'THERMAL', 'SYNC_BOOST', 'BOARD_LIMIT']
    .map((name) => `DEV_${name}_VIOLATION`)
    .map(field('counter', 'rare', 1e6, 5e5)),
  ...['DEV_POWER_MGMT_LIMIT'].map(field('gauge', 'still', 700)),
  ...['DEV_SLOWDOWN_TEMP', 'DEV_SHUTDOWN_TEMP'].map(field('gauge', 'still', 90)),
  ...['DEV_PSTATE'].map(field('gauge', 'still')),
  ...['DEV_XID_ERRORS'].map(field('gauge', 'still')),
  ...[
    'ECC_SBE_VOL_TOTAL',
    'ECC_DBE_VOL_TOTAL',
    'ECC_SBE_AGG_TOTAL',
    'ECC_DBE_AGG_TOTAL',
    'RETIRED_SBE',
    'RETIRED_DBE',
    'RETIRED_PENDING',
    'UNCORRECTABLE_REMAPPED_ROWS',
    'CORRECTABLE_REMAPPED_ROWS',
    'ROW_REMAP_FAILURE',
    'PCIE_REPLAY_COUNTER',
    'NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL',
    'NVLINK_REPLAY_ERROR_COUNT_TOTAL',
  ]
    .map((name) => `DEV_${name}`)
    .map(field('counter', 'still')),
];

/** What `heat` sets. */
const TEMPERATURE = 'DCGM_FI_DEV_GPU_TEMP';

/** Series of one scrape of a node with `gpus` GPUs, the marker among them. */
export function samplesPerPage(gpus: number): number {
  return FIELDS.length * gpus + 1;
}

/** Value: the moment at which the page was served, Unix ms. What arrives in the store tells how old it is. */
export const MARKER = 'bench_served_unix_ms';

/**
 * What the dcgm-exporter of a node answers. The text before each value is made once; a scrape moves the values
 * and joins, so that one process serves a fleet without taking much of the machine from those it measures.
 */
export class DcgmPage {
  readonly #target: number;
  /** Before each value, the one before it already ended. */
  readonly #heads: string[] = [];
  readonly #fields: Field[] = [];
  readonly #values: Float64Array;
  #state: number;
  #lastMs = 0;

  constructor(target: number, gpus: number, seed: number) {
    this.#target = target;
    this.#state = (Math.imul(seed, 0x9e3779b1) ^ Math.imul(target + 1, 0x85ebca6b)) >>> 0 || 1;
    for (const one of FIELDS) {
      for (let gpu = 0; gpu < gpus; gpu++) {
        const intro =
          gpu === 0 ? `# HELP ${one.name} As measured by DCGM.\n# TYPE ${one.name} ${one.type}\n` : '';
        this.#heads.push(`${intro}${one.name}{${labels(target, gpu)}} `);
        this.#fields.push(one);
      }
    }
    this.#values = Float64Array.from(this.#fields, ({ start }) => start);
  }

  /** The temperature of one GPU, from now on, whatever its load; undefined: as before. */
  heat(gpu: number, celsius: number | undefined): void {
    const at = this.#fields.findIndex(({ name }) => name === TEMPERATURE) + gpu;
    this.#fields[at] = { ...this.#fields[at]!, motion: celsius === undefined ? 'drift' : 'still' };
    this.#values[at] = celsius ?? this.#fields[at]!.start;
  }

  /** The page as of `nowMs`: what it counts grows with the time since the last one. */
  render(nowMs: number): string {
    const seconds = this.#lastMs === 0 ? 0 : (nowMs - this.#lastMs) / 1000;
    this.#lastMs = nowMs;
    let text = '';
    for (let i = 0; i < this.#fields.length; i++)
      text += `${this.#heads[i]!}${this.#move(i, this.#fields[i]!, seconds)}\n`;
    return `${text}# TYPE ${MARKER} gauge\n${MARKER}{target="${this.#target}"} ${nowMs}\n`;
  }

  #move(i: number, { motion, start, by }: Field, seconds: number): string {
    const values = this.#values;
    switch (motion) {
      case 'drift':
        if (this.#random() < 0.3)
          values[i] = start + Math.round((values[i]! - start) * 0.9 + (this.#random() - 0.5) * by * 2);
        return String(values[i]);
      case 'noise':
        return (start + (this.#random() - 0.5) * by).toFixed(3);
      case 'ratio':
        return (start + (this.#random() - 0.5) * by).toFixed(6);
      case 'flow':
        values[i] = Math.round(values[i]! + by * seconds * (0.95 + 0.1 * this.#random()));
        return String(values[i]);
      case 'steps':
        if (this.#random() < 0.02) values[i] = start + Math.round(this.#random() * 4) * by;
        return String(values[i]);
      case 'rare':
        if (this.#random() < 0.01) values[i] = values[i]! + Math.round(this.#random() * by);
        return String(values[i]);
      case 'still':
        return String(values[i]);
    }
  }

  /** A linear congruential generator (Numerical Recipes' constants): cheap, and good enough for noise. */
  #random(): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
    return this.#state / 2 ** 32;
  }
}

function labels(target: number, gpu: number): string {
  const uuid = `GPU-${String(target).padStart(8, '0')}-0000-4000-8000-${String(gpu).padStart(12, '0')}`;
  return [
    `gpu="${gpu}"`,
    `UUID="${uuid}"`,
    `pci_bus_id="00000000:${(0x10 + gpu * 8).toString(16).toUpperCase()}:00.0"`,
    `device="nvidia${gpu}"`,
    'modelName="NVIDIA H100 80GB HBM3"',
    `Hostname="node-${target}"`,
    'DCGM_FI_DRIVER_VERSION="550.54.15"',
    'container="train"',
    'namespace="research"',
    `pod="train-${target}"`,
  ].join(',');
}
