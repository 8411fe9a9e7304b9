import { createHash } from 'node:crypto';
import { parseDuration } from '#shared/config/values.ts';

/** What one process of the store says about itself on /metrics. */
export interface ProcessMetrics {
  /** Unix seconds at which it started, as it writes them; undefined where it does not say. */
  readonly started: string | undefined;
  /** Repeated samples are made one (`-dedup.minScrapeInterval`); undefined where it has no such flag. */
  readonly deduplicates: boolean | undefined;
  /** How far back samples are kept, ms; undefined where it does not say. */
  readonly retentionMs: number | undefined;
  /** Rows that were answered 2xx and dropped since it started, by reason. */
  readonly ignored: ReadonlyMap<string, number>;
  /** Counters that only rise while the process lives. */
  readonly rising: ReadonlyMap<string, number>;
}

/** In /metrics of VictoriaMetrics 1.79; a process that lacks one is judged by the others. */
const RISING = [
  'process_cpu_seconds_total',
  'vm_http_requests_all_total',
  'vm_rows_inserted_total{type="promremotewrite"}',
];
const MONTH_MS = 31 * 86_400_000;
/** Reasons are the store's words: no more of them than this. */
const MAX_REASONS = 20;

export function parseStoreMetrics(text: string): ProcessMetrics {
  const dedup = /^flag\{name="dedup\.minScrapeInterval",\s*value="([^"]*)"/m.exec(text)?.[1];
  const retention = /^flag\{name="retentionPeriod",\s*value="([^"]*)"/m.exec(text)?.[1];
  const ignored = new Map<string, number>();
  for (const [, labels = '', rows] of text.matchAll(/^vm_rows_ignored_total(?:\{([^}]*)\})? (\S+)$/gm)) {
    const name = /reason="([^"]{1,100})"/.exec(labels)?.[1] ?? 'unknown';
    const reason = ignored.has(name) || ignored.size < MAX_REASONS ? name : 'other';
    ignored.set(reason, (ignored.get(reason) ?? 0) + (Number(rows) || 0));
  }
  const rising = new Map<string, number>();
  for (const line of text.matchAll(
    /^(process_cpu_seconds_total|vm_http_requests_all_total|vm_rows_inserted_total\{[^}]*\}) (\S+)$/gm,
  ))
    if (RISING.includes(line[1]!)) rising.set(line[1]!, Number(line[2]));
  return {
    started: /^vm_app_start_timestamp(?:\{[^}]*\})? (\S+)$/m.exec(text)?.[1],
    deduplicates: dedup === undefined ? undefined : dedup !== '' && !/^0[a-z]*$/.test(dedup),
    retentionMs: retention === undefined ? undefined : parseRetention(retention),
    ignored,
    rising,
  };
}

/** The same start second, and yet another process: a counter fell that only rises. */
export function restartedWithin(before: ProcessMetrics, now: ProcessMetrics): boolean {
  if (before.started !== now.started) return false;
  for (const [name, value] of now.rising) if (value < (before.rising.get(name) ?? 0)) return true;
  return false;
}

/** Identity of a set of processes: their start times, in the order of the list. Never 0. */
export function epochOf(starts: readonly string[]): bigint {
  return createHash('sha256').update(starts.join('\n')).digest().readBigUInt64LE(0) || 1n;
}

/** VictoriaMetrics' -retentionPeriod: a bare number is months; h, d, w, y are hours, days, weeks, years. */
function parseRetention(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)([hdwy]?)$/.exec(text);
  if (!match) return parseDuration(text);
  const unit = { '': MONTH_MS, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000, y: 365 * 86_400_000 }[
    match[2] as '' | 'h' | 'd' | 'w' | 'y'
  ];
  return Number(match[1]) * unit;
}
