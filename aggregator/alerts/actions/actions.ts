import { readFile } from 'node:fs/promises';
import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Registry } from '#shared/instruments/registry.ts';
import { supervise, type Task } from '#shared/lifecycle/supervise.ts';
import { aborted, sleep } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { isTransition } from '../alert-change.ts';
import type { NatsLinkOptions } from '../bus/nats-link.ts';
import type { ControlStore } from '../control/control-store.ts';
import { ActionConsumer } from './action-consumer.ts';
import { ActionDecisions } from './action-decisions.ts';
import type { ActionDocument, ActionState } from './action-document.ts';
import { ActionDriver } from './action-driver.ts';
import { ActionGates } from './action-gates.ts';
import { ActionHousekeeping } from './action-housekeeping.ts';
import { ActionIntake } from './action-intake.ts';
import { ActionLeases } from './action-leases.ts';
import { ActionMetrics } from './action-metrics.ts';
import { ActionOutbox, type AuditSink } from './action-outbox.ts';
import { ActionScheduler } from './action-scheduler.ts';
import { ActionTable } from './action-table.ts';
import { ActionWriter } from './action-writer.ts';
import { parseActionsFile } from './actions-file.ts';
import { type AlertFeed, LocalAlerts } from './alert-source.ts';
import { BeforeSteps } from './before-steps.ts';
import type { ExecutorDeps, ExecutorKind } from './executors/executor-kind.ts';
import { NodeTurns } from './node-turns.ts';
import type { ActionSettings } from './policy.ts';
import { PolicyBook } from './policy-book.ts';
import { PoolShares } from './pool-shares.ts';
import { RunSteps } from './run-steps.ts';
import { StepRunner } from './step-runner.ts';

export interface ActionsOptions {
  /** The path of actions.yaml. */
  readonly file: string;
  /** Of steps: EXECUTOR_KINDS. */
  readonly kinds: Readonly<Record<string, ExecutorKind>>;
  readonly executorDeps: ExecutorDeps;
  /** Not closed here. */
  readonly control: ControlStore;
  readonly audit: AuditSink;
  /** The alerts of this process. */
  readonly feed: AlertFeed;
  /** Where the alerts of all aggregators are; undefined for an aggregator that is alone. */
  readonly nats: Omit<NatsLinkOptions, 'logger' | 'random'> | undefined;
  /** 0 where the pool is not known; an empty name is the nodes of the cluster without a pool. */
  readonly nodesOfPool: (cluster: string, pool: string) => number;
  readonly poolOf: (cluster: string, node: string) => string;
  /** Nodes that are out of service for other reasons (drained by an operator), as far as that is known. */
  readonly outOtherwise?: (cluster: string, pool: string) => Iterable<string>;
  /** Whether a node takes work, as its scheduler says; undefined where that is not known. */
  readonly inService?: (cluster: string, node: string) => boolean | undefined;
  readonly silences?: { covering(alert: Alert): readonly string[] };
  readonly inhibitions?: { inhibiting(alert: Alert): readonly string[] };
  /** An action failed: `why` says what to do. Must not throw. */
  readonly onFailed?: (action: ActionDocument) => void;
  readonly clock: Clock;
  /** 0 (included) to 1 (excluded). */
  readonly random: () => number;
  readonly logger: Logger;
  readonly registry: Registry;
  /** The name of this aggregator. */
  readonly shard: string;
}

interface ActionFilter {
  readonly state?: ActionState;
  readonly node?: string;
}

/** Alerts of this process that wait to be stored; those beyond are found by housekeeping. */
const MAX_QUEUE = 10_000;
const RETRY_MS = 1_000;

/**
 * What is done about alerts by itself: policies from a file, actions in the control store, executors that touch
 * machines. Every aggregator may run it; each action is driven by one of them at a time. While the control store is
 * away nothing is done: what cannot be agreed on with the others is not done to machines.
 */
export class Actions implements AsyncDisposable {
  readonly #options: ActionsOptions;
  readonly #policies: PolicyBook;
  #reloading: Promise<unknown> = Promise.resolve();
  readonly #table: ActionTable;
  readonly #leases: ActionLeases;
  readonly #metrics: ActionMetrics;
  readonly #intake: ActionIntake;
  readonly #decisions: ActionDecisions;
  readonly #scheduler: ActionScheduler;
  readonly #housekeeping: ActionHousekeeping;
  readonly #consumer: ActionConsumer | undefined;

  private constructor(options: ActionsOptions, policies: PolicyBook) {
    const { control, clock, random, logger, registry, feed, nats } = options;
    this.#options = options;
    this.#policies = policies;
    const instance = Math.floor(random() * 2 ** 48).toString(36);
    const table = new ActionTable(control, clock);
    const leases = new ActionLeases(`${options.shard}/${instance}`, table, clock, logger);
    const shares = new PoolShares(options);
    const turns = new NodeTurns(control, table);
    const metrics = new ActionMetrics(registry, table, shares);
    const outbox = new ActionOutbox(options.audit);
    const gates = new ActionGates({ policies, shares, turns });
    const runner = new StepRunner();
    const onFailed = options.onFailed ?? (() => {});
    const writer = new ActionWriter({ table, leases, outbox, clock, metrics, onFailed });
    const intake = new ActionIntake({ table, policies, poolOf: options.poolOf, clock, metrics });
    const take = (alert: Alert): Promise<void> => intake.take(alert);
    this.#consumer = nats && new ActionConsumer({ nats, logger, random, take });
    const alerts = this.#consumer ?? new LocalAlerts(feed, clock);
    const silencedBy = (alert: Alert): readonly string[] => options.silences?.covering(alert) ?? [];
    const inhibitedBy = (alert: Alert): readonly string[] => options.inhibitions?.inhibiting(alert) ?? [];
    const before = new BeforeSteps({
      ...{ writer, gates, shares, turns, runner, alerts, silencedBy, inhibitedBy },
    });
    const steps = new RunSteps({ table, writer, gates, shares, runner, metrics, random });
    const isNear = (cluster: string, node: string): boolean =>
      nats === undefined || (options.executorDeps.agents.connected?.(cluster, node) ?? true);
    const driver = new ActionDriver({
      ...{ table, leases, outbox, writer, gates, shares, before, steps, alerts, policies, isNear },
    });
    const ready = (): boolean => control.state !== 'away';
    this.#table = table;
    this.#leases = leases;
    this.#metrics = metrics;
    this.#intake = intake;
    this.#decisions = new ActionDecisions({ table, shares, clock, metrics });
    this.#scheduler = new ActionScheduler({
      ...{ table, leases, driver, gates, shares, policies, isNear, ready, clock, random, logger },
    });
    this.#housekeeping = new ActionHousekeeping({
      ...{ table, shares, turns, intake, decisions: this.#decisions, policies, ready, clock, logger },
      alerts: () => feed.alerts(),
      poolOf: options.poolOf,
      inService: options.inService ?? (() => undefined),
    });
  }

  /** Throws `invalid_config` with every fault of the file, its line and column. */
  static async open(options: ActionsOptions): Promise<Actions> {
    const policies = new PolicyBook(options);
    await policies.hold(await readSettings(options));
    return new Actions(options, policies);
  }

  /**
   * Reads the file again. A bad one changes nothing and says why. What has not begun goes by the new file at once;
   * of what has, the try that is under way ends first.
   */
  reload(): Promise<{ readonly ok: true } | { readonly ok: false; readonly why: string }> {
    const reloaded = this.#reloading.then(async () => {
      try {
        await this.#policies.hold(await readSettings(this.#options));
        return { ok: true } as const;
      } catch (thrown) {
        return { ok: false, why: describeError(thrown) } as const;
      }
    });
    this.#reloading = reloaded;
    return reloaded;
  }

  /** Works until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const consumer = this.#consumer;
    const tasks: Task[] = [
      (stop) => this.#scheduler.run(stop),
      (stop) => this.#housekeeping.run(stop),
      consumer === undefined ? (stop) => this.#listen(stop) : (stop) => consumer.run(stop),
    ];
    await supervise(signal, tasks);
  }

  /** Newest first. */
  list(filter: ActionFilter = {}): ActionDocument[] {
    const { state, node } = filter;
    return this.#table
      .values()
      .filter(
        (one) =>
          (state === undefined || one.state === state) && (node === undefined || one.target.node === node),
      )
      .sort((a, b) => b.createdAtMs - a.createdAtMs || (a.id < b.id ? -1 : 1));
  }

  /** See ActionDecisions for what the four throw. */
  approve(id: string, by: string, comment: string): Promise<ActionDocument> {
    return this.#decisions.approve(id, by, comment);
  }

  reject(id: string, by: string, comment: string): Promise<ActionDocument> {
    return this.#decisions.reject(id, by, comment);
  }

  undo(id: string, by: string, comment: string): Promise<ActionDocument> {
    return this.#decisions.undo(id, by, comment);
  }

  /** An operator put a node back into service: to be called when its mark is cleared. */
  nodeCleared(cluster: string, node: string, by: string, comment: string): Promise<number> {
    return this.#decisions.nodeCleared(cluster, node, by, comment);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#leases[Symbol.dispose]();
    this.#table[Symbol.dispose]();
    await this.#reloading;
    await this.#policies[Symbol.asyncDispose]();
  }

  /** For an aggregator that is alone: its own engine's transitions, in order. */
  async #listen(signal: AbortSignal): Promise<void> {
    const queue: Alert[] = [];
    let wake = (): void => {};
    using _ = this.#options.feed.subscribe((alert, change) => {
      if (!isTransition(change)) return;
      if (queue.length >= MAX_QUEUE) return this.#metrics.refused('queue_full');
      // The engine goes on with its object; this is what it says now.
      queue.push({ ...alert });
      wake();
    });
    const over = aborted(signal);
    while (!signal.aborted) {
      const alert = queue.shift();
      if (alert === undefined) await Promise.race([over, new Promise<void>((resolve) => (wake = resolve))]);
      else await this.#take(alert, signal);
    }
  }

  async #take(alert: Alert, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        return await this.#intake.take(alert);
      } catch (thrown) {
        this.#options.logger.warn({ alert: alert.id, why: describeError(thrown) }, 'cannot store an action');
        await sleep(RETRY_MS, signal);
      }
    }
  }
}

async function readSettings({ file, kinds }: ActionsOptions): Promise<ActionSettings> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new FleetError('invalid_config', `Cannot read ${file}`, { cause });
  }
  return parseActionsFile(text, file, kinds);
}
