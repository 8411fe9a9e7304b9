import type { Source } from '#shared/model/block.ts';
import { type Contribution, DIMENSION_SLOTS } from './compose-score.ts';
import { DecayedMean, DecayedShare } from './decayed.ts';
import type { FleetFacts } from './fleet-facts.ts';
import { INPUT, INPUTS, IS_COUNTER, IS_URGENT } from './gpu-inputs.ts';
import { Incidents } from './incidents.ts';
import type { Profile } from './profiles/profile.ts';
import { HealthStateMachine } from './state-machine.ts';
import { ThermalResistance } from './thermal-resistance.ts';
import { WindowCount } from './window-count.ts';

/** Bits of gpu_clock_event_reasons (NVML, nvmlClocksEventReasons). Idle, power cap and application clocks are not ills. */
const SW_THERMAL = 0x20;
export const HW_THERMAL = 0x40;
const HW_POWER_BRAKE = 0x80;

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Busy: more than half of the SMs, of the time, or of the power limit. Own judgement. */
const BUSY_SHARE = 0.5;
/** A sample stands for at most so many seconds before it: after a gap it does not speak for the gap. Own judgement. */
const LONGEST_SPAN_S = 120;
/** A sample that is older than the one before by more than this: the agent's clock was set back. */
const CLOCK_STEP_S = 60;
/** Repairs kept: more than a profile's worst count. */
const MAX_REPAIRS = 8;
/** Repairs count for so long. */
export const REPAIR_WINDOW_MS = 90 * DAY_MS;

/** By input, 1 where more than the newest value is kept. */
const ADDS_UP = new Uint8Array(INPUTS);
for (const input of [
  INPUT.hwThermal,
  INPUT.swThermal,
  INPUT.powerBrake,
  INPUT.clockReasons,
  INPUT.pcieReplays,
  INPUT.power,
  INPUT.pcieWidth,
  INPUT.pcieGeneration,
  INPUT.linksUp,
  INPUT.eccUncorrected,
  INPUT.eccUncorrectedLife,
  INPUT.eccCorrected,
  INPUT.linkErrors,
])
  ADDS_UP[input] = 1;

/** What is known of one GPU. About 2 kB; what counts errors is allocated with the first error. */
export class GpuRecord {
  source: Source;
  gpu: string;
  readonly uuid: string;
  model: string;
  profile: Profile;
  /** Whether the profile was chosen with the size of the memory known. */
  sized = false;

  /** The newest value of each input; NaN where it was never there, or the source said that it is not there. */
  readonly values = new Float64Array(INPUTS).fill(Number.NaN);
  /** Sample time of each value, Unix milliseconds. */
  readonly sampledMs = new Float64Array(INPUTS).fill(Number.NaN);
  /** Until when each value counts as fresh, on the aggregator's monotonic clock. */
  readonly freshUntil = new Float64Array(INPUTS).fill(Number.NEGATIVE_INFINITY);
  /** Which group gives each input, 0 none yet: of two that give the same one, health follows one. */
  readonly origins = new Uint32Array(INPUTS);
  /** Which dictionary's links `linkErrors` is the sum of. */
  linkProgram: object | undefined;
  /** Newest moment at which any input was fresh, on the monotonic clock. */
  liveUntil = Number.NEGATIVE_INFINITY;

  /** Half-life of 30 min: a slowdown is forgotten over hours. Ten minutes of floor: see DecayedShare. */
  readonly hwThermal = new DecayedShare(1800, 600);
  readonly swThermal = new DecayedShare(1800, 600);
  /** Of a day: half-life of 12 hours, four hours of floor. */
  readonly powerBrake = new DecayedShare(43_200, 14_400);
  /** Replays a minute, over the three minutes in a row that DCGM's limits are meant for. */
  readonly pcieReplays = new DecayedMean(180, 0);
  /** Power over the limit, over a minute: the average of one second may overshoot. */
  readonly powerRatio = new DecayedMean(60, 1);
  readonly thermalResistance = new ThermalResistance();
  /** Share of the lanes, and generations below the highest, as last seen while busy: idle links may be slower. */
  pcieWidthShare = Number.NaN;
  pcieStepsDown = Number.NaN;
  /** Most links that were up at once. */
  mostLinksUp = 0;
  /** Whether uncorrected errors since the driver was loaded were ever seen. */
  eccSeen = false;
  /** Sample time of their newest rise while they were watched, Unix ms; NaN where none was seen. */
  uncorrectedMs = Number.NaN;
  uncorrected: WindowCount | undefined;
  corrected: WindowCount | undefined;
  linkErrors: WindowCount | undefined;
  gaps: WindowCount | undefined;

  readonly incidents = new Incidents();
  /** Newest first, Unix ms. */
  repairs: readonly number[] = [];
  /** The newest read of a vital value timed out. */
  timedOut = false;
  /** Somebody said that its samples would stop for a while. */
  expectsGap = false;
  /** When it was reported as lost; undefined while it is there. */
  lostMs: number | undefined;
  /** It owed a clearing event before it was lost: that it is back pays nothing of that. */
  owedBefore = false;
  /** When it was lost the last time that it came back; NaN where it never did. */
  wentMs = Number.NaN;
  /** What the driver last asked for in the kernel log; the sample wins where there is one. */
  askedAction = Number.NaN;
  /** Events up to this moment were cleared, Unix ms. */
  clearedMs = Number.NEGATIVE_INFINITY;
  facts: FleetFacts | undefined;
  /** On the monotonic clock. */
  factsUntil = Number.NEGATIVE_INFINITY;

  readonly machine = new HealthStateMachine();
  /** When its state was entered, Unix ms. */
  stateSinceMs: number | undefined;
  score = 100;
  /** What the score would be if everything required that is missing had failed. */
  low = 100;
  /** Lowest cap that holds the score now. */
  capped: number | undefined;
  /** What that cap stands on, for people. */
  capReason = '';
  /** Share of what should be known that is, weighted by dimension, 0 to 1. */
  confidence = 0;
  /** Highest confidence of late, and when it was reached, by the monotonic clock: what its sources can tell. */
  attained = 0;
  attainedAt = Number.NEGATIVE_INFINITY;
  /** Until then its sources are still being heard for the first time, by the monotonic clock. */
  settlesAt = Number.NEGATIVE_INFINITY;
  /** By HealthDimension. */
  readonly dimensionScores = new Float64Array(DIMENSION_SLOTS).fill(100);
  readonly dimensionCoverage = new Float64Array(DIMENSION_SLOTS);
  contributions: readonly Contribution[] = [];
  /** What the contributions were made of: the same again needs no new ones. */
  stamp = 0;
  evaluatedMs = 0;
  /** Second of the monotonic clock in which it was scored. */
  scoredSecond = Number.NaN;
  /** When an event was last scored at once, by the monotonic clock. */
  eventAt = Number.NEGATIVE_INFINITY;
  /** Its place in the engine's list. */
  place = 0;
  /** Something changed that must not wait for the next turn. */
  urgent = true;

  constructor(source: Source, gpu: string, uuid: string, model: string, profile: Profile) {
    this.source = source;
    this.gpu = gpu;
    this.uuid = uuid;
    this.model = model;
    this.profile = profile;
  }

  /** Takes one value. `Number.NaN` for a series that the source did not give. */
  take(input: number, value: number, timestampMs: number, freshUntil: number): void {
    const before = this.values[input]!;
    if (Number.isNaN(value)) {
      this.freshUntil[input] = Number.NEGATIVE_INFINITY;
      // A counter goes on from where it was last seen.
      if (IS_COUNTER[input] === 0) this.values[input] = value;
      return;
    }
    const spanS = (timestampMs - this.sampledMs[input]!) / 1000;
    // Less is an old sample that comes late. After a step its time says nothing of how long it was.
    if (spanS < 0 && spanS > -CLOCK_STEP_S) return;
    this.values[input] = value;
    this.sampledMs[input] = timestampMs;
    this.freshUntil[input] = freshUntil;
    if (freshUntil > this.liveUntil) this.liveUntil = freshUntil;
    if (value !== before && IS_URGENT[input] === 1) this.urgent = true;
    if (ADDS_UP[input] === 1) this.#accumulate(input, value, before, spanS, timestampMs);
  }

  /** The input begins anew, as from a source that was not heard before. */
  forget(input: number): void {
    this.values[input] = Number.NaN;
    this.sampledMs[input] = Number.NaN;
  }

  /** Whether it computes now; `unknown` where neither utilisation nor power tell. */
  get load(): 'busy' | 'idle' | 'unknown' {
    let share = this.values[INPUT.smActive]!;
    if (Number.isNaN(share)) share = this.values[INPUT.utilization]!;
    if (Number.isNaN(share)) share = this.values[INPUT.power]! / this.powerLimit;
    if (Number.isNaN(share)) return 'unknown';
    return share > BUSY_SHARE ? 'busy' : 'idle';
  }

  /** Watts: what the device enforces, else what the model is made for. NaN where neither is known. */
  get powerLimit(): number {
    const enforced = this.values[INPUT.powerLimit]!;
    return enforced > 0 ? enforced : this.profile.limits.power_watts;
  }

  /** Somebody repaired it, by the event's own time; twice within an hour is one repair told twice. */
  noteRepair(atMs: number): void {
    if (this.repairs.some((knownMs) => Math.abs(knownMs - atMs) < HOUR_MS)) return;
    this.repairs = [...this.repairs, atMs].sort((a, b) => b - a).slice(0, MAX_REPAIRS);
    this.urgent = true;
  }

  lose(atMs: number): void {
    if (this.lostMs === undefined) this.owedBefore = this.machine.owesClearing;
    this.lostMs = atMs;
  }

  noteGap(atMs: number): void {
    this.gaps ??= new WindowCount(DAY_MS, 24);
    this.gaps.add(1, atMs);
  }

  /**
   * A passed check, a repair or an operator: what happened until then holds the score no more. What the device itself
   * still reports (a remap that is pending or has failed) stays, as it is still so. `nowMs`: a loss that lies ahead of
   * it was told by a clock that is wrong, and is cleared like any.
   */
  clear(atMs: number, nowMs: number): void {
    this.clearedMs = Math.max(this.clearedMs, atMs);
    this.incidents.clear(atMs);
    this.uncorrected?.clear();
    if (this.lostMs !== undefined && (this.lostMs <= atMs || this.lostMs > nowMs)) this.lostMs = undefined;
    // Of the kernel log, which does not take it back: a driver that still asks says so in its samples.
    this.askedAction = Number.NaN;
    this.urgent = true;
  }

  #accumulate(input: number, value: number, before: number, spanS: number, atMs: number): void {
    switch (input) {
      case INPUT.hwThermal:
        if (spanS > 0) this.#held(this.hwThermal, increaseOf(value, before), spanS);
        break;
      case INPUT.swThermal:
        if (spanS > 0) this.#held(this.swThermal, increaseOf(value, before), spanS);
        break;
      case INPUT.powerBrake:
        if (spanS > 0) this.#held(this.powerBrake, increaseOf(value, before), spanS);
        break;
      case INPUT.clockReasons:
        if (spanS > 0) this.#countReasons(value, Math.min(spanS, LONGEST_SPAN_S));
        break;
      case INPUT.pcieReplays:
        if (spanS > 0) this.pcieReplays.add((increaseOf(value, before) / spanS) * 60, spanS);
        break;
      case INPUT.power:
        if (spanS > 0) this.#countPower(value, spanS);
        break;
      case INPUT.pcieWidth:
        this.#seeWidth(value);
        break;
      case INPUT.pcieGeneration:
        this.#seeGeneration(value);
        break;
      case INPUT.linksUp:
        if (value > this.mostLinksUp) this.mostLinksUp = value;
        break;
      default:
        this.#countErrors(input, value, before, atMs);
    }
  }

  #countErrors(input: number, value: number, before: number, atMs: number): void {
    if (input === INPUT.eccUncorrected) {
      // Since the driver was loaded: what is there at first sight has not been reset since.
      const more = this.eccSeen ? increaseOf(value, before) : value;
      if (this.eccSeen && more > 0) this.uncorrectedMs = atMs;
      this.#uncorrected(more, atMs);
      this.eccSeen = true;
    } else if (input === INPUT.eccUncorrectedLife) {
      // For life: only where nothing tells those since the last reset, and only what comes to it.
      if (this.eccSeen) return;
      const more = increaseOf(value, before);
      if (more > 0) this.uncorrectedMs = atMs;
      this.#uncorrected(more, atMs);
    } else if (input === INPUT.eccCorrected) {
      const more = increaseOf(value, before);
      if (!(more > 0)) return;
      this.corrected ??= new WindowCount(DAY_MS, 24);
      this.corrected.add(more, atMs);
    } else if (input === INPUT.linkErrors) {
      // The sum of many counters: one that fell says nothing of what came to the others.
      const more = value >= before ? value - before : 0;
      if (more === 0) return;
      this.linkErrors ??= new WindowCount(HOUR_MS, 12);
      this.linkErrors.add(more, atMs);
    }
  }

  #uncorrected(more: number, atMs: number): void {
    if (!(more > 0)) return;
    this.uncorrected ??= uncorrectedWindow();
    this.uncorrected.add(more, atMs);
  }

  /** A clock that was set back must not leave a time that is to come: what happens until then would count as cleared. */
  keepPast(nowMs: number): void {
    if (this.clearedMs > nowMs) this.clearedMs = nowMs;
  }

  /** Only time with work is watched: an idle GPU is not slowed down. */
  #held(share: DecayedShare, heldS: number, spanS: number): void {
    if (this.load === 'idle' && heldS === 0) share.add(0, 0, spanS);
    else share.add(heldS, spanS, spanS);
  }

  /** Where the source has no counters, what it shows at each sample stands for the time since the last. */
  #countReasons(reasons: number, spanS: number): void {
    if (Number.isNaN(this.values[INPUT.hwThermal]!) && Number.isNaN(this.values[INPUT.swThermal]!))
      this.#held(this.hwThermal, reasons & (SW_THERMAL | HW_THERMAL) ? spanS : 0, spanS);
    if (Number.isNaN(this.values[INPUT.powerBrake]!))
      this.#held(this.powerBrake, reasons & HW_POWER_BRAKE ? spanS : 0, spanS);
  }

  #countPower(watts: number, spanS: number): void {
    const limit = this.powerLimit;
    if (!(limit > 0)) return;
    this.powerRatio.add(watts / limit, spanS);
    const hotspot = this.values[INPUT.hotspot]!;
    const celsius = Number.isNaN(hotspot) ? this.values[INPUT.core]! : hotspot;
    this.thermalResistance.add(celsius, watts, watts / limit, Math.min(spanS, LONGEST_SPAN_S));
  }

  #seeWidth(lanes: number): void {
    if (this.load === 'idle') return;
    const most = this.values[INPUT.pcieWidthMax]!;
    const share = lanes / (most > 0 ? most : this.profile.limits.pcie_width);
    if (share !== this.pcieWidthShare) this.urgent = true;
    this.pcieWidthShare = share;
  }

  /** The generation falls without work, so that only a GPU that is known to be busy tells. */
  #seeGeneration(generation: number): void {
    if (this.load !== 'busy') return;
    const most = this.values[INPUT.pcieGenerationMax]!;
    this.pcieStepsDown = (most > 0 ? most : this.profile.limits.pcie_generation) - generation;
  }
}

/** Seven days, by six hours. */
export function uncorrectedWindow(): WindowCount {
  return new WindowCount(7 * DAY_MS, 28);
}

/** A counter that fell was reset: its increase since is what it shows now. */
function increaseOf(value: number, before: number): number {
  if (Number.isNaN(before)) return 0;
  return value >= before ? value - before : value;
}
