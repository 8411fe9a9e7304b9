import { join } from 'node:path';
import { GaugeDetector, NO_SLOT } from '../../../aggregator/health/detect/gauge-detector.ts';
import type { BenchMetrics, BenchOptions } from '../../bench-case.ts';
import { NAB_PROFILES, type NabCorpus, type NabSeries, readNab, readPublishedScores } from './corpus.ts';
import { FIXTURES, PUBLISHED } from './published.ts';
import { type NabScore, type NabWorth, nabWorth, scoreAt, sweep } from './scorer.ts';

/**
 * The shipped gauge detector on the Numenta Anomaly Benchmark: with each file's value range given, as the physical range of
 * a GPU's gauge is, and with nothing but the past. Nothing (and a line that says so) where the corpus is not there. Throws
 * where the scorer does not reproduce the published scores: its figures would mean nothing.
 */
export async function nabAccuracy({ dataDir, tiny, log }: BenchOptions): Promise<BenchMetrics> {
  const folder = dataDir && join(dataDir, 'nab');
  const corpus = folder && readNab(folder);
  if (!corpus) {
    log('SKIPPED: accuracy, no Numenta Anomaly Benchmark: set GPUFLEET_DATA to a folder that has nab');
    return {};
  }
  const worths = NAB_PROFILES.map((name) => nabWorth(corpus, corpus.profiles[name]));
  // One of the three is enough to see that the case works.
  for (const fixture of tiny ? FIXTURES.slice(1, 2) : FIXTURES)
    checkScorer(folder, corpus, worths, fixture, log);
  const known = anomalyScores(corpus.series, true);
  const learned = anomalyScores(corpus.series, false);
  logTable(worths, known, learned, log);
  const [standardKnown, lowFpKnown, lowFnKnown] = worths.map((worth) => sweep(worth, known).normalised);
  const [standard, lowFp, lowFn] = worths.map((worth) => sweep(worth, learned).normalised);
  return {
    nab_standard_known_range: standardKnown!,
    nab_low_fp_known_range: lowFpKnown!,
    nab_low_fn_known_range: lowFnKnown!,
    nab_standard_causal: standard!,
    nab_low_fp_causal: lowFp!,
    nab_low_fn_causal: lowFn!,
  };
}

/** What the shipped default says of each row of each series, all of them side by side in one detector. */
export function anomalyScores(series: readonly NabSeries[], rangeIsKnown: boolean): Float32Array[] {
  const ranges = series.map(({ values }) => rangeOf(values));
  const unknown = { low: Number.NaN, high: Number.NaN };
  const detector = new GaugeDetector(series.length, {
    describe: (i) => ({ ...(rangeIsKnown ? ranges[i]! : unknown), resolution: 0, entropy: true }),
  });
  const scores = series.map(({ values }) => new Float32Array(values.length));
  const values = new Float64Array(series.length);
  const states = new Uint8Array(series.length);
  const slots = Int32Array.from(series, (_, i) => i);
  const out = new Float32Array(series.length);
  const rows = Math.max(...series.map((one) => one.values.length));
  for (let row = 0; row < rows; row++) {
    series.forEach((one, i) => {
      if (row < one.values.length) values[i] = one.values[row]!;
      else slots[i] = NO_SLOT;
    });
    detector.step(values, states, slots, out);
    for (let i = 0; i < series.length; i++) if (slots[i] !== NO_SLOT) scores[i]![row] = out[i]!;
  }
  return scores;
}

function rangeOf(values: Float64Array): { low: number; high: number } {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return { low, high };
}

function checkScorer(
  folder: string,
  corpus: NabCorpus,
  worths: readonly NabWorth[],
  [detector, ...published]: (typeof FIXTURES)[number],
  log: BenchOptions['log'],
): void {
  const stored = readPublishedScores(folder, detector, corpus);
  const scored = worths.map((worth) => sweep(worth, stored).normalised.toFixed(3));
  const wanted = published.map((score) => score.toFixed(3));
  if (scored.join() !== wanted.join())
    throw new Error(`the scorer gives ${detector} ${scored.join(' / ')}, published is ${wanted.join(' / ')}`);
  log(`nab: the scorer reproduces the published ${detector}: ${scored.join(' / ')}`);
}

function logTable(
  worths: readonly NabWorth[],
  known: readonly Float32Array[],
  learned: readonly Float32Array[],
  log: BenchOptions['log'],
): void {
  const line = (name: string, cells: readonly string[]): void =>
    log(`nab: ${name.padEnd(38)} ${cells.map((cell) => cell.padStart(8)).join(' ')}`);
  line('58 files, one threshold', ['standard', 'low FP', 'low FN', 'found', 'false', 'at']);
  const ours = (name: string, scores: readonly NabScore[]): void => {
    const { found, falseAlarms, threshold } = scores[0]!;
    const normalised = scores.map((score) => score.normalised.toFixed(1));
    line(name, [...normalised, `${found}/116`, String(falseAlarms), threshold.toFixed(2)]);
  };
  const best = (scores: readonly Float32Array[]) => worths.map((worth) => sweep(worth, scores));
  const shipped = (scores: readonly Float32Array[]) => worths.map((worth) => scoreAt(worth, scores, 1));
  ours('gpufleet, range known', best(known));
  ours('gpufleet, range known, threshold 1', shipped(known));
  ours('gpufleet, causal', best(learned));
  ours('gpufleet, causal, threshold 1', shipped(learned));
  for (const [detector, ...scores] of PUBLISHED)
    line(
      detector,
      scores.map((score) => score.toFixed(1)),
    );
  log(
    'nab: by the rules the threshold of each profile is the best one for the files that are scored, for everyone above; "threshold 1" is what ships.',
  );
  log(
    'nab: tuned on these files too: weights .05/.001, bins 6, window 52 (from the paper), margins .1 and .75, 104 rows to learn a range, own limits (share .001, step .02, 4 to 16, x 1.65), refractory 150 with margin 1.2, entropy strength 1.05. Range known: the least and greatest value of the whole file.',
  );
}
