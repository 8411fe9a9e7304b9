import { canonicalSeries } from '../canonical-series.ts';
import { ByteScanner, words } from '../host-files/byte-scanner.ts';
import { type FileReader, HostFile } from '../host-files/file-reader.ts';
import type { Part } from '../host-files/parts-collector.ts';
import { SampleSet } from '../host-files/sample-set.ts';
import type { HostPaths } from '../source-kind.ts';

const RESOURCES = ['cpu', 'memory', 'io'];
/** `some`: at least one task waited; `full`: all did. node_exporter's words for them. */
const KINDS = words('some', 'full');
const KIND_NAMES = ['waiting', 'stalled'];
const TOTAL = Buffer.from('total=');
/** avg10, avg60, avg300 */
const AVERAGES = 3;
const MICROSECONDS = 1e6;

/**
 * /proc/pressure/{cpu,memory,io}, which the kernel has from 4.20 on where it was built and started with PSI:
 *
 *     some avg10=0.60 avg60=1.04 avg300=3.94 total=3018499783
 *     full avg10=0.00 avg60=0.00 avg300=0.00 total=0
 */
export class PressurePart implements Part {
  readonly samples = new SampleSet();
  readonly #reader: FileReader;
  readonly #files: readonly HostFile[];
  readonly #scanner = new ByteScanner();

  constructor(reader: FileReader, { proc }: HostPaths) {
    this.#reader = reader;
    this.#files = RESOURCES.map((resource) => new HostFile(`${proc}/pressure/${resource}`, ''));
    this.samples.plan(
      RESOURCES.flatMap((resource) =>
        KIND_NAMES.map((kind) => canonicalSeries(`node_pressure_${resource}_${kind}_seconds_total`)),
      ),
    );
  }

  describe(): string {
    return '';
  }

  async sample(signal: AbortSignal): Promise<void> {
    this.samples.clear();
    for (let i = 0; i < this.#files.length; i++) {
      const length = await this.#reader.read(this.#files[i]!, signal);
      if (length >= 0) this.#parse(length, i * KINDS.length);
      else this.#miss(length, i * KINDS.length);
    }
  }

  #parse(length: number, first: number): void {
    const scanner = this.#scanner.reset(this.#reader.bytes, length);
    while (scanner.line()) {
      const kind = scanner.word() ? scanner.match(KINDS) : -1;
      if (kind >= 0 && scanner.skip(AVERAGES + 1) && scanner.strip(TOTAL))
        this.samples.put(first + kind, scanner.number() / MICROSECONDS);
      else this.samples.malformed();
    }
  }

  #miss(state: number, first: number): void {
    for (let kind = 0; kind < KINDS.length; kind++) this.samples.missFrom(first + kind, state);
  }
}
