import { closeSync, existsSync, mkdirSync, openSync, renameSync, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

/** A log larger than this becomes `<file>.1`, and the former one goes: two files of this size at most. */
export const LOG_LIMIT_BYTES = 16 * 1024 * 1024;

/** A log file that cannot fill the disk. Written synchronously: what a dying child said last is in it. */
export class LogFile implements Disposable {
  readonly path: string;
  readonly #limit: number;
  #size: number;
  #handle: number | undefined;

  constructor(path: string, limit = LOG_LIMIT_BYTES) {
    mkdirSync(dirname(path), { recursive: true });
    this.path = path;
    this.#limit = limit;
    this.#size = existsSync(path) ? statSync(path).size : 0;
    this.#handle = openSync(path, 'a', 0o640);
  }

  write(chunk: Uint8Array): void {
    if (this.#handle === undefined) return;
    if (this.#size > 0 && this.#size + chunk.length > this.#limit) this.#turnOver();
    try {
      writeSync(this.#handle, chunk);
      this.#size += chunk.length;
    } catch {
      // A full disk costs log lines, not the fleet's data.
    }
  }

  #turnOver(): void {
    closeSync(this.#handle!);
    renameSync(this.path, `${this.path}.1`);
    this.#handle = openSync(this.path, 'a', 0o640);
    this.#size = 0;
  }

  [Symbol.dispose](): void {
    if (this.#handle !== undefined) closeSync(this.#handle);
    this.#handle = undefined;
  }
}
