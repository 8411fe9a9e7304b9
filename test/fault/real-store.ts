import { cp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { StoredSeries } from './compare.ts';
import { Program } from './program.ts';

const GET_TIMEOUT_MS = 30_000;

/** The real VictoriaMetrics, with copies of its data to restore, and a count of what was ever inserted. */
export class RealStore {
  readonly program: Program;
  readonly #url: string;
  readonly #data: string;
  readonly #copy: string;
  /** Rows that all incarnations took; see #look. */
  #rows = 0;
  #last = 0;
  #rowsAtCopy = 0;
  /** Rows that went with the data which a copy replaced. */
  #takenAway = 0;

  constructor(binary: string, directory: string, port: number, log: string) {
    this.#url = `http://127.0.0.1:${port}`;
    this.#data = join(directory, 'store');
    this.#copy = join(directory, 'store-copy');
    this.program = new Program({
      name: 'store',
      command: [binary],
      args: [
        `-httpListenAddr=127.0.0.1:${port}`,
        `-storageDataPath=${this.#data}`,
        '-retentionPeriod=12',
        '-dedup.minScrapeInterval=1ms',
        '-search.latencyOffset=0s',
        '-memory.allowedPercent=5',
        '-loggerTimezone=UTC',
      ],
      log,
      isReady: async () => (await this.#get('/health')).trim() === 'OK',
    });
  }

  get url(): string {
    return this.#url;
  }

  /** Inserted since the run began; without what copies took away again. */
  get rows(): { readonly inserted: number; readonly takenAway: number } {
    return { inserted: this.#rows, takenAway: this.#takenAway };
  }

  /**
   * The counter begins anew with each incarnation: rises are summed. What came between the last look and a kill -9
   * is not counted: look often, and right before a kill.
   */
  async look(): Promise<void> {
    const pid = this.program.pid;
    const text = await this.#get('/metrics', 2_000);
    // An answer of the incarnation that was killed meanwhile must not become the base of the next one.
    if (this.program.pid !== pid) return;
    let sum = 0;
    for (const [, rows] of text.matchAll(/^vm_rows_inserted_total(?:\{[^}]*\})? (\S+)$/gm))
      sum += Number(rows);
    this.#rows += sum >= this.#last ? sum - this.#last : sum;
    this.#last = sum;
  }

  async kill9(): Promise<void> {
    await this.look().catch(() => {});
    await this.program.kill9();
    this.#last = 0;
  }

  /** A consistent copy of what it has now; the former one goes. */
  async copy(): Promise<void> {
    await this.look();
    const { snapshot } = JSON.parse(await this.#get('/snapshot/create')) as { snapshot: string };
    this.#rowsAtCopy = this.#rows;
    await rm(this.#copy, { recursive: true, force: true });
    // A snapshot is links: the copy must stand alone.
    await cp(join(this.#data, 'snapshots', snapshot), this.#copy, { recursive: true, dereference: true });
    await this.#get(`/snapshot/delete?snapshot=${snapshot}`);
  }

  /** Stopped by force, its data replaced by the copy, to be started again. */
  async setBack(): Promise<void> {
    await this.kill9();
    this.#takenAway += this.#rows - this.#rowsAtCopy;
    await rm(this.#data, { recursive: true, force: true });
    await rename(this.#copy, this.#data);
  }

  /** `raw`: every copy of every sample; else what a query would answer. All series that the store has. */
  async export(raw: boolean): Promise<StoredSeries[]> {
    await this.#get('/internal/force_flush');
    const parameters = new URLSearchParams({
      start: '0',
      // An open end is rounded down: the newest second would be missing.
      end: String(Math.floor(Date.now() / 1_000) + 2 * 86_400),
      'match[]': '{__name__!=""}',
      ...(raw && { reduce_mem_usage: '1' }),
    });
    const text = await this.#get(`/api/v1/export?${parameters}`);
    return mergeBlocks(
      text
        .split('\n')
        .filter((line) => line !== '')
        .map(parseExportLine),
    );
  }

  async #get(path: string, timeoutMs = GET_TIMEOUT_MS): Promise<string> {
    const response = await fetch(this.#url + path, { signal: AbortSignal.timeout(timeoutMs) });
    const text = await response.text();
    if (!response.ok)
      throw new Error(`Cannot get ${path} of the store: ${response.status} ${text.slice(0, 300)}`);
    return text;
  }
}

/** VictoriaMetrics writes +Inf, -Inf and NaN as they are, or null for a stale marker: none of it is JSON. */
export function parseExportLine(line: string): StoredSeries {
  const marked = line.replace(
    /("values":\[)([^\]]*)(\])/,
    (_, open: string, values: string, close: string) => {
      const strings = values.replaceAll(/"?(\+Inf|-Inf|NaN|null|Infinity|-Infinity)"?/g, '"$1"');
      return open + strings + close;
    },
  );
  const { metric, values, timestamps } = JSON.parse(marked) as {
    metric: Record<string, string>;
    values: (number | string)[];
    timestamps: number[];
  };
  return { metric, timestamps, values: values.map(numberOf) };
}

function numberOf(value: number | string): number {
  if (typeof value === 'number') return value;
  if (value.endsWith('Inf') || value.endsWith('Infinity'))
    return value.startsWith('-') ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  return Number.NaN;
}

/** The raw export has a line for each block of a series. */
function mergeBlocks(lines: readonly StoredSeries[]): StoredSeries[] {
  const merged = new Map<
    string,
    { metric: StoredSeries['metric']; timestamps: number[]; values: number[] }
  >();
  for (const { metric, timestamps, values } of lines) {
    const key = JSON.stringify(Object.entries(metric).sort(([a], [b]) => (a < b ? -1 : 1)));
    const there = merged.get(key) ?? { metric, timestamps: [], values: [] };
    merged.set(key, there);
    there.timestamps.push(...timestamps);
    there.values.push(...values);
  }
  return [...merged.values()];
}
