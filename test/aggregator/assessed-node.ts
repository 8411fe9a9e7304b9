import { createSimulatedCollector } from '../../agent/collect/simulated/collector.ts';
import type { FaultKind, InjectedFault } from '../../agent/collect/simulated/faults.ts';
import type { LoadPattern } from '../../agent/collect/simulated/workload.ts';
import { CounterResets } from '../../agent/counter-resets.ts';
import { Assessment } from '../../aggregator/assessment.ts';
import { AssetBook } from '../../aggregator/enrich/asset-book.ts';
import type { Anomaly } from '../../aggregator/health/detect/anomaly.ts';
import { defaultDetectionSettings } from '../../aggregator/health/detect/detection-settings.ts';
import { type HealthDetail, healthStateName } from '../../aggregator/health/health-engine.ts';
import { builtInProfiles } from '../../aggregator/health/profiles/load-profiles.ts';
import type { TransitionEntry } from '../../aggregator/health/states/transition.ts';
import { openLevelShelf } from '../../aggregator/level-shelf.ts';
import { createRegistry } from '../../shared/instruments/registry.ts';
import { silentLogger } from '../../shared/logging/logger.ts';
import type { Block, Source } from '../../shared/model/block.ts';
import type { FleetEvent } from '../../shared/model/event.ts';
import { type TempDir, tempDir } from '../support/temp.ts';
import { ManualClock } from './alerts/block-of.ts';

export const NODE: Source = { cluster: 'c', node: 'n', externalLabels: [] };
const INTERVAL_MS = 30_000;

export interface AssessedNodeOptions {
  readonly gpus?: number;
  readonly load?: LoadPattern;
  /** Changes what the assessment is shown. */
  readonly show?: (block: Block) => Block;
}

/**
 * A simulated node, read every 30 s as its agent reads it, in front of a real Assessment on a real LevelDB. Time is the
 * node's own: hours pass in moments.
 */
export class AssessedNode implements AsyncDisposable {
  readonly clock = new ManualClock();
  /** What health told the outside, oldest first. */
  readonly told: FleetEvent[] = [];
  show: (block: Block) => Block;
  readonly #dir: TempDir;
  readonly #simulated;
  readonly #resets = new CounterResets();
  #assessment!: Assessment;
  #shelf!: Awaited<ReturnType<typeof openLevelShelf>>;

  private constructor({ gpus = 4, load = 'steady', show = (block) => block }: AssessedNodeOptions) {
    this.show = show;
    this.#dir = tempDir('assessment');
    const simulated = { node: NODE.node, gpus, seed: 3, intervalMs: INTERVAL_MS, load };
    this.#simulated = createSimulatedCollector({ ...simulated, clock: this.clock });
  }

  static async open(options: AssessedNodeOptions = {}): Promise<AssessedNode> {
    const node = new AssessedNode(options);
    await node.#open();
    return node;
  }

  get assessment(): Assessment {
    return this.#assessment;
  }

  uuid(gpu: number): string {
    return this.#simulated.machine.boards[gpu]!.uuid;
  }

  /** Lets so many minutes pass, tick by tick. */
  async pass(minutes: number): Promise<void> {
    for (let tick = 0; tick < (minutes * 60_000) / INTERVAL_MS; tick++) await this.#tick();
  }

  async befall(kind: FaultKind, gpu: number, more: Partial<InjectedFault> = {}): Promise<void> {
    this.#simulated.inject({ kind, gpu, ...more });
    await this.#tick();
  }

  event(type: string, gpu: number, attributes: Readonly<Record<string, string>>, text = ''): void {
    const gpuUuid = gpu < 0 ? '' : this.uuid(gpu);
    const of = { gpu: gpu < 0 ? '' : String(gpu), gpuUuid };
    this.#assessment.event(NODE, { type, timestampMs: this.clock.ms, ...of, text, attributes });
  }

  state(gpu: number): ReturnType<typeof healthStateName> {
    return healthStateName(this.detail(gpu).state);
  }

  detail(gpu: number): HealthDetail {
    return this.#assessment.health.detailOf(this.uuid(gpu))!;
  }

  /** Why it lost its points, most points first. */
  reasons(gpu: number): string[] {
    return this.detail(gpu).contributions.map(({ explanation }) => explanation);
  }

  /** Of one GPU, oldest first. */
  async transitions(gpu: number): Promise<TransitionEntry[]> {
    const { entries } = await this.#assessment.transitions.list({ uuid: this.uuid(gpu) });
    return [...entries].reverse();
  }

  anomalies(gpu: number): Anomaly[] {
    return [...this.#assessment.detection.anomaliesOf(this.uuid(gpu))];
  }

  /** In order, as a stop and a start of the aggregator; `minutes` in between. */
  async restart(minutes = 0): Promise<void> {
    await this.#assessment.flush();
    await this.#shelf[Symbol.asyncDispose]();
    this.clock.ms += minutes * 60_000;
    await this.#open();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#simulated[Symbol.asyncDispose]();
    await this.#assessment.flush();
    await this.#shelf[Symbol.asyncDispose]();
    await this.#dir[Symbol.asyncDispose]();
  }

  async #open(): Promise<void> {
    const registry = createRegistry();
    const common = { clock: this.clock, random: () => 0.5, logger: silentLogger, registry };
    this.#shelf = await openLevelShelf(this.#dir.path, common);
    this.#assessment = await Assessment.open({
      ...common,
      shelf: this.#shelf,
      assets: await AssetBook.open(undefined),
      profiles: builtInProfiles(),
      detection: defaultDetectionSettings(),
      onEvent: (_, event) => void this.told.push(event),
    });
  }

  async #tick(): Promise<void> {
    // A stuck read answers at once.
    const reading = await this.#simulated.collect(AbortSignal.abort());
    const resets = this.#resets.observe(reading);
    for (const event of [...reading.events, ...resets.events]) this.#assessment.event(NODE, event);
    this.#assessment.evaluate(this.show({ source: NODE, live: true, ...reading }));
    this.#assessment.advance();
    await this.#assessment.comparePeers();
    this.clock.ms += INTERVAL_MS;
    this.#assessment.advance();
  }
}
