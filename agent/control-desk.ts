import type { Registry } from '#shared/instruments/registry.ts';
import { repeat } from '#shared/lifecycle/wait.ts';
import type { Tick } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { AgentControl } from './control/agent-control.ts';
import type { AgentStatus, BufferStatus, SourceStatus, UplinkStatus } from './control/agent-status.ts';
import type { GateFacts } from './control/gate-facts.ts';
import type { GpuLedger } from './control/gpu-ledger.ts';
import { slotCounts, sourceMetrics } from './expose/source-metrics.ts';
import type { SourceSet } from './source-set.ts';

/** What the desk needs of an agent. */
export interface DeskOptions {
  readonly version: string;
  readonly cluster: string;
  readonly node: string;
  /** Hexadecimal. */
  readonly run: string;
  readonly pid: number;
  readonly clock: Clock;
  readonly sources: Pick<SourceSet, 'states' | 'pausedUntil' | 'pause' | 'resume'>;
  /** The newest tick of each group. */
  readonly ticks: () => Iterable<Tick>;
  readonly ledger: GpuLedger;
  readonly uplink: { readonly connected: boolean; status(): Promise<UplinkStatus> };
  readonly buffer: () => BufferStatus;
  readonly registry: Registry;
  readonly recordEvent: (event: FleetEvent) => Promise<void>;
  readonly reload: () => Promise<readonly string[]>;
}

/** What an agent's program gives for its desk. */
export interface DeskSettings {
  readonly pid: number;
  /** Setting expected_gpus. */
  readonly expectedGpus: number | undefined;
  /** Unix ms. */
  readonly bootedMs: number;
  readonly reload: () => Promise<readonly string[]>;
}

const LEARN_EVERY_MS = 30_000;
/** That a pause ended by itself is said within this; looked at only while there is one. */
const LOOK_AT_PAUSE_EVERY_MS = 1_000;
const EXCHANGES_COLLECTORS = ['collectors', 'collection_interval'];
const LOST_SAMPLES = 'gpufleet_agent_lost_samples_total';

/** Answers for one agent on its control socket, and remembers what the job gate asks for. */
export class ControlDesk implements AgentControl {
  readonly #options: DeskOptions;
  readonly #startedMs: number;
  /** Where a process of a source hangs, by source. */
  readonly #stuck = new Map<string, string>();
  /** While a pause lasts. */
  #pauseWatch: NodeJS.Timeout | undefined;

  constructor(options: DeskOptions) {
    this.#options = options;
    const { registry, sources, clock, ticks } = options;
    this.#startedMs = clock.now();
    sourceMetrics(registry, () => ({
      ticks: ticks(),
      sources: sources.states,
      pausedUntil: sources.pausedUntil,
      nowMs: clock.now(),
    }));
  }

  /** Learns how many GPUs there are, and says when a pause is over, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    try {
      await repeat(LEARN_EVERY_MS, signal, () => void this.gateFacts());
    } finally {
      clearInterval(this.#pauseWatch);
    }
  }

  /** Call it for every event that the agent records. */
  observe(event: FleetEvent): void {
    this.#options.ledger.observe(event);
    const { source, phase, wait_channel: channel } = event.attributes;
    if (event.type !== 'collector_stuck' || source === undefined) return;
    if (phase === 'over') this.#stuck.delete(source);
    else this.#stuck.set(source, channel ? `hangs in ${channel}` : event.text);
  }

  async status(): Promise<AgentStatus> {
    const { version, cluster, node, run, pid, clock, sources, ledger, uplink, buffer } = this.#options;
    const facts = this.gateFacts();
    return {
      version,
      cluster,
      node,
      run,
      pid,
      now_ms: clock.now(),
      started_ms: this.#startedMs,
      paused_until_ms: sources.pausedUntil ?? null,
      sources: this.#sources(),
      gpus: facts.gpus.filter(({ last_read_ms: read, lost }) => read !== null && !lost).length,
      expected_gpus: ledger.expected,
      uplink: await uplink.status(),
      buffer: buffer(),
      lost_samples: await this.#lostSamples(),
    };
  }

  gateFacts(): GateFacts {
    const { clock, sources, ledger, ticks, uplink } = this.#options;
    ledger.learn(ticks());
    return {
      now_ms: clock.now(),
      expected_gpus: ledger.expected,
      paused_until_ms: sources.pausedUntil ?? null,
      aggregator_connected: uplink.connected,
      gpus: ledger.gpus(ticks()),
    };
  }

  async pause(ms: number): Promise<void> {
    const { sources, clock, recordEvent } = this.#options;
    await sources.pause(ms);
    this.#pauseWatch ??= setInterval(() => void this.#sayPauseOver(), LOOK_AT_PAUSE_EVERY_MS);
    const held = sources.states.filter(({ state }) => state === 'paused').map(({ name }) => name);
    // What comes back is another collector: it says by itself when it is stuck, and the old one says nothing more.
    for (const name of held) this.#stuck.delete(name);
    const until = new Date(clock.now() + ms).toISOString();
    const text = `Collecting is paused until ${until}: ${held.join(', ') || 'no source holds a GPU'}`;
    await recordEvent(this.#pauseEvent(text, { phase: 'begin', until, sources: held.join(',') }));
  }

  async resume(): Promise<void> {
    await this.#options.sources.resume();
    await this.#sayPauseOver();
  }

  /** The configuration's word on how many GPUs there should be. */
  expectGpus(count: number | undefined): void {
    this.#options.ledger.expect(count);
  }

  /** A configuration was taken on, by setting; `restart` names what it could not take on. */
  async sayReloaded(changed: readonly string[], restart: readonly string[]): Promise<void> {
    const attributes = { changed: changed.join(','), restart: restart.join(',') };
    // All collectors are others now.
    if (EXCHANGES_COLLECTORS.some((setting) => changed.includes(setting))) this.#stuck.clear();
    const text = `The configuration was read again: ${changed.join(', ') || 'nothing'} changed`;
    await this.recordEvent({
      type: 'config_reload',
      timestampMs: this.#options.clock.now(),
      gpu: '',
      gpuUuid: '',
      text: text.slice(0, 1000),
      attributes,
    });
  }

  /** An event that names its GPU by index alone, as dcgmi does, gets the UUID that it has now. */
  recordEvent(event: FleetEvent): Promise<void> {
    const { ledger, ticks, recordEvent } = this.#options;
    ledger.learn(ticks());
    return recordEvent({ ...event, ...ledger.identify(event) });
  }

  reload(): Promise<readonly string[]> {
    return this.#options.reload();
  }

  async #sayPauseOver(): Promise<void> {
    const { sources, recordEvent } = this.#options;
    if (this.#pauseWatch === undefined || sources.pausedUntil !== undefined) return;
    clearInterval(this.#pauseWatch);
    this.#pauseWatch = undefined;
    await recordEvent(this.#pauseEvent('The pause is over: collecting goes on', { phase: 'over' }));
  }

  #pauseEvent(text: string, attributes: FleetEvent['attributes']): FleetEvent {
    const timestampMs = this.#options.clock.now();
    return {
      type: 'collection_pause',
      timestampMs,
      gpu: '',
      gpuUuid: '',
      text: text.slice(0, 1000),
      attributes,
    };
  }

  #sources(): SourceStatus[] {
    const slots = new Map([...this.#options.ticks()].map((tick) => [tick.dictionary.group, tick.states]));
    return this.#options.sources.states.map((source) => {
      const { name, what, intervalMs, lastReadMs, series, failures, missed, rejected } = source;
      const where = this.#stuck.get(name);
      const stuck = where !== undefined && source.state !== 'paused';
      const states = slots.get(name);
      return {
        name,
        what,
        state: stuck ? 'stuck' : source.state,
        reason: stuck ? where : source.problem,
        interval_ms: intervalMs,
        last_read_ms: lastReadMs === 0 ? null : lastReadMs,
        series,
        failures,
        missed_ticks: missed,
        rejected: Object.fromEntries(rejected),
        slots: states ? Object.fromEntries(slotCounts(states)) : {},
      };
    });
  }

  /** From the agent's own metrics, so that status and /metrics never say different things. */
  async #lostSamples(): Promise<Record<string, number>> {
    const metric = this.#options.registry.getSingleMetric(LOST_SAMPLES);
    const { values } = (await metric?.get()) ?? { values: [] };
    return Object.fromEntries(values.map(({ labels, value }) => [String(labels.reason), value]));
  }
}
