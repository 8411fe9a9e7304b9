import { open, rm, stat } from 'node:fs/promises';

const CHUNK = Buffer.alloc(64 * 1024);

/**
 * Room on the disk that is kept for when it is full: LevelDB needs some to come up again, to trim and to compact
 * its way out. Making it is also the proof that the disk takes that much.
 */
export class ReserveFile {
  readonly #path: string;
  readonly #bytes: number;

  constructor(path: string, bytes: number) {
    this.#path = path;
    this.#bytes = bytes;
  }

  /** Writes it anew and fsyncs it; throws where the disk does not take it, and leaves nothing then. */
  async take(): Promise<void> {
    try {
      const file = await open(this.#path, 'w', 0o600);
      try {
        for (let left = this.#bytes; left > 0; left -= CHUNK.length) {
          await file.writeFile(CHUNK.subarray(0, Math.min(left, CHUNK.length)));
        }
        await file.sync();
      } finally {
        await file.close();
      }
    } catch (error) {
      await this.release();
      throw error;
    }
  }

  /** Takes the room if it is not taken yet. */
  async keep(): Promise<void> {
    const size = await stat(this.#path)
      .then((file) => file.size)
      .catch(() => 0);
    if (size !== this.#bytes) await this.take();
  }

  /** Gives the room back to the disk. */
  async release(): Promise<void> {
    await rm(this.#path, { force: true }).catch(() => {});
  }
}
