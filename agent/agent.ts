import { mkdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { showAddress } from '#shared/config/values.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { counter, createRegistry, type Registry } from '#shared/instruments/registry.ts';
import { supervise } from '#shared/lifecycle/supervise.ts';
import { repeat } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Tick } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Labels } from '#shared/model/dictionary.ts';
import { runName } from '#shared/model/run.ts';
import { RecordBuffer } from './buffer/record-buffer.ts';
import { ClockWatch } from './clock-watch.ts';
import type { Collector, Reading } from './collect/collector.ts';
import { SourceArbiter } from './collect/source-arbiter.ts';
import type { Facts } from './collect/source-kind.ts';
import type { AgentConfig } from './config.ts';
import { GpuLedger } from './control/gpu-ledger.ts';
import { ControlDesk, type DeskSettings } from './control-desk.ts';
import { EventArbiter } from './event-arbiter.ts';
import { freshTicks } from './expose/fresh-ticks.ts';
import { CommandRunner } from './orders/command-runner.ts';
import { Recorder } from './recorder.ts';
import { SourceSet } from './source-set.ts';
import { Uplink, type UplinkOptions } from './uplink/uplink.ts';

export interface AgentOptions {
  readonly config: Pick<AgentConfig, 'cluster' | 'external_labels' | 'aggregators' | 'buffer'> &
    Partial<Pick<AgentConfig, 'commands' | 'tls'>>;
  readonly directory: string;
  readonly node: string;
  readonly machineId: string;
  readonly bootId: string;
  readonly version: string;
  readonly credentials: UplinkOptions['credentials'];
  readonly token: () => Promise<string | undefined>;
  /** Makes the collectors: when the buffer's facts can be read, and again after a pause. */
  readonly collectors: (facts: Facts) => Promise<readonly Collector[]> | readonly Collector[];
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
}

const TIDY_EVERY_MS = 5_000;
/** Each wake-up costs a node that does something else a tenth of a millisecond and more. */
const LOOK_AT_CLOCK_EVERY_MS = 5_000;
/** The ring's size where none is configured: 2 GiB, and no more than this share of the disk. */
const DEFAULT_MAX_BYTES = 2 * 2 ** 30;
const DISK_SHARE = 0.05;

/** One node: collect -> buffer -> uplink. A process may run several (simulated nodes). */
export class Agent implements AsyncDisposable {
  readonly registry: Registry;
  /** cluster, external labels, node: sorted, as the aggregator puts them on every series. */
  readonly identity: Labels;
  readonly #options: AgentOptions;
  readonly #buffer: RecordBuffer;
  readonly #uplink: Uplink;
  readonly #recorder: Recorder;
  readonly #arbiter: SourceArbiter;
  readonly #events = new EventArbiter((source) =>
    this.#sources.states.some(({ name, state }) => name === source && state === 'reading'),
  );
  readonly #sources: SourceSet;
  readonly #commands: CommandRunner | undefined;

  private constructor(
    options: AgentOptions,
    registry: Registry,
    buffer: RecordBuffer,
    collectors: readonly Collector[],
  ) {
    const { config, node, logger, clock } = options;
    this.#options = options;
    this.registry = registry;
    this.#buffer = buffer;
    this.identity = Object.entries({ ...config.external_labels, cluster: config.cluster, node }).sort(
      ([a], [b]) => (a < b ? -1 : 1),
    );
    this.#commands = this.#commandRunner();
    this.#uplink = new Uplink({
      commands: this.#commands,
      aggregators: config.aggregators.map(showAddress),
      credentials: options.credentials,
      token: options.token,
      identity: {
        cluster: config.cluster,
        node,
        machineId: options.machineId,
        bootId: options.bootId,
        agentVersion: options.version,
        externalLabels: config.external_labels,
      },
      source: buffer,
      clock,
      random: options.random,
      logger,
      registry,
    });
    this.#recorder = new Recorder(buffer, this.#uplink, logger, registry);
    this.#arbiter = new SourceArbiter(() => clock.monotonic());
    this.#sources = this.#sourceSet(collectors);
  }

  static async open(options: AgentOptions): Promise<Agent> {
    const registry = createRegistry();
    const { config, directory, machineId, clock, logger } = options;
    const buffer = await RecordBuffer.open({
      directory,
      machineId,
      maxAgeMs: config.buffer.max_age,
      maxBytes: config.buffer.max_bytes ?? (await defaultMaxBytes(directory)),
      fsync: config.buffer.fsync,
      clock,
      logger,
      registry,
    });
    try {
      const collectors = await options.collectors(factsOf(buffer));
      return new Agent(options, registry, buffer, collectors);
    } catch (error) {
      await buffer[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The newest tick of each source, however old it is. */
  get latest(): Iterable<Tick> {
    return this.#recorder.latest;
  }

  /** Those that were read lately: for the exporter. */
  get ticks(): Iterable<Tick> {
    return freshTicks(this.latest, this.#options.clock.now());
  }

  /** Why it is not ready: nothing was read yet. An aggregator out of reach is not a reason: samples are kept. */
  get notReady(): string | undefined {
    return this.#recorder.hasRead ? undefined : `node ${this.#options.node} has not read any source yet`;
  }

  /** Who answers for this agent on its control socket; once. */
  openDesk({ pid, expectedGpus, bootedMs, reload }: DeskSettings): ControlDesk {
    const { version, config, node, clock, bootId } = this.#options;
    const buffer = this.#buffer;
    const facts = factsOf(buffer);
    const desk = new ControlDesk({
      version,
      cluster: config.cluster,
      node,
      run: runName(buffer.live.id),
      pid,
      clock,
      sources: this.#sources,
      ticks: () => this.latest,
      ledger: new GpuLedger({ facts, bootId, bootedMs, expected: expectedGpus }),
      uplink: this.#uplink,
      buffer: () => ({
        bytes: buffer.bytes,
        max_bytes: buffer.maxBytes,
        writable: buffer.writable,
        unbuffered_records: buffer.unbuffered,
      }),
      registry: this.registry,
      recordEvent: (event) => this.#recorder.event(event),
      reload,
    });
    this.#recorder.onEvent = (event) => desk.observe(event);
    return desk;
  }

  /** Other collectors from now on, for the rest of this run: see SourceSet.replace. */
  replaceSources(make: (facts: Facts) => Promise<readonly Collector[]>): Promise<void> {
    return this.#sources.replace(() => make(factsOf(this.#buffer)));
  }

  /** Collects and sends until the signal aborts; then sends what it can in a moment. The rest is on disk. */
  async run(signal: AbortSignal): Promise<void> {
    const sending = new AbortController();
    const uplink = this.#uplink.run(sending.signal);
    try {
      await supervise(signal, [
        (inner: AbortSignal) => this.#sources.run(inner),
        (inner: AbortSignal) => this.#tidy(inner),
        (inner: AbortSignal) => this.#watchClock(inner),
      ]);
    } finally {
      sending.abort();
      await uplink;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sources[Symbol.asyncDispose]();
    await this.#commands?.[Symbol.asyncDispose]();
    await this.#buffer[Symbol.asyncDispose]();
  }

  /** Only where both sides show a certificate: an aggregator that anybody could play must not have anything run. */
  #commandRunner(): CommandRunner | undefined {
    const { config, directory, node, clock, logger } = this.#options;
    const { commands = {}, tls } = config;
    if (Object.keys(commands).length === 0) return undefined;
    if (tls?.cert === undefined || tls.key === undefined) {
      logger.warn('commands are configured and will be refused: they need tls with cert and key');
      return undefined;
    }
    return new CommandRunner({
      commands,
      node,
      file: join(directory, 'commands.json'),
      passwd: '/etc/passwd',
      clock,
      logger,
      onEvent: (event) => void this.#recorder.event(event),
    });
  }

  #sourceSet(collectors: readonly Collector[]): SourceSet {
    const { clock, logger, node, collectors: make } = this.#options;
    const { registry } = this;
    const labelNames = ['source'];
    const failures = counter(registry, {
      name: 'gpufleet_agent_collect_failures_total',
      help: 'Reads of a source that failed as a whole, by source.',
      labelNames,
    });
    const missed = counter(registry, {
      name: 'gpufleet_agent_missed_ticks_total',
      help: 'Ticks without a read, by source: the read before took too long, or the process did not run.',
      labelNames,
    });
    return new SourceSet(
      {
        clock,
        logger,
        phaseOf: (source) => phaseOf(node, source),
        nextShift: (source) => this.#nextShift(source),
        onReading: (collector, reading) => this.#record(collector, reading),
        onFailure: (source) => failures.inc({ source }),
        onMissed: (source, ticks) => missed.inc({ source }, ticks),
        onRemoved: async (source) => {
          this.#arbiter.forget(source);
          await this.#recorder.end(source, clock.now());
        },
      },
      collectors,
      async () => make(factsOf(this.#buffer)),
    );
  }

  #record(collector: Collector, reading: Reading): Promise<void> {
    const admitted = this.#arbiter.admit(collector, reading);
    const events = reading.events.filter((event) => this.#events.admits(collector.name, event));
    return this.#recorder.record(
      events.length === reading.events.length ? admitted : { ...admitted, events },
    );
  }

  /** Counts a source's starts and clock steps on this disk. */
  #nextShift(source: string): number {
    const name = `schedule/${source}`;
    const next = (Number(this.#buffer.fact(name)) || 0) + 1;
    this.#buffer.saveFact(name, String(next));
    return next;
  }

  /** One event for a step, whatever the number of sources. */
  async #watchClock(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const watch = new ClockWatch(clock);
    await repeat(LOOK_AT_CLOCK_EVERY_MS, signal, () => {
      const stepMs = watch.look();
      if (stepMs === 0) return;
      const text = `The wall clock went ${stepMs < 0 ? 'back' : 'forward'} by ${Math.abs(stepMs)} ms`;
      void this.#recorder.event({
        type: 'clock_step',
        timestampMs: clock.now(),
        gpu: '',
        gpuUuid: '',
        text,
        attributes: { step_ms: String(stepMs) },
      });
    });
  }

  /** Trims first: what leaves the ring need not be compacted. */
  async #tidyBuffer(): Promise<void> {
    await this.#buffer.trim();
    await this.#buffer.compact();
  }

  async #tidy(signal: AbortSignal): Promise<void> {
    await repeat(TIDY_EVERY_MS, signal, () => {
      this.#tidyBuffer().catch((error: unknown) => {
        this.#options.logger.error({ cause: describeError(error) }, 'cannot trim or compact the buffer');
      });
    });
  }
}

function factsOf(buffer: RecordBuffer): Facts {
  return {
    get: (name) => buffer.fact(name),
    set: (name, value) => buffer.saveFact(name, value),
  };
}

async function defaultMaxBytes(directory: string): Promise<number> {
  try {
    await mkdir(directory, { recursive: true });
    const { blocks, bsize } = await statfs(directory);
    return Math.min(DEFAULT_MAX_BYTES, Math.floor(blocks * bsize * DISK_SHARE));
  } catch (error) {
    throw new FleetError('unavailable', `Cannot size the buffer in ${directory}`, { cause: error });
  }
}

/** FNV-1a over node and source, as 0 to 1: spreads a fleet's reads over the interval, the same after a restart. */
function phaseOf(node: string, source: string): number {
  let hash = 0x811c9dc5;
  for (const char of `${node}/${source}`) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193) >>> 0;
  return hash / 2 ** 32;
}
