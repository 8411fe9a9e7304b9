import type { Labels } from '#shared/model/dictionary.ts';
import { canonicalSeries } from '../canonical-series.ts';
import { ByteScanner } from '../host-files/byte-scanner.ts';
import { type FileReader, HostFile } from '../host-files/file-reader.ts';
import { KeyValues } from '../host-files/key-values.ts';
import type { Part } from '../host-files/parts-collector.ts';
import { SampleSet } from '../host-files/sample-set.ts';
import type { HostPaths } from '../source-kind.ts';
import { cgroupIdentity, podOf } from './cgroup-identity.ts';

const CPU_STAT = new KeyValues([
  ['usage_usec', 'container_cpu_usage_seconds_total', 1, 1e6],
  ['throttled_usec', 'container_cpu_cfs_throttled_seconds_total', 1, 1e6],
]);
const MEMORY_EVENTS = new KeyValues([['oom_kill', 'container_oom_events_total']]);
const INACTIVE_FILE = new KeyValues([['inactive_file', 'container_memory_working_set_bytes']]);
const METRICS = [
  ...CPU_STAT.names,
  ...MEMORY_EVENTS.names,
  'container_memory_usage_bytes',
  'container_memory_working_set_bytes',
  'container_spec_memory_limit_bytes',
];
const OOM = 2;
const USAGE = 3;
const WORKING_SET = 4;
const LIMIT = 5;

/** The tree is walked at each n-th read: containers come and go more slowly than they use CPU. */
const READS_PER_WALK = 2;
/** Folders that a walk looks into, so that a tree of any size takes a bounded time. */
const MAX_FOLDERS = 2048;
const MAX_DEPTH = 8;

interface Cgroup {
  readonly path: string;
  readonly labels: Labels;
  readonly files: readonly HostFile[];
}
const FILES = ['cpu.stat', 'memory.events', 'memory.current', 'memory.stat', 'memory.max'];

/** CPU and memory of slices, pods, containers and Slurm jobs, from cgroup v2. */
export class CgroupsPart implements Part {
  readonly samples = new SampleSet();
  readonly #reader: FileReader;
  readonly #root: string;
  readonly #max: number;
  readonly #scanner = new ByteScanner();
  readonly #inactive = new SampleSet();
  #cgroups: readonly Cgroup[] = [];
  #reads = 0;
  #over = 0;

  constructor(reader: FileReader, { sys }: HostPaths, max: number) {
    this.#reader = reader;
    this.#root = `${sys}/fs/cgroup`;
    this.#max = max;
    this.#inactive.plan(INACTIVE_FILE.series());
  }

  describe(): string {
    const over = this.#over > 0 ? ` (${this.#over} more are over the limit)` : '';
    return this.#cgroups.length > 0 ? `${this.#cgroups.length} cgroups${over}` : '';
  }

  async sample(signal: AbortSignal): Promise<void> {
    if (this.#reads++ % READS_PER_WALK === 0) await this.#walk(signal);
    this.samples.clear();
    this.samples.refuse(this.#over * METRICS.length);
    for (let i = 0; i < this.#cgroups.length; i++)
      await this.#read(this.#cgroups[i]!, i * METRICS.length, signal);
  }

  async #read({ files }: Cgroup, first: number, signal: AbortSignal): Promise<void> {
    const [cpu, events, current, stat, max] = files as [HostFile, HostFile, HostFile, HostFile, HostFile];
    await this.#keyValues(cpu, CPU_STAT, first, signal);
    await this.#keyValues(events, MEMORY_EVENTS, first + OOM, signal);
    const usage = await this.#number(current, first + USAGE, signal);
    await this.#workingSet(stat, usage, first + WORKING_SET, signal);
    await this.#number(max, first + LIMIT, signal);
  }

  async #keyValues(file: HostFile, lines: KeyValues, first: number, signal: AbortSignal): Promise<void> {
    const length = await this.#reader.read(file, signal);
    if (length >= 0) lines.read(this.#scanner.reset(this.#reader.bytes, length), this.samples, first);
    else for (let i = 0; i < lines.names.length; i++) this.samples.missFrom(first + i, length);
  }

  /** memory.current and memory.max: a number, or `max`, which is no limit and no value. NaN where there is none. */
  async #number(file: HostFile, at: number, signal: AbortSignal): Promise<number> {
    const length = await this.#reader.read(file, signal);
    if (length < 0) {
      this.samples.missFrom(at, length);
      return Number.NaN;
    }
    const scanner = this.#scanner.reset(this.#reader.bytes, length);
    const whole = scanner.line() && scanner.word();
    if (whole && scanner.text() === 'max') return Number.NaN;
    const value = whole ? scanner.number() : Number.NaN;
    this.samples.put(at, value);
    return value;
  }

  /** As kubelet and cAdvisor have it: what is in use without the file cache that was not touched for long. */
  async #workingSet(file: HostFile, usage: number, at: number, signal: AbortSignal): Promise<void> {
    const length = await this.#reader.read(file, signal);
    if (length < 0) {
      this.samples.missFrom(at, length);
      return;
    }
    this.#inactive.clear();
    INACTIVE_FILE.read(this.#scanner.reset(this.#reader.bytes, length), this.#inactive);
    const inactive = this.#inactive.valueAt(0);
    if (inactive !== undefined && !Number.isNaN(usage)) this.samples.put(at, Math.max(0, usage - inactive));
  }

  async #walk(signal: AbortSignal): Promise<void> {
    const found = await this.#find(signal);
    if (signal.aborted) return;
    const chosen = found.slice(0, this.#max);
    this.#over = found.length - chosen.length;
    if (
      chosen.length === this.#cgroups.length &&
      chosen.every(({ path }, i) => path === this.#cgroups[i]!.path)
    )
      return;
    const known = new Map(this.#cgroups.map((cgroup) => [cgroup.path, cgroup]));
    this.#cgroups = chosen.map(({ path, labels }) => {
      const before = known.get(path);
      known.delete(path);
      return (
        before ?? {
          path,
          labels,
          files: FILES.map((name) => new HostFile(`${this.#root}${path}/${name}`, 'cgroup')),
        }
      );
    });
    for (const { files } of known.values()) this.#reader.drop(files);
    this.samples.plan(
      this.#cgroups.flatMap(({ labels }) =>
        METRICS.map((name) => canonicalSeries(name, Object.fromEntries(labels))),
      ),
    );
  }

  /** Level by level, so that where there are too many, slices and pods come before what is in them. */
  async #find(signal: AbortSignal): Promise<{ path: string; labels: Labels }[]> {
    const found: { path: string; labels: Labels }[] = [];
    let level: { path: string; podUid: string | undefined }[] = [{ path: '', podUid: undefined }];
    let folders = 0;
    for (let depth = 0; depth < MAX_DEPTH && level.length > 0; depth++) {
      const next: typeof level = [];
      for (const { path, podUid } of level) {
        if (folders++ >= MAX_FOLDERS) break;
        for (const name of await this.#reader.folders(`${this.#root}${path}`, 'cgroup', signal)) {
          const child = `${path}/${name}`;
          const { labels, inside } = cgroupIdentity(child, podUid);
          if (labels) found.push({ path: child, labels });
          if (inside) next.push({ path: child, podUid: podOf(name) ?? podUid });
        }
      }
      level = next;
    }
    return found;
  }
}
