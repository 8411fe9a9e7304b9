import type { Source } from '#shared/model/block.ts';
import { DecayedMean, DecayedShare } from './badness.ts';
import type { Contribution } from './compose-score.ts';
import { INPUT, INPUTS } from './gpu-inputs.ts';
import { HealthStateMachine } from './state-machine.ts';

/** Bits of gpu_clock_event_reasons (NVML, nvmlClocksEventReasons). Idle, power cap and application clocks are not ills. */
const SW_THERMAL = 0x20;
export const HW_THERMAL = 0x40;
const HW_POWER_BRAKE = 0x80;

/** Xid codes kept of one GPU: the newest time of each. */
const MAX_CODES = 32;

/** What is known of one GPU. About 1 kB. */
export class GpuRecord {
  source: Source;
  gpu: string;
  readonly uuid: string;
  model: string;
  /** The newest value of each input; NaN where it was never there, or the source said that it is not there. */
  readonly values = new Float64Array(INPUTS).fill(Number.NaN);
  /** Sample time of each value, Unix milliseconds. */
  readonly sampledMs = new Float64Array(INPUTS).fill(Number.NaN);
  /** Until when each value counts as fresh, on the aggregator's monotonic clock. */
  readonly freshUntil = new Float64Array(INPUTS).fill(Number.NEGATIVE_INFINITY);
  /** Half-life of 30 min: a slowdown is forgotten over hours. Ten minutes of floor: see DecayedShare. */
  readonly hwThermal = new DecayedShare(1800, 600);
  readonly swThermal = new DecayedShare(1800, 600);
  readonly powerBrake = new DecayedShare(1800, 600);
  /** Replays a minute, over the three minutes in a row that DCGM's limits are meant for. */
  readonly pcieReplays = new DecayedMean(180, 0);
  /** Power over the enforced limit, over a minute: the average of one second may overshoot. */
  readonly powerRatio = new DecayedMean(60, 1);
  /** Newest time of each Xid code, by the event's own clock. */
  readonly xids = new Map<number, number>();
  /** When it was reported as lost; undefined while it is there. */
  lostMs: number | undefined;
  readonly machine = new HealthStateMachine();
  score = 100;
  coverage = 0;
  contributions: readonly Contribution[] = [];
  evaluatedMs = 0;
  /** Newest moment at which any input was fresh, on the monotonic clock. */
  liveUntil = Number.NEGATIVE_INFINITY;

  constructor(source: Source, gpu: string, uuid: string, model: string) {
    this.source = source;
    this.gpu = gpu;
    this.uuid = uuid;
    this.model = model;
  }

  /** Takes one value. `Number.NaN` for a series that the source did not give. */
  take(input: number, value: number, timestampMs: number, freshUntil: number): void {
    const before = this.values[input]!;
    const spanS = (timestampMs - this.sampledMs[input]!) / 1000;
    this.values[input] = value;
    if (Number.isNaN(value)) return;
    this.sampledMs[input] = timestampMs;
    this.freshUntil[input] = freshUntil;
    this.liveUntil = Math.max(this.liveUntil, freshUntil);
    if (!(spanS > 0)) return;
    // A counter that fell was reset: its increase since is what it shows now.
    const increase = Number.isNaN(before) ? 0 : value >= before ? value - before : value;
    this.#accumulate(input, value, increase, spanS);
  }

  noteXid(code: number, timestampMs: number): void {
    const known = this.xids.get(code);
    if (known !== undefined && known >= timestampMs) return;
    this.xids.delete(code);
    if (this.xids.size >= MAX_CODES)
      for (const oldest of this.xids.keys()) if (this.xids.delete(oldest)) break;
    this.xids.set(code, timestampMs);
  }

  #accumulate(input: number, value: number, increase: number, spanS: number): void {
    switch (input) {
      case INPUT.hwThermal:
        this.hwThermal.add(increase, spanS);
        break;
      case INPUT.swThermal:
        this.swThermal.add(increase, spanS);
        break;
      case INPUT.powerBrake:
        this.powerBrake.add(increase, spanS);
        break;
      case INPUT.clockReasons:
        // Where the source has no counters, what it shows at each sample stands for the time since the last.
        if (Number.isNaN(this.values[INPUT.hwThermal]!) && Number.isNaN(this.values[INPUT.swThermal]!)) {
          this.hwThermal.add(value & (SW_THERMAL | HW_THERMAL) ? spanS : 0, spanS);
        }
        if (Number.isNaN(this.values[INPUT.powerBrake]!)) {
          this.powerBrake.add(value & HW_POWER_BRAKE ? spanS : 0, spanS);
        }
        break;
      case INPUT.pcieReplays:
        this.pcieReplays.add((increase / spanS) * 60, spanS);
        break;
      case INPUT.power:
        if (this.values[INPUT.powerLimit]! > 0)
          this.powerRatio.add(value / this.values[INPUT.powerLimit]!, spanS);
        break;
    }
  }
}
