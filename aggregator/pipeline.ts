import { counter, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Block, Source } from '#shared/model/block.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Loss } from '#shared/model/loss.ts';
import type { AlertBus } from './alerts/alert-bus.ts';
import type { AlertEngine } from './alerts/alert-engine.ts';
import type { HealthEngine } from './health/health-engine.ts';
import type { IngestSink, Outcome, Peer, StoreStatus } from './ingest/ingest-sink.ts';
import type { LatestTable } from './store/latest.ts';
import type { StoreLink } from './store/store-link.ts';

export interface PipelineStages {
  readonly latest: LatestTable;
  readonly alerts: AlertEngine;
  readonly bus: AlertBus;
  readonly health: HealthEngine;
  readonly store: StoreLink;
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
  readonly #losses;

  constructor(stages: PipelineStages) {
    this.#stages = stages;
    this.#events = counter(stages.registry, {
      name: 'gpufleet_events_total',
      help: 'Events received, repeats included, by type (at most 50 types, then "other").',
      labelNames: ['type'],
    });
    this.#losses = counter(stages.registry, {
      name: 'gpufleet_lost_samples_total',
      help: 'Samples that agents reported as lost, by reason.',
      labelNames: ['reason'],
    });
  }

  get store(): StoreStatus {
    return this.#stages.store.status;
  }

  connected(peer: Peer): void {
    this.#stages.latest.connected(peer);
  }

  disconnected(peer: Peer): void {
    this.#stages.latest.disconnected(peer.source);
  }

  block(block: Block): Promise<Outcome> {
    const { latest, health, alerts, store } = this.#stages;
    latest.apply(block);
    health.evaluate(block);
    alerts.evaluate(block);
    return store.write(block);
  }

  async event(source: Source, event: FleetEvent, late: boolean): Promise<Outcome> {
    const { health, alerts, bus, logger, store } = this.#stages;
    this.#events.inc({ type: this.#typeLabel(event.type) });
    logger.info(
      { node: source.node, type: event.type, gpu: event.gpu, late, ...event.attributes },
      event.text,
    );
    health.event(source, event);
    alerts.event(source, event, late);
    bus.publishEvent(source, event, late);
    // Only what is on disk may be acknowledged: the agent will not send it again.
    await bus.written();
    return { state: 'accepted', epoch: store.status.epoch };
  }

  async loss(source: Source, loss: Loss): Promise<Outcome> {
    const { logger, store } = this.#stages;
    this.#losses.inc({ reason: LOSS_REASONS.has(loss.reason) ? loss.reason : 'other' }, loss.samples);
    logger.error({ node: source.node, ...loss }, 'samples lost');
    return { state: 'accepted', epoch: store.status.epoch };
  }

  readonly #types = new Set<string>();

  /** Types come from agents: the label is bounded. */
  #typeLabel(type: string): string {
    if (this.#types.size >= MAX_EVENT_TYPES && !this.#types.has(type)) return 'other';
    this.#types.add(type);
    return type;
  }
}

const MAX_EVENT_TYPES = 50;
const LOSS_REASONS = new Set<string>([
  'trimmed',
  'corrupt',
  'run_vanished',
  'unbuffered',
  'refused',
  'store_ignored',
]);
