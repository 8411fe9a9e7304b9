import { DetectionEngine } from '../../../aggregator/health/detect/detection-engine.ts';
import { HealthEngine, healthStateName } from '../../../aggregator/health/health-engine.ts';
import { PeerRows } from '../../../aggregator/health/peers/peer-rows.ts';
import { PeerWatch } from '../../../aggregator/health/peers/peer-watch.ts';
import { HealthState } from '../../../proto/gen/gpufleet/health/v1/health_pb.ts';
import { createRegistry } from '../../../shared/instruments/registry.ts';
import type { Block } from '../../../shared/model/block.ts';
import type { Clock } from '../../../shared/model/clock.ts';
import type { FleetEvent } from '../../../shared/model/event.ts';
import type { FleetNode } from './fleet-node.ts';

/** Somebody would be told. */
export interface Alarm {
  readonly atMs: number;
  readonly node: string;
  /** Index; empty where it is of the node. */
  readonly gpu: string;
  /** An incident of the detectors, or a worse state of health. */
  readonly how: 'incident' | 'state';
  /** For people who look for its cause. */
  readonly text: string;
}

/** Far more than a fleet that works raises; what comes after is counted, not kept. */
const MAX_ALARMS = 10_000;
/** Silence is worse than health, and told after it; a known illness is worse than silence. */
const WORSE: Readonly<Record<number, number>> = {
  [HealthState.HEALTHY]: 0,
  [HealthState.UNKNOWN]: 1,
  [HealthState.FLAPPING]: 2,
  [HealthState.DEGRADED]: 2,
  [HealthState.CRITICAL]: 3,
};

/** GPUs of one part of the fleet. */
const MAX_GPUS = 2_000;

/** What an aggregator makes of a fleet: health, detection and peers as shipped, and every alarm that they raise. */
export class Watch {
  readonly alarms: Alarm[] = [];
  readonly #clock: Clock;
  readonly #health: HealthEngine;
  readonly #detection: DetectionEngine;
  readonly #rows = new PeerRows();
  readonly #peers = new PeerWatch({ maxGpus: MAX_GPUS });
  readonly #ranks = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
    const registry = createRegistry();
    this.#health = new HealthEngine({ clock, registry });
    this.#detection = new DetectionEngine({ clock, registry });
    this.#detection.subscribe(({ source, gpu, text }, phase) => {
      if (phase === 'begin') this.#raise(source.node, gpu, 'incident', text);
    });
  }

  take(node: FleetNode, block: Block, events: readonly FleetEvent[]): void {
    for (const event of events) {
      this.#health.event(node.source, event);
      this.#detection.event(node.source, event);
    }
    this.#health.evaluate(block);
    this.#detection.evaluate(block);
    this.#rows.evaluate(block);
    this.#lookAtStates(node);
  }

  /** After the blocks of all nodes of one moment. */
  advance(): void {
    const nowMs = this.#clock.now();
    const monotonicMs = this.#clock.monotonic();
    for (const row of this.#rows.fresh(nowMs, () => '')) this.#peers.take(row, monotonicMs);
    this.#peers.round(monotonicMs);
    for (const { uuid, source, gpu } of this.#rows.gpus()) {
      this.#health.facts(uuid, this.#peers.factsOf(uuid));
      this.#detection.findings(source, uuid, gpu, this.#peers.findingsOf(uuid), nowMs);
    }
    this.#detection.advance(this.#clock.now());
  }

  #lookAtStates({ source, uuids }: FleetNode): void {
    for (let gpu = 0; gpu < uuids.length; gpu++) {
      const uuid = uuids[gpu]!;
      const state = this.#health.scoreOf(uuid)?.state ?? HealthState.HEALTHY;
      const rank = WORSE[state] ?? 0;
      const before = this.#ranks.get(uuid) ?? WORSE[HealthState.UNKNOWN]!;
      if (rank === before) continue;
      this.#ranks.set(uuid, rank);
      if (rank > before) this.#raise(source.node, String(gpu), 'state', this.#why(uuid));
    }
  }

  #why(uuid: string): string {
    const health = this.#health.healthOf(uuid);
    const why = health?.contributions.map(({ explanation }) => explanation).join('; ');
    return `${healthStateName(health?.state ?? HealthState.UNKNOWN)} at ${health?.score.toFixed(1)}: ${why}`;
  }

  #raise(node: string, gpu: string, how: Alarm['how'], text: string): void {
    if (this.alarms.length < MAX_ALARMS) this.alarms.push({ atMs: this.#clock.now(), node, gpu, how, text });
  }
}
