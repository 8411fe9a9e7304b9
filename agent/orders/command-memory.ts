import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import * as v from 'valibot';
import { FleetError } from '#shared/errors/fleet-error.ts';

/** What became of a command, as it is told and remembered. */
const resultSchema = v.object({
  outcome: v.picklist(['succeeded', 'failed', 'timed_out', 'interrupted']),
  /** Exit status; -1 where there is none. */
  status: v.number(),
  output: v.string(),
});

export type CommandEnd = Readonly<v.InferOutput<typeof resultSchema>>;

const fileSchema = v.array(v.object({ id: v.string(), name: v.string(), end: v.optional(resultSchema) }));

interface Remembered {
  readonly name: string;
  /** Undefined while it runs. */
  readonly end: CommandEnd | undefined;
}

/**
 * Commands that are remembered, and those of them whose output is, newest last. An aggregator asks about one for
 * hours at most, and a node has a few commands a day: own judgement.
 */
const MAX_REMEMBERED = 1_000;
const MAX_OUTPUTS = 32;
/** The file's: 1,000 lines and 32 outputs of 8 KiB are a third of it, each byte of them escaped. */
const MAX_BYTES = 4 * 2 ** 20;
/** How a command went that was under way when the agent ended. */
const INTERRUPTED: CommandEnd = { outcome: 'interrupted', status: -1, output: '' };

/** Which commands have run, on disk before they do: none runs twice, whatever crashes between. */
export class CommandMemory {
  readonly #path: string;
  readonly #remembered = new Map<string, Remembered>();

  private constructor(path: string) {
    this.#path = path;
  }

  /**
   * Throws `unavailable` for a file that is there and cannot be read: what it held might run again. The cure is to
   * take it away.
   */
  static async open(path: string): Promise<CommandMemory> {
    const memory = new CommandMemory(path);
    try {
      const text = await readFile(path, 'utf8');
      if (text.length > MAX_BYTES) throw new Error('it is too long');
      for (const { id, name, end } of v.parse(fileSchema, JSON.parse(text)))
        memory.#remembered.set(id, { name, end: end ?? INTERRUPTED });
    } catch (cause) {
      if ((cause as { code?: unknown }).code !== 'ENOENT')
        throw new FleetError('unavailable', `Cannot tell from ${path} which commands have run`, { cause });
    }
    return memory;
  }

  /** What became of a command; undefined where it has not begun. */
  get(id: string): Remembered | undefined {
    return this.#remembered.get(id);
  }

  /** Resolves when it is on disk; throws where that fails, and then the command has not begun. */
  async begin(id: string, name: string): Promise<void> {
    this.#remembered.set(id, { name, end: undefined });
    for (const oldest of this.#remembered.keys()) {
      if (this.#remembered.size <= MAX_REMEMBERED) break;
      this.#remembered.delete(oldest);
    }
    try {
      await this.#write();
    } catch (error) {
      this.#remembered.delete(id);
      throw error;
    }
  }

  /** Known at once; throws where it cannot be written: after a restart it would be `interrupted`. */
  async end(id: string, name: string, end: CommandEnd): Promise<void> {
    this.#remembered.set(id, { name, end });
    await this.#write();
  }

  async #write(): Promise<void> {
    const all = [...this.#remembered];
    const oldest = all.length - MAX_OUTPUTS;
    const lines = all.map(([id, { name, end }], i) => ({
      id,
      name,
      ...(end && { end: i < oldest ? { ...end, output: '' } : end }),
    }));
    const folder = dirname(this.#path);
    const fresh = `${this.#path}.new`;
    await mkdir(folder, { recursive: true });
    {
      // Not through a link, nor into a file with rights of its own, that somebody has put there.
      await rm(fresh, { force: true });
      await using file = await open(fresh, 'wx', 0o600);
      await file.writeFile(JSON.stringify(lines));
      await file.sync();
    }
    await rename(fresh, this.#path);
    await using directory = await open(folder, 'r');
    await directory.sync();
  }
}
