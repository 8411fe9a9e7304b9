import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { Registry } from '#shared/instruments/registry.ts';
import { supervise, type Task } from '#shared/lifecycle/supervise.ts';
import { aborted, repeat } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Block, Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { Actions, type ActionsOptions } from './actions/actions.ts';
import { EXECUTOR_KINDS } from './actions/executors/registry.ts';
import { RuleWatch, type RuleWatchOptions } from './aggregate/rule-watch.ts';
import { isTransition } from './alert-change.ts';
import { AlertEngine, type AlertEngineOptions } from './alert-engine.ts';
import { AuditLog } from './audit/audit-log.ts';
import { ALERTS_STREAM, type AlertBus } from './bus/alert-bus.ts';
import type { NatsLinkOptions } from './bus/nats-link.ts';
import type { ControlShelf } from './control/control-shelf.ts';
import type { ControlStore } from './control/control-store.ts';
import { openControlStore } from './control/open-control-store.ts';
import { type Reloaded, WatchedFile } from './files/watched-file.ts';
import { Inhibitions } from './mute/inhibitions.ts';
import { MarkSilences, type NodeMark } from './mute/mark-silences.ts';
import { Silences } from './mute/silences.ts';
import { LocalFeed } from './notify/local-feed.ts';
import { Notifier } from './notify/notifier.ts';
import { StreamFeed } from './notify/stream-feed.ts';
import { RuleBook } from './rules/rule-files.ts';

export interface AlertingOptions {
  /** Paths; the shipped rules, nobody and nothing where one is not given. */
  readonly files: {
    readonly rules?: string | undefined;
    readonly notify?: string | undefined;
    readonly actions?: string | undefined;
  };
  readonly nats: Omit<NatsLinkOptions, 'logger' | 'random'> | undefined;
  readonly replicas: number;
  readonly bus: AlertBus;
  /** Of what all aggregators share, the audit log, and what was notified. Not closed here. */
  readonly shelf: ControlShelf;
  readonly contextOf: NonNullable<AlertEngineOptions['contextOf']>;
  readonly groupsOf: RuleWatchOptions['groupsOf'];
  readonly connected: RuleWatchOptions['connected'];
  readonly hears: NonNullable<AlertEngineOptions['hears']>;
  /** What operators say of nodes now, by cluster and node. */
  readonly marks: () => Iterable<NodeMark & { readonly cluster: string; readonly node: string }>;
  readonly fleet: Pick<ActionsOptions, 'executorDeps' | 'nodesOfPool' | 'poolOf' | 'outOtherwise'>;
  /** What alerting itself has to say, such as a notification that was given up. Must not throw. */
  readonly onEvent: (event: FleetEvent) => void;
  readonly shard: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly registry: Registry;
  /** How often files are looked at, ms; 30 s by default. */
  readonly reloadEveryMs?: number;
}

/** Expiry of alerts, absent and aggregate rules, silences and marks are looked at this often. */
const ADVANCE_MS = 1_000;
/** Whether rules, receivers and policies on disk changed. */
const RELOAD_MS = 30_000;

/**
 * Everything from a sample to a person or a machine: rules, the alerts that they raise, what mutes them, who is told
 * and what is done. Opened sink first.
 */
export class Alerting implements AsyncDisposable {
  readonly engine: AlertEngine;
  readonly rules: RuleBook;
  readonly silences: Silences;
  readonly inhibitions: Inhibitions;
  readonly audit: AuditLog;
  readonly control: ControlStore;
  readonly notifier: Notifier;
  /** Undefined where no actions are configured. */
  readonly actions: Actions | undefined;
  readonly marks: MarkSilences;
  /** When alerts were last looked at, Unix ms. */
  lookedMs: number;
  readonly #options: AlertingOptions;
  readonly #watch: RuleWatch;
  readonly #stack: AsyncDisposableStack;
  readonly #files: readonly WatchedFile[];
  #reloading: Promise<void> | undefined;
  /** The marks that were last seen, as text. */
  #marked = new Map<string, string>();

  private constructor(
    options: AlertingOptions,
    parts: Parts,
    files: readonly WatchedFile[],
    stack: AsyncDisposableStack,
  ) {
    this.#files = files;
    this.#options = options;
    this.#stack = stack;
    this.engine = parts.engine;
    this.rules = parts.rules;
    this.silences = parts.silences;
    this.inhibitions = parts.inhibitions;
    this.audit = parts.audit;
    this.control = parts.control;
    this.notifier = parts.notifier;
    this.actions = parts.actions;
    this.marks = parts.marks;
    this.#watch = parts.watch;
    this.lookedMs = options.clock.now();
  }

  /** Throws `invalid_config` with every fault of the rules, notify or actions file. */
  static async open(options: AlertingOptions): Promise<Alerting> {
    const { files, nats, bus, shelf, replicas, shard, clock, random, logger, registry } = options;
    const tools = { clock, logger, registry };
    await using stack = new AsyncDisposableStack();
    const rules = await RuleBook.open({ ...tools, file: files.rules });
    const audit = stack.use(await AuditLog.open({ ...tools, shelf, shard, replicas }));
    const control = stack.use(
      await openControlStore({ ...tools, nats, local: shelf, random, replicas, riders: [audit] }),
    );
    const silences = stack.use(new Silences({ ...tools, control, audit }));
    const marks = new MarkSilences({ silences, shard, clock, logger });
    stack.defer(() => marks.settled());
    const inhibitions = new Inhibitions({ rules: [], alerts: [] });
    const engine = new AlertEngine({
      ...{ rules: rules.current.rules, clock, registry },
      ...{ contextOf: options.contextOf, hears: options.hears },
      stamp: (alert) => ({
        silencedBy: silences.covering(alert),
        inhibitedBy: inhibitions.inhibiting(alert),
      }),
    });
    stack.use(
      engine.subscribe((alert, change) => {
        inhibitions.note(alert);
        if (isTransition(change)) bus.publish(alert);
      }),
    );
    engine.restore(await bus.lastStates());
    const { groupsOf, connected } = options;
    const watch = stack.use(new RuleWatch({ engine, groupsOf, connected, clock, registry }));
    watch.setRules(rules.current.rules);
    stack.use(
      rules.onChange((set) => {
        engine.setRules(set.rules);
        watch.setRules(set.rules);
      }),
    );
    const link = nats && { ...nats, logger, random };
    const stream = { ...ALERTS_STREAM, replicas };
    const clusterFeed =
      link && files.notify !== undefined
        ? stack.use(new StreamFeed({ nats: link, stream, registry }))
        : undefined;
    const later: { notifier?: Notifier; actions?: Actions | undefined } = {};
    const reloadNotifier = async (): Promise<Reloaded> => {
      const outcome = await later.notifier!.reload();
      if (outcome.ok) inhibitions.setRules(await later.notifier!.inhibitRules(), engine.alerts());
      return outcome;
    };
    const watched = await Promise.all([
      ...(files.notify === undefined ? [] : [WatchedFile.open('notify', files.notify, reloadNotifier)]),
      ...(files.actions === undefined
        ? []
        : [WatchedFile.open('actions', files.actions, () => later.actions!.reload())]),
    ]);
    const notifier = stack.use(
      await Notifier.open({
        ...{ ...tools, file: files.notify, control, audit, silences, clusterFeed, shelf, random, shard },
        feed: new LocalFeed(engine),
        onDead: (endpoint, notification, why) =>
          options.onEvent(deadEvent(endpoint.receiver, notification.title, why, clock.now())),
      }),
    );
    inhibitions.setRules(await notifier.inhibitRules(), engine.alerts());
    const actions =
      files.actions === undefined
        ? undefined
        : stack.use(
            await Actions.open({
              ...{ ...tools, ...options.fleet, file: files.actions, kinds: EXECUTOR_KINDS },
              ...{ control, audit, silences, inhibitions, nats, random, shard, feed: engine },
              onFailed: ({ policy, target, why }) =>
                options.onEvent(failedEvent(policy, target.node, why, clock.now())),
            }),
          );
    Object.assign(later, { notifier, actions });
    const parts = { engine, rules, silences, inhibitions, audit, control, notifier, actions, marks, watch };
    return new Alerting(options, parts, watched, stack.move());
  }

  /** The rules on one tick. */
  evaluate(block: Block): void {
    this.engine.evaluate(block);
    this.#watch.evaluate(block);
  }

  event(source: Source, event: FleetEvent, late: boolean): void {
    this.engine.event(source, event, late);
  }

  async run(signal: AbortSignal): Promise<void> {
    const tasks: Task[] = [
      (inner) => repeat(ADVANCE_MS, inner, () => this.advance()),
      (inner) => repeat(this.#options.reloadEveryMs ?? RELOAD_MS, inner, () => this.#startReload()),
      async (inner) => {
        await this.notifier.run(inner);
        await aborted(inner);
      },
    ];
    const { actions } = this;
    if (actions) tasks.push((inner) => actions.run(inner));
    await supervise(signal, tasks);
    await this.#reloading;
  }

  /** Lets time pass. `run` calls it each second. */
  advance(): void {
    const nowMs = this.#options.clock.now();
    this.engine.advance(nowMs);
    this.#watch.advance(nowMs);
    this.silences.advance();
    this.#followMarks();
    this.marks.advance();
    this.lookedMs = nowMs;
  }

  /** What is wrong with files on disk, which are then not the ones that run. */
  get fileFaults(): string[] {
    const faults = this.#files.flatMap(({ name, fault }) =>
      fault === ''
        ? []
        : [`the ${name} file on disk is not the one that runs: ${fault.replaceAll(/\s+/g, ' ')}`],
    );
    if (this.rules.fault !== '')
      faults.push('the rules on disk are not the ones that run: see `gpufleet rules`');
    return faults;
  }

  /** What the engine knows, with what mutes it now rather than at its last transition. */
  shown(alert: Alert): Alert {
    return {
      ...alert,
      silencedBy: this.silences.covering(alert),
      inhibitedBy: this.inhibitions.inhibiting(alert),
    };
  }

  /** An operator put a node back into service: what actions hold of it is given back. Never rejects. */
  async nodeCleared(cluster: string, node: string, by: string, why: string): Promise<void> {
    await this.actions
      ?.nodeCleared(cluster, node, by, why)
      .catch((error: unknown) =>
        this.#options.logger.warn({ node, why: describeError(error) }, 'cannot give back what actions hold'),
      );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  /** One at a time; what goes wrong is for the log, not the end of the process. */
  #startReload(): void {
    this.#reloading ??= this.#reloadIfChanged()
      .catch((error: unknown) =>
        this.#options.logger.error({ why: describeError(error) }, 'cannot read the files of alerts again'),
      )
      .finally(() => {
        this.#reloading = undefined;
      });
  }

  async #reloadIfChanged(): Promise<void> {
    await this.rules.reloadIfChanged();
    for (const file of this.#files) {
      const outcome = await file.look();
      if (outcome?.ok) this.#options.logger.info(`the ${file.name} file was read again`);
      else if (outcome !== undefined)
        this.#options.logger.error(
          { why: outcome.why },
          `the ${file.name} file cannot be used: that of before still holds`,
        );
    }
  }

  /** Nodes that are marked as drained or in maintenance are silent: alerts of every rule, not health's alone. */
  #followMarks(): void {
    const marked = new Map<string, string>();
    for (const { cluster, node, ...mark } of this.#options.marks()) {
      const key = `${cluster}\n${node}`;
      const text = JSON.stringify(mark);
      marked.set(key, text);
      if (this.#marked.get(key) !== text) this.marks.syncMark(cluster, node, mark);
    }
    for (const key of this.#marked.keys()) {
      if (marked.has(key)) continue;
      const [cluster, node] = key.split('\n');
      this.marks.syncMark(cluster!, node!, undefined);
    }
    this.#marked = marked;
    this.marks.endOthers();
  }
}

interface Parts {
  readonly engine: AlertEngine;
  readonly rules: RuleBook;
  readonly silences: Silences;
  readonly inhibitions: Inhibitions;
  readonly audit: AuditLog;
  readonly control: ControlStore;
  readonly notifier: Notifier;
  readonly actions: Actions | undefined;
  readonly marks: MarkSilences;
  readonly watch: RuleWatch;
}

function deadEvent(receiver: string, title: string, why: string, timestampMs: number): FleetEvent {
  const text = `${receiver} was not told "${title}": ${why}`;
  return { ...OF_NO_GPU, type: 'notification_dead', timestampMs, text, attributes: { receiver } };
}

function failedEvent(policy: string, node: string, why: string, timestampMs: number): FleetEvent {
  const text = `${policy} on ${node}: ${why}`;
  return { ...OF_NO_GPU, type: 'action_failed', timestampMs, text, attributes: { policy, of: node } };
}

const OF_NO_GPU = { gpu: '', gpuUuid: '' };
