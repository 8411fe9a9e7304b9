import { canonicalSeries } from '../canonical-series.ts';
import { ByteScanner, ColumnCount } from '../host-files/byte-scanner.ts';
import { type FileReader, HostFile } from '../host-files/file-reader.ts';
import type { Part } from '../host-files/parts-collector.ts';
import { SampleSet } from '../host-files/sample-set.ts';
import type { HostPaths } from '../source-kind.ts';

/** The columns after the name (Documentation/admin-guide/iostats.rst), with what their unit is divided by or times. */
const COLUMNS: readonly (readonly [metric: string, times: number, per: number] | undefined)[] = [
  ['node_disk_reads_completed_total', 1, 1],
  undefined,
  // A sector is 512 bytes here, whatever the disk's are.
  ['node_disk_read_bytes_total', 512, 1],
  ['node_disk_read_time_seconds_total', 1, 1000],
  ['node_disk_writes_completed_total', 1, 1],
  undefined,
  ['node_disk_written_bytes_total', 512, 1],
  ['node_disk_write_time_seconds_total', 1, 1000],
  ['node_disk_io_now', 1, 1],
  ['node_disk_io_time_seconds_total', 1, 1000],
];
const METRICS = COLUMNS.flatMap((column) => (column ? [column[0]] : []));
/** No disks: memory and loop devices, partitions, the hidden paths of multipath NVMe; as node_exporter leaves out. */
export const NOT_A_DISK =
  /^(z?ram|loop|fd|sr|(h|s|v|xv)d[a-z]+|nbd\d+p|nvme\d+n\d+p|mmcblk\d+p)\d+$|^nvme\d+c\d+n\d+$/;
const MAX_DISKS = 64;
/** Major and minor number. */
const NUMBERS = 2;

/** /proc/diskstats: ` 254       0 vda 1206 340 90 5 17 2 8 4 0 100 120 0 0 0 0 0 0` */
export class DisksPart implements Part {
  readonly samples = new SampleSet();
  readonly #reader: FileReader;
  readonly #file: HostFile;
  readonly #scanner = new ByteScanner();
  readonly #columnCount = new ColumnCount(COLUMNS.length);
  /** The device of each line of the file, and where its series begin; -1 for none. */
  #lines: { readonly device: Buffer; readonly first: number }[] = [];
  #disks = 0;

  constructor(reader: FileReader, { proc }: HostPaths) {
    this.#reader = reader;
    this.#file = new HostFile(`${proc}/diskstats`, '');
  }

  describe(): string {
    return this.#disks > 0 ? `${this.#disks} disks` : '';
  }

  async sample(signal: AbortSignal): Promise<void> {
    const length = await this.#reader.read(this.#file, signal);
    this.samples.clear();
    if (length < 0) this.samples.missAll(length);
    else if (!this.#parse(length)) {
      this.#find(length);
      this.#parse(length);
    }
  }

  /** False where a line is of another device than it was: the plan is not right any more. */
  #parse(length: number): boolean {
    const scanner = this.#scanner.reset(this.#reader.bytes, length);
    this.samples.clear();
    let line = 0;
    while (scanner.line()) {
      if (!scanner.skip(NUMBERS + 1)) {
        this.samples.malformed();
        continue;
      }
      const known = this.#lines[line++];
      if (!known || scanner.match([known.device]) < 0) return false;
      if (!this.#columnCount.fits(scanner)) this.samples.malformed();
      else if (known.first >= 0) this.#columns(scanner, known.first);
    }
    return line === this.#lines.length;
  }

  #columns(scanner: ByteScanner, first: number): void {
    let at = first;
    for (const column of COLUMNS) {
      const value = scanner.word() ? scanner.number() : Number.NaN;
      if (column) this.samples.put(at++, (value * column[1]) / column[2]);
    }
  }

  #find(length: number): void {
    const scanner = this.#scanner.reset(this.#reader.bytes, length);
    const listed: string[] = [];
    while (scanner.line()) if (scanner.skip(NUMBERS + 1)) listed.push(scanner.text());
    // What is there twice was damaged: nobody can tell which line is right.
    const disks = listed
      .filter((device) => !NOT_A_DISK.test(device) && listed.indexOf(device) === listed.lastIndexOf(device))
      .slice(0, MAX_DISKS);
    this.#lines = listed.map((device) => ({
      device: Buffer.from(device),
      first: disks.includes(device) ? disks.indexOf(device) * METRICS.length : -1,
    }));
    this.#disks = disks.length;
    this.samples.plan(disks.flatMap((device) => METRICS.map((name) => canonicalSeries(name, { device }))));
  }
}
