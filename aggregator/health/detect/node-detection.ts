import type { Block, Source } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import type { DetectorName } from './anomaly.ts';
import { type BoundProgram, bindProgram, MAX_GPUS } from './bound-program.ts';
import {
  CHANNEL_COUNT,
  CHANNELS,
  CONDITION_COUNT,
  CONDITIONS,
  LINK_PERSIST_MS,
  SENSOR_COUNT,
  SENSORS,
} from './channels.ts';
import type { DetectionLimits } from './detection-limits.ts';
import { FRAME, FRAME_WIDTH } from './gpu-frame.ts';
import { compileProgram } from './node-program.ts';
import { NodeRows } from './node-rows.ts';

/** Where findings go, and what is known of a GPU's incidents. */
export interface FindingSink {
  isOpen(uuid: string): boolean;
  found(
    row: NodeGpu,
    detector: DetectorName,
    signal: string,
    value: number,
    expected: number,
    strength: number,
    atMs: number,
  ): void;
  /** What else moved on a GPU that has an incident: opens none, and keeps none open. */
  alsoMoved(uuid: string, detector: DetectorName, signal: string, value: number, expected: number): void;
  /** Whether any incident is open. */
  anyOpen(): boolean;
  /** Whether so many series more may be watched. */
  admit(series: number): boolean;
}

export interface NodeGpu {
  gpu: string;
  readonly uuid: string;
  model: string;
  readonly signals: string[];
  /** Nothing is judged before. */
  holdUntilMs: number;
}

/**
 * After a longer gap a node is looked at as if for the first time: what it did meanwhile is not known. Of what comes
 * every few minutes, so many intervals are none.
 */
const LONGEST_GAP_SECONDS = 300;
const GAP_INTERVALS = 2.5;
/** A clock that goes back further than this was set; less is a repeat. */
const CLOCK_STEP_SECONDS = 60;
/** Groups of a node whose time is known; a node has about ten. */
const MAX_GROUPS = 64;
/** A GPU that came back settles within this time. */
const HOLD_MS = 120_000;
/** Values of another group of the node count for so many intervals, and for so long at least. */
const FRESH_INTERVALS = 3;
const FRESH_MS = 90_000;
/** Share at which a GPU with an incident moves what is usual; what load explains it teaches nothing of. */
const LEARNING_WITH_INCIDENT = 0.05;
/** Fewer GPUs have nothing in common: one of them might be half of it. */
const LEAST_IN_COMMON = 4;
/** No sensor shows more: what is learned would never be what it was. */
const LARGEST = 1e18;
/** A GPU works from here on. */
const WORKING = 0.05;

/** The detectors of one node, over the rows that its dictionaries name. */
export class NodeDetection {
  readonly source: Source;
  /** By the aggregator's monotonic clock, for forgetting. */
  heardMs = 0;
  readonly #limits: DetectionLimits;
  readonly #sink: FindingSink;
  readonly #rows = new NodeRows();
  readonly #sorted = new Float64Array(MAX_GPUS);
  readonly #bound = new WeakMap<Dictionary, BoundProgram>();
  /** Time of the newest tick of each group: one whose dictionary changed goes on. */
  readonly #groupMs = new Map<string, number>();

  constructor(source: Source, limits: DetectionLimits, sink: FindingSink) {
    this.source = source;
    this.#limits = limits;
    this.#sink = sink;
  }

  get rows(): NodeRows {
    return this.#rows;
  }

  gpuOf(uuid: string): NodeGpu | undefined {
    const row = this.#rows.gpuRow(uuid);
    return row === undefined ? undefined : this.#rows.gpus[row];
  }

  evaluate(block: Block): void {
    const program = this.#bound.get(block.dictionary) ?? this.#bind(block.dictionary);
    const t = block.timestampMs;
    const seconds = (t - program.lastMs) / 1000;
    if (seconds <= 0 && seconds > -CLOCK_STEP_SECONDS) return;
    program.lastMs = t;
    this.#noteGroup(block.dictionary.group, t);
    const { intervalMs } = block.dictionary;
    const longest = Math.max(LONGEST_GAP_SECONDS, (GAP_INTERVALS * intervalMs) / 1000);
    const goesOn = seconds > 0 && seconds <= longest;
    this.#scatter(program, block);
    if (!goesOn) for (const row of program.gpus) this.#rows.rearm(row);
    this.#stepLoads(program, block);
    if (goesOn) {
      this.#stepChannels(program, t, seconds);
      this.#stepSensors(program, t);
      this.#stepConditions(program, t, seconds);
      this.#stepLinks(program, block, seconds);
    }
    program.background.step(block);
    if (this.#sink.anyOpen()) program.background.tell(block, this.#sink.alsoMoved);
    for (const row of program.gpus) this.#rows.gauges.remember(row, this.#rows.frame);
    this.#stepCounters(program, block, goesOn ? seconds : longest);
  }

  /** The GPU, or all of them: forget what is held against them, and look away while they settle. */
  rearm(gpu: string, uuid: string, atMs: number, counters: boolean): void {
    for (const [row, one] of this.#rows.gpus.entries()) {
      if (uuid !== '' ? one.uuid !== uuid : gpu !== '' && one.gpu !== gpu) continue;
      this.#rows.rearm(row);
      one.holdUntilMs = atMs + HOLD_MS;
      if (counters) this.#rows.rearmCounters(row);
    }
  }

  /** A job came or went: what follows it is not judged by what was before. */
  rearmLoad(): void {
    for (let row = 0; row < this.#rows.gpus.length; row++) this.#rows.rearmLoad(row);
  }

  #bind(dictionary: Dictionary): BoundProgram {
    const program = bindProgram(compileProgram(this.source, dictionary), this.#rows, this.#sink);
    program.lastMs = this.#groupMs.get(dictionary.group) ?? Number.NaN;
    this.#bound.set(dictionary, program);
    return program;
  }

  #noteGroup(group: string, t: number): void {
    if (this.#groupMs.size >= MAX_GROUPS && !this.#groupMs.has(group)) return;
    this.#groupMs.set(group, t);
  }

  #scatter({ slots, places, foreign }: BoundProgram, block: Block): void {
    const { frame, frameMs } = this.#rows;
    const { values, states, timestampMs } = block;
    for (let i = 0; i < slots.length; i++) {
      const slot = slots[i]!;
      const place = places[i]!;
      const value = states[slot] === SlotState.Present ? values[slot]! : Number.NaN;
      frame[place] = Math.abs(value) <= LARGEST ? value : Number.NaN;
      frameMs[place] = timestampMs;
    }
    const oldest = timestampMs - Math.max(FRESH_MS, FRESH_INTERVALS * block.dictionary.intervalMs);
    for (let i = 0; i < foreign.length; i++) {
      const place = foreign[i]!;
      if (frameMs[place]! < oldest) frame[place] = Number.NaN;
    }
  }

  #stepLoads({ powered }: BoundProgram, block: Block): void {
    const { frame, gauges } = this.#rows;
    for (let i = 0; i < powered.length; i++) {
      const row = powered[i]!;
      const at = row * FRAME_WIDTH;
      const watts = frame[at + FRAME.power]!;
      if (Number.isNaN(watts)) gauges.filter.rearm(row);
      else
        gauges.filter.step(
          row,
          watts,
          frame[at + FRAME.energy]!,
          frame[at + FRAME.rated]!,
          block.timestampMs,
        );
    }
  }

  #stepChannels({ channels }: BoundProgram, t: number, seconds: number): void {
    for (let channel = 0; channel < CHANNEL_COUNT; channel++) {
      const rows = channels[channel]!;
      const common = this.#consider(rows, channel, t, seconds);
      for (let i = 0; i < rows.length; i++) this.#judge(rows[i]!, channel, common, t, seconds);
    }
  }

  /** What is left of the channel after what explains it, for each GPU; gives what they have in common. */
  #consider(rows: Int32Array, channel: number, t: number, seconds: number): number {
    const { gpus, frame, gauges, expected, left, tolerances } = this.#rows;
    let known = 0;
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i]!;
      const at = row * CHANNEL_COUNT + channel;
      const gpu = gpus[row]!;
      expected[at] = Number.NaN;
      left[at] = Number.NaN;
      if (t < gpu.holdUntilMs) continue;
      const taught = this.#sink.isOpen(gpu.uuid) ? 0 : seconds;
      if (!gauges.consider(row, channel, frame, taught)) continue;
      if (gauges.tolerance <= CHANNELS[channel]!.sigma) expected[at] = gauges.expected;
      left[at] = gauges.residual;
      tolerances[at] = gauges.tolerance;
      this.#sorted[known++] = gauges.residual;
    }
    const most = CHANNELS[channel]!.common;
    return known < LEAST_IN_COMMON ? 0 : Math.max(-most, Math.min(most, middle(this.#sorted, known)));
  }

  #judge(row: number, channel: number, common: number, t: number, seconds: number): void {
    const { gpus, residuals, left, tolerances } = this.#rows;
    const at = row * CHANNEL_COUNT + channel;
    const residual = left[at]!;
    if (Number.isNaN(residual)) return;
    const gpu = gpus[row]!;
    const isOpen = this.#sink.isOpen(gpu.uuid);
    const taught = isOpen ? seconds * LEARNING_WITH_INCIDENT : seconds;
    residuals.step(at, residual - common, tolerances[at]!, taught, t, this.#limits.channels[channel]!);
    if (!isOpen && !Number.isNaN(residuals.z)) this.#limits.note(channel, residuals.z, residuals.cusum);
    if (residuals.level > 0) this.#foundGauge(row, channel, 'level', residuals.level, common, t);
    if (residuals.shift > 0) this.#foundGauge(row, channel, 'shift', residuals.shift, common, t);
    this.#stepSlope(row, channel, common, seconds, t);
  }

  #stepSlope(row: number, channel: number, common: number, seconds: number, t: number): void {
    const { drift, metric } = CHANNELS[channel]!;
    const at = row * CHANNEL_COUNT + channel;
    const { left, slopes, tolerances } = this.#rows;
    if (drift === Number.POSITIVE_INFINITY || tolerances[at]! > 1) return;
    const strength = slopes.step(at, left[at]! - common, seconds, drift * this.#limits.timesOf(metric));
    if (strength >= 1) this.#foundGauge(row, channel, 'slope', strength, common, t);
  }

  #foundGauge(
    row: number,
    channel: number,
    detector: DetectorName,
    strength: number,
    common: number,
    t: number,
  ): void {
    const { gpus, frame, left, residuals } = this.#rows;
    const input = FRAME[CHANNELS[channel]!.target];
    const gpu = gpus[row]!;
    const value = frame[row * FRAME_WIDTH + input]!;
    const expected = value - left[row * CHANNEL_COUNT + channel]! + common + residuals.expected;
    this.#sink.found(gpu, detector, gpu.signals[input]!, value, expected, strength, t);
  }

  #stepSensors({ sensors }: BoundProgram, t: number): void {
    const { gpus, frame, frozen, expected } = this.#rows;
    for (let i = 0; i < sensors.length; i++) {
      const at = sensors[i]!;
      const row = Math.floor(at / SENSOR_COUNT);
      const { target, expectedBy, moved, fine } = SENSORS[at - row * SENSOR_COUNT]!;
      const input = FRAME[target];
      const value = frame[row * FRAME_WIDTH + input]!;
      if (Number.isNaN(value) || t < gpus[row]!.holdUntilMs) {
        frozen.rearm(at);
        continue;
      }
      const working = frame[row * FRAME_WIDTH + FRAME.busy]! > WORKING;
      const should = expected[row * CHANNEL_COUNT + expectedBy]!;
      const surprise = fine ? this.#limits.frozen : Number.POSITIVE_INFINITY;
      const strength = frozen.step(at, value, t, working, should, moved, surprise);
      if (strength < 1) continue;
      const gpu = gpus[row]!;
      this.#sink.found(gpu, 'frozen', gpu.signals[input]!, value, should, strength, t);
    }
  }

  #stepConditions({ conditions }: BoundProgram, t: number, seconds: number): void {
    const { gpus, frame, states, widths } = this.#rows;
    for (let i = 0; i < conditions.length; i++) {
      const at = conditions[i]!;
      const row = Math.floor(at / CONDITION_COUNT);
      const { target, persistMs } = CONDITIONS[at - row * CONDITION_COUNT]!;
      const input = FRAME[target];
      const value = frame[row * FRAME_WIDTH + input]!;
      if (Number.isNaN(value)) continue;
      let normal = Number.NaN;
      let holds = false;
      if (target === 'up') {
        normal = 1;
        holds = value === 0;
      } else {
        const most = frame[row * FRAME_WIDTH + FRAME.widthMax]!;
        widths[row] = Math.max(widths[row]!, value);
        normal = Number.isNaN(most) ? widths[row]! : most;
        holds = value < normal;
      }
      const strength = states.step(at, holds, seconds, persistMs);
      if (strength < 1) continue;
      const gpu = gpus[row]!;
      this.#sink.found(gpu, 'level', gpu.signals[input]!, value, normal, strength, t);
    }
  }

  #stepLinks({ linkSlots, linkRows }: BoundProgram, block: Block, seconds: number): void {
    const { links, linkGpus, linkSignals, gpus } = this.#rows;
    for (let i = 0; i < linkSlots.length; i++) {
      const slot = linkSlots[i]!;
      if (block.states[slot] !== SlotState.Present) continue;
      const row = linkRows[i]!;
      const strength = links.step(row, block.values[slot] === 0, seconds, LINK_PERSIST_MS);
      if (strength < 1) continue;
      this.#sink.found(gpus[linkGpus[row]!]!, 'level', linkSignals[row]!, 0, 1, strength, block.timestampMs);
    }
  }

  #stepCounters({ counterSlots, counterRows }: BoundProgram, block: Block, gapSeconds: number): void {
    const { counters, counterGpus, counterSignals, counterMetrics, gpus } = this.#rows;
    const { values, states, timestampMs } = block;
    for (let i = 0; i < counterSlots.length; i++) {
      const slot = counterSlots[i]!;
      if (states[slot] !== SlotState.Present || !(values[slot]! <= LARGEST)) continue;
      const row = counterRows[i]!;
      const strength = counters.step(row, values[slot]!, timestampMs, gapSeconds, this.#limits.rate);
      if (strength === 0) continue;
      const judged = strength / this.#limits.timesOf(counterMetrics[row]!);
      const gpu = gpus[counterGpus[row]!]!;
      if (judged >= 1)
        this.#sink.found(
          gpu,
          'rate',
          counterSignals[row]!,
          counters.value,
          counters.expected,
          judged,
          timestampMs,
        );
    }
  }
}

/** The median of the first `count` values, which are sorted in place. */
function middle(values: Float64Array, count: number): number {
  for (let i = 1; i < count; i++) {
    const value = values[i]!;
    let j = i;
    for (; j > 0 && values[j - 1]! > value; j--) values[j] = values[j - 1]!;
    values[j] = value;
  }
  const half = count >> 1;
  return count % 2 === 1 ? values[half]! : (values[half - 1]! + values[half]!) / 2;
}
