import { crc32 } from 'node:zlib';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  DimensionScoreSchema,
  type GpuHealth,
  GpuHealthSchema,
  HealthContributionSchema,
  HealthState,
} from '#proto/gpufleet/health/v1/health_pb.ts';
import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Block, Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { type Contribution, DIMENSIONS } from './compose-score.ts';
import type { FleetFacts } from './fleet-facts.ts';
import { COMBINES, INPUT } from './gpu-inputs.ts';
import { compilePrograms, type GpuProgram, readInput } from './gpu-program.ts';
import { GpuRecord } from './gpu-record.ts';
import { clearingOf, concerns, takeEvent } from './health-events.ts';
import { builtInProfiles } from './profiles/load-profiles.ts';
import type { ProfileSet } from './profiles/profile.ts';
import { restoreRecord, saveRecord } from './saved-record.ts';
import { hasEventCap, scoreGpu } from './score-gpu.ts';
import { factsUntil, isFresh } from './signals.ts';
import type { MachineSnapshot } from './state-machine.ts';
import { CRITICAL_CAP, LEAST_CONFIDENCE } from './states/state-limits.ts';
import type { Transition } from './states/transition.ts';
import { readTrendFigures, TREND_FIGURES, type TrendFigures } from './trend-figures.ts';

export interface HealthEngineOptions {
  readonly clock: Clock;
  readonly registry: Registry;
  /** Most GPUs known at once; 200,000 by default (about 400 MB). */
  readonly maxGpus?: number;
  /** The built-in ones by default. */
  readonly profiles?: ProfileSet;
  /** Called for each change of a GPU's state, with what the score is made of at that moment. */
  readonly onTransition?: (
    gpu: GpuScore,
    transition: Transition,
    contributions: readonly Contribution[],
  ) => void;
}

/** One row for the derived series. */
export interface GpuScore {
  readonly source: Source;
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
  readonly score: number;
  /** What the score would be if everything required that is not known had failed. */
  readonly low: number;
  readonly state: HealthState;
  /** Share of what should be known that is, 0 to 1; 0 for a silent GPU. */
  readonly coverage: number;
  readonly evaluatedMs: number;
}

/** A row with its dimensions, by HealthDimension. The arrays are the engine's own and go on changing: read them at once. */
export interface HealthRow extends GpuScore {
  readonly dimensionScores: Float64Array;
  readonly dimensionCoverage: Float64Array;
}

/** Score of one dimension, 0.1 to 100, and how much of it is known, 0 to 1. */
export interface DimensionHealth {
  readonly dimension: (typeof DIMENSIONS)[number];
  readonly score: number;
  readonly coverage: number;
}

/** All that is concluded of one GPU. */
export interface HealthDetail extends GpuScore {
  readonly dimensions: readonly DimensionHealth[];
  readonly contributions: readonly Contribution[];
  /** Coverage over all dimensions, by their weights; 0 for a silent GPU. */
  readonly confidence: number;
  readonly profile: string;
  readonly profileVersion: number;
  /** When the state was entered, Unix ms; undefined before the first, and where nobody remembers. */
  readonly stateSinceMs: number | undefined;
  /** Changed too often within a day: held in its state. */
  readonly flapping: boolean;
  /** Critical by a hard cap: only a passed check, a repair or an operator ends that. */
  readonly owesClearing: boolean;
}

/** What of one GPU survives a restart. */
export interface SavedHealth {
  readonly uuid: string;
  readonly machine: MachineSnapshot;
  readonly record: unknown;
}

/** A value counts as fresh for three intervals, and one second for the way. */
const FRESH_INTERVALS = 3;
const FRESH_SLACK_MS = 1_000;
/** A GPU not heard of for this long is forgotten when the room is needed. */
const FORGET_MS = 24 * 3_600_000;
/** How often all GPUs may be looked through for silent ones. */
const FORGET_INTERVAL_MS = 60_000;
/** Intervals of sources are told apart by tenths of a second, up to 6,553 s. */
const INTERVAL_STEP_MS = 100;
const INTERVALS = 2 ** 16;
/**
 * GPUs of one node at most: sixteen is the largest board, and an agent may scrape exporters of other nodes. One that is
 * silent makes way for a new one, so that a node that invents a GPU at each tick takes nobody else's room.
 */
const MAX_NODE_GPUS = 1_024;
/** A GPU that is silent changes within seconds at first, and within hours then. */
const SILENT_LOOK_MS = 5_000;
/** Events of one GPU within so long are a storm: 100,000 Xids must not cost the fleet's ticks their time. */
const STORM_MS = 100;
/** All GPUs of a node were heard just now: for so long none will be silent. */
const FULL_MS = 5_000;
/** Sources of one GPU come one after another: so long, and an interval, nothing is said of one of which little is known yet. */
const SETTLE_MS = 60_000;
/** What a GPU's sources have not told for so long they cannot tell: another exporter, another driver. Own judgement. */
const ATTAINED_MS = 24 * 3_600_000;
/** All GPUs of a node lost within this time: its driver was unloaded, no GPU of it broke. Own judgement. */
const NODE_LOSS_MS = 30_000;
/** Fallen off the bus: then it was no driver that went. */
const OFF_THE_BUS = '79';

const NOBODY: Source = { cluster: '', node: '', externalLabels: [] };

const VITAL = [INPUT.core, INPUT.hotspot, INPUT.power] as const;

/** What a state machine is told; reused, as it keeps nothing of it. */
const STEP: {
  score: number;
  cap: number | undefined;
  capReason: string;
  confidence: number;
  leastConfidence: number;
  fresh: boolean;
} = {
  score: 100,
  cap: undefined,
  capReason: '',
  confidence: 0,
  leastConfidence: LEAST_CONFIDENCE,
  fresh: false,
};

/** What outlived a restart, until its GPU is heard. */
type Kept = Pick<SavedHealth, 'machine' | 'record'>;

/**
 * The health of each GPU, from the live samples and the events. Backlog is not looked at: gauges of the past say
 * nothing of now, and counters carry what they counted into the next live sample. A GPU is its UUID; where two nodes
 * claim the same one, the node that is heard keeps it. A GPU is scored once a second at most, and at once where
 * something changed that caps its score. `advance` is to be called every few seconds: silence has no samples.
 */
export class HealthEngine {
  readonly #clock: Clock;
  readonly #maxGpus: number;
  readonly #profiles: ProfileSet;
  readonly #onTransition: HealthEngineOptions['onTransition'];
  readonly #gpus = new Map<string, GpuRecord>();
  /** All of them, in no order, and when `advance` is to look at each: a record that is not touched costs no cache miss. */
  readonly #list: GpuRecord[] = [];
  #lookAt = new Float64Array(1_024);
  /** By cluster, node and index, for events that name no UUID. */
  readonly #byIndex = new Map<string, GpuRecord>();
  /** By cluster and node, for events that concern all of a node's GPUs. */
  readonly #byNode = new Map<string, Set<GpuRecord>>();
  readonly #programs = new WeakMap<Source, WeakMap<Dictionary, GpuProgram[]>>();
  /** Interval in the high half, a hash of the group in the low one: no table that agents could fill. */
  readonly #originOf = new WeakMap<Dictionary, number>();
  readonly #kept = new Map<string, Kept>();
  /** Until when a node that has no room is not looked through again. */
  readonly #fullUntil = new WeakMap<Set<GpuRecord>, number>();
  readonly #refused: Counter<'reason'>;
  #forgotAt = Number.NEGATIVE_INFINITY;

  constructor(options: HealthEngineOptions) {
    this.#clock = options.clock;
    this.#maxGpus = options.maxGpus ?? 200_000;
    this.#profiles = options.profiles ?? builtInProfiles();
    this.#onTransition = options.onTransition;
    this.#refused = counter(options.registry, {
      name: 'gpufleet_health_refused_total',
      help: 'Samples of a GPU not looked at: too many GPUs, in all or of its node, or another node has the GPU.',
      labelNames: ['reason'],
    });
    const count = (counts: Record<string, number>) => this.#countStates(counts);
    gauge(options.registry, {
      name: 'gpufleet_health_gpus',
      help: 'GPUs by health state.',
      labelNames: ['state'],
      collect() {
        const counts: Record<string, number> = {
          healthy: 0,
          degraded: 0,
          critical: 0,
          flapping: 0,
          unknown: 0,
        };
        count(counts);
        for (const state in counts) this.set({ state }, counts[state]!);
      },
    });
  }

  evaluate(block: Block): void {
    if (!block.live) return;
    const now = this.#clock.monotonic();
    const freshUntil = now + FRESH_INTERVALS * block.dictionary.intervalMs + FRESH_SLACK_MS;
    const origin = this.#originIdOf(block.dictionary);
    const programs = this.#programsOf(block);
    for (let i = 0; i < programs.length; i++) {
      const program = programs[i]!;
      const record = this.#recordOf(block.source, program.gpu, program.uuid, program.model, now);
      if (record === undefined) continue;
      if (record.liveUntil === Number.NEGATIVE_INFINITY)
        record.settlesAt = now + SETTLE_MS + block.dictionary.intervalMs;
      this.#take(record, program, block, origin, now, freshUntil);
      if (record.urgent || Math.floor(now / 1000) !== record.scoredSecond) this.#score(record, now);
      this.#lookAt[record.place] = vitalUntil(record);
    }
  }

  /** Takes an event of any lane: an old Xid counts by its own time. */
  event(source: Source, event: FleetEvent): void {
    const whose = concerns(event);
    if (whose === 'nobody') return;
    const now = this.#clock.monotonic();
    if (whose === 'node') {
      for (const record of this.#byNode.get(nodeKey(source)) ?? []) this.#takeEvent(record, event, now);
      return;
    }
    const record = this.#recordOfEvent(source, event, now);
    if (record !== undefined) this.#takeEvent(record, event, now);
  }

  /** What a comparison with its peers says of a GPU; forgotten after FACTS_FRESH_MS. */
  facts(uuid: string, facts: FleetFacts): void {
    const record = this.#gpus.get(uuid);
    if (record === undefined) return;
    record.facts = facts;
    record.factsUntil = factsUntil(this.#clock.monotonic());
  }

  /** Lets time pass for the GPUs that are silent: 2 ns for one that is not, about 0.5 us for one that is. */
  advance(): void {
    const now = this.#clock.monotonic();
    for (let place = 0; place < this.#list.length; place++) {
      if (this.#lookAt[place]! >= now) continue;
      const record = this.#list[place]!;
      this.#look(record, now);
      this.#lookAt[place] = isVital(record, now) ? vitalUntil(record) : now + SILENT_LOOK_MS;
    }
  }

  /** With a sentence for each point lost; undefined for a GPU that was never heard of. */
  healthOf(uuid: string): GpuHealth | undefined {
    const detail = this.detailOf(uuid);
    if (detail === undefined) return undefined;
    const { score, state, coverage, evaluatedMs, confidence, low, profile, profileVersion } = detail;
    return create(GpuHealthSchema, {
      score,
      state,
      contributions: detail.contributions.map((one) => create(HealthContributionSchema, one)),
      coverage,
      evaluatedAt: timestampFromMs(evaluatedMs),
      dimensions: detail.dimensions.map((one) => create(DimensionScoreSchema, one)),
      confidence,
      lowestScore: low,
      profile,
      profileVersion: String(profileVersion),
      ...(detail.stateSinceMs !== undefined && { stateSince: timestampFromMs(detail.stateSinceMs) }),
      flapping: detail.flapping,
      owesClearing: detail.owesClearing,
    });
  }

  /** All that is concluded; undefined for a GPU that was never heard of. */
  detailOf(uuid: string): HealthDetail | undefined {
    const record = this.#gpus.get(uuid);
    if (record === undefined) return undefined;
    const now = this.#clock.monotonic();
    this.#look(record, now);
    const row = this.#rowOf(record, now);
    return {
      ...row,
      dimensions: DIMENSIONS.map((dimension) => ({
        dimension,
        score: record.dimensionScores[dimension]!,
        coverage: now <= record.liveUntil ? record.dimensionCoverage[dimension]! : 0,
      })),
      contributions: record.contributions,
      confidence: row.coverage,
      profile: record.profile.name,
      profileVersion: record.profile.version,
      stateSinceMs: record.stateSinceMs,
      flapping: record.machine.flapping,
      owesClearing: record.machine.owesClearing,
    };
  }

  /** Score and state alone, for lists: `healthOf` without its sentences. */
  scoreOf(uuid: string): { readonly score: number; readonly state: HealthState } | undefined {
    const record = this.#gpus.get(uuid);
    if (record === undefined) return undefined;
    this.#look(record, this.#clock.monotonic());
    return { score: record.score, state: record.machine.shown };
  }

  /** The score of every GPU that is known, also of those that are silent: the state tells them apart. */
  *scores(): Iterable<GpuScore> {
    const now = this.#clock.monotonic();
    for (const record of this.#gpus.values()) {
      this.#look(record, now);
      yield this.#rowOf(record, now);
    }
  }

  /** As `scores`, with the dimensions. */
  *details(): Iterable<HealthRow> {
    const now = this.#clock.monotonic();
    for (const record of this.#gpus.values()) {
      this.#look(record, now);
      const { dimensionScores, dimensionCoverage } = record;
      yield { ...this.#rowOf(record, now), dimensionScores, dimensionCoverage };
    }
  }

  /** What is followed over months, of each GPU that is heard. One object, filled anew for each: read it at once. */
  *trendFigures(): Iterable<TrendFigures> {
    const values = new Float64Array(TREND_FIGURES.length);
    const figures = { source: NOBODY, uuid: '', values, uncorrectedMs: Number.NaN };
    for (const record of this.#gpus.values()) {
      const at = this.#clock.monotonic();
      if (at > record.liveUntil) continue;
      figures.source = record.source;
      figures.uuid = record.uuid;
      figures.uncorrectedMs = record.uncorrectedMs;
      readTrendFigures(record, at, this.#clock.now(), values);
      yield figures;
    }
  }

  /** What of each GPU that was heard since the start is to survive a restart. What nobody heard of stays as it was kept. */
  *saved(): Iterable<SavedHealth> {
    for (const record of this.#gpus.values()) {
      yield { uuid: record.uuid, machine: record.machine.snapshot(), record: saveRecord(record) };
    }
  }

  /** Goes on from `saved`: a GPU takes up its past when it is heard. At most `maxGpus`; the rest is left out. */
  restore(all: Iterable<SavedHealth>): void {
    for (const { uuid, machine, record } of all) {
      if (this.#kept.size >= this.#maxGpus) return;
      if (!this.#gpus.has(uuid)) this.#kept.set(uuid, { machine, record });
    }
  }

  #take(
    record: GpuRecord,
    program: GpuProgram,
    block: Block,
    origin: number,
    now: number,
    freshUntil: number,
  ): void {
    const { timestampMs } = block;
    const wasSilent = now > record.liveUntil && Number.isFinite(record.liveUntil);
    const { reads } = program;
    for (let i = 0; i < reads.length; i++) {
      const read = reads[i]!;
      const value = readInput(read, block);
      if (record.origins[read.input] !== origin && !this.#follows(record, read.input, origin, value, now))
        continue;
      if (read.input === INPUT.linkErrors && record.linkProgram !== program) {
        record.forget(read.input);
        record.linkProgram = program;
      }
      record.take(read.input, value, timestampMs, freshUntil);
    }
    if (program.vitalSlot >= 0) seeVital(record, block.states[program.vitalSlot]!, timestampMs);
    if (wasSilent && now <= record.liveUntil) this.#heardAgain(record, timestampMs);
    if (record.lostMs !== undefined && isBack(record, timestampMs)) this.#back(record, now);
    if (!record.sized && record.values[INPUT.memoryTotal]! > 0) this.#chooseProfile(record);
  }

  /** Of two groups that give the same input, the faster one while it is fresh. */
  #follows(record: GpuRecord, input: number, origin: number, value: number, now: number): boolean {
    const followed = record.origins[input]!;
    if (Number.isNaN(value)) return false;
    if (followed !== 0) {
      const fresh = now <= record.freshUntil[input]!;
      if (fresh && Math.floor(followed / INTERVALS) <= Math.floor(origin / INTERVALS)) return false;
      // Another source counts from elsewhere.
      if (COMBINES[input] === undefined || input === INPUT.linkErrors) record.forget(input);
    }
    record.origins[input] = origin;
    return true;
  }

  #heardAgain(record: GpuRecord, timestampMs: number): void {
    if (!record.expectsGap && record.lostMs === undefined) record.noteGap(timestampMs);
    record.expectsGap = false;
  }

  #takeEvent(record: GpuRecord, event: FleetEvent, now: number): void {
    if (event.type === 'gpu_back' && record.lostMs !== undefined) {
      this.#back(record, now);
      this.#score(record, now);
      return;
    }
    const nowMs = this.#clock.now();
    const wasCapped = hasEventCap(record, nowMs);
    takeEvent(record, event, nowMs);
    const cleared = clearingOf(event);
    // Of a storm the first is scored, and what caps the score; the others when it is next looked at.
    const isStorm = now - record.eventAt < STORM_MS && wasCapped === hasEventCap(record, nowMs);
    if (isStorm && cleared === undefined) {
      this.#lookAt[record.place] = Number.NEGATIVE_INFINITY;
      return;
    }
    record.eventAt = now;
    this.#score(record, now);
    if (cleared === undefined) return;
    const by = event.attributes.by ?? event.attributes.source ?? '';
    this.#tell(record, record.machine.clear(cleared, nowMs, by), now);
  }

  /** It is there again. Where all GPUs of the node had gone together, the driver was loaded anew: nothing is owed. */
  #back(record: GpuRecord, now: number): void {
    const lostMs = record.lostMs!;
    record.lostMs = undefined;
    record.wentMs = lostMs;
    // Its silence was its loss, and is no gap besides.
    record.expectsGap = now > record.liveUntil;
    record.urgent = true;
    const siblings = this.#byNode.get(nodeKey(record.source)) ?? new Set();
    if (siblings.size < 2 || record.incidents.newest('xid', OFF_THE_BUS) >= lostMs - NODE_LOSS_MS) return;
    for (const { lostMs: lost, wentMs: went } of siblings)
      if (!(Math.abs((lost ?? went) - lostMs) <= NODE_LOSS_MS)) return;
    this.#score(record, now);
    if (!record.owedBefore) this.#tell(record, record.machine.clear('reload', this.#clock.now(), ''), now);
  }

  #score(record: GpuRecord, now: number): void {
    const nowMs = this.#clock.now();
    record.scoredSecond = Math.floor(now / 1000);
    record.urgent = false;
    record.keepPast(nowMs);
    scoreGpu(record, now, nowMs);
    record.evaluatedMs = nowMs;
    STEP.cap = record.capped;
    STEP.fresh = isVital(record, now);
    this.#step(record, now, nowMs);
  }

  /** A GPU that is silent has no samples that would score it: time alone moves its state. */
  #look(record: GpuRecord, now: number): void {
    if (record.urgent) {
      this.#score(record, now);
      return;
    }
    if (isVital(record, now)) return;
    const nowMs = this.#clock.now();
    STEP.cap = hasEventCap(record, nowMs) ? record.capped : undefined;
    STEP.fresh = false;
    this.#step(record, now, nowMs);
  }

  #step(record: GpuRecord, now: number, nowMs: number): void {
    STEP.score = record.score;
    STEP.capReason = record.capReason;
    STEP.confidence = record.confidence;
    STEP.leastConfidence = leastConfidence(record, now);
    if (now < record.settlesAt && waits(record)) return;
    this.#tell(record, record.machine.step(STEP, nowMs), now);
  }

  #tell(record: GpuRecord, transition: Transition | undefined, now: number): void {
    if (transition === undefined) return;
    if (transition.from !== transition.to) record.stateSinceMs = transition.atMs;
    this.#onTransition?.(this.#rowOf(record, now), transition, record.contributions);
  }

  #rowOf(record: GpuRecord, now: number): GpuScore {
    const { source, gpu, uuid, model, score, low, evaluatedMs } = record;
    const coverage = now <= record.liveUntil ? record.confidence : 0;
    return { source, gpu, uuid, model, score, low, state: record.machine.shown, coverage, evaluatedMs };
  }

  #chooseProfile(record: GpuRecord): void {
    const bytes = record.values[INPUT.memoryTotal]!;
    record.profile = this.#profiles.choose(record.model, bytes);
    // Other weights may make another score of the same values.
    record.stamp = Number.NaN;
    record.sized = bytes > 0;
  }

  #originIdOf(dictionary: Dictionary): number {
    const known = this.#originOf.get(dictionary);
    if (known !== undefined) return known;
    const { group, intervalMs } = dictionary;
    const steps = Math.min(INTERVALS - 1, Math.max(1, Math.round(intervalMs / INTERVAL_STEP_MS)));
    const id = steps * INTERVALS + (crc32(group) % INTERVALS);
    this.#originOf.set(dictionary, id);
    return id;
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

  #recordOf(source: Source, gpu: string, uuid: string, model: string, now: number): GpuRecord | undefined {
    let record = this.#gpus.get(uuid);
    if (record === undefined) {
      if (this.#gpus.size >= this.#maxGpus) this.#forgetSilent(now);
      if (this.#gpus.size >= this.#maxGpus) {
        this.#refused.inc({ reason: 'too_many' });
        return undefined;
      }
      if (!this.#hasRoomOn(source, now)) {
        this.#refused.inc({ reason: 'too_many_of_node' });
        return undefined;
      }
      record = this.#create(source, gpu, uuid, model);
      record.settlesAt = now + SETTLE_MS;
    } else if (record.source !== source || (gpu !== '' && record.gpu !== gpu)) {
      return this.#move(record, source, gpu, now);
    }
    if (model !== '' && model !== record.model) {
      record.model = model;
      this.#chooseProfile(record);
    }
    return record;
  }

  #create(source: Source, gpu: string, uuid: string, model: string): GpuRecord {
    const record = new GpuRecord(source, gpu, uuid, model, this.#profiles.choose(model, Number.NaN));
    const kept = this.#kept.get(uuid);
    if (kept !== undefined) {
      this.#kept.delete(uuid);
      record.machine.restore(kept.machine);
      restoreRecord(record, kept.record);
    }
    this.#gpus.set(uuid, record);
    this.#enlist(record);
    this.#place(record);
    return record;
  }

  /** The GPU comes by another stream: the same node anew, or another node. */
  #move(record: GpuRecord, source: Source, gpu: string, now: number): GpuRecord | undefined {
    const sameNode = record.source.node === source.node && record.source.cluster === source.cluster;
    if (!sameNode && now <= record.liveUntil) {
      this.#refused.inc({ reason: 'other_node' });
      return undefined;
    }
    this.#unplace(record);
    record.source = source;
    if (gpu !== '' || !sameNode) record.gpu = gpu;
    // The way from one node to another is no gap of either.
    if (!sameNode) record.expectsGap = true;
    this.#place(record);
    return record;
  }

  #enlist(record: GpuRecord): void {
    record.place = this.#list.push(record) - 1;
    if (record.place >= this.#lookAt.length) {
      const longer = new Float64Array(2 * this.#lookAt.length);
      longer.set(this.#lookAt);
      this.#lookAt = longer;
    }
    this.#lookAt[record.place] = Number.NEGATIVE_INFINITY;
  }

  #place(record: GpuRecord): void {
    this.#byIndex.set(indexKey(record.source, record.gpu), record);
    const key = nodeKey(record.source);
    const node = this.#byNode.get(key);
    if (node === undefined) this.#byNode.set(key, new Set([record]));
    else node.add(record);
  }

  #unplace(record: GpuRecord): void {
    const index = indexKey(record.source, record.gpu);
    if (this.#byIndex.get(index) === record) this.#byIndex.delete(index);
    const key = nodeKey(record.source);
    const node = this.#byNode.get(key);
    node?.delete(record);
    if (node?.size === 0) this.#byNode.delete(key);
  }

  #recordOfEvent(source: Source, event: FleetEvent, now: number): GpuRecord | undefined {
    if (event.gpuUuid === '') return this.#byIndex.get(indexKey(source, event.gpu));
    const known = this.#gpus.get(event.gpuUuid);
    // The kernel log knows the UUID of a GPU that is gone, and not always its index.
    if (event.gpu === '' && known !== undefined) return known;
    return this.#recordOf(source, event.gpu, event.gpuUuid, '', now);
  }

  #forgetSilent(now: number): void {
    if (now - this.#forgotAt < FORGET_INTERVAL_MS) return;
    this.#forgotAt = now;
    for (const [uuid, record] of this.#gpus) {
      if (now - record.liveUntil < FORGET_MS) continue;
      this.#forget(uuid, record);
    }
  }

  /** Whether the node may have one GPU more: one that is silent makes way, the one that was heard longest ago. */
  #hasRoomOn(source: Source, now: number): boolean {
    const node = this.#byNode.get(nodeKey(source));
    if (node === undefined || node.size < MAX_NODE_GPUS) return true;
    if (now < (this.#fullUntil.get(node) ?? Number.NEGATIVE_INFINITY)) return false;
    let oldest: GpuRecord | undefined;
    for (const record of node) {
      if (record.liveUntil >= now) continue;
      if (oldest === undefined || record.liveUntil < oldest.liveUntil) oldest = record;
    }
    if (oldest === undefined) this.#fullUntil.set(node, now + FULL_MS);
    else this.#forget(oldest.uuid, oldest);
    return oldest !== undefined;
  }

  /** Room is needed. A fault that nobody cleared is not forgotten: it is taken up again with the GPU, as after a restart. */
  #forget(uuid: string, record: GpuRecord): void {
    this.#gpus.delete(uuid);
    const last = this.#list.pop()!;
    if (last !== record) {
      last.place = record.place;
      this.#list[last.place] = last;
    }
    this.#lookAt[record.place] = Number.NEGATIVE_INFINITY;
    this.#unplace(record);
    if (record.machine.state !== HealthState.CRITICAL && !record.machine.owesClearing) return;
    this.#kept.set(uuid, { machine: record.machine.snapshot(), record: saveRecord(record) });
    if (this.#kept.size <= this.#maxGpus) return;
    for (const first of this.#kept.keys()) if (this.#kept.delete(first)) break;
  }

  #countStates(counts: Record<string, number>): void {
    const now = this.#clock.monotonic();
    for (const record of this.#gpus.values()) {
      this.#look(record, now);
      counts[healthStateName(record.machine.shown)]!++;
    }
  }
}

/**
 * How much must be known of a GPU for its state to be one: the share that the state machine asks for, or as large a part
 * of what its sources can tell. A plain exporter gives half of what a driver tells, and a GPU behind one has a state; one
 * of which most was known, and now is not, has none.
 */
function leastConfidence(record: GpuRecord, now: number): number {
  const { confidence } = record;
  if (confidence >= record.attained || now - record.attainedAt > ATTAINED_MS) {
    record.attained = confidence;
    record.attainedAt = now;
  }
  return LEAST_CONFIDENCE * Math.min(1, record.attained);
}

/** So little is known of it that what comes next may say something else; a cap that makes it critical is not waited for. */
function waits({ confidence, sampledMs }: GpuRecord): boolean {
  if (STEP.cap !== undefined && STEP.cap <= CRITICAL_CAP) return false;
  if (STEP.fresh) return confidence < LEAST_CONFIDENCE;
  for (let i = 0; i < VITAL.length; i++) if (!Number.isNaN(sampledMs[VITAL[i]!]!)) return false;
  return true;
}

/** Temperature or power are fresh: what is said is of now. */
function isVital(record: GpuRecord, now: number): boolean {
  for (let i = 0; i < VITAL.length; i++) if (isFresh(record, VITAL[i]!, now)) return true;
  return false;
}

/** Until when it is vital, by the monotonic clock. */
function vitalUntil({ freshUntil }: GpuRecord): number {
  let until = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < VITAL.length; i++) until = Math.max(until, freshUntil[VITAL[i]!]!);
  return until;
}

/** It is there again when it gives samples that are newer than its loss, unless the node says that it is not. */
function isBack(record: GpuRecord, timestampMs: number): boolean {
  if (record.values[INPUT.up] === 0) return false;
  for (const input of VITAL) {
    const sampled = record.sampledMs[input]!;
    if (sampled === timestampMs && sampled > record.lostMs!) return true;
  }
  return false;
}

/** How a vital value was read: a GPU that no longer answers is lost, one that answers too late has a gap. */
function seeVital(record: GpuRecord, state: number, timestampMs: number): void {
  if (state === SlotState.GpuLost && record.lostMs === undefined && timestampMs > record.clearedMs) {
    record.lose(timestampMs);
    record.urgent = true;
  }
  const timedOut = state === SlotState.Timeout;
  if (timedOut && !record.timedOut) record.noteGap(timestampMs);
  record.timedOut = timedOut;
}

export function healthStateName(
  state: HealthState,
): 'healthy' | 'degraded' | 'critical' | 'flapping' | 'unknown' {
  switch (state) {
    case HealthState.HEALTHY:
      return 'healthy';
    case HealthState.DEGRADED:
      return 'degraded';
    case HealthState.CRITICAL:
      return 'critical';
    case HealthState.FLAPPING:
      return 'flapping';
    default:
      return 'unknown';
  }
}

function nodeKey(source: Source): string {
  return `${source.cluster}\0${source.node}`;
}

function indexKey(source: Source, gpu: string): string {
  return `${nodeKey(source)}\0${gpu}`;
}
