import { stampOf } from './file-stamp.ts';

export type Reloaded = { readonly ok: true } | { readonly ok: false; readonly why: string };

/** A file that is read again when it changes. One with a fault changes nothing that runs. */
export class WatchedFile {
  readonly name: string;
  readonly #path: string;
  readonly #reload: () => Promise<Reloaded>;
  #stamp: string;
  #fault = '';

  private constructor(name: string, path: string, stamp: string, reload: () => Promise<Reloaded>) {
    this.name = name;
    this.#path = path;
    this.#stamp = stamp;
    this.#reload = reload;
  }

  /** To be made before the file is read for the first time: what is written meanwhile is a change. */
  static async open(name: string, path: string, reload: () => Promise<Reloaded>): Promise<WatchedFile> {
    return new WatchedFile(name, path, await stampOf([path]), reload);
  }

  /** Why what is on disk is not what runs; empty where it is. */
  get fault(): string {
    return this.#fault;
  }

  /** Reads it again where it was written since; undefined where it was not. */
  async look(): Promise<Reloaded | undefined> {
    const stamp = await stampOf([this.#path]);
    if (stamp === this.#stamp) return undefined;
    this.#stamp = stamp;
    const outcome = await this.#reload();
    this.#fault = outcome.ok ? '' : outcome.why;
    return outcome;
  }
}
