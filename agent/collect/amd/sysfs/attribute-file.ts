import { type FileHandle, open } from 'node:fs/promises';
import { SlotState } from '#shared/model/slot-state.ts';
import type { Miss } from '../gpu-table.ts';

/** What is needed of an open file; tests give one whose reads fail as a driver's do. */
export type OpenFile = Pick<FileHandle, 'read' | 'close'>;
export type Open = (path: string) => Promise<OpenFile>;

export const openForReading: Open = (path) => open(path, 'r');

/** The content, or why there is none. */
export type Content = Buffer | Miss;

/**
 * One attribute of the driver, kept open between reads: one system call a read, where opening each time takes four.
 * An open sysfs file does not keep the device or its driver from being removed; reads then fail with ENODEV.
 */
export class AttributeFile {
  readonly #path: string;
  readonly #open: Open;
  readonly #maxBytes: number;
  #buffer: Buffer | undefined;
  #file: OpenFile | undefined;

  /** What is longer than `maxBytes` is cut. */
  constructor(path: string, maxBytes: number, openFile: Open) {
    this.#path = path;
    this.#open = openFile;
    this.#maxBytes = maxBytes;
  }

  /** Valid until the next read. Never throws. */
  async read(): Promise<Content> {
    try {
      this.#file ??= await this.#open(this.#path);
    } catch (error) {
      // Opening fails by the file's rights; a read that is refused has another reason.
      return codeOf(error) === 'EPERM' ? SlotState.NoPermission : missOf(error);
    }
    try {
      // Only where the board has the file.
      this.#buffer ??= Buffer.allocUnsafe(this.#maxBytes);
      const { bytesRead } = await this.#file.read(this.#buffer, 0, this.#maxBytes, 0);
      return this.#buffer.subarray(0, bytesRead);
    } catch (error) {
      await this.close();
      return missOf(error);
    }
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    // A handle that cannot be closed is gone all the same.
    await file?.close().catch(() => {});
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/**
 * What the kernel's answer says of the field. EPERM and EBUSY at a read: amdgpu answers so while it resets the GPU
 * or the GPU sleeps (amdgpu_pm_get_access_if_active), which says nothing of the field.
 */
function missOf(error: unknown): Miss {
  switch (codeOf(error)) {
    case 'EACCES':
      return SlotState.NoPermission;
    case 'ENODEV':
    case 'EIO':
    case 'ENXIO':
      return SlotState.GpuLost;
    case 'ENOENT':
    case 'ENOTDIR':
    case 'EINVAL':
    case 'ENOTSUP':
    case 'EOPNOTSUPP':
    case 'ENOSYS':
      return SlotState.NotSupported;
    case 'ENODATA':
      return SlotState.Blank;
    case 'ETIME':
    case 'ETIMEDOUT':
      return SlotState.Timeout;
    default:
      return SlotState.Absent;
  }
}
