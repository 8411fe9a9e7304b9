import { ByteScanner } from '../host-files/byte-scanner.ts';
import { type FileReader, HostFile } from '../host-files/file-reader.ts';
import { KeyValues, type WantedLine } from '../host-files/key-values.ts';
import type { Part } from '../host-files/parts-collector.ts';
import { SampleSet } from '../host-files/sample-set.ts';
import type { HostPaths } from '../source-kind.ts';

/** `kB` of the kernel are KiB. */
const bytes = (field: string): WantedLine => [`${field}:`, `node_memory_${field}_bytes`, 1024];
const pages = (field: string): WantedLine => [`${field}:`, `node_memory_${field}`];

const MEMINFO: readonly WantedLine[] = [
  bytes('MemTotal'),
  bytes('MemFree'),
  bytes('MemAvailable'),
  bytes('Buffers'),
  bytes('Cached'),
  bytes('SwapTotal'),
  bytes('SwapFree'),
  bytes('Dirty'),
  bytes('Writeback'),
  bytes('AnonPages'),
  bytes('Shmem'),
  bytes('Slab'),
  bytes('SReclaimable'),
  bytes('HardwareCorrupted'),
  pages('HugePages_Total'),
  pages('HugePages_Free'),
];

const VMSTAT: readonly WantedLine[] = [
  ['pswpin', 'node_vmstat_pswpin'],
  ['pswpout', 'node_vmstat_pswpout'],
  ['pgmajfault', 'node_vmstat_pgmajfault'],
  ['oom_kill', 'node_vmstat_oom_kill'],
];

/** A file of `key value` lines: /proc/meminfo (`MemTotal:  24684096 kB`) or /proc/vmstat (`oom_kill 0`). */
export class LinesPart implements Part {
  readonly samples = new SampleSet();
  readonly #reader: FileReader;
  readonly #file: HostFile;
  readonly #lines: KeyValues;
  readonly #scanner = new ByteScanner();

  private constructor(reader: FileReader, path: string, wanted: readonly WantedLine[]) {
    this.#reader = reader;
    this.#file = new HostFile(path, '');
    this.#lines = new KeyValues(wanted);
    this.samples.plan(this.#lines.series());
  }

  static meminfo(reader: FileReader, { proc }: HostPaths): LinesPart {
    return new LinesPart(reader, `${proc}/meminfo`, MEMINFO);
  }

  static vmstat(reader: FileReader, { proc }: HostPaths): LinesPart {
    return new LinesPart(reader, `${proc}/vmstat`, VMSTAT);
  }

  describe(): string {
    return '';
  }

  async sample(signal: AbortSignal): Promise<void> {
    const length = await this.#reader.read(this.#file, signal);
    this.samples.clear();
    if (length < 0) this.samples.missAll(length);
    else this.#lines.read(this.#scanner.reset(this.#reader.bytes, length), this.samples);
  }
}
