import { canonicalSeries } from '../canonical-series.ts';
import { ByteScanner } from '../host-files/byte-scanner.ts';
import { type FileReader, HostFile } from '../host-files/file-reader.ts';
import type { Part } from '../host-files/parts-collector.ts';
import { SampleSet } from '../host-files/sample-set.ts';
import type { HostPaths } from '../source-kind.ts';

const METRICS = ['node_load1', 'node_load5', 'node_load15'];
/** Running tasks of all, and the last process id. */
const MORE = 2;

/** /proc/loadavg: `0.35 0.54 0.70 1/100 15087` */
export class LoadPart implements Part {
  readonly samples = new SampleSet();
  readonly #reader: FileReader;
  readonly #file: HostFile;
  readonly #scanner = new ByteScanner();

  constructor(reader: FileReader, { proc }: HostPaths) {
    this.#reader = reader;
    this.#file = new HostFile(`${proc}/loadavg`, '');
    this.samples.plan(METRICS.map((name) => canonicalSeries(name)));
  }

  describe(): string {
    return '';
  }

  async sample(signal: AbortSignal): Promise<void> {
    const length = await this.#reader.read(this.#file, signal);
    this.samples.clear();
    if (length < 0) {
      this.samples.missAll(length);
      return;
    }
    const scanner = this.#scanner.reset(this.#reader.bytes, length);
    if (!scanner.line() || scanner.remaining() !== METRICS.length + MORE) {
      this.samples.malformed();
      return;
    }
    for (let i = 0; i < METRICS.length; i++)
      this.samples.put(i, scanner.word() ? scanner.number() : Number.NaN);
  }
}
