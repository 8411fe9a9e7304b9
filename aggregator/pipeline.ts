import { describeError } from '#shared/errors/fleet-error.ts';
import { counter, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Block, BlockSpan, Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Loss } from '#shared/model/loss.ts';
import type { AlertBus } from './alerts/alert-bus.ts';
import type { AlertEngine } from './alerts/alert-engine.ts';
import type { HealthEngine } from './health/health-engine.ts';
import type {
  AgentStatus,
  IngestSink,
  Outcome,
  Peer,
  ReplayOrder,
  StoreStatus,
} from './ingest/ingest-sink.ts';
import type { Ledger } from './ledger/ledger.ts';
import type { Replays } from './ledger/replays.ts';
import type { RunWatch } from './ledger/run-watch.ts';
import type { LatestTable } from './store/latest.ts';
import type { StoreLink } from './store/store-link.ts';

export interface PipelineStages {
  readonly latest: LatestTable;
  readonly alerts: AlertEngine;
  readonly bus: AlertBus;
  readonly health: HealthEngine;
  readonly store: StoreLink;
  readonly ledger: Ledger;
  readonly runs: RunWatch;
  readonly orders: Replays;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
}

/**
 * What happens to a record, in this order: live state, health, alerts, and only then the store. An alert must
 * not wait for a database, and does not when that is down.
 */
export class Pipeline implements IngestSink {
  readonly #stages: PipelineStages;
  readonly #events;
  readonly #types = new Set<string>();

  constructor(stages: PipelineStages) {
    this.#stages = stages;
    this.#events = counter(stages.registry, {
      name: 'gpufleet_events_total',
      help: 'Events received, repeats included, by type (at most 50 types, then "other").',
      labelNames: ['type'],
    });
  }

  get store(): StoreStatus {
    return this.#stages.store.status;
  }

  connected(peer: Peer): void {
    const { latest, runs, logger } = this.#stages;
    latest.connected(peer);
    const vanished = runs.connected(peer);
    if (!vanished) return;
    this.lost(peer.source, vanished.identity, vanished)
      .then(() => runs.recorded(peer))
      .catch((error: unknown) =>
        logger.error({ cause: describeError(error), node: peer.source.node }, 'cannot record a loss'),
      );
  }

  disconnected(peer: Peer): void {
    this.#stages.latest.disconnected(peer.source);
  }

  status(peer: Peer, status: AgentStatus): void {
    this.#stages.runs.status(peer, status);
  }

  replays({ source }: Peer): readonly ReplayOrder[] {
    return this.#stages.orders.ordersFor(source.node);
  }

  block(block: Block): Promise<Outcome> {
    const { latest, health, alerts, store } = this.#stages;
    latest.apply(block);
    health.evaluate(block);
    alerts.evaluate(block);
    return store.write(block);
  }

  /** Gauges of the past say nothing of now, and counters carry what they counted into the next live tick. */
  span(span: BlockSpan): Promise<Outcome> {
    return this.#stages.store.writeSpan(span);
  }

  async event(source: Source, event: FleetEvent, late: boolean): Promise<Outcome> {
    const { health, alerts, bus, logger, store } = this.#stages;
    this.#events.inc({ type: this.#typeLabel(event.type) });
    logger.info(
      { node: source.node, type: event.type, gpu: event.gpu, late, ...event.attributes },
      event.text,
    );
    try {
      health.event(source, event);
      alerts.event(source, event, late);
      // Only what is on disk may be acknowledged: the agent will not send it again.
      await bus.publishEvent(source, event, late);
      await bus.written();
    } catch (error) {
      logger.error({ cause: describeError(error) }, 'cannot keep an event: its agent does');
      return { state: 'deferred' };
    }
    return { state: 'accepted', epoch: store.status.epoch };
  }

  async loss(source: Source, identity: string, loss: Loss): Promise<Outcome> {
    try {
      await this.lost(source, identity, loss);
    } catch (error) {
      this.#stages.logger.error({ cause: describeError(error) }, 'cannot keep a loss record: its agent does');
      return { state: 'deferred' };
    }
    return { state: 'accepted', epoch: this.#stages.store.status.epoch };
  }

  /** Enters a loss in the ledger and raises its alert. Resolves when the entry is on disk. */
  async lost(source: Pick<Source, 'cluster' | 'node'>, identity: string, loss: Loss): Promise<void> {
    const { alerts, ledger, logger, clock } = this.#stages;
    if (ledger.knows(source, identity)) return void (await ledger.record(source, identity, loss));
    logger.error({ node: source.node, ...loss }, 'samples lost');
    alerts.event(
      { externalLabels: [], ...source },
      {
        type: 'samples_lost',
        timestampMs: clock.now(),
        gpu: '',
        gpuUuid: '',
        text: `${loss.samples} samples lost (${loss.reason}): ${loss.detail}`,
        attributes: { reason: loss.reason, samples: String(loss.samples) },
      },
      false,
    );
    await ledger.record(source, identity, loss);
  }

  /** Types come from agents: the label is bounded. */
  #typeLabel(type: string): string {
    if (this.#types.size >= MAX_EVENT_TYPES && !this.#types.has(type)) return 'other';
    this.#types.add(type);
    return type;
  }
}

const MAX_EVENT_TYPES = 50;
