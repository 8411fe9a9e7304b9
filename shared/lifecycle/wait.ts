import { setTimeout as timer } from 'node:timers/promises';

/** Resolves after `ms`, or when the signal aborts, whichever is first. Leaves nothing behind on the signal. */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await timer(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** Calls `work` every so often until the signal aborts. */
export async function repeat(everyMs: number, signal: AbortSignal, work: () => void): Promise<void> {
  const interval = setInterval(work, everyMs);
  await aborted(signal);
  clearInterval(interval);
}

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
