import { describeError } from '#shared/errors/fleet-error.ts';
import { counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import { sleep } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { toSubject } from '../bus/subject.ts';
import { HttpCaller, type HttpSettings } from '../http/http-caller.ts';
import { SecretFile } from '../http/secret-file.ts';

/** `off`: there is none, and none is missed. */
export type DependencyState = 'ok' | 'away' | 'off';

/** How this process is. */
export interface Pulse {
  readonly nats: DependencyState;
  readonly store: DependencyState;
  /** Transitions that are not yet in the stream. */
  readonly waiting: number;
  /** When alerts were last looked at, Unix ms: an engine that stands still must not look alive. */
  readonly lookedMs: number;
  /** Nodes whose agents are connected. */
  readonly nodes: number;
}

export interface HeartbeatSettings extends HttpSettings {
  /** ms. */
  readonly every: number;
  readonly url?: string | undefined;
  /** The same, where the URL is itself a secret. */
  readonly url_file?: string | undefined;
  /** Called instead of the URL while something is wrong; without it the URL is just not called. */
  readonly fail_url_file?: string | undefined;
  /** What must be `ok` (or off) for the URL to be called. */
  readonly require: readonly ('nats' | 'store')[];
}

export interface HeartbeatOptions {
  readonly settings: HeartbeatSettings;
  readonly cluster: string;
  readonly shard: string;
  readonly pulse: () => Pulse;
  /** To NATS' core, without waiting; does nothing without a connection. */
  readonly publish: (subject: string, body: string) => void;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
}

interface Beat {
  readonly body: string;
  /** Empty where all is well. */
  readonly wrong: string;
}

/** An engine that did not look at its alerts for so long stands still: it looks each second. */
const STANDS_STILL_MS = 15_000;
const TIMEOUT_MS = 10_000;

/**
 * The dead man's switch. What is silent cannot alert, so somebody outside listens for a beat and alerts when it stops:
 *
 * - on `gpufleet.heartbeat.<cluster>.<shard>`: a beat each interval, with what is away in it. Its silence says that the
 *   aggregator or NATS is gone.
 * - at a URL (a heartbeat service, such as healthchecks.io): called while alerts are evaluated and all that is required
 *   is there. Its silence says that the aggregator, its way out, NATS or the store is gone.
 */
export class Heartbeat implements AsyncDisposable {
  readonly #options: HeartbeatOptions;
  readonly #caller: HttpCaller;
  readonly #url: () => string | undefined;
  readonly #failUrl: () => string | undefined;
  readonly #beats;
  #fault = '';

  /** Throws `invalid_config` where a file of the settings cannot be read. */
  constructor(options: HeartbeatOptions) {
    const { settings, clock, registry } = options;
    this.#options = options;
    this.#caller = new HttpCaller(settings, clock);
    this.#url = settings.url_file === undefined ? () => settings.url : urlIn(settings.url_file);
    this.#failUrl = settings.fail_url_file === undefined ? () => undefined : urlIn(settings.fail_url_file);
    this.#beats = counter(registry, {
      name: 'gpufleet_heartbeats_total',
      help: "Beats of the dead man's switch: sent to the URL, withheld because something is away, failed on the way.",
      labelNames: ['outcome'],
    });
    for (const outcome of ['sent', 'withheld', 'failed']) this.#beats.inc({ outcome }, 0);
    const isHealthy = (): boolean => this.#fault === '';
    gauge(registry, {
      name: 'gpufleet_heartbeat_healthy',
      help: "1 while nothing keeps the dead man's switch from being called.",
      collect() {
        this.set(isHealthy() ? 1 : 0);
      },
    });
  }

  /** Why the URL is not called; empty where it is. */
  get fault(): string {
    return this.#fault;
  }

  /** Beats until the signal aborts; the first time at once. */
  async run(signal: AbortSignal): Promise<void> {
    let calling: Promise<void> | undefined;
    while (!signal.aborted) {
      const beat = this.#say();
      // A URL that hangs must not make the subject look as if we were gone.
      calling ??= this.#call(beat, signal).finally(() => {
        calling = undefined;
      });
      await sleep(this.#options.settings.every, signal);
    }
    await calling;
  }

  /** One beat, and the call of the URL. Never rejects. */
  async beat(signal: AbortSignal): Promise<void> {
    await this.#call(this.#say(), signal);
  }

  #say(): Beat {
    const { cluster, shard, pulse, publish, clock, logger } = this.#options;
    const now = pulse();
    const wrong = this.#wrong(now);
    const { waiting, nodes, nats, store } = now;
    const time = new Date(clock.now()).toISOString();
    const body = JSON.stringify({
      cluster,
      shard,
      time,
      ok: wrong === '',
      wrong,
      nats,
      store,
      waiting,
      nodes,
    });
    try {
      publish(toSubject('gpufleet.heartbeat', cluster, shard), body);
    } catch (error) {
      // A connection that is just being closed.
      logger.debug({ why: describeError(error) }, 'cannot publish the heartbeat');
    }
    if (wrong !== this.#fault) {
      if (wrong === '') logger.info('the heartbeat goes on');
      else logger.error({ why: wrong }, 'the heartbeat stops: whoever listens for it will alert');
      this.#fault = wrong;
    }
    if (wrong !== '') this.#beats.inc({ outcome: 'withheld' });
    return { body, wrong };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#caller.close();
  }

  #wrong(pulse: Pulse): string {
    const { settings, clock } = this.#options;
    const wrong: string[] = settings.require
      .filter((name) => pulse[name] === 'away')
      .map((name) => `${name} is away`);
    if (clock.now() - pulse.lookedMs > STANDS_STILL_MS) wrong.push('alerts are not evaluated');
    return wrong.join(', ');
  }

  async #call({ body, wrong }: Beat, signal: AbortSignal): Promise<void> {
    try {
      const url = wrong === '' ? this.#url() : this.#failUrl();
      if (url === undefined) return;
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
      const { delivery } = await this.#caller.post({ url, body, signal: deadline, secrets: [url] });
      if (delivery.outcome !== 'sent') throw new Error(delivery.why);
      if (wrong === '') this.#beats.inc({ outcome: 'sent' });
    } catch (error) {
      if (signal.aborted) return;
      this.#beats.inc({ outcome: 'failed' });
      this.#options.logger.warn({ why: describeError(error) }, 'cannot call the heartbeat URL');
    }
  }
}

function urlIn(path: string): () => string {
  const file = new SecretFile(path);
  return () => file.readUrl();
}
