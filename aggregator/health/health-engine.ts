import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  type GpuHealth,
  GpuHealthSchema,
  HealthContributionSchema,
  HealthState,
} from '#proto/gpufleet/health/v1/health_pb.ts';
import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Block, Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import { type Dictionary, labelOf } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { composeScore } from './compose-score.ts';
import { INPUT, inputOf } from './gpu-inputs.ts';
import { GpuRecord } from './gpu-record.ts';
import { complaintsOf, fresh } from './signals.ts';

export interface HealthEngineOptions {
  readonly clock: Clock;
  readonly registry: Registry;
  /** Most GPUs known at once; 200,000 by default (about 200 MB). */
  readonly maxGpus?: number;
}

/** One row for the derived series. */
export interface GpuScore {
  readonly source: Source;
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
  readonly score: number;
  readonly state: HealthState;
  readonly coverage: number;
  readonly evaluatedMs: number;
}

/** A value counts as fresh for three intervals, and one second for the way. */
const FRESH_INTERVALS = 3;
const FRESH_SLACK_MS = 1_000;
/** Below this share of the signals nothing can be said; the plainest exporters give about a quarter. */
const LEAST_COVERAGE = 0.1;
/** A critical GPU that falls silent stays critical for so long: silence heals nothing. */
const CRITICAL_HOLD_MS = 24 * 3_600_000;
/** A GPU not heard of for this long is forgotten when the room is needed. */
const FORGET_MS = 24 * 3_600_000;
/** How often all GPUs may be looked through for silent ones. */
const FORGET_INTERVAL_MS = 60_000;

/** Which slots of a dictionary are inputs of which GPU. */
interface GpuProgram {
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
  readonly slots: readonly number[];
  readonly inputs: readonly number[];
}

/**
 * The health of each GPU, from the live samples and the events. Backlog is not looked at: gauges of the past say
 * nothing of now, and counters carry what they counted into the next live sample. A GPU is its UUID; where two nodes
 * claim the same one, the node that is heard keeps it.
 */
export class HealthEngine {
  readonly #clock: Clock;
  readonly #maxGpus: number;
  readonly #gpus = new Map<string, GpuRecord>();
  /** By cluster, node and index, for events that name no UUID. */
  readonly #byIndex = new Map<string, GpuRecord>();
  readonly #programs = new WeakMap<Source, WeakMap<Dictionary, GpuProgram[]>>();
  readonly #refused: Counter<'reason'>;
  #forgotAt = Number.NEGATIVE_INFINITY;

  constructor(options: HealthEngineOptions) {
    this.#clock = options.clock;
    this.#maxGpus = options.maxGpus ?? 200_000;
    this.#refused = counter(options.registry, {
      name: 'gpufleet_health_refused_total',
      help: 'Samples of a GPU not looked at: too many GPUs, or another node has the GPU.',
      labelNames: ['reason'],
    });
    const scores = () => this.scores();
    gauge(options.registry, {
      name: 'gpufleet_health_gpus',
      help: 'GPUs by health state.',
      labelNames: ['state'],
      collect() {
        const counts: Record<string, number> = { healthy: 0, degraded: 0, critical: 0, unknown: 0 };
        for (const { state } of scores()) counts[healthStateName(state)]!++;
        for (const state in counts) this.set({ state }, counts[state]!);
      },
    });
  }

  evaluate(block: Block): void {
    if (!block.live) return;
    const now = this.#clock.monotonic();
    const freshUntil = now + FRESH_INTERVALS * block.dictionary.intervalMs + FRESH_SLACK_MS;
    for (const program of this.#programsOf(block)) {
      const record = this.#recordOf(block.source, program, now);
      if (record === undefined) continue;
      for (let i = 0; i < program.slots.length; i++) {
        const slot = program.slots[i]!;
        const value = block.states[slot] === SlotState.Present ? block.values[slot]! : Number.NaN;
        record.take(program.inputs[i]!, value, block.timestampMs, freshUntil);
      }
      if (record.lostMs !== undefined && this.#isBack(record, block.timestampMs)) record.lostMs = undefined;
      this.#score(record, now);
    }
  }

  /** Takes an event of any lane: an old Xid counts by its own time. */
  event(source: Source, event: FleetEvent): void {
    if (event.type !== 'xid' && event.type !== 'gpu_lost' && event.type !== 'gpu_back') return;
    const now = this.#clock.monotonic();
    const record = this.#recordOfEvent(source, event, now);
    if (record === undefined) return;
    if (event.type === 'xid') {
      const code = Number(event.attributes.code);
      if (Number.isInteger(code) && code >= 0)
        record.noteXid(code, Math.min(event.timestampMs, this.#clock.now()));
    } else {
      record.lostMs = event.type === 'gpu_lost' ? event.timestampMs : undefined;
    }
    this.#score(record, now);
  }

  /** With a sentence for each point lost; undefined for a GPU that was never heard of. */
  healthOf(uuid: string): GpuHealth | undefined {
    const record = this.#gpus.get(uuid);
    if (record === undefined) return undefined;
    const now = this.#clock.monotonic();
    return create(GpuHealthSchema, {
      score: record.score,
      state: this.#stateOf(record, now),
      contributions: record.contributions.map((one) => create(HealthContributionSchema, one)),
      coverage: now <= record.liveUntil ? record.coverage : 0,
      evaluatedAt: timestampFromMs(record.evaluatedMs),
    });
  }

  /** Score and state alone, for lists: `healthOf` without its sentences. */
  scoreOf(uuid: string): { readonly score: number; readonly state: HealthState } | undefined {
    const record = this.#gpus.get(uuid);
    return record && { score: record.score, state: this.#stateOf(record, this.#clock.monotonic()) };
  }

  /** The score of every GPU that is known, also of those that are silent: the state tells them apart. */
  *scores(): Iterable<GpuScore> {
    const now = this.#clock.monotonic();
    for (const record of this.#gpus.values()) {
      const { source, gpu, uuid, model, score, evaluatedMs } = record;
      const coverage = now <= record.liveUntil ? record.coverage : 0;
      yield { source, gpu, uuid, model, score, state: this.#stateOf(record, now), coverage, evaluatedMs };
    }
  }

  #score(record: GpuRecord, now: number): void {
    const nowMs = this.#clock.now();
    const { complaints, caps, coverage } = complaintsOf(record, now, nowMs);
    record.coverage = coverage;
    record.evaluatedMs = nowMs;
    if (complaints.length === 0 && caps.length === 0) {
      record.score = 100;
      record.contributions = [];
    } else {
      const { score, contributions } = composeScore(complaints, caps);
      record.score = score;
      record.contributions = contributions;
    }
    if (this.#isKnown(record, now) || caps.length > 0) record.machine.step(record.score, now);
  }

  #stateOf(record: GpuRecord, now: number): HealthState {
    const { state } = record.machine;
    if (state === HealthState.UNSPECIFIED) return HealthState.UNKNOWN;
    if (this.#isKnown(record, now)) return state;
    const heard = this.#clock.now() - record.evaluatedMs;
    return state === HealthState.CRITICAL && heard <= CRITICAL_HOLD_MS ? state : HealthState.UNKNOWN;
  }

  /** Fresh temperature or power, and enough of the rest. */
  #isKnown(record: GpuRecord, now: number): boolean {
    if (now > record.liveUntil || record.coverage < LEAST_COVERAGE) return false;
    return VITAL.some((name) => !Number.isNaN(fresh(record, name, now)));
  }

  /** It is there again when it gives samples that are newer than its loss, unless the node says that it is not. */
  #isBack(record: GpuRecord, timestampMs: number): boolean {
    if (record.values[INPUT.up] === 0) return false;
    return VITAL.some((name) => {
      const sampled = record.sampledMs[INPUT[name]]!;
      return sampled === timestampMs && sampled > record.lostMs!;
    });
  }

  #programsOf(block: Block): GpuProgram[] {
    let programs = this.#programs.get(block.source);
    if (programs === undefined) {
      programs = new WeakMap();
      this.#programs.set(block.source, programs);
    }
    let program = programs.get(block.dictionary);
    if (program === undefined) {
      program = compilePrograms(block.source, block.dictionary);
      programs.set(block.dictionary, program);
    }
    return program;
  }

  #recordOf(
    source: Source,
    program: Omit<GpuProgram, 'slots' | 'inputs'>,
    now: number,
  ): GpuRecord | undefined {
    const { gpu, uuid, model } = program;
    let record = this.#gpus.get(uuid);
    if (record === undefined) {
      if (this.#gpus.size >= this.#maxGpus) this.#forgetSilent(now);
      if (this.#gpus.size >= this.#maxGpus) {
        this.#refused.inc({ reason: 'too_many' });
        return undefined;
      }
      record = new GpuRecord(source, gpu, uuid, model);
      this.#gpus.set(uuid, record);
      this.#byIndex.set(indexKey(source, gpu), record);
    } else if (record.source !== source || record.gpu !== gpu) {
      return this.#move(record, source, gpu, now);
    }
    if (model !== '') record.model = model;
    return record;
  }

  /** The GPU comes by another stream: the same node anew, or another node. */
  #move(record: GpuRecord, source: Source, gpu: string, now: number): GpuRecord | undefined {
    const sameNode = record.source.node === source.node && record.source.cluster === source.cluster;
    if (!sameNode && now <= record.liveUntil) {
      this.#refused.inc({ reason: 'other_node' });
      return undefined;
    }
    const before = indexKey(record.source, record.gpu);
    if (this.#byIndex.get(before) === record) this.#byIndex.delete(before);
    record.source = source;
    record.gpu = gpu;
    this.#byIndex.set(indexKey(source, gpu), record);
    return record;
  }

  #recordOfEvent(source: Source, event: FleetEvent, now: number): GpuRecord | undefined {
    if (event.gpuUuid === '') return this.#byIndex.get(indexKey(source, event.gpu));
    return this.#recordOf(source, { gpu: event.gpu, uuid: event.gpuUuid, model: '' }, now);
  }

  #forgetSilent(now: number): void {
    if (now - this.#forgotAt < FORGET_INTERVAL_MS) return;
    this.#forgotAt = now;
    for (const [uuid, record] of this.#gpus) {
      if (now - record.liveUntil < FORGET_MS) continue;
      this.#gpus.delete(uuid);
      const index = indexKey(record.source, record.gpu);
      if (this.#byIndex.get(index) === record) this.#byIndex.delete(index);
    }
  }
}

const VITAL = ['core', 'hotspot', 'power'] as const;

export function healthStateName(state: HealthState): 'healthy' | 'degraded' | 'critical' | 'unknown' {
  switch (state) {
    case HealthState.HEALTHY:
      return 'healthy';
    case HealthState.DEGRADED:
      return 'degraded';
    case HealthState.CRITICAL:
      return 'critical';
    default:
      return 'unknown';
  }
}

function compilePrograms(source: Source, dictionary: Dictionary): GpuProgram[] {
  const programs = new Map<
    string,
    { gpu: string; uuid: string; model: string; slots: number[]; inputs: number[] }
  >();
  for (const [slot, { name, labels }] of dictionary.series.entries()) {
    const input = inputOf(name, labels);
    const gpu = labelOf(labels, 'gpu') ?? '';
    const uuid = labelOf(labels, 'uuid') ?? (gpu === '' ? '' : `${source.cluster}/${source.node}/${gpu}`);
    if (input < 0 || uuid === '') continue;
    let program = programs.get(uuid);
    if (program === undefined) {
      program = { gpu, uuid, model: labelOf(labels, 'model') ?? '', slots: [], inputs: [] };
      programs.set(uuid, program);
    }
    program.slots.push(slot);
    program.inputs.push(input);
  }
  return [...programs.values()];
}

function indexKey(source: Source, gpu: string): string {
  return `${source.cluster}\0${source.node}\0${gpu}`;
}
