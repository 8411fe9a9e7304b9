import { canonicalSeries } from '../canonical-series.ts';
import { ByteScanner, ColumnCount, words } from '../host-files/byte-scanner.ts';
import { type FileReader, HostFile } from '../host-files/file-reader.ts';
import type { Part } from '../host-files/parts-collector.ts';
import { SampleSet } from '../host-files/sample-set.ts';
import type { HostPaths } from '../source-kind.ts';

/** In the order of the columns. Time as a guest is in `user` and `nice` already, as node_exporter has it. */
const MODES = ['user', 'nice', 'system', 'idle', 'iowait', 'irq', 'softirq', 'steal'];
/** Ticks a second of /proc/stat: USER_HZ, which the kernel fixes at 100 for x86 and ARM (proc_stat(5)). */
const USER_HZ = 100;
/**
 * The kernel's idle and iowait of a CPU can go back by a little (proc_stat(5)); to a store that looks like a counter
 * that began anew. Up to this, as node_exporter does, the highest value stands.
 */
const BACKWARDS_S = 3;
/** Twice the largest machine of 2026. */
const MAX_CPUS = 2048;
const KEYS = words('ctxt', 'btime', 'processes', 'procs_running', 'procs_blocked');
const KEY_METRICS = [
  'node_context_switches_total',
  'node_boot_time_seconds',
  'node_forks_total',
  'node_procs_running',
  'node_procs_blocked',
];
const CPU = Buffer.from('cpu');
const ONLINE = KEY_METRICS.length;
const FIRST_CPU = ONLINE + 1;

/**
 * <sys>/devices/system/cpu/online, and /proc/stat:
 *
 *     cpu  1007324 0 200000 3502332 7432 0 13142 10544 0 0
 *     cpu0 495780 0 96668 1765157 1404 0 5825 5334 0 0
 *     intr 21033 ...
 *     ctxt 115315
 *     btime 769041601
 *     processes 86031
 *     procs_running 6
 *     procs_blocked 2
 */
export class CpuPart implements Part {
  readonly samples = new SampleSet();
  readonly #reader: FileReader;
  readonly #file: HostFile;
  readonly #onlineFile: HostFile;
  readonly #perCpu: boolean;
  readonly #scanner = new ByteScanner();
  readonly #columns = new ColumnCount(MODES.length);
  /** Of the CPUs that have series, in order: '' is all of them. */
  #cpus: string[] = [];
  #last = new Float64Array(0);
  #online = 0;

  constructor(reader: FileReader, { proc, sys }: HostPaths, perCpu: boolean) {
    this.#reader = reader;
    this.#file = new HostFile(`${proc}/stat`, '');
    this.#onlineFile = new HostFile(`${sys}/devices/system/cpu/online`, '');
    this.#perCpu = perCpu;
    this.#plan(perCpu ? [] : ['']);
  }

  describe(): string {
    return this.#online > 0 ? `${this.#online} CPUs` : '';
  }

  async sample(signal: AbortSignal): Promise<void> {
    const length = await this.#reader.read(this.#file, signal);
    this.samples.clear();
    if (length < 0) {
      this.samples.missAll(length);
    } else {
      if (this.#perCpu) this.#find(length);
      this.#parse(length);
    }
    const online = await this.#reader.read(this.#onlineFile, signal);
    if (online < 0) this.samples.missFrom(ONLINE, online);
    else this.#countOnline(online);
  }

  #countOnline(length: number): void {
    const scanner = this.#scanner.reset(this.#reader.bytes, length);
    const count = scanner.line() && scanner.word() ? cpuCount(scanner.text()) : Number.NaN;
    this.samples.put(ONLINE, count);
    this.#online = count;
  }

  #parse(length: number): void {
    const { samples } = this;
    const scanner = this.#scanner.reset(this.#reader.bytes, length);
    let next = 0;
    while (scanner.line()) {
      if (!scanner.word()) continue;
      const key = scanner.match(KEYS);
      if (key >= 0) {
        if (scanner.word()) samples.put(key, scanner.number());
        else samples.malformed();
      } else if (scanner.strip(CPU)) {
        const isAll = scanner.text() === '';
        if (isAll === this.#perCpu || scanner.text() !== this.#cpus[next]) continue;
        if (this.#columns.fits(scanner)) this.#modes(scanner, next);
        else samples.malformed();
        next++;
      }
    }
  }

  #modes(scanner: ByteScanner, cpu: number): void {
    for (let mode = 0; mode < MODES.length; mode++) {
      const at = cpu * MODES.length + mode;
      const seconds = scanner.word() ? scanner.number() / USER_HZ : Number.NaN;
      const last = this.#last[at]!;
      const back = last - seconds;
      const value =
        (MODES[mode] === 'idle' || MODES[mode] === 'iowait') && back > 0 && back < BACKWARDS_S
          ? last
          : seconds;
      this.samples.put(FIRST_CPU + at, value);
      if (!Number.isNaN(value)) this.#last[at] = value;
    }
  }

  /** CPUs that came or went. */
  #find(length: number): void {
    const scanner = this.#scanner.reset(this.#reader.bytes, length);
    const found: string[] = [];
    while (scanner.line() && found.length < MAX_CPUS) {
      if (!scanner.word() || !scanner.strip(CPU)) continue;
      const cpu = scanner.text();
      if (/^\d+$/.test(cpu)) found.push(cpu);
    }
    if (found.join() !== this.#cpus.join()) this.#plan(found);
  }

  #plan(cpus: string[]): void {
    this.#cpus = cpus;
    this.#last = new Float64Array(cpus.length * MODES.length);
    this.samples.plan([
      ...KEY_METRICS.map((name) => canonicalSeries(name)),
      canonicalSeries('node_cpus_online'),
      ...cpus.flatMap((cpu) => MODES.map((mode) => canonicalSeries('node_cpu_seconds_total', { cpu, mode }))),
    ]);
  }
}

/** How many CPUs <sys>/devices/system/cpu/online lists: `0-63,128-191`, rising. NaN where it is something else. */
function cpuCount(list: string): number {
  let count = 0;
  let before = -1;
  for (const range of list.split(',')) {
    const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(range) ?? [];
    const cpus = Number(last) - Number(first) + 1;
    if (!(cpus > 0) || Number(first) <= before) return Number.NaN;
    before = Number(last);
    count += cpus;
  }
  return count;
}
