import { join } from 'node:path';
import { freePort } from './ports.ts';
import { type Child, Child as ChildProcess } from './process.ts';
import { victoriaMetricsBinary } from './servers.ts';
import { type TempDir, tempDir } from './temp.ts';
import { until } from './wait.ts';

export interface VictoriaMetricsOptions {
  /** Added after our own flags; a flag given twice: VictoriaMetrics takes the last. */
  readonly flags?: readonly string[];
  /** Kept when given; a temp folder of its own otherwise. */
  readonly dataDir?: string;
}

/** One series of /api/v1/export: `timestamps` in Unix milliseconds, `values` in step with them. */
export interface ExportedSeries {
  /** Labels, __name__ among them. */
  readonly metric: Readonly<Record<string, string>>;
  readonly values: readonly number[];
  readonly timestamps: readonly number[];
}

/** Starting, and answering again after a kill -9. */
const READY_TIMEOUT_MS = 20_000;

/** A real VictoriaMetrics on loopback, on a free port and a folder of its own. */
export class VictoriaMetricsServer implements AsyncDisposable {
  readonly port: number;
  readonly url: string;
  readonly dataDir: string;
  readonly flags: readonly string[];
  #temp: TempDir | undefined;
  #child: Child | undefined;

  constructor(port: number, dataDir: string, temp: TempDir | undefined, flags: readonly string[]) {
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.dataDir = dataDir;
    this.#temp = temp;
    this.flags = [
      `-httpListenAddr=127.0.0.1:${port}`,
      `-storageDataPath=${join(dataDir, 'store')}`,
      ...flags,
    ];
  }

  /** The newest output of the running (or last) process. */
  get output(): string {
    return this.#child?.output ?? '';
  }

  /** Starts it, or starts it again on the same port and data; returns when /health answers. */
  async restart(): Promise<void> {
    await this.stop();
    const child = await ChildProcess.start({
      name: 'victoria-metrics',
      command: victoriaMetricsBinary(),
      args: this.flags,
    });
    this.#child = child;
    await until(async () => (await this.#get('/health')).trim() === 'OK', {
      timeoutMs: READY_TIMEOUT_MS,
      what: 'victoria-metrics answers /health',
      hopeless: () => (child.exit ? `it ended with ${child.exit.signal ?? child.exit.status}` : undefined),
      detail: () => child.lastLines(10),
    });
  }

  /** As a power cut, the operating system's caches apart: what it held in memory is lost. */
  async kill9(): Promise<void> {
    await this.#child?.kill9();
  }

  /** Hangs: connections are taken by the kernel, nothing answers. */
  pause(): void {
    this.#child?.signal('SIGSTOP');
  }

  resume(): void {
    this.#child?.signal('SIGCONT');
  }

  /** A clean end: everything accepted is on disk. */
  async stop(): Promise<void> {
    await this.#child?.stop(10_000);
  }

  /** Makes everything accepted so far visible to queries. */
  async flush(): Promise<void> {
    await this.#get('/internal/force_flush');
  }

  /** Every raw sample of the series that `match` selects (PromQL selector), after a flush. */
  async export(match: string): Promise<ExportedSeries[]> {
    await this.flush();
    // An open end is rounded down: the newest second would be missing.
    const end = Math.floor(Date.now() / 1000) + 2 * 86_400;
    const text = await this.#get(`/api/v1/export?start=0&end=${end}&match[]=${encodeURIComponent(match)}`);
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as ExportedSeries);
  }

  /** Its own /metrics: `name{labels}` as it writes them -> value. */
  async metrics(): Promise<Map<string, number>> {
    const samples = new Map<string, number>();
    for (const line of (await this.#get('/metrics')).split('\n')) {
      const space = line.lastIndexOf(' ');
      if (line !== '' && !line.startsWith('#'))
        samples.set(line.slice(0, space), Number(line.slice(space + 1)));
    }
    return samples;
  }

  /** Sum over all series of one of its own metrics, e.g. `vm_rows_inserted_total`; 0 where there is none. */
  async metricSum(name: string): Promise<number> {
    let sum = 0;
    for (const [series, value] of await this.metrics()) {
      if (series === name || series.startsWith(`${name}{`)) sum += value;
    }
    return sum;
  }

  /** Instant query: one entry per series of the answer. */
  async query(
    expression: string,
    timeSeconds?: number,
  ): Promise<{ metric: Record<string, string>; value: number }[]> {
    const at = timeSeconds === undefined ? '' : `&time=${timeSeconds}`;
    const text = await this.#get(`/api/v1/query?nocache=1&query=${encodeURIComponent(expression)}${at}`);
    const answer = JSON.parse(text) as {
      data: { resultType: string; result: { metric: Record<string, string>; value: [number, string] }[] };
    };
    return answer.data.result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
  }

  /** Writes samples in the Prometheus text format; timestamps in Unix milliseconds at the end of each line. */
  async importText(text: string): Promise<void> {
    const response = await fetch(`${this.url}/api/v1/import/prometheus`, { method: 'POST', body: text });
    if (!response.ok) throw new Error(`Cannot import: ${response.status} ${await response.text()}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#temp?.[Symbol.asyncDispose]();
  }

  async #get(path: string): Promise<string> {
    const response = await fetch(`${this.url}${path}`, { signal: AbortSignal.timeout(30_000) });
    const text = await response.text();
    if (!response.ok)
      throw new Error(`Cannot get ${path} of VictoriaMetrics: ${response.status} ${text.slice(0, 500)}`);
    return text;
  }
}

/** Starts one with the flags that the product asks for; `await using` it. */
export async function startVictoriaMetrics(
  options: VictoriaMetricsOptions = {},
): Promise<VictoriaMetricsServer> {
  const temp = options.dataDir === undefined ? tempDir('vm') : undefined;
  const server = new VictoriaMetricsServer(await freePort(), options.dataDir ?? temp!.path, temp, [
    '-retentionPeriod=12',
    '-dedup.minScrapeInterval=1ms',
    '-search.latencyOffset=0s',
    '-memory.allowedPercent=5',
    '-loggerTimezone=UTC',
    ...(options.flags ?? []),
  ]);
  try {
    await server.restart();
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}
