import { stat } from 'node:fs/promises';
import { describeError } from '#shared/errors/fleet-error.ts';

/** Says when each of these files was written: it differs once one of them may say something else. Never rejects. */
export async function stampOf(files: readonly string[]): Promise<string> {
  try {
    const stats = await Promise.all(files.map((file) => stat(file)));
    return stats.map(({ mtimeMs, size, ino }, i) => `${files[i]} ${mtimeMs} ${size} ${ino}`).join('\n');
  } catch (error) {
    return describeError(error);
  }
}
