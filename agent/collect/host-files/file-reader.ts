import * as fs from 'node:fs';
import { readdir, realpath } from 'node:fs/promises';
import { SlotState } from '#shared/model/slot-state.ts';
import type { CallGate } from './call-gate.ts';

/** A file of the kernel that is read again and again. */
export class HostFile {
  readonly path: string;
  /** What hangs together: the device, the mount; '' for what never hangs. See CallGate. */
  readonly gate: string;
  /** Belongs to the reader. */
  fd = -1;

  constructor(path: string, gate: string) {
    this.path = path;
    this.gate = gate;
  }
}

/** /proc/stat of a machine with 400 CPUs takes 60 KiB, mountinfo of one with 1,000 pods 400 KiB. */
const MAX_FILE_BYTES = 2 ** 20;
const FIRST_BYTES = 2 ** 13;
/**
 * Descriptors that are kept open, which saves two of three calls at each read. Files over it are opened and closed.
 */
const MAX_KEPT = 768;

/**
 * Reads small files of /proc and /sys one after another into one reused buffer.
 *
 * A read that hangs in the kernel is given up at the signal: see CallGate.
 */
export class FileReader implements AsyncDisposable {
  readonly #gate: CallGate;
  readonly #kept = new Set<HostFile>();
  /** Replaced when a read hangs: the kernel may still write into the old one. */
  #into = { bytes: Buffer.alloc(FIRST_BYTES) };
  #disposed = false;

  constructor(gate: CallGate) {
    this.#gate = gate;
  }

  /** What the last read gave, from 0; valid until the next one. */
  get bytes(): Buffer {
    return this.#into.bytes;
  }

  /**
   * Reads a file from its begin. Gives the number of bytes, or why there are none as a negative SlotState: Timeout,
   * NoPermission, NotSupported (the driver refuses it), else Absent (no such file, device gone, over 1 MiB).
   */
  async read(file: HostFile, signal: AbortSignal): Promise<number> {
    const into = this.#into;
    const length = await this.#gate.call(file.gate, signal, file.path, () => this.#load(file, into));
    if (length !== undefined) return length;
    if (this.#gate.hangs(file.gate)) this.#into = { bytes: Buffer.alloc(FIRST_BYTES) };
    return -SlotState.Timeout;
  }

  /** A file that is read once in a while, without the blanks around it; undefined where it cannot be read. */
  async text(path: string, gate: string, signal: AbortSignal): Promise<string | undefined> {
    const file = new HostFile(path, gate);
    const length = await this.read(file, signal);
    this.drop([file]);
    return length < 0 ? undefined : this.bytes.toString('utf8', 0, length).trim();
  }

  /** The names in a folder, sorted; none where it cannot be read. */
  async list(path: string, gate: string, signal: AbortSignal): Promise<readonly string[]> {
    const names = await this.#gate.call(gate, signal, path, () => readdir(path).catch(() => []));
    return names?.sort() ?? [];
  }

  /** The folders in a folder, sorted; none where it cannot be read. */
  async folders(path: string, gate: string, signal: AbortSignal): Promise<readonly string[]> {
    const entries = await this.#gate.call(gate, signal, path, () =>
      readdir(path, { withFileTypes: true }).catch(() => []),
    );
    return (
      entries
        ?.filter((entry) => entry.isDirectory())
        .map(({ name }) => name)
        .sort() ?? []
    );
  }

  /** Where a link leads; undefined where there is none. */
  async target(path: string, gate: string, signal: AbortSignal): Promise<string | undefined> {
    return this.#gate.call(gate, signal, path, () => realpath(path).catch(() => undefined));
  }

  /** Files that are not read any more. */
  drop(files: Iterable<HostFile>): void {
    for (const file of files) if (!this.#gate.hangs(file.gate)) this.#close(file);
  }

  /** Does not wait for what hangs: that is closed when it comes back. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    this.drop([...this.#kept]);
  }

  async #load(file: HostFile, into: { bytes: Buffer }): Promise<number> {
    const kept = file.fd >= 0;
    try {
      return await this.#attempt(file, into);
    } catch (error) {
      this.#close(file);
      if (!kept) return -stateOf(error);
    }
    // The device behind the kept descriptor went and may have come back.
    try {
      return await this.#attempt(file, into);
    } catch (error) {
      this.#close(file);
      return -stateOf(error);
    }
  }

  async #attempt(file: HostFile, into: { bytes: Buffer }): Promise<number> {
    if (file.fd < 0) {
      file.fd = await open(file.path);
      this.#kept.add(file);
    }
    let length = 0;
    for (;;) {
      if (length === into.bytes.length) {
        if (length >= MAX_FILE_BYTES) return -SlotState.Absent;
        into.bytes = Buffer.concat([into.bytes], length * 2);
      }
      const count = await read(file.fd, into.bytes, length);
      length += count;
      // Attributes of sysfs and cgroups come whole; longer files come in pages of 4 KiB or so.
      if (count === 0 || length < ONE_READ) break;
    }
    if (this.#disposed || this.#kept.size > MAX_KEPT) this.#close(file);
    return length;
  }

  #close(file: HostFile): void {
    if (file.fd >= 0) fs.close(file.fd, () => {});
    file.fd = -1;
    this.#kept.delete(file);
  }
}

/**
 * The kernel fills a page (4 KiB, with up to a line missing) before it returns from a read of a file with many
 * lines: shorter than this was the whole.
 */
const ONE_READ = 2048;

/** What a system call's error says about the value that was to come. */
export function stateOf(error: unknown): Exclude<SlotState, typeof SlotState.Present> {
  switch ((error as { code?: unknown } | null)?.code) {
    case 'EACCES':
    case 'EPERM':
      return SlotState.NoPermission;
    case 'EINVAL':
    case 'ENOTSUP':
    case 'EOPNOTSUPP':
      return SlotState.NotSupported;
    case 'ETIMEDOUT':
      return SlotState.Timeout;
    default:
      return SlotState.Absent;
  }
}

// The callback forms: half the cost of FileHandle's.
function open(path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.open(path, 'r', (error, fd) => (error ? reject(error) : resolve(fd)));
  });
}

function read(fd: number, bytes: Buffer, from: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.read(fd, bytes, from, bytes.length - from, from, (error, count) =>
      error ? reject(error) : resolve(count),
    );
  });
}
