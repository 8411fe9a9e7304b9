import { readFile } from 'node:fs/promises';
import { uptime } from 'node:os';
import { join } from 'node:path';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { processMetrics } from '#shared/instruments/process-metrics.ts';
import { supervise } from '#shared/lifecycle/supervise.ts';
import { createLogger, type Logger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { readListenerTls } from '#shared/security/listener-tls.ts';
import { Agent } from '../agent.ts';
import { createCollectors } from '../collect/registry.ts';
import type { Facts } from '../collect/source-kind.ts';
import type { AgentConfig } from '../config.ts';
import { ControlServer } from '../control/control-server.ts';
import type { ControlDesk } from '../control-desk.ts';
import { socketIn } from '../control-socket.ts';
import { Exporter, type ExporterAccess } from '../expose/exporter.ts';
import { renderMetrics } from '../expose/exposition.ts';
import { planReload, takenOn } from '../reload.ts';
import { channelCredentials } from '../uplink/channel-credentials.ts';
import { HangUps } from './hang-ups.ts';
import { HOST } from './surroundings.ts';

export interface RunOptions {
  /** Reads the configuration: at the start, and at each reload. Throws `invalid_config`. */
  readonly load: () => Promise<AgentConfig>;
  readonly version: string;
  readonly process: NodeJS.Process;
  /** Calls back at each SIGHUP. */
  readonly onHangup: (reload: () => void) => void;
}

/** Runs the agent, or one for each simulated node, until the signal aborts. */
export async function run(options: RunOptions, signal: AbortSignal): Promise<void> {
  // First: a SIGHUP that nobody takes ends the process.
  const hangUps = new HangUps();
  options.onHangup(() => hangUps.ask());
  const config = await options.load();
  await using running = await RunningAgents.open(options, config);
  hangUps.serve(() => running.hangUp());
  await running.run(signal);
}

interface RunningNode {
  readonly agent: Agent;
  readonly desk: ControlDesk;
  readonly logger: Logger;
  readonly place: NodePlace;
}

/** The agents of this process, what they share, and how they take on a new configuration. */
class RunningAgents implements AsyncDisposable {
  #config: AgentConfig;
  readonly #options: RunOptions;
  readonly #logger: Logger;
  readonly #nodes: RunningNode[] = [];
  readonly #stack = new AsyncDisposableStack();
  #exporter: Exporter | undefined;
  #reloading: Promise<unknown> = Promise.resolve();

  private constructor(options: RunOptions, config: AgentConfig) {
    this.#options = options;
    this.#config = config;
    this.#logger = createLogger('gpufleet-agent', config.log_level);
  }

  static async open(options: RunOptions, config: AgentConfig): Promise<RunningAgents> {
    const running = new RunningAgents(options, config);
    try {
      await running.#open();
      return running;
    } catch (error) {
      await running[Symbol.asyncDispose]();
      throw error;
    }
  }

  async run(signal: AbortSignal): Promise<void> {
    await supervise(
      signal,
      this.#nodes.flatMap(({ agent, desk }) => [
        (inner: AbortSignal) => agent.run(inner),
        (inner: AbortSignal) => desk.run(inner),
      ]),
    );
  }

  /** SIGHUP: what went wrong is in the log, and nothing was changed. */
  async hangUp(): Promise<void> {
    await this.#reload().catch((error: unknown) =>
      this.#logger.error(`SIGHUP: the configuration stays as it was: ${describeError(error)}`),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }

  async #open(): Promise<void> {
    const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')).trim();
    for (const place of placesOf(this.#config)) this.#nodes.push(await this.#openNode(place, bootId));
    this.#exporter = this.#stack.use(
      await Exporter.listen({
        listen: this.#config.exporter.listen,
        metricsPath: this.#config.exporter.metrics_path,
        // The agent's own metrics once, of the first node: they are the process's.
        metrics: (format) =>
          renderMetrics(
            this.#nodes.map(({ agent }) => agent),
            this.#nodes[0]!.agent.registry,
            format,
          ),
        access: await accessOf(this.#config),
        notReady: () => this.#nodes.map(({ agent }) => agent.notReady).find((reason) => reason !== undefined),
        logger: this.#logger,
      }),
    );
  }

  async #openNode(place: NodePlace, bootId: string): Promise<RunningNode> {
    const { version, process } = this.#options;
    const { node, directory, machineId } = place;
    const config = this.#config;
    const logger = node === config.node ? this.#logger : this.#logger.child({ node });
    const agent = this.#stack.use(
      await Agent.open({
        config,
        node,
        directory,
        machineId,
        bootId,
        version,
        credentials: await channelCredentials(config.tls),
        token: () => readToken(config.token_file),
        collectors: (facts) => this.#collectors(this.#config, place, facts, logger),
        clock: systemClock,
        random: Math.random,
        logger,
      }),
    );
    if (this.#nodes.length === 0) processMetrics(agent.registry, process);
    const desk = agent.openDesk({
      pid: process.pid,
      expectedGpus: config.expected_gpus,
      bootedMs: Date.now() - uptime() * 1000 - BOOT_TOLERANCE_MS,
      reload: () => this.#reload(),
    });
    this.#stack.use(await ControlServer.listen({ path: socketIn(directory), control: desk, logger }));
    return { agent, desk, logger, place };
  }

  async #collectors(config: AgentConfig, { node, directory }: NodePlace, facts: Facts, logger: Logger) {
    const { collectors } = await createCollectors(config.collectors, {
      intervalMs: config.collection_interval,
      node,
      host: HOST,
      directory,
      facts,
      clock: systemClock,
      random: Math.random,
      logger,
    });
    return collectors;
  }

  /** One at a time. */
  #reload(): Promise<readonly string[]> {
    const reloaded = this.#reloading.then(() => this.#reloadOnce());
    this.#reloading = reloaded.catch(() => {});
    return reloaded;
  }

  /** Everything that can be wrong is tried before anything is changed. */
  async #reloadOnce(): Promise<readonly string[]> {
    const after = await this.#options.load();
    const plan = planReload(this.#config, after);
    const taken = takenOn(this.#config, after, plan);
    // Also where no setting changed: certificates are renewed under the same name.
    const access = await accessOf(taken);
    if (plan.live.includes('collectors') || plan.live.includes('collection_interval')) {
      for (const { agent, place, logger } of this.#nodes)
        await agent.replaceSources((facts) => this.#collectors(taken, place, facts, logger));
    }
    this.#config = taken;
    this.#exporter?.setAccess(access);
    for (const { logger, desk } of this.#nodes) {
      logger.level = taken.log_level;
      desk.expectGpus(taken.expected_gpus);
    }
    this.#logger.level = taken.log_level;
    const changed =
      plan.live.length > 0 ? `changed: ${plan.live.join(', ')}` : 'no setting that can change at once did';
    const waits = plan.restart.map((setting) => `${setting} changed in the file: only a restart takes it on`);
    for (const line of waits) this.#logger.warn(line);
    this.#logger.info(`configuration read again; ${changed}`);
    for (const { desk } of this.#nodes) await desk.sayReloaded(plan.live, plan.restart);
    return [changed, ...waits];
  }
}

/** What is stamped a little before the boot is of this boot: the clock may have been set since. */
const BOOT_TOLERANCE_MS = 60_000;

async function accessOf({ exporter }: AgentConfig): Promise<ExporterAccess> {
  return { users: exporter.users, tls: exporter.tls && (await readListenerTls(exporter.tls)) };
}

interface NodePlace {
  readonly node: string;
  readonly directory: string;
  readonly machineId: string;
}

/** This host, or the simulated nodes sim-000, sim-001 ..., each an agent with a buffer and an identity of its own. */
function placesOf(config: AgentConfig): NodePlace[] {
  const { simulated } = config.collectors;
  const count = simulated ? simulated.nodes : 1;
  if (count === 1) return [{ node: config.node, directory: config.data_dir, machineId: config.machine_id }];
  return Array.from({ length: count }, (_, index) => {
    const node = `sim-${String(index).padStart(3, '0')}`;
    return { node, directory: join(config.data_dir, node), machineId: `${config.machine_id}-${node}` };
  });
}

async function readToken(file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined;
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    throw new FleetError('unavailable', `Cannot read token file ${file}`, { cause: error });
  }
}
