import type { Series } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { ByteScanner } from './byte-scanner.ts';
import { type FileReader, HostFile } from './file-reader.ts';
import type { SampleSet } from './sample-set.ts';

/** The value of a file: a number from 0, NaN where it is no value, or a negative SlotState that says why not. */
export type ParseFile = (scanner: ByteScanner) => number;

/** A file with one value, and the series that it gives. */
export interface FileSample {
  readonly file: HostFile;
  readonly series: Series;
  /** The value is the file's times this. */
  readonly times: number;
  readonly parse: ParseFile;
}

/** Files of one value each, such as most of sysfs, in the order of a set's series. */
export class FileColumn {
  readonly #reader: FileReader;
  readonly #scanner = new ByteScanner();
  #files: readonly FileSample[] = [];

  constructor(reader: FileReader) {
    this.#reader = reader;
  }

  /** Other files from now on; their series, for the set. */
  use(files: readonly FileSample[]): Series[] {
    this.#reader.drop(this.#files.map(({ file }) => file));
    this.#files = files;
    return files.map(({ series }) => series);
  }

  /** `first`: where the series of the first file are in the set. */
  async read(samples: SampleSet, signal: AbortSignal, first = 0): Promise<void> {
    for (let i = 0; i < this.#files.length; i++) {
      const { file, times, parse } = this.#files[i]!;
      const length = await this.#reader.read(file, signal);
      const value = length < 0 ? length : parse(this.#scanner.reset(this.#reader.bytes, length));
      if (value < 0) samples.missFrom(first + i, value);
      else samples.put(first + i, value * times);
    }
  }
}

/** What drivers print where the device has no such counter: `N/A (no PMA)`, `unsupported`, `Unknown`. */
const NOT_THERE = new Set(['N/A', 'unsupported', 'Unknown', 'unknown']);

/** A file of one number. */
export const oneNumber: ParseFile = (scanner) => {
  if (!scanner.line() || !scanner.word()) return Number.NaN;
  const value = scanner.number();
  return Number.isNaN(value) && NOT_THERE.has(scanner.text()) ? -SlotState.NotSupported : value;
};

/** `gate`: see HostFile. */
export function fileSample(
  path: string,
  gate: string,
  series: Series,
  { times = 1, parse = oneNumber }: { times?: number; parse?: ParseFile } = {},
): FileSample {
  return { file: new HostFile(path, gate), series, times, parse };
}
