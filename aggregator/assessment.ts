import { setImmediate } from 'node:timers/promises';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { Registry } from '#shared/instruments/registry.ts';
import { supervise } from '#shared/lifecycle/supervise.ts';
import { repeat } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Block, Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { AssetBook } from './enrich/asset-book.ts';
import type { Contribution } from './health/compose-score.ts';
import type { Anomaly } from './health/detect/anomaly.ts';
import { DetectionEngine } from './health/detect/detection-engine.ts';
import type { DetectionSettings } from './health/detect/detection-settings.ts';
import { RowDetectors } from './health/detect/row-detectors.ts';
import { type GpuScore, HealthEngine, healthStateName } from './health/health-engine.ts';
import { PatternBook } from './health/patterns/pattern-book.ts';
import type { GroupsOfNode } from './health/patterns/topology.ts';
import { METRICS } from './health/peers/peer-metrics.ts';
import type { PeerDeviations } from './health/peers/peer-row.ts';
import { PeerRows } from './health/peers/peer-rows.ts';
import { PeerWatch } from './health/peers/peer-watch.ts';
import type { ProfileSet } from './health/profiles/profile.ts';
import type { HealthShelf } from './health/states/health-shelf.ts';
import { HealthSnapshots, type RestoredGpu } from './health/states/health-snapshot.ts';
import { type OperatorState, OperatorStates } from './health/states/operator-state.ts';
import { type Transition, transitionEntry } from './health/states/transition.ts';
import { TransitionLog } from './health/states/transition-log.ts';
import { STATE_WORDS } from './health/states/transition-words.ts';
import type { WarmGpu } from './health/states/warm-start.ts';
import { inSlices } from './health/work.ts';
import { RoomFeed } from './room-feed.ts';
import { StageFaults } from './stage-faults.ts';
import { TrendFeed } from './trend-feed.ts';
import { UnmarkedNodes } from './unmarked-nodes.ts';
import { withStoredHealth } from './warm-start.ts';

/** Silent GPUs, quiet incidents and tests are looked at this often. */
const ADVANCE_MS = 1_000;
/** GPUs are compared with their peers this often. */
const PEERS_MS = 30_000;
/** GPUs at a time, between which the process does other work: about a millisecond. */
const ROWS_AT_ONCE = 500;
const PATTERNS_MS = 60_000;
/** Patterns go to disk this often. */
const KEEP_PATTERNS_MS = 10 * 60_000;

export interface AssessmentOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
  /** Where states, transitions and marks are kept. */
  readonly shelf: HealthShelf;
  readonly assets: AssetBook;
  readonly profiles: ProfileSet;
  readonly detection: DetectionSettings;
  readonly random: () => number;
  /** What the store knows of GPUs' states; `thorough` where nothing is known here. Never rejects. Not given: nothing. */
  readonly stored?: (thorough: boolean) => Promise<readonly WarmGpu[]>;
  /** Told of what health itself finds: an anomaly that begins or ends, a state that changed. */
  readonly onEvent: (source: Source, event: FleetEvent) => void;
}

/**
 * Everything that is concluded about GPUs: scores and states, what is unusual, how peers compare, what repeats. Fed by
 * the pipeline with each valid block and each event; what takes longer runs beside it.
 */
export class Assessment {
  readonly health: HealthEngine;
  readonly detection: DetectionEngine;
  readonly patterns: PatternBook;
  readonly transitions: TransitionLog;
  readonly operators: OperatorStates;
  readonly assets: AssetBook;
  readonly #peers: PeerWatch;
  readonly #rows = new PeerRows();
  /** Undefined where neither of them is switched on. */
  readonly #rowDetectors: RowDetectors | undefined;
  readonly #deviations: PeerDeviations = emptyDeviations();
  readonly #trends: TrendFeed;
  readonly #rooms: RoomFeed;
  #comparing: Promise<void> | undefined;
  readonly #snapshots: HealthSnapshots;
  readonly #unmarked: UnmarkedNodes;
  readonly #options: AssessmentOptions;
  readonly #faults: StageFaults;

  private constructor(options: AssessmentOptions, transitions: TransitionLog, operators: OperatorStates) {
    const { clock, logger, registry, shelf, profiles, detection } = options;
    this.#options = options;
    this.#faults = new StageFaults({ clock, logger, registry });
    this.assets = options.assets;
    this.transitions = transitions;
    this.operators = operators;
    this.health = new HealthEngine({
      ...{ clock, registry, profiles },
      onTransition: (...change) => this.#guarded('transition', () => this.#changed(...change)),
    });
    this.detection = new DetectionEngine({ clock, registry, settings: detection });
    this.detection.subscribe((anomaly, phase) => {
      if (phase !== 'change') this.#guarded('anomaly', () => this.#found(anomaly, phase));
    });
    this.#peers = new PeerWatch({ intervalMs: PEERS_MS });
    this.#rowDetectors = rowDetectorsOf(options);
    this.patterns = new PatternBook({
      clock,
      nodes: () => this.#nodeGroups(),
      gpusOf: (node) => this.#rows.countOf(node),
      gpusWatched: () => this.#rows.size,
    });
    this.#unmarked = new UnmarkedNodes({ operators, health: this.health, clock });
    this.#trends = new TrendFeed({ health: this.health, patterns: this.patterns, clock });
    this.#rooms = new RoomFeed({
      patterns: this.patterns,
      rackOf: (source) => this.assets.assetOf(source).rack,
    });
    this.#snapshots = new HealthSnapshots({
      ...{ shelf, clock, logger, registry },
      gpus: () => this.health.saved(),
    });
  }

  /** Takes up what was known before a restart. */
  static async open(options: AssessmentOptions): Promise<Assessment> {
    const { shelf, clock, logger, registry } = options;
    const transitions = await TransitionLog.open({ shelf, clock, logger, registry });
    const operators = await OperatorStates.open({
      ...{ shelf, clock },
      onSet: (state, before) => assessment.#marked(state, before),
    });
    const assessment: Assessment = new Assessment(options, transitions, operators);
    const saved: RestoredGpu[] = [];
    for await (const gpu of assessment.#snapshots.load()) saved.push(gpu);
    const stored = (await options.stored?.(saved.length === 0)) ?? [];
    assessment.health.restore(withStoredHealth(saved, stored, clock.now()));
    await assessment.patterns.restore(shelf);
    return assessment;
  }

  /** Never throws: a fault in here must not keep a sample from alerts and the store. */
  evaluate(block: Block): void {
    try {
      this.health.evaluate(block);
    } catch (error) {
      this.#faults.note('score', error);
    }
    try {
      this.detection.evaluate(block);
    } catch (error) {
      this.#faults.note('detection', error);
    }
    try {
      this.#rows.evaluate(block);
      this.#rooms.evaluate(block);
    } catch (error) {
      this.#faults.note('peers', error);
    }
  }

  /** Never throws: an agent sends again what was not taken, and would for ever. */
  event(source: Source, event: FleetEvent): void {
    this.#guarded('score', () => this.health.event(source, event));
    this.#guarded('detection', () => this.detection.event(source, event));
    this.#guarded('patterns', () => this.patterns.noteEvent(source, event));
  }

  /** Tells the outside what an operator did, so that who and why are on record; `event` makes health heed it. */
  tell(source: Source, event: FleetEvent): void {
    this.#options.onEvent(source, event);
  }

  /** Everything that is done beside the path of samples, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await supervise(signal, [
      (inner) => repeat(ADVANCE_MS, inner, () => this.advance()),
      (inner) => repeat(PEERS_MS, inner, () => this.#quietly('compare peers', this.comparePeers())),
      (inner) => repeat(PATTERNS_MS, inner, () => this.#quietly('find patterns', this.findPatterns())),
      (inner) =>
        repeat(KEEP_PATTERNS_MS, inner, () =>
          this.#quietly('keep patterns', this.patterns.snapshot(this.#options.shelf)),
        ),
      (inner) => this.#snapshots.run(inner),
      (inner) => this.transitions.run(inner),
    ]);
  }

  /** What is not on disk yet, at the end. */
  async flush(): Promise<void> {
    await this.#quietly('keep the states of GPUs', this.#snapshots.save());
    await this.#quietly('keep patterns', this.patterns.snapshot(this.#options.shelf));
    await this.#quietly('keep transitions', this.transitions.flush());
  }

  poolOf(source: Source): string {
    return this.assets.poolOf(source) ?? '';
  }

  /** Lets time pass: silent GPUs, quiet incidents, tests. `run` calls it every second. */
  advance(): void {
    const nowMs = this.#options.clock.now();
    this.#guarded('score', () => this.health.advance());
    this.#guarded('detection', () => this.detection.advance(nowMs));
    this.#guarded('marks', () => {
      for (const [source, event] of this.#unmarked.look()) this.tell(source, event);
    });
  }

  /**
   * Looks at each GPU beside its peers, in pieces. `run` calls it every 30 s; rejects never. A call while one is under
   * way is that one.
   */
  comparePeers(): Promise<void> {
    this.#comparing ??= this.#comparePeers().finally(() => {
      this.#comparing = undefined;
    });
    return this.#comparing;
  }

  async #comparePeers(): Promise<void> {
    const { clock } = this.#options;
    const nowMs = clock.monotonic();
    let done = 0;
    for (const row of this.#rows.fresh(clock.now(), (source) => this.poolOf(source))) {
      this.#peers.take(row, nowMs);
      if (++done % ROWS_AT_ONCE === 0) await setImmediate();
    }
    await inSlices(this.#peers.compare(nowMs), () => clock.monotonic());
    // One shard sees its own part of the fleet; others' would be merged here. 100,000 GPUs cost 30 ms of CPU.
    this.#peers.setFleet(this.#peers.summary());
    for (const { uuid, source, gpu } of this.#rows.gpus()) {
      this.health.facts(uuid, this.#peers.factsOf(uuid));
      this.detection.findings(source, uuid, gpu, this.#peers.findingsOf(uuid), clock.now());
      this.#lookAtRow(source, uuid, gpu, nowMs);
      if (++done % ROWS_AT_ONCE === 0) await setImmediate();
    }
  }

  /** What repeats, drifts or goes together, of what health knows by now. `run` calls it every minute. */
  async findPatterns(): Promise<void> {
    await this.#trends.round();
    this.#rooms.round(this.#options.clock.now());
    await this.patterns.evaluate();
  }

  /** A node that was drained is blamed once, however often it is marked. */
  #marked({ cluster, node, state, sinceMs }: OperatorState, before: OperatorState | undefined): void {
    if (state === 'drained' && before?.state !== 'drained')
      this.patterns.noteNode({ cluster, node }, 'drain', sinceMs);
  }

  #guarded(part: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#faults.note(part, error);
    }
  }

  #found(anomaly: Anomaly, phase: 'begin' | 'end'): void {
    const { source } = anomaly;
    if (phase === 'begin') this.patterns.noteAnomaly(anomaly);
    this.#options.onEvent(source, anomalyEvent(anomaly, phase, this.operators.suppresses(source)));
  }

  #lookAtRow(source: Source, uuid: string, gpu: string, nowMs: number): void {
    const rows = this.#rowDetectors;
    if (rows === undefined || !this.#peers.deviationsOf(uuid, this.#deviations)) return;
    rows.take(uuid, this.health.detailOf(uuid)?.model ?? '', this.#deviations, nowMs);
    this.detection.findings(source, uuid, gpu, rows.findingsOf(uuid, nowMs), this.#options.clock.now());
  }

  #changed(gpu: GpuScore, transition: Transition, contributions: readonly Contribution[]): void {
    const { source, uuid, model } = gpu;
    const { cluster, node } = source;
    const subject = { cluster, node, gpu: gpu.gpu, uuid, model };
    const suppressed = this.operators.suppresses(source);
    this.transitions.add(transitionEntry(transition, subject, contributions, suppressed));
    this.patterns.noteState(source, uuid, healthStateName(transition.to), transition.atMs);
    // The first state of a GPU that is well is no news.
    if (transition.from === HealthState.UNSPECIFIED && transition.to === HealthState.HEALTHY) return;
    this.#options.onEvent(source, stateEvent(gpu, transition, contributions, suppressed));
  }

  *#nodeGroups(): Iterable<readonly [node: string, GroupsOfNode]> {
    for (const { name, source, jobs } of this.#rows.nodes()) {
      const job = jobs.map((id) => `${source.cluster}/${id}`);
      yield [name, { ...this.assets.groupsOf(source), job }];
    }
  }

  async #quietly(what: string, work: Promise<unknown>): Promise<void> {
    await work.catch((error: unknown) =>
      this.#options.logger.error({ cause: describeError(error) }, `cannot ${what}`),
    );
  }
}

function rowDetectorsOf({ detection, random }: AssessmentOptions): RowDetectors | undefined {
  const { row: pca = false, isolation = false } = detection.detectors;
  if (!pca && !isolation) return undefined;
  const falseAlarms = detection.false_alarms_per_gpu_week;
  return new RowDetectors({ random, pca, isolation, intervalMs: PEERS_MS, falseAlarms });
}

function emptyDeviations(): PeerDeviations {
  const empty = () => new Float64Array(METRICS);
  return { deviations: empty(), values: empty(), expected: empty() };
}

/** `anomaly`: `phase` begin or end, `id`, `strength`, `signal`, `detector`, `test`, and `suppressed` as with a state. */
function anomalyEvent(anomaly: Anomaly, phase: 'begin' | 'end', suppressed: boolean): FleetEvent {
  const { id, gpu, uuid, strength, contributions, startedMs, lastMs, test, text } = anomaly;
  return {
    type: 'anomaly',
    timestampMs: phase === 'begin' ? startedMs : lastMs,
    gpu,
    gpuUuid: uuid,
    text: phase === 'begin' ? text : `over: ${text}`,
    attributes: {
      ...{ phase, id, strength: strength.toFixed(2) },
      ...(contributions[0] && { signal: contributions[0].signal, detector: contributions[0].detector }),
      ...(test && { test: 'true' }),
      ...(suppressed && { suppressed: 'true' }),
    },
  };
}

/** `health_state`: `from`, `to`, `score`, `cause`, and `suppressed` where the node is drained or in maintenance. */
function stateEvent(
  { gpu, uuid }: GpuScore,
  transition: Transition,
  contributions: readonly Contribution[],
  suppressed: boolean,
): FleetEvent {
  const { from, to, atMs, score, cause, flapping, by, why } = transition;
  return {
    type: 'health_state',
    timestampMs: atMs,
    gpu,
    gpuUuid: uuid,
    text: `GPU ${gpu} is ${STATE_WORDS[to]}: ${why}${reasonOf(transition, contributions)}`,
    attributes: {
      ...{ from: healthStateName(from), to: healthStateName(to), cause },
      ...(Number.isFinite(score) && { score: score.toFixed(1) }),
      ...(flapping && { flapping: 'true' }),
      ...(by !== '' && { by }),
      ...(suppressed && { suppressed: 'true' }),
    },
  };
}

/** What cost the most, where a score fell: a cap names what it stands on itself. */
function reasonOf({ cause, from, to }: Transition, [first]: readonly Contribution[]): string {
  const fell =
    to === HealthState.CRITICAL || from === HealthState.HEALTHY || from === HealthState.UNSPECIFIED;
  if (first === undefined || cause !== 'score' || !fell) return '';
  // Without threshold and source: those are with the GPU's health.
  return `, most of all: ${first.explanation.split('; costs points')[0]}`;
}
