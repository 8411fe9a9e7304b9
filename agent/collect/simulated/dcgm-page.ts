import { type DcgmField, dcgmField } from '#shared/catalogue/dcgm.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { labelOf, type Series } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import type { SimulatedCollector } from './collector.ts';
import type { JobLabels } from './job-labels.ts';

/** A dcgm-exporter with its usual fields, and those for profiling, ECC, remapping and links: what the boards have. */
const FIELDS = [
  ...['SM_CLOCK', 'MEM_CLOCK', 'MAX_SM_CLOCK', 'GPU_TEMP', 'MEMORY_TEMP', 'GPU_TEMP_LIMIT'],
  ...['SLOWDOWN_TEMP', 'SHUTDOWN_TEMP', 'GPU_MAX_OP_TEMP', 'POWER_USAGE', 'POWER_USAGE_INSTANT'],
  ...['TOTAL_ENERGY_CONSUMPTION', 'ENFORCED_POWER_LIMIT', 'POWER_MGMT_LIMIT_DEF', 'PSTATE'],
  ...['GET_GPU_RECOVERY_ACTION', 'CLOCKS_EVENT_REASONS', 'CLOCKS_EVENT_REASON_SW_POWER_CAP_NS'],
  ...['CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN_NS', 'CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN_NS'],
  ...['CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS', 'GPU_UTIL', 'MEM_COPY_UTIL'],
  ...['FB_TOTAL', 'FB_FREE', 'FB_USED', 'FB_RESERVED', 'FB_USED_PERCENT'],
  ...['ECC_SBE_VOL_TOTAL', 'ECC_DBE_VOL_TOTAL', 'ECC_SBE_AGG_TOTAL', 'ECC_DBE_AGG_TOTAL'],
  ...['RETIRED_SBE', 'RETIRED_DBE', 'UNCORRECTABLE_REMAPPED_ROWS', 'CORRECTABLE_REMAPPED_ROWS'],
  ...['ROW_REMAP_PENDING', 'ROW_REMAP_FAILURE', 'XID_ERRORS', 'PCIE_REPLAY_COUNTER'],
  ...['PCIE_LINK_GEN', 'PCIE_MAX_LINK_GEN', 'PCIE_LINK_WIDTH', 'PCIE_MAX_LINK_WIDTH'],
  ...['NVLINK_COUNT_TX_BYTES', 'NVLINK_COUNT_RX_BYTES', 'NVLINK_GET_STATE'],
  ...['NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL', 'NVLINK_RECOVERY_ERROR_COUNT_TOTAL'],
]
  .map((name) => `DCGM_FI_DEV_${name}`)
  .concat(
    ['GR_ENGINE_ACTIVE', 'SM_ACTIVE', 'SM_OCCUPANCY', 'PIPE_TENSOR_ACTIVE', 'DRAM_ACTIVE']
      .concat('PIPE_FP32_ACTIVE', 'PCIE_TX_BYTES', 'PCIE_RX_BYTES', 'NVLINK_TX_BYTES', 'NVLINK_RX_BYTES')
      .map((name) => `DCGM_FI_PROF_${name}`),
  );
const OF_THE_GPU = new Set(['gpu', 'uuid', 'model']);

/** One line of the page. */
interface Line {
  readonly slot: number;
  readonly gpu: number;
  readonly field: DcgmField;
  /** HELP and TYPE, before the first line of a field; else empty. */
  readonly intro: string;
  readonly name: string;
  /** `,nvlink="0"`, or nothing. */
  readonly extra: string;
}

/**
 * The newest reading of a simulated node as its dcgm-exporter would print it, in DCGM's names and units. The catalogue
 * converts, so that who scrapes this page reads what the collector read. Of a GPU that is lost, or was not read in
 * time, there are no lines.
 */
export class DcgmPage {
  readonly #collector: SimulatedCollector;
  readonly #lines: readonly Line[];
  #job: JobLabels | undefined;
  #labels: readonly string[];

  constructor(collector: SimulatedCollector) {
    this.#collector = collector;
    this.#lines = FIELDS.flatMap((name) => linesOf(name, collector.dictionary.series));
    this.#labels = labelsOf(collector, undefined);
  }

  /** Empty before the first read. */
  render(): string {
    const { last, machine } = this.#collector;
    if (!last) return '';
    this.#takeJob(machine.job);
    const { values, states } = last;
    let text = '';
    let intro = '';
    for (const line of this.#lines) {
      // Kept for the field's first line that is printed.
      if (line.intro) intro = line.intro;
      if (states[line.slot] !== SlotState.Present) continue;
      text += `${intro}${line.name}{${this.#labels[line.gpu]}${line.extra}} ${printed(line.field, values[line.slot]!)}\n`;
      intro = '';
    }
    return text;
  }

  #takeJob(job: JobLabels | undefined): void {
    if (job?.job === this.#job?.job) return;
    this.#job = job;
    this.#labels = labelsOf(this.#collector, job);
  }
}

function linesOf(name: string, series: readonly Series[]): Line[] {
  const field = dcgmField(name);
  if (!field) throw new FleetError('internal', `Cannot print ${name}: it is not in the catalogue`);
  const intro = `# HELP ${name} ${field.metric.help}\n# TYPE ${name} ${field.metric.kind === 'counter' ? 'counter' : 'gauge'}\n`;
  return series
    .map((one, slot) => ({ one, slot }))
    .filter(({ one }) => isOf(one, field))
    .map(({ one, slot }, i) => ({
      slot,
      gpu: Number(labelOf(one.labels, 'gpu')),
      field,
      intro: i === 0 ? intro : '',
      name,
      extra: extraOf(one, field),
    }));
}

/** Its own labels are those of the field, or are taken from labels of the exporter. */
function isOf({ name, labels }: Series, field: DcgmField): boolean {
  if (name !== field.metric.name) return false;
  const taken = new Set(field.labelsFrom.values());
  const own = labels.filter(([label]) => !OF_THE_GPU.has(label) && !taken.has(label));
  return (
    own.length === field.labels.length &&
    own.every(([label, value]) => labelOf(field.labels, label) === value)
  );
}

function extraOf({ labels }: Series, field: DcgmField): string {
  let text = '';
  for (const [theirs, ours] of field.labelsFrom) {
    const value = labelOf(labels, ours);
    if (value !== undefined) text += `,${theirs}="${value}"`;
  }
  return text;
}

/** As dcgm-exporter prints them: doubles with six decimals, everything else whole. */
function printed({ multiply, divide, width }: DcgmField, value: number): string {
  const theirs = (value * divide) / multiply;
  return width === 'double' ? theirs.toFixed(6) : String(Math.round(theirs));
}

/**
 * By GPU, as dcgm-exporter orders them:
 *
 *     gpu="0",UUID="GPU-...",pci_bus_id="00000000:1B:00.0",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="a"
 */
function labelsOf({ machine }: SimulatedCollector, job: JobLabels | undefined): string[] {
  const user = job ? `,container="${job.container}",namespace="${job.namespace}",pod="${job.pod}"` : '';
  return machine.boards.map(({ index, uuid, facts }) =>
    [
      `gpu="${index}"`,
      `UUID="${uuid}"`,
      `pci_bus_id="${facts.pci_bus_id}"`,
      `device="nvidia${index}"`,
      `modelName="${machine.profile.model}"`,
      `Hostname="${machine.name}"`,
      `DCGM_FI_DRIVER_VERSION="${facts.driver_version}"${user}`,
    ].join(','),
  );
}
