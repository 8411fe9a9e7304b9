import { canonicalSeries } from '../canonical-series.ts';
import { type ByteScanner, words } from './byte-scanner.ts';
import type { SampleSet } from './sample-set.ts';

/** A wanted line: the metric's value is the line's, times `times`, divided by `per` (exact where times 1e-6 is not). */
export type WantedLine = readonly [key: string, metric: string, times?: number, per?: number];

/**
 * Reads `key value` lines, such as /proc/meminfo's and cpu.stat's; lines that nobody wants are skipped. `first` is
 * the index of the first of these series in the set.
 */
export class KeyValues {
  readonly #keys: readonly Buffer[];
  readonly #times: readonly number[];
  readonly #per: readonly number[];
  readonly names: readonly string[];

  constructor(wanted: readonly WantedLine[]) {
    this.#keys = words(...wanted.map(([key]) => key));
    this.#times = wanted.map(([, , times = 1]) => times);
    this.#per = wanted.map(([, , , per = 1]) => per);
    this.names = wanted.map(([, name]) => name);
  }

  series(labels: Readonly<Record<string, string>> = {}): ReturnType<typeof canonicalSeries>[] {
    return this.names.map((name) => canonicalSeries(name, labels));
  }

  /** All lines that are left. */
  read(scanner: ByteScanner, samples: SampleSet, first = 0): void {
    while (scanner.line()) {
      if (!scanner.word()) continue;
      const index = scanner.match(this.#keys);
      if (index < 0) continue;
      if (scanner.word())
        samples.put(first + index, (scanner.number() * this.#times[index]!) / this.#per[index]!);
      else samples.malformed();
    }
  }
}
