import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

export const ROOT = resolve(import.meta.dirname, '..', '..');

/** Other people's captures, read in place: $GPUFLEET_DATA, else ../shared/data beside the repository. */
export const DATA_DIR = process.env.GPUFLEET_DATA ?? join(ROOT, '..', 'shared', 'data');

/** The absolute path of a file or folder of the shared data; undefined (said loudly, once) where it is not there. */
export function sharedData(path: string): string | undefined {
  const found = join(DATA_DIR, path);
  if (existsSync(found)) return found;
  skipLoudly(`no shared data at ${found}: set GPUFLEET_DATA to a folder that has ${path}`);
  return undefined;
}

const said = new Set<string>();

/** For `describe.skipIf(...)`: a skip that nobody hears of hides a hole. */
export function skipLoudly(reason: string): void {
  if (said.has(reason)) return;
  said.add(reason);
  process.stderr.write(`\nSKIPPED: ${reason}\n`);
}
