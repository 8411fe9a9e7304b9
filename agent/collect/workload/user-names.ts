import { open } from 'node:fs/promises';
import { join } from 'node:path';

const MAX_FILE_BYTES = 2 ** 20;
/** A user that is added is known by name at the latest after this many look-ups of a number that is not. */
const LOOK_AGAIN_EVERY = 64;

/** Names of the host's local users; the number itself for all others (LDAP and the like are not asked). */
export class UserNames {
  readonly #path: string;
  #names: ReadonlyMap<number, string> | undefined;
  #misses = 0;

  constructor(root: string) {
    this.#path = join(root, 'etc', 'passwd');
  }

  async nameOf(uid: number): Promise<string> {
    const name = this.#names?.get(uid);
    if (name !== undefined) return name;
    if (this.#misses++ % LOOK_AGAIN_EVERY === 0) this.#names = await this.#read();
    return this.#names?.get(uid) ?? String(uid);
  }

  /** `alice:x:1000:1000::/home/alice:/bin/bash` */
  async #read(): Promise<ReadonlyMap<number, string>> {
    const names = new Map<number, string>();
    try {
      await using file = await open(this.#path);
      const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_FILE_BYTES), 0, MAX_FILE_BYTES, 0);
      for (const line of buffer.toString('utf8', 0, bytesRead).split('\n')) {
        const [name = '', , uid = ''] = line.split(':');
        if (name !== '' && /^\d+$/.test(uid) && !names.has(Number(uid))) names.set(Number(uid), name);
      }
    } catch {
      // A container without the host's file: numbers do.
    }
    return names;
  }
}
