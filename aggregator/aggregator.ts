import { join } from 'node:path';
import type { Address } from '#shared/config/values.ts';
import { describeError } from '#shared/errors/fleet-error.ts';
import { gauge, type Registry } from '#shared/instruments/registry.ts';
import { supervise } from '#shared/lifecycle/supervise.ts';
import { aborted, repeat } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { alertingInputs } from './alerting-inputs.ts';
import { Alerting } from './alerts/alerting.ts';
import { type AlertBus, createAlertBus } from './alerts/bus/alert-bus.ts';
import { openAlertSpool } from './alerts/bus/alert-spool.ts';
import { EventSpool } from './alerts/bus/event-spool.ts';
import { natsAccess } from './alerts/bus/nats-access.ts';
import type { NatsLinkOptions } from './alerts/bus/nats-link.ts';
import { StreamLink } from './alerts/bus/stream-link.ts';
import { toSubject } from './alerts/bus/subject.ts';
import { DependencyWatch } from './alerts/watchdog/dependency-watch.ts';
import { Heartbeat, type Pulse } from './alerts/watchdog/heartbeat.ts';
import { Assessment } from './assessment.ts';
import type { AggregatorConfig } from './config.ts';
import { AssetBook } from './enrich/asset-book.ts';
import type { FleetLists } from './fleet-view.ts';
import { loadProfiles } from './health/profiles/load-profiles.ts';
import { healthFigures } from './health-figures.ts';
import { createHealthView } from './health-view.ts';
import { IngestServer, type IngestServerOptions } from './ingest/ingest-server.ts';
import { DeadLetters } from './ledger/dead-letters.ts';
import { Ledger } from './ledger/ledger.ts';
import { Replays } from './ledger/replays.ts';
import { RunWatch } from './ledger/run-watch.ts';
import type { Shelf } from './ledger/shelf.ts';
import { openLevelShelf } from './level-shelf.ts';
import { NodeMarks } from './node-marks.ts';
import { Pipeline } from './pipeline.ts';
import { Publishing } from './publish/publishing.ts';
import type { HealthView } from './query/health-view.ts';
import { DERIVED_INTERVAL_MS, DerivedSeries } from './store/derived-series.ts';
import { LatestTable } from './store/latest.ts';
import { StoreAccess } from './store/store-access.ts';
import {
  NoStore,
  type StoreLink,
  VictoriaMetricsLink,
  type VictoriaMetricsOptions,
} from './store/store-link.ts';
import { tickContext } from './tick-context.ts';
import { Validation } from './validate/validation.ts';
import { readStoredHealth } from './warm-start.ts';

/** Whether the store or NATS is away. */
const DEPENDENCIES_LOOK_MS = 1_000;
/** How late a moment of the derived grid may be noticed. */
const DERIVE_LOOK_MS = 500;
/** Whether the assets file changed. */
const ASSETS_LOOK_MS = 30_000;
/** How far behind each node is, to disk. */
const FLUSH_EVERY_MS = 5_000;

export interface AggregatorOptions {
  readonly config: AggregatorConfig;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly registry: Registry;
  readonly ingest: Pick<IngestServerOptions, 'credentials' | 'authenticate'>;
}

/**
 * ingest -> live state, health, alerts -> store. Opened sink first, so that closing goes from the source to the
 * sink: streams end, what is held is written, and only then do the bus and the spool close.
 */
export class Aggregator implements AsyncDisposable {
  readonly alerting: Alerting;
  readonly bus: AlertBus;
  readonly assessment: Assessment;
  readonly healthView: HealthView;
  readonly latest: LatestTable;
  readonly store: StoreLink;
  readonly lists: FleetLists;
  readonly #heartbeat: Heartbeat;
  readonly #dependencies: DependencyWatch;
  readonly #runs: RunWatch;
  readonly #options: AggregatorOptions;
  readonly #ingest: IngestServer;
  readonly #derived: DerivedSeries;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    options: AggregatorOptions,
    parts: Parts,
    ingest: IngestServer,
    stack: AsyncDisposableStack,
  ) {
    this.#options = options;
    this.#ingest = ingest;
    this.#stack = stack;
    this.alerting = parts.alerting;
    this.#heartbeat = parts.heartbeat;
    this.bus = parts.bus;
    this.assessment = parts.assessment;
    this.healthView = parts.healthView;
    this.store = parts.store;
    this.latest = parts.latest;
    this.lists = parts.lists;
    this.#runs = parts.runs;
    this.#dependencies = new DependencyWatch({
      ...{ shard: options.config.shard, clock: options.clock },
      states: () => dependenciesOf(parts.bus, parts.store),
      onEvent: parts.onEvent,
    });
    this.#derived = new DerivedSeries(
      (block) => parts.store.write(block),
      options.logger,
      options.registry,
      // Rules on scores and states.
      (block) => parts.alerting.evaluate(block),
    );
  }

  /** Throws `invalid_config` for bad rules, `unavailable` for a port or folder that is taken. */
  static async open(options: AggregatorOptions): Promise<Aggregator> {
    const { config, clock, random, logger, registry } = options;
    await using stack = new AsyncDisposableStack();
    const spool = stack.use(await openAlertSpool(join(config.data_dir, 'alerts'), { logger, registry }));
    const events = stack.use(await EventSpool.open(join(config.data_dir, 'events'), { logger, registry }));
    const nats = natsOptions(config);
    const bus = stack.use(
      await createAlertBus({ nats, spool, events, clock, logger, registry, ...streamsOf(config) }),
    );
    const latest = new LatestTable({ clock, registry });
    const shelf = stack.use(
      await openLevelShelf(join(config.data_dir, 'ledger'), { clock, logger, registry }),
    );
    const ledger = await Ledger.open({ shelf, clock, registry });
    const runs = await RunWatch.open({ shelf, clock, logger });
    // After the streams have ended, and before the shelf closes.
    stack.defer(() => runs.flush());
    const orders = await Replays.open({ shelf, clock });
    // What the store finds out concerns stages that stand before it: they are there when it first speaks.
    const later: {
      links?: StoreCalls;
      concluded?: Pipeline['concluded'];
      alerting?: Alerting;
      ingest?: IngestServer;
    } = {};
    const canary = await rememberedCanary(shelf, options);
    const store = stack.use(openStore(options, canary, () => later.links));
    const letters = await DeadLetters.open({
      shelf,
      ledger,
      clock,
      registry,
      offer: (body) => store.replayDeadLetter(Buffer.from(body)),
    });
    const assessment = await Assessment.open({
      ...{ clock, random, logger, registry, shelf },
      assets: await AssetBook.open(config.assets.file),
      profiles: await loadProfiles(config.health.profiles),
      detection: config.health.detection,
      stored: (thorough) => readStoredHealth({ store: config.store, clock, logger, registry }, thorough),
      onEvent: (source, event) => later.concluded?.(source, event),
    });
    stack.defer(() => assessment.flush());
    const publishing = nats && publishingOf(options, assessment.assets);
    const validation = new Validation({
      settings: config.validation,
      ...{ clock, registry },
      onRejected: (tick) => publishing?.rejectedTick(tick),
    });
    if (nats && publishing && publishing.streams.length > 0) {
      const link = { ...nats, logger, random, streams: publishing.streams };
      stack.use(
        new StreamLink({ ...link, begin: (stream) => publishing.begin(stream), end: () => publishing.end() }),
      );
      stack.defer(() => publishing.close());
    }
    const marks = new NodeMarks({
      ...{ assessment, latest, clock },
      onCleared: ({ cluster, node }, by, why) => void later.alerting?.nodeCleared(cluster, node, by, why),
    });
    const own: Source = { cluster: config.cluster, node: '', externalLabels: [] };
    const onEvent = (event: FleetEvent): void => later.concluded?.(own, event);
    const alerting = stack.use(
      await Alerting.open({
        ...alertingInputs({
          ...{ assets: assessment.assets, latest, marks, clock, logger },
          ingest: () => later.ingest,
        }),
        ...{ files: config.alerts, nats, bus, clock, random, logger, registry },
        ...{ shelf, shard: config.shard, replicas: config.nats?.replicas ?? 1 },
        onEvent,
      }),
    );
    later.alerting = alerting;
    const pipeline = new Pipeline({
      ...{ alerts: alerting, bus, assessment, validation, publishing, latest, store },
      ...{ ledger, runs, orders, clock, logger, registry },
    });
    later.concluded = (source, event) => pipeline.concluded(source, event);
    const ingest = stack.use(
      await IngestServer.listen({
        ...options.ingest,
        listen: config.ingest.listen,
        sink: pipeline,
        shard: config.shard,
        timeBounds: () => store.timeBounds,
        clock,
        logger,
        registry,
      }),
    );
    later.ingest = ingest;
    const replay = async (what: Parameters<Replays['request']>[0]) => {
      const order = await orders.request(what);
      return { id: order.id, agents: ingest.replay(order, what.node) };
    };
    later.links = {
      announce: () => ingest.announce(),
      deadLetter: async ({ sampleCount, ...letter }) => {
        await letters.add({ ...letter, samples: sampleCount });
        const { cluster, node, status, series } = letter;
        const source = { cluster, node, externalLabels: [] };
        const facts = { type: 'dead_letter', timestampMs: clock.now(), gpu: '', gpuUuid: '' };
        // Of thousands one alert: each is in the list of dead letters, and none of them is an event of its own.
        alerting.event(source, { ...facts, text: series, attributes: { status: String(status) } }, false);
      },
      lost: ({ cluster, node, ...loss }) =>
        pipeline.lost({ cluster, node }, `store/${loss.reason}/${loss.fromMs}-${loss.toMs}`, loss),
      replay: async (need) => void (await replay(need)),
    };
    const lists: FleetLists = {
      ledger,
      letters,
      statusOf: (cluster, node) => runs.statusOf(cluster, node),
      replay: ({ fromMs, toMs, node, comment }) =>
        replay({ fromMs, toMs, reason: comment || 'asked for by an operator', ...(node !== '' && { node }) }),
    };
    const healthView = createHealthView(assessment, validation, latest, marks, clock);
    const heartbeat = stack.use(heartbeatOf(options, alerting, bus, store, latest));
    const parts: Parts = {
      alerting,
      heartbeat,
      bus,
      assessment,
      healthView,
      latest,
      store,
      lists,
      runs,
      onEvent,
    };
    return new Aggregator(options, parts, ingest, stack.move());
  }

  get ingestAddress(): Address {
    return this.#ingest.address;
  }

  /** Why it is not ready, or undefined: NATS or the store being away is no reason, agents and alerts go on. */
  get notes(): readonly string[] {
    const { nats, reason } = this.bus.status();
    const notes = [...this.store.status.notes];
    if (nats === 'disconnected') notes.push(`NATS is away (${reason}): alerts wait in the spool`);
    notes.push(...this.alerting.fileFaults);
    return notes;
  }

  async run(signal: AbortSignal): Promise<void> {
    await supervise(signal, [
      (inner) => this.alerting.run(inner),
      (inner) => this.#heartbeat.run(inner),
      (inner) => repeat(DEPENDENCIES_LOOK_MS, inner, () => this.#dependencies.look()),
      (inner) => repeat(FLUSH_EVERY_MS, inner, () => this.#flushRuns()),
      (inner) => this.assessment.run(inner),
      (inner) => repeat(ASSETS_LOOK_MS, inner, () => void this.#reloadAssets()),
      (inner) => repeat(DERIVE_LOOK_MS, inner, () => this.#deriveIfDue()),
      // The store without a watch has nothing to run: it must not end the others.
      async (inner) => {
        await this.store.run(inner);
        await aborted(inner);
      },
    ]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  #flushRuns(): void {
    this.#runs.flush().catch((error: unknown) => {
      this.#options.logger.error({ cause: describeError(error) }, 'cannot write down the runs of the nodes');
    });
  }

  #lastDerivedMs = 0;

  #deriveIfDue(): void {
    const { clock, logger } = this.#options;
    const due = Math.floor(clock.now() / DERIVED_INTERVAL_MS) * DERIVED_INTERVAL_MS;
    // The first moment after a start belongs to the process before it: two values at one timestamp are one too many.
    if (this.#lastDerivedMs === 0) this.#lastDerivedMs = due;
    if (due <= this.#lastDerivedMs) return;
    this.#lastDerivedMs = due;
    this.#derive(due).catch((error: unknown) =>
      logger.error({ cause: describeError(error) }, 'cannot derive series'),
    );
  }

  async #derive(due: number): Promise<void> {
    const { nodes, scopes } = await healthFigures(this.assessment, this.latest);
    await this.#derived.write(due, nodes, { cluster: this.#options.config.cluster, scopes });
  }

  async #reloadAssets(): Promise<void> {
    const before = this.#assetFault;
    const reloaded = await this.assessment.assets.reload();
    this.#assetFault = reloaded.ok ? '' : reloaded.why;
    if (this.#assetFault !== before && !reloaded.ok)
      this.#options.logger.error(
        { cause: reloaded.why },
        'the assets file cannot be used: those of before still hold',
      );
  }

  #assetFault = '';
}

function publishingOf({ config, clock, registry }: AggregatorOptions, assets: AssetBook): Publishing {
  return new Publishing({
    settings: config.publish,
    replicas: config.nats?.replicas ?? 1,
    ...{ toSubject, clock, registry },
    context: tickContext(assets),
  });
}

interface Parts {
  readonly alerting: Alerting;
  readonly heartbeat: Heartbeat;
  readonly bus: AlertBus;
  readonly assessment: Assessment;
  readonly healthView: HealthView;
  readonly latest: LatestTable;
  readonly store: StoreLink;
  readonly lists: FleetLists;
  readonly runs: RunWatch;
  /** Of this aggregator itself. */
  readonly onEvent: (event: FleetEvent) => void;
}

function dependenciesOf(bus: AlertBus, store: StoreLink): Pick<Pulse, 'nats' | 'store'> {
  const { nats } = bus.status();
  return { nats: nats === 'off' ? 'off' : nats === 'connected' ? 'ok' : 'away', store: store.state };
}

function heartbeatOf(
  { config, clock, logger, registry }: AggregatorOptions,
  alerting: Alerting,
  bus: AlertBus,
  store: StoreLink,
  latest: LatestTable,
): Heartbeat {
  return new Heartbeat({
    ...{ settings: config.alerts.heartbeat, cluster: config.cluster, shard: config.shard },
    ...{ clock, logger, registry },
    pulse: () => ({
      ...dependenciesOf(bus, store),
      waiting: bus.status().waiting,
      lookedMs: alerting.lookedMs,
      nodes: latest.connectedCount,
    }),
    publish: (subject, body) => bus.tell(subject, body),
  });
}

/** What the store calls. */
interface StoreCalls {
  readonly announce: () => void;
  readonly deadLetter: VictoriaMetricsOptions['onDeadLetter'];
  readonly lost: VictoriaMetricsOptions['onLoss'];
  readonly replay: VictoriaMetricsOptions['onReplay'];
}

function natsOptions({ nats }: AggregatorConfig): Omit<NatsLinkOptions, 'logger' | 'random'> | undefined {
  return nats && { servers: nats.servers, credentials: natsAccess(nats) };
}

function streamsOf({ nats }: AggregatorConfig) {
  const replicas = nats?.replicas ?? 1;
  return { alertsStream: { replicas }, eventsStream: { replicas } };
}

const CANARY_KEY = 'canary/';

/** When the store last accepted a canary, over restarts: or a pause of ours would look like a store set back. */
async function rememberedCanary(
  shelf: Shelf,
  { config, logger }: AggregatorOptions,
): Promise<NonNullable<VictoriaMetricsOptions['canary']>> {
  const key = `${CANARY_KEY}${config.shard}\n${config.store?.url}`;
  let remembered: number | undefined;
  for await (const [name, value] of shelf.entries(CANARY_KEY))
    if (name === key && typeof value === 'number') remembered = value;
  return {
    remembered,
    remember: (acceptedMs) => {
      shelf
        .write([{ key, value: acceptedMs }], false)
        .catch((error: unknown) =>
          logger.warn({ cause: describeError(error) }, 'cannot remember the canary'),
        );
    },
  };
}

function openStore(
  { config, clock, random, logger, registry }: AggregatorOptions,
  canary: VictoriaMetricsOptions['canary'],
  links: () => StoreCalls | undefined,
): StoreLink {
  if (config.store) {
    const { url, read_url, processes } = config.store;
    return new VictoriaMetricsLink({
      url,
      readUrl: read_url,
      processes,
      access: new StoreAccess(config.store, () => clock.monotonic()),
      shard: config.shard,
      canary,
      ...{ clock, random, logger, registry },
      onChange: () => links()?.announce(),
      onDeadLetter: (letter) => links()?.deadLetter(letter),
      onLoss: (loss) => links()?.lost(loss),
      onReplay: (need) => links()?.replay(need),
    });
  }
  gauge(registry, {
    name: 'gpufleet_store_available',
    help: '1 while the store takes samples; embedded: there is none.',
  }).set(0);
  return new NoStore(clock, random);
}
