import { FACTS_FRESH_MS, type FleetFacts } from './fleet-facts.ts';
import { INPUT, type InputName } from './gpu-inputs.ts';
import { type GpuRecord, HW_THERMAL, REPAIR_WINDOW_MS } from './gpu-record.ts';
import type { Incident, IncidentType } from './incidents.ts';
import type { SignalName } from './profiles/names.ts';

/**
 * How one signal is read and said. None of them is the load itself: power up to the limit, a power cap, application
 * clocks, idle clocks and a full memory cost nothing. What a value is worth stands in the profile.
 */
interface Signal {
  /** Canonical metric, or the event. */
  readonly metric: string;
  /** NaN where it is not known. `at` by the monotonic clock, `nowMs` by the wall clock. */
  readonly read: (gpu: GpuRecord, at: number, nowMs: number) => number;
  /** What is wrong, for people, with the value. */
  readonly say: (value: number, gpu: GpuRecord, nowMs: number) => string;
  /** How the threshold is written. */
  readonly show: (value: number) => string;
}

const DAY_MS = 86_400_000;
/** Hopper and later report limits as offsets of a few degrees, not as temperatures. */
const LOWEST_REAL_LIMIT = 50;
/** A fleet without corrected errors has a 99th percentile of 0: one a day is no more than that. Own judgement. */
const LEAST_CORRECTED_PER_DAY = 1;
/** A repair is half as much news after so long. */
const REPAIR_HALF_LIFE_MS = 7 * DAY_MS;

export const SIGNALS: Readonly<Record<SignalName, Signal>> = {
  core_margin: {
    metric: 'gpu_temperature_margin_celsius',
    read: coreMargin,
    say: (value) =>
      value < 0
        ? `${degrees(-value)} over the highest operating temperature`
        : `${degrees(value)} left to the highest operating temperature`,
    show: degrees,
  },
  memory_margin: {
    // HBM throttles on its own while the core is cool, so its margin counts by itself.
    metric: 'gpu_temperature_celsius{sensor="memory"}',
    read: memoryMargin,
    say: (value) =>
      `memory ${degrees(Math.abs(value))} ${value < 0 ? 'over' : 'below'} its highest operating temperature`,
    show: degrees,
  },
  thermal_slowdown: {
    metric: 'gpu_clock_event_seconds_total{reason="hw_thermal|sw_thermal"}',
    read: thermalShare,
    say: (value) => `slowed down by heat for ${percent(value)} of its time under load in the last hour or so`,
    show: percent,
  },
  hardware_slowdown: {
    metric: 'gpu_clock_event_reasons',
    read: (gpu, at) => {
      const reasons = fresh(gpu, INPUT.clockReasons, at);
      return Number.isNaN(reasons) ? reasons : reasons & HW_THERMAL ? 1 : 0;
    },
    say: () => 'the hardware is slowing the GPU down for heat right now',
    show: count,
  },
  thermal_resistance: {
    metric: 'gpu_temperature_celsius per gpu_power_watts',
    read: (gpu, at) => (isFresh(gpu, INPUT.power, at) ? gpu.thermalResistance.excess : Number.NaN),
    say: (value) => `each watt heats it ${percent(value)} more than it used to`,
    show: percent,
  },
  temperature_peers: {
    metric: 'gpu_temperature_celsius against siblings',
    read: fact('temperatureZ'),
    say: (value) => `hotter than its siblings at equal power by ${fixed(value)} robust deviations`,
    show: fixed,
  },
  power_ratio: {
    metric: 'gpu_power_watts',
    read: (gpu, at) =>
      isFresh(gpu, INPUT.power, at) && gpu.powerLimit > 0 ? gpu.powerRatio.mean : Number.NaN,
    say: (value) => `draws ${percent(value)} of its power limit`,
    show: percent,
  },
  power_brake: {
    metric: 'gpu_clock_event_seconds_total{reason="hw_power_brake"}',
    read: (gpu, at) =>
      isFresh(gpu, INPUT.powerBrake, at) || isFresh(gpu, INPUT.clockReasons, at)
        ? gpu.powerBrake.share
        : Number.NaN,
    say: (value) =>
      `held back by the power brake for ${percent(value)} of its time under load in the last day or so`,
    show: percent,
  },
  perf_per_watt: {
    metric: 'work per gpu_power_watts against job peers',
    read: fact('perfPerWattResidual'),
    say: (value) => `does ${percent(-value)} less work for each watt than the peers of its job`,
    show: percent,
  },
  idle_power: {
    metric: 'gpu_power_watts against its model',
    read: fact('idlePowerZ'),
    say: (value) => `draws more than its model's fleet at equal load by ${fixed(value)} robust deviations`,
    show: fixed,
  },
  uncorrectable_ecc: {
    metric: 'gpu_ecc_errors_total{type="uncorrected",scope="volatile"}',
    read: (gpu, at, nowMs) => {
      const known = isFresh(gpu, INPUT.eccUncorrected, at) || isFresh(gpu, INPUT.eccUncorrectedLife, at);
      if (gpu.uncorrected === undefined) return known ? 0 : Number.NaN;
      const sum = gpu.uncorrected.sum(nowMs);
      return known || sum > 0 ? sum : Number.NaN;
    },
    say: (value) => `${count(value)} uncorrectable memory ${plural(value, 'error')} within 7 days`,
    show: count,
  },
  corrected_ecc: {
    metric: 'gpu_ecc_errors_total{type="corrected",scope="volatile"} against the fleet',
    read: (gpu, at, nowMs) => {
      const fleet = fact('correctedEccFleetP99PerDay')(gpu, at);
      if (Number.isNaN(fleet) || !isFresh(gpu, INPUT.eccCorrected, at)) return Number.NaN;
      return (gpu.corrected?.sum(nowMs) ?? 0) / Math.max(LEAST_CORRECTED_PER_DAY, fleet);
    },
    say: (value) =>
      `${fixed(value)} times as many corrected memory errors a day as 99 % of its model's fleet`,
    show: fixed,
  },
  row_remaps: {
    metric: 'gpu_remapped_rows{cause="uncorrectable"}',
    read: last('remappedRows'),
    say: (value) => `${count(value)} memory ${plural(value, 'row')} remapped for uncorrectable errors`,
    show: count,
  },
  remap_banks: {
    metric: 'gpu_remap_banks',
    read: (gpu, at) => {
      const low = fresh(gpu, INPUT.banksLow, at);
      const none = fresh(gpu, INPUT.banksNone, at);
      if (Number.isNaN(low) && Number.isNaN(none)) return Number.NaN;
      return none > 0 ? 2 : low > 0 ? 1 : 0;
    },
    say: (value) =>
      value >= 2 ? 'a memory bank has no spare rows left' : 'a memory bank is low on spare rows',
    show: count,
  },
  remap_pending: {
    metric: 'gpu_row_remap_pending',
    read: last('remapPending'),
    say: () => 'a row remap waits for a reset of the GPU',
    show: count,
  },
  remap_failed: {
    metric: 'gpu_row_remap_failed',
    read: last('remapFailed'),
    say: () => 'a row remap failed: the GPU is due for replacement',
    show: count,
  },
  sram_threshold: {
    metric: 'gpu_sram_ecc_threshold_exceeded',
    read: last('sramExceeded'),
    say: () => 'more SRAM errors than NVIDIA allows: the GPU is due for replacement',
    show: count,
  },
  memory_unrepairable: {
    metric: 'gpu_memory_unrepairable',
    read: last('unrepairable'),
    say: () => 'the memory can no longer be repaired: the GPU is due for replacement',
    show: count,
  },
  retired_pages: {
    metric: 'gpu_retired_pages',
    read: (gpu, at) => {
      const sbe = fresh(gpu, INPUT.pagesSbe, at);
      const dbe = fresh(gpu, INPUT.pagesDbe, at);
      if (Number.isNaN(sbe)) return dbe;
      return Number.isNaN(dbe) ? sbe : sbe + dbe;
    },
    say: (value) => `${count(value)} memory pages retired`,
    show: count,
  },
  retired_pages_pending: {
    metric: 'gpu_retired_pages_pending',
    read: last('pagesPending'),
    say: () => 'a page retirement waits for a reset of the GPU',
    show: count,
  },
  bad_pages: {
    metric: 'gpu_bad_page_threshold_ratio',
    read: last('badPages'),
    say: (value) => `${percent(value)} of the bad pages at which the driver asks for a replacement`,
    show: percent,
  },
  sibling_clock: {
    metric: 'gpu_clock_hertz{domain="sm"} against siblings',
    read: fact('clockRatio'),
    say: (value) =>
      `runs at ${percent(value)} of its siblings' clock, and no power cap or set clock explains it`,
    show: percent,
  },
  pcie_width: {
    metric: 'gpu_pcie_link_width',
    read: (gpu, at) => (isFresh(gpu, INPUT.pcieWidth, at) ? gpu.pcieWidthShare : Number.NaN),
    say: (value) => `only ${percent(value)} of its PCIe lanes are up`,
    show: percent,
  },
  pcie_generation: {
    metric: 'gpu_pcie_link_generation',
    read: (gpu, at) => (isFresh(gpu, INPUT.pcieGeneration, at) ? gpu.pcieStepsDown : Number.NaN),
    say: (value) => `PCIe ${count(value)} ${plural(value, 'generation')} below its highest under load`,
    show: count,
  },
  pcie_replays: {
    metric: 'gpu_pcie_replay_total',
    read: (gpu, at) => (isFresh(gpu, INPUT.pcieReplays, at) ? gpu.pcieReplays.mean : Number.NaN),
    say: (value) => `${value.toFixed(0)} PCIe replays a minute`,
    show: (value) => `${count(value)} a minute`,
  },
  link_errors: {
    metric: 'gpu_link_crc_flit_errors_total, crc_data, replay, recovery',
    read: (gpu, at, nowMs) =>
      isFresh(gpu, INPUT.linkErrors, at) ? (gpu.linkErrors?.sum(nowMs) ?? 0) : Number.NaN,
    say: (value) => `${count(value)} ${plural(value, 'error')} on its links within an hour`,
    show: count,
  },
  link_bit_errors: {
    metric: 'gpu_link_effective_ber_ratio',
    read: last('linkBitErrors'),
    say: (value) => `a link has a bit error ratio of ${value.toExponential(1)}`,
    show: (value) => value.toExponential(0),
  },
  link_down: {
    metric: 'gpu_link_state',
    read: linksDown,
    say: (value, gpu) => `${count(value)} of its ${linksOf(gpu)}links ${value === 1 ? 'is' : 'are'} down`,
    show: count,
  },
  step_time: {
    metric: 'step time against job peers',
    read: fact('stepTimeRatio'),
    say: (value) => `needs ${percent(value)} of the time of its job's peers for a step`,
    show: percent,
  },
  xid: {
    metric: 'xid',
    read: incidentWeight('xid'),
    say: (_, gpu, nowMs) => incidentWords(gpu, 'xid', 'Xid', nowMs),
    show: fixed,
  },
  sxid: {
    metric: 'sxid',
    read: incidentWeight('sxid'),
    say: (_, gpu, nowMs) => incidentWords(gpu, 'sxid', 'SXid', nowMs),
    show: fixed,
  },
  ras: {
    metric: 'ras',
    read: incidentWeight('ras'),
    say: (_, gpu, nowMs) => incidentWords(gpu, 'ras', 'RAS', nowMs),
    show: fixed,
  },
  failed_diagnostic: {
    metric: 'diagnostic',
    read: incidentWeight('diagnostic'),
    say: (_, gpu, nowMs) => incidentWords(gpu, 'diagnostic', 'failed diagnostic', nowMs),
    show: fixed,
  },
  gpu_lost: {
    metric: 'gpu_lost',
    read: (gpu) => (gpu.lostMs === undefined ? 0 : 1),
    say: () => 'the GPU is gone from the node',
    show: count,
  },
  recovery_action: {
    metric: 'gpu_recovery_action',
    read: (gpu, at) => {
      const action = askedAction(gpu, at);
      return Number.isNaN(action) ? action : (RECOVERY_BADNESS[action] ?? 0);
    },
    say: (_, gpu) => `the driver asks for ${RECOVERY_WORDS[lastAction(gpu)] ?? 'an action'}`,
    show: fixed,
  },
  recent_repair: {
    metric: 'days since the last repair',
    read: (gpu, _, nowMs) =>
      gpu.repairs.length === 0 ? 0 : 2 ** (-Math.max(0, nowMs - gpu.repairs[0]!) / REPAIR_HALF_LIFE_MS),
    say: (_, gpu, nowMs) =>
      `repaired ${fixed(Math.max(0, nowMs - gpu.repairs[0]!) / DAY_MS)} days ago, and repairs often do not hold`,
    show: fixed,
  },
  repairs: {
    metric: 'repairs within 90 days',
    read: (gpu, _, nowMs) => {
      let recent = 0;
      for (const atMs of gpu.repairs) if (nowMs - atMs <= REPAIR_WINDOW_MS) recent++;
      return recent;
    },
    say: (value) => `repaired ${count(value)} ${plural(value, 'time')} within 90 days`,
    show: count,
  },
  failure_probability: {
    metric: 'failure probability within 30 days',
    read: fact('failureProbabilityRatio'),
    say: (value) => `${fixed(value)} times as likely to fail within 30 days as its fleet`,
    show: fixed,
  },
  agent_gaps: {
    metric: 'gaps in its samples',
    read: (gpu, _, nowMs) => gpu.gaps?.sum(nowMs) ?? 0,
    say: (value) =>
      `${count(value)} ${plural(value, 'gap')} in its samples, or reads that timed out, within a day`,
    show: count,
  },
};

/** NVML's nvmlDeviceGpuRecoveryAction: DCGM warns at 3 and fails at the others. */
const RECOVERY_BADNESS: Readonly<Record<number, number>> = { 1: 0.7, 2: 0.7, 3: 0.3, 4: 1 };
const RECOVERY_WORDS: Readonly<Record<number, string>> = {
  1: 'a reset of the GPU',
  2: 'a reboot of the node',
  3: 'a drain of its peer-to-peer traffic',
  4: 'a drain and a reset of the GPU',
};

/** The value of an input while it is fresh, else NaN. */
function fresh(gpu: GpuRecord, input: number, at: number): number {
  return at <= gpu.freshUntil[input]! ? gpu.values[input]! : Number.NaN;
}

export function isFresh(gpu: GpuRecord, input: number, at: number): boolean {
  return at <= gpu.freshUntil[input]!;
}

function last(name: InputName): Signal['read'] {
  const input = INPUT[name];
  return (gpu, at) => (at <= gpu.freshUntil[input]! ? gpu.values[input]! : Number.NaN);
}

function fact(name: keyof FleetFacts): (gpu: GpuRecord, at: number) => number {
  return (gpu, at) => (at <= gpu.factsUntil ? (gpu.facts?.[name] ?? Number.NaN) : Number.NaN);
}

/** When facts that are given now expire, on the same clock. */
export function factsUntil(at: number): number {
  return at + FACTS_FRESH_MS;
}

/** What the device reports itself goes first: its margin, then its limits, then those of its model. */
function coreMargin(gpu: GpuRecord, at: number): number {
  const margin = fresh(gpu, INPUT.margin, at);
  if (!Number.isNaN(margin)) return margin;
  const { limits } = gpu.profile;
  const highest = fresh(gpu, INPUT.maxOperatingLimit, at);
  const slowdown = fresh(gpu, INPUT.slowdownLimit, at);
  const reported =
    highest >= LOWEST_REAL_LIMIT ? highest : slowdown >= LOWEST_REAL_LIMIT ? slowdown : Number.NaN;
  const hotspot = fresh(gpu, INPUT.hotspot, at);
  if (!Number.isNaN(hotspot))
    return (Number.isNaN(reported) ? limits.hotspot_slowdown_celsius : reported) - hotspot;
  const ofModel = Number.isNaN(limits.max_operating_celsius)
    ? limits.slowdown_celsius
    : limits.max_operating_celsius;
  return (Number.isNaN(reported) ? ofModel : reported) - fresh(gpu, INPUT.core, at);
}

function memoryMargin(gpu: GpuRecord, at: number): number {
  const limit = fresh(gpu, INPUT.memoryLimit, at);
  const highest = limit >= LOWEST_REAL_LIMIT ? limit : gpu.profile.limits.memory_max_celsius;
  return highest - fresh(gpu, INPUT.memory, at);
}

function thermalShare(gpu: GpuRecord, at: number): number {
  const known =
    isFresh(gpu, INPUT.hwThermal, at) ||
    isFresh(gpu, INPUT.swThermal, at) ||
    isFresh(gpu, INPUT.clockReasons, at);
  if (!known) return Number.NaN;
  const hardware = gpu.hwThermal.share;
  const software = gpu.swThermal.share;
  if (Number.isNaN(hardware)) return Number.isNaN(software) ? 0 : software;
  return Number.isNaN(software) ? hardware : Math.min(1, hardware + software);
}

/**
 * Links that are down and should not be. A board without a bridge has all of its links down, as it was built: only
 * where another one is up, or was, is one that is down a fault. Disabled ones are how somebody set them.
 */
function linksDown(gpu: GpuRecord, at: number): number {
  const down = fresh(gpu, INPUT.linksDown, at);
  if (!(down > 0)) return down;
  return fresh(gpu, INPUT.linksUp, at) > 0 || gpu.mostLinksUp > 0 ? down : 0;
}

function linksOf(gpu: GpuRecord): string {
  const { link_count: links } = gpu.profile.limits;
  return Number.isNaN(links) ? '' : `${links} `;
}

function askedAction(gpu: GpuRecord, at: number): number {
  const action = fresh(gpu, INPUT.recoveryAction, at);
  return Number.isNaN(action) ? gpu.askedAction : action;
}

function lastAction(gpu: GpuRecord): number {
  const action = gpu.values[INPUT.recoveryAction]!;
  return Number.isNaN(action) ? gpu.askedAction : action;
}

function incidentWeight(type: IncidentType): Signal['read'] {
  return (gpu, _, nowMs) =>
    gpu.incidents.size === 0 ? 0 : gpu.incidents.weight(type, nowMs, gpu.profile.events);
}

/** Incidents named in one sentence. */
const NAMED = 3;

function incidentWords(gpu: GpuRecord, type: IncidentType, what: string, nowMs: number): string {
  const all = gpu.incidents.list(type, nowMs, gpu.profile.events).filter(({ weight }) => weight > 0);
  const named = all.slice(0, NAMED).map((one) => incidentPhrase(one, what, nowMs));
  const more = all.length > NAMED ? `, and ${all.length - NAMED} more` : '';
  return `${named.join(', ')}${more}`;
}

export function incidentPhrase({ code, name, atMs }: Incident, what: string, nowMs: number): string {
  const label = name === '' || name === code ? `${what} ${code}` : `${what} ${code} (${name})`;
  return `${label} ${ago(nowMs - atMs)}`;
}

function ago(ms: number): string {
  const minutes = Math.max(0, Math.round(ms / 60_000));
  if (minutes < 1) return 'just now';
  if (minutes < 120) return `${minutes} min ago`;
  return minutes < 2_880 ? `${Math.round(minutes / 60)} h ago` : `${Math.round(minutes / 1440)} days ago`;
}

function degrees(value: number): string {
  return `${Number(value.toFixed(1))} °C`;
}

function percent(value: number): string {
  return `${Number((value * 100).toPrecision(3))} %`;
}

function fixed(value: number): string {
  return String(Number(value.toPrecision(3)));
}

function count(value: number): string {
  return String(Number(value.toFixed(2)));
}

function plural(value: number, word: string): string {
  return value === 1 ? word : `${word}s`;
}
