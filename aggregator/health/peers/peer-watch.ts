import type { Finding } from '../detect/anomaly.ts';
import type { FleetFacts } from '../fleet-facts.ts';
import { atOnce, type Work } from '../work.ts';
import { type FleetMetric, type FleetSummary, FleetSummaryBuilder, fleetQuantile } from './fleet-summary.ts';
import { LevelMembers } from './level-members.ts';
import { Offsets } from './offsets.ts';
import { OwnExcess } from './own-excess.ts';
import { MAX_REFERENCE, PeerColumn } from './peer-column.ts';
import { METRIC, METRICS, PEER_METRICS } from './peer-metrics.ts';
import type { PeerDeviations, PeerRow } from './peer-row.ts';
import { dependsOnLoad, IDLE, LEVEL, LEVELS, PeerTable, WORKING } from './peer-table.ts';
import { Persistence } from './persistence.ts';
import { medianOf } from './robust.ts';

export interface PeerWatchOptions {
  /** Most GPUs at once; 200,000 where not given (about 1.3 kB each, reserved at the start). Rows of more are not looked at. */
  readonly maxGpus?: number;
  /** How often rows come; 30 s where not given. */
  readonly intervalMs?: number;
  /** How long a GPU must be unlike its peers; four minutes, as in Minder (NSDI '25), where not given. */
  readonly persistMs?: number;
}

/** A row counts for so many intervals. */
const FRESH_INTERVALS = 3;
/** A GPU that was silent for so long is forgotten. */
const FORGET_MS = 3_600_000;
/** A round is credited with at most so much time: a pause persists nothing. */
const LONGEST_ROUND_INTERVALS = 2;
/** What a rank does in a new job is learned first. */
const JOB_LEARNING_MS = 600_000;
/** Offsets are not learned of what is this share of unusual. */
const LEARN_BELOW = 0.5;
/** Of corrected errors among the fleet, as the score's facts name it. */
const ECC_QUANTILE = 0.99;
/** Clocks are compared in megahertz, and told in the unit of their series. */
const HERTZ = 1e6;
const NO_FINDINGS: readonly Finding[] = [];
/** Values between two places to stop at. */
const VALUES_AT_ONCE = 10_000;

/** Share of cycles with tensor work, below which its work for each watt says nothing. Own judgement. */
const LEAST_WORK = 0.1;

/** Facts of one GPU, by index in arrays of FACTS. */
const FACT = { coreZ: 0, memoryZ: 1, clockRatio: 2, perfPerWatt: 3, idleZ: 4, stepRatio: 5 } as const;
const FACTS = 6;

/**
 * Each GPU beside its peers: those of its job, else of its node, else in the same slot elsewhere, else of its model.
 * `take` a row of each GPU, then `round`, every 10 to 30 s. Compared are values denoised over eight samples, at like
 * load, after what is always so of the slot and the board was taken away. A z counts in units of the peers' own spread,
 * with a floor. Findings are what persisted.
 */
export class PeerWatch {
  readonly #intervalMs: number;
  readonly #table: PeerTable;
  readonly #offsets: Offsets;
  readonly #members: LevelMembers;
  readonly #persistence: Persistence;
  readonly #column = new PeerColumn();
  /** Denoised values, NaN where there is none that is fresh; by GPU and metric. */
  readonly #values: Float32Array;
  readonly #z: Float32Array;
  readonly #expected: Float32Array;
  /** In floors; NaN where the last round did not compare. */
  readonly #deviations: Float32Array;
  readonly #facts: Float32Array;
  readonly #perfExcess: OwnExcess;
  /** By GPU and load: the level that its offsets were learned at, plus one. */
  readonly #learnedAt: Uint8Array;
  readonly #scratch = new Float64Array(MAX_REFERENCE);
  #fleet: FleetSummary | undefined;
  #roundMs = Number.NaN;
  #refused = 0;

  constructor(options: PeerWatchOptions = {}) {
    const capacity = options.maxGpus ?? 200_000;
    this.#intervalMs = options.intervalMs ?? 30_000;
    this.#offsets = new Offsets(capacity);
    this.#table = new PeerTable(capacity, (slot) => this.#offsets.forgetSlot(slot));
    this.#members = new LevelMembers(this.#table);
    this.#persistence = new Persistence(capacity * METRICS, options.persistMs ?? 240_000);
    this.#values = new Float32Array(capacity * METRICS);
    this.#z = new Float32Array(capacity * METRICS);
    this.#expected = new Float32Array(capacity * METRICS);
    this.#deviations = new Float32Array(capacity * METRICS);
    this.#facts = new Float32Array(capacity * FACTS);
    this.#perfExcess = new OwnExcess(capacity);
    this.#learnedAt = new Uint8Array(capacity * 2);
  }

  get gpus(): number {
    return this.#table.known;
  }

  /** Rows not looked at for want of room. */
  get refused(): number {
    return this.#refused;
  }

  /** `nowMs` by the monotonic clock, as in `round`. */
  take(row: PeerRow, nowMs: number): void {
    const known = this.#table.indexOf(row.uuid);
    const gpu = known >= 0 ? known : this.#table.place(row, nowMs);
    if (gpu < 0) {
      this.#refused++;
      return;
    }
    if (known < 0) this.#begin(gpu);
    if (this.#table.take(gpu, row, nowMs)) this.#offsets.restart(gpu, 'job');
  }

  /** Compares everybody with everybody's peers, without a pause. */
  round(nowMs: number): void {
    atOnce(this.compare(nowMs));
  }

  /** The same as work that can stop and go on: 100,000 GPUs take the better part of a second. No row meanwhile. */
  *compare(nowMs: number): Work<void> {
    const passed = nowMs - this.#roundMs;
    const elapsedMs = Number.isNaN(passed)
      ? 0
      : Math.max(0, Math.min(passed, LONGEST_ROUND_INTERVALS * this.#intervalMs));
    this.#roundMs = nowMs;
    this.#forgetSilent(nowMs);
    yield* this.#denoise(nowMs);
    this.#members.rebuild(nowMs - FRESH_INTERVALS * this.#intervalMs);
    yield;
    for (let level = 0; level < LEVELS; level++) {
      const groups = this.#members.groups(level);
      for (let group = 0; group < groups; group++)
        if (this.#members.enough(level, group)) yield* this.#compare(level, group, elapsedMs, nowMs);
    }
  }

  /** What the score asks of the peers, as of the last round; nothing for a GPU without any. */
  factsOf(uuid: string): FleetFacts {
    const gpu = this.#table.indexOf(uuid);
    if (gpu < 0) return {};
    const fact = (index: number): number => this.#facts[gpu * FACTS + index]!;
    const model = this.#table.models[gpu]!;
    return known({
      temperatureZ: larger(fact(FACT.coreZ), fact(FACT.memoryZ)),
      clockRatio: fact(FACT.clockRatio),
      perfPerWattResidual: fact(FACT.perfPerWatt),
      idlePowerZ: fact(FACT.idleZ),
      stepTimeRatio: fact(FACT.stepRatio),
      correctedEccFleetP99PerDay:
        this.#fleet === undefined
          ? Number.NaN
          : fleetQuantile(this.#fleet, model, 'correctedPerDay', ECC_QUANTILE),
    });
  }

  /** What has persisted, strongest first. */
  findingsOf(uuid: string): readonly Finding[] {
    const gpu = this.#table.indexOf(uuid);
    if (gpu < 0) return NO_FINDINGS;
    let found: Finding[] | undefined;
    for (let metric = 0; metric < METRICS; metric++) {
      const at = gpu * METRICS + metric;
      if (!this.#persistence.raised(at, this.#roundMs)) continue;
      const { detector, signal, limit } = PEER_METRICS[metric]!;
      const strength = Math.abs(this.#z[at]!) / limit;
      const unit = metric === METRIC.clock ? HERTZ : 1;
      const [value, expected] = [this.#values[at]! * unit, this.#expected[at]! * unit];
      found ??= [];
      found.push({ detector, signal, value, expected, strength });
    }
    return found?.sort((a, b) => b.strength - a.strength) ?? NO_FINDINGS;
  }

  /** How it stood at the last round, into `out`; false for a GPU that is not known. */
  deviationsOf(uuid: string, out: PeerDeviations): boolean {
    const gpu = this.#table.indexOf(uuid);
    if (gpu < 0) return false;
    for (let metric = 0; metric < METRICS; metric++) {
      const at = gpu * METRICS + metric;
      out.deviations[metric] = this.#deviations[at]!;
      out.values[metric] = this.#values[at]!;
      out.expected[metric] = this.#expected[at]!;
    }
    return true;
  }

  /** Which GPUs have findings now. */
  *unusual(): Generator<string> {
    for (let gpu = 0; gpu < this.#table.size; gpu++) {
      const uuid = this.#table.uuids[gpu];
      if (uuid !== undefined && this.#anyRaised(gpu)) yield uuid;
    }
  }

  /** This shard's distributions, for `mergeSummaries`. */
  summary(): FleetSummary {
    const builder = new FleetSummaryBuilder();
    const table = this.#table;
    for (let gpu = 0; gpu < table.size; gpu++) {
      if (table.uuids[gpu] === undefined) continue;
      const model = table.models[gpu]!;
      for (const [metric, column, load] of SUMMED)
        if (load === table.load[gpu]) builder.add(model, metric, this.#values[gpu * METRICS + column]!);
      builder.add(model, 'correctedPerDay', table.correctedPerDay[gpu]!);
    }
    return builder.done();
  }

  /** All shards' distributions, this one's included: what `correctedEccFleetP99PerDay` is of. */
  setFleet(summary: FleetSummary): void {
    this.#fleet = summary;
  }

  #begin(gpu: number): void {
    for (let metric = 0; metric < METRICS; metric++) this.#persistence.clear(gpu * METRICS + metric);
    this.#offsets.restart(gpu, 'device');
    this.#offsets.restart(gpu, 'job');
    this.#learnedAt.fill(0, gpu * 2, gpu * 2 + 2);
    this.#perfExcess.forget(gpu);
    this.#facts.fill(Number.NaN, gpu * FACTS, (gpu + 1) * FACTS);
  }

  #anyRaised(gpu: number): boolean {
    for (let metric = 0; metric < METRICS; metric++)
      if (this.#persistence.raised(gpu * METRICS + metric, this.#roundMs)) return true;
    return false;
  }

  #forgetSilent(nowMs: number): void {
    const table = this.#table;
    for (let gpu = 0; gpu < table.size; gpu++) if (nowMs - table.seenMs[gpu]! > FORGET_MS) table.forget(gpu);
  }

  *#denoise(nowMs: number): Work<void> {
    const { size, windows, pushedMs } = this.#table;
    const since = nowMs - FRESH_INTERVALS * this.#intervalMs;
    for (let at = 0; at < size * METRICS; at++) {
      this.#values[at] = pushedMs[at]! >= since ? windows.denoised(at) : Number.NaN;
      if (at % VALUES_AT_ONCE === 0) yield;
    }
    this.#facts.fill(Number.NaN, 0, size * FACTS);
    this.#deviations.fill(Number.NaN, 0, size * METRICS);
  }

  /** A large group in interleaved parts. */
  *#compare(level: number, group: number, elapsedMs: number, nowMs: number): Work<void> {
    const members = this.#members.of(level, group);
    const parts = Math.ceil(members.length / MAX_REFERENCE);
    for (let part = 0; part < parts; part++) {
      yield;
      for (let metric = 0; metric < METRICS; metric++) {
        if (PEER_METRICS[metric]!.scope === 'job' && level !== LEVEL.job) continue;
        if (!dependsOnLoad(metric)) this.#judge(level, members, part, parts, metric, -1, elapsedMs, nowMs);
        else
          for (let load = IDLE; load <= WORKING; load++)
            this.#judge(level, members, part, parts, metric, load, elapsedMs, nowMs);
      }
      if (level === LEVEL.job) this.#perfPerWatt(members, part, parts, elapsedMs);
    }
  }

  #judge(
    level: number,
    members: Int32Array,
    part: number,
    parts: number,
    metric: number,
    load: number,
    elapsedMs: number,
    nowMs: number,
  ): void {
    const column = this.#column;
    const table = this.#table;
    column.reset();
    let wanted = 0;
    for (let at = part; at < members.length; at += parts) {
      const gpu = members[at]!;
      const value = this.#values[gpu * METRICS + metric]!;
      if (Number.isNaN(value) || (load >= 0 && table.load[gpu] !== load)) continue;
      if (this.#members.level[gpu] === level) wanted++;
      const learned = table.load[gpu] === IDLE ? IDLE : WORKING;
      const slot = table.group(gpu, LEVEL.slot);
      const offset = this.#offsets.of(gpu, metric, learned, slot, table.groups[LEVEL.slot]!.members[slot]!);
      const { floor, youngFloor } = PEER_METRICS[metric]!;
      const trust = this.#offsets.trust(gpu, metric, learned);
      const watts = this.#values[gpu * METRICS + (learned === IDLE ? METRIC.idleWatts : METRIC.watts)]!;
      column.add(
        gpu,
        value,
        offset,
        youngFloor + (floor - youngFloor) * trust,
        watts,
        table.limitWatts[gpu]!,
      );
    }
    if (wanted === 0 || !column.judge(metric)) return;
    for (let i = 0; i < column.count; i++)
      if (this.#members.level[column.gpus[i]!] === level) this.#settle(level, metric, i, elapsedMs, nowMs);
  }

  /** Books what was found of the i-th GPU of the column. */
  #settle(level: number, metric: number, i: number, elapsedMs: number, nowMs: number): void {
    const { gpus, z, beside, raw, values, median } = this.#column;
    const gpu = gpus[i]!;
    // A clock held down by a limit that somebody set says nothing; it is still what others are compared with.
    if (metric === METRIC.clock && this.#table.heldByPolicy[gpu] === 1) return;
    if (Number.isNaN(z[i]!)) return;
    const { scope, side, limit, relative, floor } = PEER_METRICS[metric]!;
    const at = gpu * METRICS + metric;
    this.#z[at] = z[i]!;
    this.#expected[at] = relative ? values[i]! - beside[i]! * median : values[i]! - beside[i]!;
    this.#deviations[at] = beside[i]! / floor;
    this.#noteFacts(gpu, metric, i);
    const strength = (side === 0 ? Math.abs(z[i]!) : side * z[i]!) / limit;
    if (strength < LEARN_BELOW) this.#learn(level, gpu, metric, beside[i]!, raw[i]!, elapsedMs);
    const learning = scope === 'job' && nowMs - this.#table.jobSinceMs[gpu]! < JOB_LEARNING_MS;
    if (!learning) this.#persistence.note(at, strength >= 1, elapsedMs, nowMs);
  }

  #learn(level: number, gpu: number, metric: number, beside: number, raw: number, elapsedMs: number): void {
    if (elapsedMs === 0) return;
    const load = this.#table.load[gpu] === IDLE ? IDLE : WORKING;
    const learnedAt = gpu * 2 + load;
    if (this.#learnedAt[learnedAt] !== level + 1) {
      if (this.#learnedAt[learnedAt] !== 0) this.#offsets.restart(gpu, 'device', load);
      this.#learnedAt[learnedAt] = level + 1;
    }
    const slot = this.#table.group(gpu, LEVEL.slot);
    this.#offsets.learn(gpu, metric, load, slot, beside, raw, elapsedMs);
  }

  #noteFacts(gpu: number, metric: number, i: number): void {
    const { z, beside } = this.#column;
    const first = gpu * FACTS;
    if (metric === METRIC.core) this.#facts[first + FACT.coreZ] = z[i]!;
    else if (metric === METRIC.memory) this.#facts[first + FACT.memoryZ] = z[i]!;
    else if (metric === METRIC.idleWatts) this.#facts[first + FACT.idleZ] = z[i]!;
    else if (metric === METRIC.clock) this.#facts[first + FACT.clockRatio] = 1 + beside[i]!;
    else if (metric === METRIC.step) this.#facts[first + FACT.stepRatio] = 1 + beside[i]!;
  }

  /** Tensor cycles for each joule, beside the median of the job. */
  #perfPerWatt(members: Int32Array, part: number, parts: number, elapsedMs: number): void {
    let count = 0;
    for (let at = part; at < members.length; at += parts) {
      const done = this.#workPerWatt(members[at]!);
      if (!Number.isNaN(done)) this.#scratch[count++] = done;
    }
    const median = medianOf(this.#scratch, count);
    if (count < 4 || !(median > 0)) return;
    for (let at = part; at < members.length; at += parts) {
      const gpu = members[at]!;
      const deviation = this.#workPerWatt(gpu) / median - 1;
      if (Number.isNaN(deviation)) continue;
      this.#facts[gpu * FACTS + FACT.perfPerWatt] = this.#perfExcess.add(gpu, deviation, elapsedMs);
    }
  }

  /** NaN for one that does no work: those that wait for a peer spin, and are no worse for it. */
  #workPerWatt(gpu: number): number {
    const first = gpu * METRICS;
    const tensor = this.#values[first + METRIC.tensor]!;
    if (!(tensor >= LEAST_WORK)) return Number.NaN;
    return (tensor * this.#values[first + METRIC.clock]!) / this.#values[first + METRIC.watts]!;
  }
}

const SUMMED: readonly (readonly [FleetMetric, number, number])[] = [
  ['coreCelsius', METRIC.core, WORKING],
  ['memoryCelsius', METRIC.memory, WORKING],
  ['smMegahertz', METRIC.clock, WORKING],
  ['idleWatts', METRIC.idleWatts, IDLE],
];

function larger(a: number, b: number): number {
  if (Number.isNaN(a)) return b;
  return Number.isNaN(b) ? a : Math.max(a, b);
}

/** Without what is not known. */
function known(facts: Readonly<Partial<Record<keyof FleetFacts, number>>>): FleetFacts {
  return Object.fromEntries(Object.entries(facts).filter(([, value]) => !Number.isNaN(value)));
}
