import { execFileSync } from 'node:child_process';
import { cpus, totalmem } from 'node:os';
import type { BenchMetrics } from './bench-case.ts';

export interface CaseResult {
  readonly name: string;
  readonly runs: readonly BenchMetrics[];
  /** Cores that other work used, for each run. */
  readonly otherCores: readonly number[];
}

export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** `{"cases": {"<case>": {"<metric_with_unit>": median}}}` */
export function toJson(results: readonly CaseResult[]): string {
  const cases = Object.fromEntries(
    results.map(({ name, runs }) => [
      name,
      Object.fromEntries(metricsOf(runs).map((metric) => [metric, median(runs.map((run) => run[metric]!))])),
    ]),
  );
  return JSON.stringify({ cases });
}

/** A Markdown table: it reads in a terminal and goes into README.md as it is. */
export function toTable(results: readonly CaseResult[]): string {
  const rows = results.flatMap(({ name, runs, otherCores }) =>
    metricsOf(runs).map((metric) => {
      const values = runs.map((run) => run[metric]!);
      const spread = runs.length > 1 ? `${show(Math.min(...values))} – ${show(Math.max(...values))}` : '';
      return [name, metric, show(median(values)), spread, median(otherCores).toFixed(2)];
    }),
  );
  const head = ['case', 'metric', 'median', 'min – max', 'cores of others'];
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]!.length)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

/** Machine, versions, commit: what a figure means nothing without. */
export function surroundings(version: string): string {
  const model = cpus()[0]?.model.trim() ?? 'unknown processor';
  const memory = Math.round(totalmem() / 2 ** 30);
  return `gpufleet ${version} (${commit()}), Node ${process.version}, ${cpus().length} x ${model}, ${memory} GiB, ${new Date().toISOString().slice(0, 10)}`;
}

function commit(): string {
  const git = (...args: string[]): string =>
    execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    return `${git('rev-parse', '--short', 'HEAD')}${git('status', '--porcelain') === '' ? '' : ', changed'}`;
  } catch {
    return 'no commit';
  }
}

function metricsOf(runs: readonly BenchMetrics[]): string[] {
  return Object.keys(runs[0] ?? {});
}

function show(value: number): string {
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-3)) return value.toExponential(3);
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(4);
}
