import type { StatsFs } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { SlotState } from '#shared/model/slot-state.ts';
import { canonicalSeries } from '../canonical-series.ts';
import type { CallGate } from '../host-files/call-gate.ts';
import { type FileReader, HostFile, stateOf } from '../host-files/file-reader.ts';
import type { Part } from '../host-files/parts-collector.ts';
import { SampleSet } from '../host-files/sample-set.ts';
import type { HostPaths } from '../source-kind.ts';
import { type LocalMount, localMounts } from './local-mounts.ts';

const METRICS = [
  'node_filesystem_size_bytes',
  'node_filesystem_free_bytes',
  'node_filesystem_avail_bytes',
  'node_filesystem_files',
  'node_filesystem_files_free',
  'node_filesystem_readonly',
];
const READONLY = METRICS.length - 1;

/** Asks the kernel for a filesystem: replaced in tests. */
export type AskFilesystem = (path: string) => Promise<StatsFs>;

/**
 * Size and free space of local filesystems, and whether the kernel made them read-only after an error. One is asked
 * after another; one that does not answer is Timeout, and is not asked again before it came back.
 */
export class FilesystemsPart implements Part {
  readonly samples = new SampleSet();
  readonly #reader: FileReader;
  readonly #gate: CallGate;
  readonly #host: HostPaths;
  readonly #ask: AskFilesystem;
  readonly #mountsOfInit: HostFile;
  readonly #ownMounts: HostFile;
  #mounts: readonly LocalMount[] = [];

  constructor(reader: FileReader, gate: CallGate, host: HostPaths, ask: AskFilesystem = statfs) {
    this.#reader = reader;
    this.#gate = gate;
    this.#host = host;
    this.#ask = ask;
    // The host's, also from within a container; only root may read it.
    this.#mountsOfInit = new HostFile(`${host.proc}/1/mountinfo`, '');
    this.#ownMounts = new HostFile(`${host.proc}/self/mountinfo`, '');
  }

  describe(): string {
    return this.#mounts.length > 0 ? `${this.#mounts.length} filesystems` : '';
  }

  async sample(signal: AbortSignal): Promise<void> {
    let length = await this.#reader.read(this.#mountsOfInit, signal);
    if (length < 0) length = await this.#reader.read(this.#ownMounts, signal);
    this.samples.clear();
    if (length < 0) {
      this.samples.missAll(length);
      return;
    }
    const { mounts, malformed } = localMounts(this.#reader.bytes.toString('utf8', 0, length));
    this.#plan(mounts);
    for (let i = 0; i < malformed; i++) this.samples.malformed();
    for (let i = 0; i < mounts.length; i++) await this.#put(mounts[i]!, i * METRICS.length, signal);
  }

  async #put({ mountPoint, readOnly }: LocalMount, first: number, signal: AbortSignal): Promise<void> {
    const { samples } = this;
    samples.put(first + READONLY, readOnly ? 1 : 0);
    let state: number = SlotState.Timeout;
    try {
      const path = join(this.#host.root, mountPoint);
      const stats = await this.#gate.call(path, signal, `statfs of ${mountPoint}`, () => this.#ask(path));
      if (stats) {
        const { bsize, blocks, bfree, bavail, files, ffree } = stats;
        [blocks * bsize, bfree * bsize, bavail * bsize, files, ffree].forEach((value, i) => {
          samples.put(first + i, value);
        });
        return;
      }
    } catch (error) {
      state = stateOf(error);
    }
    for (let i = 0; i < READONLY; i++) samples.missFrom(first + i, -state);
  }

  #plan(mounts: readonly LocalMount[]): void {
    const same =
      mounts.length === this.#mounts.length &&
      mounts.every(
        ({ mountPoint, device, type }, i) =>
          mountPoint === this.#mounts[i]!.mountPoint &&
          device === this.#mounts[i]!.device &&
          type === this.#mounts[i]!.type,
      );
    this.#mounts = mounts;
    if (same) return;
    this.samples.plan(
      mounts.flatMap(({ mountPoint, device, type }) =>
        METRICS.map((name) => canonicalSeries(name, { mountpoint: mountPoint, device, fstype: type })),
      ),
    );
  }
}
