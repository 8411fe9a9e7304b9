import { type Dictionary, labelOf } from '../../../../shared/model/dictionary.ts';
import { SlotState } from '../../../../shared/model/slot-state.ts';

/** Something that a reader of the samples finds, seconds after the first read: of the first read with it, and of the first without. */
export interface Finding {
  readonly what: string;
  /** Empty where it is of the node. */
  readonly gpu: string;
  readonly from: number;
  to: number;
  /** How much a counter rose, where it is one. */
  rose: number;
  /** Counters that fell, where it is that. */
  readonly names?: string;
}

/** A core this hot is not healthy on any of the models. */
const HOT_CELSIUS = 92;
/** Slower than this share of the node's median clock. */
const SLOW_SHARE = 0.8;
const FULL_SHARE = 0.99;
/** A condition that is away for no longer is the same one. */
const SAME_SECONDS = 60;
/** A checkpoint takes up to 45 s; nothing done for longer is a job that hangs. */
const HUNG_SECONDS = 60;

/**
 * Finds conditions in the samples of one simulated node, knowing nothing of what was injected: thresholds, flags,
 * counters that rise or fall, values that stand still, states.
 */
export class DayReader {
  readonly findings: Finding[] = [];
  readonly #open = new Map<string, Finding>();
  /** By dictionary, then by what is looked for. */
  readonly #slots = new Map<Dictionary, Map<string, number>>();
  readonly #countersOf = new Map<Dictionary, Map<string, number[]>>();
  readonly #before = new Map<number, number>();
  readonly #standing = new Map<string, number>();
  #dictionary!: Dictionary;
  #values!: Float64Array;
  #states!: Uint8Array;
  #at = 0;
  #idleSince: number | undefined;

  read(dictionary: Dictionary, at: number, values: Float64Array, states: Uint8Array): void {
    this.#dictionary = dictionary;
    this.#values = values;
    this.#states = states;
    this.#at = at;
    if (dictionary.group === 'simulated_training') this.#readTraining();
    else this.#readGpus();
  }

  #readGpus(): void {
    const gpus = [...this.#countersByGpu().keys()];
    const median = this.#medianClock(gpus);
    for (const gpu of gpus) this.#readGpu(gpu, median);
    for (const fan of gpus)
      if (this.#values[this.#slot(undefined, 'chassis_fan_ratio', fan)] === 0)
        this.#find('fan stands still', fan);
    this.#remember();
  }

  #readGpu(gpu: string, median: number): void {
    const state = this.#states[this.#slot(gpu, 'gpu_power_watts')];
    if (this.#value(gpu, 'gpu_up') === 0) this.#find('down', gpu);
    if (state === SlotState.Timeout) this.#find('not read in time', gpu);
    if (state === SlotState.GpuLost || state === SlotState.Stale) this.#find('lost', gpu);
    if (state !== SlotState.Present) return;
    this.#readFlags(gpu);
    this.#readCounters(gpu);
    this.#readStanding(gpu);
    const throttled =
      this.#rise(gpu, 'gpu_clock_event_seconds_total', 'hw_thermal') +
      this.#rise(gpu, 'gpu_clock_event_seconds_total', 'sw_thermal');
    const brake = this.#rise(gpu, 'gpu_clock_event_seconds_total', 'hw_power_brake');
    if (throttled > 0) this.#find('thermal throttle', gpu);
    if (brake > 0) this.#find('power brake', gpu);
    const slow = this.#value(gpu, 'gpu_clock_hertz', 'sm') < SLOW_SHARE * median;
    if (slow && throttled + brake === 0) this.#find('slow without a reason', gpu);
  }

  #readFlags(gpu: string): void {
    const core = this.#has(gpu, 'gpu_temperature_celsius', 'core') ? 'core' : 'hotspot';
    if (this.#value(gpu, 'gpu_temperature_celsius', core) >= HOT_CELSIUS) this.#find('hot', gpu);
    if (this.#value(gpu, 'gpu_memory_utilization_ratio') > FULL_SHARE) this.#find('memory full', gpu);
    if (this.#value(gpu, 'gpu_link_state', '0') === 0) this.#find('link down', gpu);
    if (this.#value(gpu, 'gpu_pcie_link_width') < this.#value(gpu, 'gpu_pcie_link_width_max'))
      this.#find('narrow', gpu);
    if (this.#value(gpu, 'gpu_row_remap_pending') === 1) this.#find('remap pending', gpu);
    if (this.#value(gpu, 'gpu_row_remap_failed') === 1) this.#find('no rows left', gpu);
    if (this.#value(gpu, 'gpu_bad_page_threshold_ratio') >= 1) this.#find('no rows left', gpu);
    if (this.#value(gpu, 'gpu_recovery_action') > 0) this.#find('asks for recovery', gpu);
  }

  #readCounters(gpu: string): void {
    for (const type of ['corrected', 'uncorrected'])
      this.#count(`${type} errors`, gpu, this.#rise(gpu, 'gpu_ecc_errors_total', type));
    this.#count('link errors', gpu, this.#rise(gpu, 'gpu_link_crc_flit_errors_total'));
    this.#count('link came back', gpu, this.#rise(gpu, 'gpu_link_recovery_errors_total'));
    this.#count('rows remapped', gpu, this.#rise(gpu, 'gpu_remapped_rows', 'uncorrectable'));
    const fell = this.#counters(gpu)
      .filter((slot) => this.#values[slot]! < (this.#before.get(slot) ?? 0))
      .map((slot) => this.#dictionary.series[slot]!.name);
    if (fell.length > 0) this.#find('counters fell', gpu, 0, [...new Set(fell)].join(' '));
  }

  #readTraining(): void {
    const value = (name: string) => this.#value(undefined, name);
    if (Number.isNaN(value('training_loss'))) {
      this.#idleSince = undefined;
      this.#find('no job', '');
    } else if (value('training_tokens_per_second') > 0) {
      this.#idleSince = undefined;
    } else {
      this.#idleSince ??= this.#at;
      if (this.#at - this.#idleSince >= HUNG_SECONDS) this.#find('job hangs', '');
    }
    this.#count('job went on from a checkpoint', '', this.#rise(undefined, 'training_restarts_total'));
  }

  #count(what: string, gpu: string, rose: number): void {
    if (rose > 0) this.#find(what, gpu, rose);
  }

  #find(what: string, gpu: string, rose = 0, names?: string): void {
    const key = `${what} ${gpu}`;
    const open = this.#open.get(key);
    const to = this.#at + 10;
    if (open && this.#at - open.to <= SAME_SECONDS) {
      open.to = to;
      open.rose += rose;
      return;
    }
    const finding = { what, gpu, from: this.#at, to, rose, ...(names === undefined ? {} : { names }) };
    this.#open.set(key, finding);
    this.findings.push(finding);
  }

  #medianClock(gpus: readonly string[]): number {
    const clocks = gpus.map((gpu) => this.#value(gpu, 'gpu_clock_hertz', 'sm')).filter((hertz) => hertz > 0);
    return clocks.sort((a, b) => a - b)[Math.floor(clocks.length / 2)] ?? 0;
  }

  /** Milliwatts of a regulator agree by chance once in thousands of reads, but not twice in a row. */
  #readStanding(gpu: string): void {
    const slot = this.#slot(gpu, 'gpu_power_watts');
    const stands = this.#before.get(slot) === this.#values[slot] ? (this.#standing.get(gpu) ?? 0) + 1 : 0;
    this.#standing.set(gpu, stands);
    if (stands >= 2) this.#find('frozen', gpu);
  }

  /** 0 for a series that is not there, was not there before, or fell. */
  #rise(gpu: string | undefined, name: string, label?: string): number {
    const slot = this.#slot(gpu, name, label);
    if (slot < 0 || this.#states[slot] !== SlotState.Present) return 0;
    const now = this.#values[slot]!;
    // The training's slots may move with the job: remembered by name.
    const key = gpu === undefined ? -1 - slot : slot;
    const before = this.#before.get(key) ?? now;
    if (gpu === undefined) this.#before.set(key, now);
    return Math.max(0, now - before);
  }

  #counters(gpu: string): readonly number[] {
    return this.#countersByGpu().get(gpu) ?? [];
  }

  #countersByGpu(): Map<string, number[]> {
    return getOr(this.#countersOf, this.#dictionary, () => {
      const slots = this.#dictionary.series.flatMap(({ kind, labels }, slot) =>
        kind === 'counter' && labelOf(labels, 'gpu') !== undefined ? [slot] : [],
      );
      return Map.groupBy(slots, (slot) => labelOf(this.#dictionary.series[slot]!.labels, 'gpu')!);
    });
  }

  /** What was present, until it is present again. */
  #remember(): void {
    for (let slot = 0; slot < this.#values.length; slot++)
      if (this.#states[slot] === SlotState.Present) this.#before.set(slot, this.#values[slot]!);
  }

  /** NaN where there is none. */
  #value(gpu: string | undefined, name: string, label?: string): number {
    const slot = this.#slot(gpu, name, label);
    return slot >= 0 && this.#states[slot] === SlotState.Present ? this.#values[slot]! : Number.NaN;
  }

  #has(gpu: string, name: string, label: string): boolean {
    return this.#slot(gpu, name, label) >= 0;
  }

  /** `label`: a value that one of its labels has. Of ECC errors, those for life where the board keeps them. */
  #slot(gpu: string | undefined, name: string, label?: string): number {
    const known = getOr(this.#slots, this.#dictionary, () => new Map<string, number>());
    const key = `${gpu} ${name} ${label}`;
    let slot = known.get(key);
    if (slot === undefined) {
      slot = this.#dictionary.series.findIndex(
        (one) =>
          one.name === name &&
          labelOf(one.labels, 'gpu') === gpu &&
          (label === undefined || one.labels.some(([, value]) => value === label)),
      );
      known.set(key, slot);
    }
    return slot;
  }
}

function getOr<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}
