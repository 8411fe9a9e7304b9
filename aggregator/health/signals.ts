import { HealthDimension } from '#proto/gpufleet/health/v1/health_pb.ts';
import { xidNamed } from '#shared/catalogue/xid.ts';
import { type Breakpoints, badness } from './badness.ts';
import { type Complaint, DIMENSION_WEIGHT, type ScoreCap } from './compose-score.ts';
import { INPUT, type InputName } from './gpu-inputs.ts';
import { type GpuRecord, HW_THERMAL } from './gpu-record.ts';

/**
 * One thing that can be wrong with a GPU. None of them is the load itself: power up to the limit, a power cap,
 * application clocks, idle clocks and a full memory cost nothing.
 */
interface Signal {
  /** Canonical metric. */
  readonly name: string;
  readonly dimension: HealthDimension;
  readonly weight: number;
  readonly points: Breakpoints;
  /** The score is held at or below this while the signal is at or past `from`. */
  readonly cap?: { readonly from: number; readonly score: number };
  /** NaN where it is not known. */
  value(gpu: GpuRecord, freshAt: number): number;
  explain(value: number, gpu: GpuRecord): string;
}

const { MEMORY, THERMAL, POWER, PERFORMANCE, RELIABILITY } = HealthDimension;

/** For what is 0 or 1: 1 is worth a warning, or has failed. */
const WARNING_FLAG: Breakpoints = [0, 1, 10, 100];
const FAILED_FLAG: Breakpoints = [0, 0.2, 0.6, 1];

/**
 * Slowdown temperature where the device does not tell: 89 degrees on A100 and H100 (nvidia-smi -q); AMD's MI300 has its
 * hotspot limit at 100 (amd-smi of an MI300A).
 */
const CORE_LIMIT = 89;
const AMD_HOTSPOT_LIMIT = 100;
/** HBM: 95 degrees on A100 and H100 (nvidia-smi -q), 105 on MI300. */
const MEMORY_LIMIT = 95;
const AMD_MEMORY_LIMIT = 105;
/** Hopper and later report limits as offsets of a few degrees, not as temperatures. */
const LOWEST_REAL_LIMIT = 50;

const SIGNALS: readonly Signal[] = [
  {
    // Distance to slowdown. Warned at 5 degrees; NVSentinel calls -2 fatal on H100, where the hardware slows down.
    name: 'gpu_temperature_margin_celsius',
    dimension: THERMAL,
    weight: 0.5,
    points: [5, 3, 0, -2],
    value: coreMargin,
    explain: (value) => `${degrees(value)} left to the slowdown temperature`,
  },
  {
    // HBM throttles on its own while the core is cool, so its margin counts by itself.
    name: 'gpu_temperature_celsius{sensor="memory"}',
    dimension: THERMAL,
    weight: 0.5,
    points: [5, 3, 0, -2],
    value: memoryMargin,
    explain: (value) => `memory ${degrees(value)} below its highest operating temperature`,
  },
  {
    // Slowdown of 0.5 / 5 / 20 % of the time. DCGM warns at any, gpud at 0.6 events a minute over ten minutes.
    name: 'gpu_clock_event_seconds_total{reason="hw_thermal|sw_thermal"}',
    dimension: THERMAL,
    weight: 0.7,
    points: [0, 0.005, 0.05, 0.2],
    value: thermalShare,
    explain: (value) => `slowed down by heat for ${percent(value)} of the last hour or so`,
  },
  {
    name: 'gpu_clock_event_reasons',
    dimension: THERMAL,
    weight: 0,
    points: WARNING_FLAG,
    cap: { from: 1, score: 60 },
    value: (gpu, at) => {
      const reasons = fresh(gpu, 'clockReasons', at);
      return Number.isNaN(reasons) ? reasons : reasons & HW_THERMAL ? 1 : 0;
    },
    explain: () => 'the hardware is slowing the GPU down for heat right now',
  },
  {
    // Over the enforced limit for a minute on average. The alert's 105 %, then by our own judgement.
    name: 'gpu_power_watts',
    dimension: POWER,
    weight: 0.5,
    points: [1.05, 1.1, 1.2, 1.3],
    value: (gpu, at) =>
      fresh(gpu, 'power', at) >= 0 && fresh(gpu, 'powerLimit', at) > 0 ? gpu.powerRatio.mean : Number.NaN,
    explain: (value) => `draws ${percent(value)} of its enforced power limit`,
  },
  {
    // Power brake: the rack or the power supply holds the GPU back. 0.1 / 1 / 5 % of the time.
    name: 'gpu_clock_event_seconds_total{reason="hw_power_brake"}',
    dimension: POWER,
    weight: 0.6,
    points: [0, 0.001, 0.01, 0.05],
    value: (gpu) => gpu.powerBrake.share,
    explain: (value) => `held back by the power brake for ${percent(value)} of the last hour or so`,
  },
  {
    // DCGM fails a GPU with any since the driver was loaded; the count goes with a reset.
    name: 'gpu_ecc_errors_total{type="uncorrected",scope="volatile"}',
    dimension: MEMORY,
    weight: 0.9,
    points: [0, 0.5, 1, 2],
    cap: { from: 1, score: 60 },
    value: last('eccUncorrected'),
    explain: (value) => `${value} uncorrected memory errors since the last reset`,
  },
  {
    // NVIDIA, A100 memory error management: eight uncorrectable remaps in a bank make the GPU due for replacement.
    name: 'gpu_remapped_rows{cause="uncorrectable"}',
    dimension: MEMORY,
    weight: 0.8,
    points: [0, 1, 4, 8],
    value: last('remappedRows'),
    explain: (value) => `${value} memory rows remapped for uncorrectable errors`,
  },
  {
    name: 'gpu_row_remap_pending',
    dimension: MEMORY,
    weight: 0.8,
    points: WARNING_FLAG,
    cap: { from: 1, score: 60 },
    value: last('remapPending'),
    explain: () => 'a row remap waits for a reset of the GPU',
  },
  {
    // NVIDIA: a criterion for replacement.
    name: 'gpu_row_remap_failed',
    dimension: MEMORY,
    weight: 0.9,
    points: FAILED_FLAG,
    cap: { from: 1, score: 10 },
    value: last('remapFailed'),
    explain: () => 'a row remap failed: the GPU is due for replacement',
  },
  {
    // The last spare rows: a bank with low availability is critical, one with none has failed.
    name: 'gpu_remap_banks',
    dimension: MEMORY,
    weight: 0.8,
    points: [0, 0.5, 1, 2],
    value: (gpu, at) => {
      const low = fresh(gpu, 'banksLow', at);
      const none = fresh(gpu, 'banksNone', at);
      if (Number.isNaN(low) && Number.isNaN(none)) return Number.NaN;
      return none > 0 ? 2 : low > 0 ? 1 : 0;
    },
    explain: (value) =>
      value >= 2 ? 'a memory bank has no spare rows left' : 'a memory bank is low on spare rows',
  },
  {
    // Hopper and later: NVIDIA's criterion for replacement for SRAM errors.
    name: 'gpu_sram_ecc_threshold_exceeded',
    dimension: MEMORY,
    weight: 0.9,
    points: FAILED_FLAG,
    cap: { from: 1, score: 10 },
    value: last('sramExceeded'),
    explain: () => 'more SRAM errors than NVIDIA allows: the GPU is due for replacement',
  },
  {
    name: 'gpu_memory_unrepairable',
    dimension: MEMORY,
    weight: 0.9,
    points: FAILED_FLAG,
    cap: { from: 1, score: 10 },
    value: last('unrepairable'),
    explain: () => 'the memory can no longer be repaired: the GPU is due for replacement',
  },
  {
    // Before Ampere. Meta's check allows 10 pages, DCGM warns over 15 for double-bit errors and fails at 63.
    name: 'gpu_retired_pages',
    dimension: MEMORY,
    weight: 0.7,
    points: [10, 15, 40, 63],
    value: (gpu, at) => {
      const sbe = fresh(gpu, 'pagesSbe', at);
      const dbe = fresh(gpu, 'pagesDbe', at);
      if (Number.isNaN(sbe)) return dbe;
      return Number.isNaN(dbe) ? sbe : sbe + dbe;
    },
    explain: (value) => `${value} memory pages retired`,
  },
  {
    name: 'gpu_retired_pages_pending',
    dimension: MEMORY,
    weight: 0.8,
    points: WARNING_FLAG,
    cap: { from: 1, score: 60 },
    value: last('pagesPending'),
    explain: () => 'a page retirement waits for a reset of the GPU',
  },
  {
    // Replays a minute: DCGM warns at 16 on PCIe 4 x16 and 31 on PCIe 5 x16; its diagnosis fails at 80, 160 under stress.
    name: 'gpu_pcie_replay_total',
    dimension: PERFORMANCE,
    weight: 0.4,
    points: [16, 31, 80, 160],
    value: (gpu, at) => (Number.isNaN(fresh(gpu, 'pcieReplays', at)) ? Number.NaN : gpu.pcieReplays.mean),
    explain: (value) => `${value.toFixed(0)} PCIe replays a minute`,
  },
  {
    // Lost lanes are a fault at any load; the generation is not looked at, as it drops when idle.
    name: 'gpu_pcie_link_width',
    dimension: PERFORMANCE,
    weight: 0.6,
    points: [1, 0.75, 0.5, 0.25],
    value: (gpu, at) => fresh(gpu, 'pcieWidth', at) / fresh(gpu, 'pcieWidthMax', at),
    explain: (value) => `only ${percent(value)} of its PCIe lanes are up`,
  },
  {
    // NVML: 0 none, 1 reset, 2 reboot, 3 drain peer-to-peer, 4 drain and reset. DCGM warns at 3 and fails at the others.
    name: 'gpu_recovery_action',
    dimension: RELIABILITY,
    weight: 0.6,
    points: [0, 0.3, 0.7, 1],
    value: (gpu, at) => {
      const action = fresh(gpu, 'recoveryAction', at);
      return Number.isNaN(action) ? action : (RECOVERY_BADNESS[action] ?? 0);
    },
    explain: (_, gpu) =>
      `the driver asks for ${RECOVERY_WORDS[gpu.values[INPUT.recoveryAction]!] ?? 'an action'}`,
  },
];

const RECOVERY_BADNESS: Readonly<Record<number, number>> = { 1: 0.7, 2: 0.7, 3: 0.3, 4: 1 };
const RECOVERY_WORDS: Readonly<Record<number, string>> = {
  1: 'a reset of the GPU',
  2: 'a reboot of the node',
  3: 'a drain of its peer-to-peer traffic',
  4: 'a drain and a reset of the GPU',
};

/** An Xid counts for an hour, by its severity in the catalogue; application errors (13, 31, 43) are informational. */
const XID_WINDOW_MS = 3_600_000;
const XID_BADNESS = { info: 0, warning: 0.2, error: 0.5, critical: 1 } as const;
const XID_WEIGHT = 0.9;
/** Fallen off the bus (79), uncontained memory error (95): out of service for a day, or until it is looked at. */
const XID_OUT_OF_SERVICE: ReadonlySet<number> = new Set([79, 95]);
const XID_OUT_WINDOW_MS = 24 * 3_600_000;
const OUT_OF_SERVICE = 10;

/** Everything that is wrong with a GPU. `freshAt` by the monotonic clock, `nowMs` by the wall clock. */
export function complaintsOf(
  gpu: GpuRecord,
  freshAt: number,
  nowMs: number,
): { complaints: Complaint[]; caps: ScoreCap[]; coverage: number } {
  const complaints: Complaint[] = [];
  const caps: ScoreCap[] = [];
  let known = 0;
  for (let index = 0; index < SIGNALS.length; index++) {
    const signal = SIGNALS[index]!;
    const value = signal.value(gpu, freshAt);
    if (!Number.isFinite(value)) continue;
    known += COVERAGE_SHARE[index]!;
    const u = badness(value, signal.points);
    if (u <= 0) continue;
    const { name, dimension, points, weight, cap } = signal;
    const said = {
      dimension,
      signal: name,
      value,
      threshold: points[0],
      explanation: signal.explain(value, gpu),
    };
    if (weight > 0) complaints.push({ ...said, badness: u, weight });
    if (cap !== undefined && value >= cap.from) caps.push(capAt(said, cap.score));
  }
  addXids(gpu, nowMs, complaints, caps);
  if (gpu.lostMs !== undefined) {
    const explanation = 'the GPU is gone from the node';
    const said = { dimension: RELIABILITY, signal: 'gpu_lost', value: 1, threshold: 0, explanation };
    complaints.push({ ...said, badness: 1, weight: 0.9 });
    caps.push(capAt(said, OUT_OF_SERVICE));
  }
  return { complaints, caps, coverage: known };
}

function addXids(gpu: GpuRecord, nowMs: number, complaints: Complaint[], caps: ScoreCap[]): void {
  for (const [code, atMs] of gpu.xids) {
    const ageMs = nowMs - atMs;
    if (ageMs > XID_OUT_WINDOW_MS) {
      gpu.xids.delete(code);
      continue;
    }
    const { name, severity } = xidNamed(code);
    const minutes = Math.max(0, Math.round(ageMs / 60_000));
    const explanation = `Xid ${code} (${name}) ${minutes} min ago`;
    const said = { dimension: RELIABILITY, signal: 'xid', value: code, threshold: 0, explanation };
    const u = XID_BADNESS[severity];
    if (u > 0 && ageMs <= XID_WINDOW_MS) complaints.push({ ...said, badness: u, weight: XID_WEIGHT });
    if (XID_OUT_OF_SERVICE.has(code)) caps.push(capAt(said, OUT_OF_SERVICE));
  }
}

function capAt(said: Omit<ScoreCap, 'score'>, score: number): ScoreCap {
  return { ...said, score, explanation: `${said.explanation}: the score is held at ${score}` };
}

/** Part of each signal in the coverage: its weight in its dimension, times the dimension's in the whole. */
const COVERAGE_SHARE: readonly number[] = coverageShares();

function coverageShares(): number[] {
  const inDimension = new Map<HealthDimension, number>();
  for (const { dimension, weight } of SIGNALS)
    inDimension.set(dimension, (inDimension.get(dimension) ?? 0) + weight);
  const total = [...inDimension.keys()].reduce<number>(
    (sum, dimension) => sum + DIMENSION_WEIGHT[dimension]!,
    0,
  );
  return SIGNALS.map(
    ({ dimension, weight }) =>
      ((weight / inDimension.get(dimension)!) * DIMENSION_WEIGHT[dimension]!) / total,
  );
}

/** The value of an input while it is fresh, else NaN. */
export function fresh(gpu: GpuRecord, name: InputName, at: number): number {
  const index = INPUT[name];
  return at <= gpu.freshUntil[index]! ? gpu.values[index]! : Number.NaN;
}

function last(name: InputName): (gpu: GpuRecord, at: number) => number {
  const index = INPUT[name];
  return (gpu, at) => (at <= gpu.freshUntil[index]! ? gpu.values[index]! : Number.NaN);
}

function coreMargin(gpu: GpuRecord, at: number): number {
  const margin = fresh(gpu, 'margin', at);
  if (!Number.isNaN(margin)) return margin;
  const core = fresh(gpu, 'core', at);
  const hotspot = fresh(gpu, 'hotspot', at);
  const limit = fresh(gpu, 'slowdownLimit', at);
  const known = limit >= LOWEST_REAL_LIMIT;
  if (!Number.isNaN(hotspot)) return (known ? limit : AMD_HOTSPOT_LIMIT) - hotspot;
  return (known ? limit : CORE_LIMIT) - core;
}

function memoryMargin(gpu: GpuRecord, at: number): number {
  const memory = fresh(gpu, 'memory', at);
  const limit = fresh(gpu, 'memoryLimit', at);
  if (limit >= LOWEST_REAL_LIMIT) return limit - memory;
  return (/\bMI\d{3}/.test(gpu.model) ? AMD_MEMORY_LIMIT : MEMORY_LIMIT) - memory;
}

function thermalShare(gpu: GpuRecord): number {
  const hardware = gpu.hwThermal.share;
  const software = gpu.swThermal.share;
  if (Number.isNaN(hardware)) return software;
  return Number.isNaN(software) ? hardware : Math.min(1, hardware + software);
}

function degrees(value: number): string {
  return `${Number(value.toFixed(1))} °C`;
}

function percent(value: number): string {
  return `${Number((value * 100).toPrecision(3))} %`;
}
