import { writeFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';

/** Runs `body`, and writes a CPU profile of it where a file is named. */
export async function profiled(file: string | undefined, body: () => Promise<void>): Promise<void> {
  if (file === undefined) return body();
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.start');
  try {
    await body();
  } finally {
    const { profile } = await session.post('Profiler.stop');
    writeFileSync(file, JSON.stringify(profile));
    session.disconnect();
  }
}
