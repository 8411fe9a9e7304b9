import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

/** One labelled stream. */
export interface NabSeries {
  /** As the corpus names it: `<group>/<file>.csv`. */
  readonly name: string;
  readonly values: Float64Array;
  /** Rows at the start that are not scored. */
  readonly probation: number;
  /** First and last row of each labelled anomaly, both inclusive, in order of time. */
  readonly windows: readonly (readonly [number, number])[];
}

/** What one missed window and one false alarm cost, a hit being worth `tp`. */
export interface NabProfile {
  readonly tp: number;
  readonly fn: number;
  readonly fp: number;
}

export const NAB_PROFILES = ['standard', 'reward_low_FP_rate', 'reward_low_FN_rate'] as const;
export type NabProfileName = (typeof NAB_PROFILES)[number];

export interface NabCorpus {
  readonly series: readonly NabSeries[];
  readonly profiles: Readonly<Record<NabProfileName, NabProfile>>;
}

/**
 * The Numenta Anomaly Benchmark: 58 streams in `<folder>/data/<group>/<file>.csv.gz`, labels and costs as its repository
 * lays them out. Undefined where the folder is not there.
 */
export function readNab(folder: string): NabCorpus | undefined {
  const labels = join(folder, 'labels', 'combined_windows.json');
  if (!existsSync(labels)) return undefined;
  const windows = JSON.parse(readFileSync(labels, 'utf8')) as Record<string, [string, string][]>;
  return {
    series: Object.keys(windows)
      .sort()
      .map((name) => readSeries(folder, name, windows[name]!)),
    profiles: readProfiles(join(folder, 'config', 'profiles.json')),
  };
}

/**
 * The scores that a published detector gave, for each series of the corpus, from `series,i,anomaly_score` rows; rows
 * that are left out scored 0.
 */
export function readPublishedScores(folder: string, detector: string, corpus: NabCorpus): Float64Array[] {
  const scores = new Map(corpus.series.map(({ name, values }) => [name, new Float64Array(values.length)]));
  for (const row of rows(join(folder, 'scorer-fixture', `${detector}.nonzero.csv.gz`))) {
    const [name, index, score] = row.split(',');
    const series = scores.get(name!);
    if (!series) throw new Error(`${detector} has scores of ${name}, which the corpus does not have`);
    series[Number(index)] = Number(score);
  }
  return corpus.series.map(({ name }) => scores.get(name)!);
}

function readSeries(folder: string, name: string, windows: readonly [string, string][]): NabSeries {
  const cells = rows(join(folder, 'data', `${name}.gz`)).map((row) => row.split(','));
  const times = cells.map(([time]) => instant(time!));
  return {
    name,
    values: Float64Array.from(cells, ([, value]) => Number(value)),
    // The benchmark's own rule: 15 % of the rows, at most 750 (numenta/NAB, nab/util.py).
    probation: Math.min(Math.floor(0.15 * cells.length), 750),
    windows: windows.map(([start, end]) => {
      const first = times.findIndex((time) => time >= instant(start));
      const last = times.findLastIndex((time) => time <= instant(end));
      if (first < 0 || last < first) throw new Error(`${name}: no row between ${start} and ${end}`);
      return [first, last];
    }),
  };
}

function readProfiles(file: string): NabCorpus['profiles'] {
  const found = JSON.parse(readFileSync(file, 'utf8')) as Record<
    NabProfileName,
    { CostMatrix: { tpWeight: number; fnWeight: number; fpWeight: number } }
  >;
  const profile = (name: NabProfileName): NabProfile => {
    const { tpWeight, fnWeight, fpWeight } = found[name].CostMatrix;
    return { tp: tpWeight, fn: fnWeight, fp: fpWeight };
  };
  return {
    standard: profile('standard'),
    reward_low_FP_rate: profile('reward_low_FP_rate'),
    reward_low_FN_rate: profile('reward_low_FN_rate'),
  };
}

/** The lines of a gzipped CSV file without its heading. */
function rows(file: string): string[] {
  return gunzipSync(readFileSync(file)).toString('latin1').trimEnd().split(/\r?\n/).slice(1);
}

/** The corpus' times name no zone; only their order matters. */
function instant(time: string): number {
  return Date.parse(`${time.replace(' ', 'T').slice(0, 19)}Z`);
}
