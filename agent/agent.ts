import { mkdir, statfs } from 'node:fs/promises';
import { showAddress } from '#shared/config/values.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { counter, createRegistry, type Registry } from '#shared/instruments/registry.ts';
import { supervise } from '#shared/lifecycle/supervise.ts';
import { repeat } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Tick } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Labels } from '#shared/model/dictionary.ts';
import { RecordBuffer } from './buffer/record-buffer.ts';
import type { Collector } from './collect/collector.ts';
import { schedule } from './collect/scheduler.ts';
import type { Facts } from './collect/source-kind.ts';
import type { AgentConfig } from './config.ts';
import { Recorder } from './recorder.ts';
import { Uplink, type UplinkOptions } from './uplink/uplink.ts';

export interface AgentOptions {
  readonly config: Pick<AgentConfig, 'cluster' | 'external_labels' | 'aggregators' | 'buffer'>;
  readonly directory: string;
  readonly node: string;
  readonly machineId: string;
  readonly bootId: string;
  readonly version: string;
  readonly credentials: UplinkOptions['credentials'];
  readonly token: () => Promise<string | undefined>;
  /** Makes the collectors; called once, when the buffer's facts can be read. */
  readonly collectors: (facts: Facts) => Promise<readonly Collector[]> | readonly Collector[];
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
}

const TIDY_EVERY_MS = 5_000;
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
  readonly #collectors: readonly Collector[];
  readonly #failures;

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
    this.#uplink = new Uplink({
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
    this.#collectors = collectors;
    this.#failures = counter(registry, {
      name: 'gpufleet_agent_collect_failures_total',
      help: 'Reads of a source that failed as a whole, by source.',
      labelNames: ['source'],
    });
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
      const collectors = await options.collectors({
        get: (name) => buffer.fact(name),
        set: (name, value) => buffer.saveFact(name, value),
      });
      return new Agent(options, registry, buffer, collectors);
    } catch (error) {
      await buffer[Symbol.asyncDispose]();
      throw error;
    }
  }

  get ticks(): Iterable<Tick> {
    return this.#recorder.latest;
  }

  /** Why it is not ready: nothing was read yet. An aggregator out of reach is not a reason: samples are kept. */
  get notReady(): string | undefined {
    return this.#recorder.hasRead ? undefined : `node ${this.#options.node} has not read any source yet`;
  }

  /** Collects and sends until the signal aborts; then sends what it can in a moment. The rest is on disk. */
  async run(signal: AbortSignal): Promise<void> {
    const sending = new AbortController();
    const uplink = this.#uplink.run(sending.signal);
    try {
      await supervise(signal, [
        ...this.#collectors.map((collector) => (inner: AbortSignal) => this.#collect(collector, inner)),
        (inner: AbortSignal) => this.#tidy(inner),
      ]);
    } finally {
      sending.abort();
      await uplink;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const collector of this.#collectors) await collector[Symbol.asyncDispose]();
    await this.#buffer[Symbol.asyncDispose]();
  }

  async #collect(collector: Collector, signal: AbortSignal): Promise<void> {
    const { clock, node, logger } = this.#options;
    let lastProblem = '';
    await schedule(
      {
        collector,
        clock,
        phase: phaseOf(node, collector.name),
        shift: () => this.#nextShift(collector.name),
        onReading: async (reading) => {
          lastProblem = '';
          await this.#recorder.record(reading);
        },
        onFailure: (error) => {
          this.#failures.inc({ source: collector.name });
          const problem = describeError(error);
          if (problem !== lastProblem) logger.warn({ source: collector.name }, problem);
          lastProblem = problem;
        },
        onClockStep: (stepMs) =>
          this.#recorder.event({
            type: 'clock_step',
            timestampMs: clock.now(),
            gpu: '',
            gpuUuid: '',
            text: `The wall clock went back by ${stepMs} ms`,
            attributes: { source: collector.name, step_ms: String(-stepMs) },
          }),
      },
      signal,
    );
  }

  /** Counts a source's starts and clock steps on this disk. */
  #nextShift(source: string): number {
    const name = `schedule/${source}`;
    const next = (Number(this.#buffer.fact(name)) || 0) + 1;
    this.#buffer.saveFact(name, String(next));
    return next;
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
