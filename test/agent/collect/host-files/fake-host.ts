import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { silentLogger } from '#shared/logging/logger.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import type { Reading } from '../../../../agent/collect/collector.ts';
import type { HostPaths, Surroundings } from '../../../../agent/collect/source-kind.ts';
import { type TempDir, tempDir } from '../../../support/temp.ts';

/** A machine's /proc, /sys and /run in a temporary folder, and a clock that only the test moves. */
export class FakeHost implements AsyncDisposable {
  readonly #folder: TempDir = tempDir('host');
  readonly paths: HostPaths;
  readonly facts = new Map<string, string>();
  nowMs = 1_700_000_000_000;

  constructor(files: Readonly<Record<string, string | Buffer>> = {}) {
    const at = (name: string): string => join(this.#folder.path, name);
    this.paths = { proc: at('proc'), sys: at('sys'), dev: at('dev'), run: at('run'), root: at('root') };
    mkdirSync(this.paths.root);
    for (const [path, content] of Object.entries(files)) this.write(path, content);
  }

  /** `path` such as proc/stat. A newline is put behind text, as the kernel does. */
  write(path: string, content: string | Buffer): void {
    const file = this.path(path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, typeof content === 'string' ? `${content}\n` : content);
  }

  link(path: string, target: string): void {
    mkdirSync(dirname(this.path(path)), { recursive: true });
    mkdirSync(this.path(target), { recursive: true });
    symlinkSync(this.path(target), this.path(path));
  }

  remove(path: string): void {
    rmSync(this.path(path), { recursive: true });
  }

  path(path: string): string {
    return join(this.#folder.path, path);
  }

  get surroundings(): Surroundings {
    return {
      node: 'n1',
      intervalMs: 10_000,
      host: this.paths,
      directory: this.#folder.path,
      facts: {
        get: (name) => this.facts.get(name),
        set: (name, value) => {
          this.facts.set(name, value);
        },
      },
      clock: { now: () => this.nowMs, monotonic: () => this.nowMs },
      random: () => 0,
      logger: silentLogger,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder[Symbol.asyncDispose]();
  }
}

const NAMES = new Map<number, string>(Object.entries(SlotState).map(([name, state]) => [state, name]));

/** `name{label="value"}` to its value, or to its state's name. Not the read's own series. */
export function shown(reading: Reading): Record<string, number | string> {
  const entries = reading.dictionary.series.flatMap(({ name, labels }, slot) => {
    if (labels.some(([label]) => label === 'source')) return [];
    const state = reading.states[slot]!;
    const braces = labels.length === 0 ? '' : `{${labels.map(([l, v]) => `${l}="${v}"`).join(',')}}`;
    return [
      [name + braces, state === SlotState.Present ? reading.values[slot]! : NAMES.get(state)!] as const,
    ];
  });
  return Object.fromEntries(entries);
}

/** Never aborts. */
export const patient = new AbortController().signal;
