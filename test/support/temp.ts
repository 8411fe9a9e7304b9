import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder that is gone after the test. */
export interface TempDir extends AsyncDisposable {
  readonly path: string;
}

export function tempDir(name = 'test'): TempDir {
  const path = mkdtempSync(join(tmpdir(), `gpufleet-${name}-`));
  return {
    path,
    async [Symbol.asyncDispose]() {
      // A process that is just ending may still write: retry rather than fail the test for it.
      await rm(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
    },
  };
}
