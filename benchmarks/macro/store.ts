import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { Child } from '../../deploy/local/child.ts';
import { findServer, VICTORIA_METRICS } from '../../deploy/local/servers.ts';
import { until } from '../../deploy/local/until.ts';

export interface StoreOptions {
  /** Its data; fresh for each measurement. */
  readonly directory: string;
  readonly port: number;
  /** Where it listens, where shippers reach it, and where we do: all loopback outside a namespace. */
  readonly hosts?: { readonly listen: string; readonly data: string; readonly control: string };
  /** A command that enters the place where it runs. */
  readonly prefix?: readonly string[];
  readonly log: (line: string) => void;
}

const LOOPBACK = { listen: '127.0.0.1', data: '127.0.0.1', control: '127.0.0.1' };
/** Replaying what it had after a stop. */
const READY_TIMEOUT_MS = 60_000;
/** VictoriaMetrics renews its own metrics once a second. */
export const ROWS_AGE_MS = 1_200;
const STOP_TIMEOUT_MS = 30_000;

/** A VictoriaMetrics of its own for one measurement, with the settings that the product asks for. */
export class Store implements AsyncDisposable {
  /** Base URL for those who write. */
  readonly url: string;
  readonly #control: string;
  readonly #command: string;
  readonly #args: readonly string[];
  #child: Child | undefined;

  private constructor(binary: string, { directory, port, hosts = LOOPBACK, prefix = [] }: StoreOptions) {
    this.url = `http://${hosts.data}:${port}`;
    this.#control = `http://${hosts.control}:${port}`;
    const [command, ...before] = [...prefix, binary];
    this.#command = command!;
    this.#args = [
      ...before,
      `-httpListenAddr=${hosts.listen}:${port}`,
      `-storageDataPath=${join(directory, 'store')}`,
      '-retentionPeriod=12',
      '-dedup.minScrapeInterval=1ms',
      '-search.latencyOffset=0s',
      '-loggerTimezone=UTC',
    ];
  }

  /** Not started. Throws `unavailable` where VictoriaMetrics is not to be had. */
  static async create(options: StoreOptions): Promise<Store> {
    const found = await findServer(VICTORIA_METRICS, { log: options.log });
    if (found.binary === undefined)
      throw new FleetError('unavailable', `Cannot run VictoriaMetrics: ${found.reason}`);
    return new Store(found.binary, options);
  }

  static async start(options: StoreOptions): Promise<Store> {
    const store = await Store.create(options);
    await store.start();
    return store;
  }

  get pid(): number {
    return this.#child!.pid;
  }

  /** Starts it on the data that it has; returns when it answers. */
  async start(): Promise<void> {
    const child = await Child.start({ name: 'victoria-metrics', command: this.#command, args: this.#args });
    this.#child = child;
    await until(async () => (await this.#get('/health')).trim() === 'OK', {
      timeoutMs: READY_TIMEOUT_MS,
      what: 'VictoriaMetrics answers',
      hopeless: () => (child.exit ? `it ended with ${child.exit.signal ?? child.exit.status}` : undefined),
      detail: () => child.lastLines(10),
    });
  }

  /** A clean end: what it accepted is on disk. */
  async stop(): Promise<void> {
    await this.#child?.stop(STOP_TIMEOUT_MS);
  }

  /** Rows inserted since this start, as of at most ROWS_AGE_MS ago. */
  async rows(): Promise<number> {
    let sum = 0;
    for (const line of (await this.#get('/metrics')).split('\n'))
      if (line.startsWith('vm_rows_inserted_total')) sum += Number(line.slice(line.lastIndexOf(' ') + 1));
    return sum;
  }

  /** Rows inserted since this start, all that were answered so far among them. */
  async settledRows(): Promise<number> {
    await sleep(ROWS_AGE_MS);
    return this.rows();
  }

  /** The newest value of each series that `selector` matches, by one of its labels. */
  async newest(selector: string, label: string): Promise<Map<string, number>> {
    const text = await this.#get(`/api/v1/query?nocache=1&query=${encodeURIComponent(selector)}`);
    const { data } = JSON.parse(text) as {
      data: { result: { metric: Record<string, string>; value: [number, string] }[] };
    };
    return new Map(data.result.map(({ metric, value }) => [metric[label] ?? '', Number(value[1])]));
  }

  /** Every value of each series that `selector` matches, by one of its labels. */
  async values(selector: string, label: string): Promise<Map<string, Set<number>>> {
    await this.#get('/internal/force_flush');
    // An open end is rounded down: the newest second would be missing.
    const end = Math.floor(Date.now() / 1000) + 3600;
    const text = await this.#get(`/api/v1/export?start=0&end=${end}&match[]=${encodeURIComponent(selector)}`);
    const found = new Map<string, Set<number>>();
    for (const line of text.split('\n')) {
      if (line === '') continue;
      const { metric, values } = JSON.parse(line) as { metric: Record<string, string>; values: number[] };
      const key = metric[label] ?? '';
      found.set(key, new Set([...(found.get(key) ?? []), ...values]));
    }
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child?.[Symbol.asyncDispose]();
  }

  async #get(path: string): Promise<string> {
    const response = await fetch(`${this.#control}${path}`, { signal: AbortSignal.timeout(30_000) });
    const text = await response.text();
    if (!response.ok) throw new Error(`Cannot get ${path}: ${response.status} ${text.slice(0, 200)}`);
    return text;
  }
}
