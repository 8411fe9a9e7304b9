import { describeError } from '#shared/errors/fleet-error.ts';
import { counter, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Block, BlockSpan, Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Loss } from '#shared/model/loss.ts';
import type { Alerting } from './alerts/alerting.ts';
import type { AlertBus } from './alerts/bus/alert-bus.ts';
import type { Assessment } from './assessment.ts';
import { withAssets } from './enrich/event-context.ts';
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
import type { Publishing } from './publish/publishing.ts';
import type { LatestTable } from './store/latest.ts';
import type { StoreLink } from './store/store-link.ts';
import type { Validation } from './validate/validation.ts';

export interface PipelineStages {
  readonly latest: LatestTable;
  readonly alerts: Pick<Alerting, 'evaluate' | 'event'>;
  readonly bus: AlertBus;
  readonly assessment: Assessment;
  readonly validation: Validation;
  /** Undefined without NATS. */
  readonly publishing: Publishing | undefined;
  readonly store: StoreLink;
  readonly ledger: Ledger;
  readonly runs: RunWatch;
  readonly orders: Replays;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
}

/**
 * What happens to a record, in this order: validation, live state, health, alerts, and only then the store, which gets
 * what came. An alert must not wait for a database, and does not when that is down.
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
    const { validation, latest, assessment, alerts, store, publishing } = this.#stages;
    const valid = validation.check(block);
    if (valid !== undefined) {
      latest.apply(valid);
      assessment.evaluate(valid);
      alerts.evaluate(valid);
    }
    const outcome = store.write(block);
    if (valid !== undefined) publishing?.tick(valid);
    return outcome;
  }

  /** Gauges of the past say nothing of now, and counters carry what they counted into the next live tick. */
  span(span: BlockSpan): Promise<Outcome> {
    this.#stages.validation.checkSpan(span);
    return this.#stages.store.writeSpan(span);
  }

  async event(source: Source, event: FleetEvent, late: boolean): Promise<Outcome> {
    const { assessment, alerts, bus, logger, store } = this.#stages;
    this.#events.inc({ type: this.#typeLabel(event.type) });
    logger.info(
      { node: source.node, type: event.type, gpu: event.gpu, late, ...event.attributes },
      event.text,
    );
    try {
      assessment.event(source, event);
      alerts.event(source, event, late);
      // Only what is on disk may be acknowledged: the agent will not send it again.
      await bus.publishEvent(source, event, late, withAssets(event, source, assessment.assets).attributes);
      await bus.written();
    } catch (error) {
      logger.error({ cause: describeError(error) }, 'cannot keep an event: its agent does');
      return { state: 'deferred' };
    }
    return { state: 'accepted', epoch: store.status.epoch };
  }

  /** What health itself found, such as an anomaly: it goes the way of an agent's events, but to health again. */
  concluded(source: Source, event: FleetEvent): void {
    const { assessment, alerts, bus, logger } = this.#stages;
    this.#events.inc({ type: this.#typeLabel(event.type) });
    logger.info({ node: source.node, type: event.type, gpu: event.gpu, ...event.attributes }, event.text);
    alerts.event(source, event, false);
    bus
      .publishEvent(source, event, false, withAssets(event, source, assessment.assets).attributes)
      .catch((error: unknown) =>
        logger.error({ cause: describeError(error), type: event.type }, 'cannot publish what health found'),
      );
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
