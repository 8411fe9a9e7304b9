/** What a case is given. */
export interface BenchOptions {
  /** Makes the same input each time. */
  readonly seed: number;
  /** A fraction of a second instead of seconds: proves that the case works, measures nothing. */
  readonly tiny: boolean;
  /** The reference data, or undefined where it is not there: a case then makes its own, and says so. */
  readonly dataDir: string | undefined;
  /** Progress and remarks for people. */
  readonly log: (line: string) => void;
}

/** Metric names end in their unit: samples_per_second, bytes_per_sample, ratio, ... */
export type BenchMetrics = Record<string, number>;

export interface BenchCase {
  /** Cases are chosen by a regular expression over this. */
  readonly name: string;
  /** What is measured, of what, in a sentence. */
  readonly description: string;
  /** One run. Called several times; the median of each metric is reported. */
  run(options: BenchOptions): Promise<BenchMetrics>;
}
