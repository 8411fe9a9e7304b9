import { describeError } from '#shared/errors/fleet-error.ts';

/** Beyond this a process that was asked to stop is not stopping. */
const STOP_DEADLINE_MS = 6_000;

/**
 * Runs a program, given its process, until it returns or a SIGINT or SIGTERM asks it to stop. A second signal, or a drain that takes
 * too long, ends it at once. Exit codes: 0 done or stopped in order, 1 failed, 2 bad configuration.
 */
export async function runMain(
  process: NodeJS.Process,
  main: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  // An abort listener alone does not keep Node alive; this does, until the program returns.
  const hold = setInterval(() => {}, 2 ** 30);
  const ask = (): void => {
    if (stop.signal.aborted) process.exit(1);
    stop.abort();
    setTimeout(() => {
      process.stderr.write('Cannot stop in time: ending now\n');
      process.exit(1);
    }, STOP_DEADLINE_MS).unref();
  };
  process.on('SIGINT', ask);
  process.on('SIGTERM', ask);
  try {
    await main(stop.signal);
    process.exitCode = 0;
  } catch (error) {
    process.stderr.write(`${describeError(error)}\n`);
    process.exitCode = (error as { code?: unknown }).code === 'invalid_config' ? 2 : 1;
  } finally {
    clearInterval(hold);
    process.off('SIGINT', ask);
    process.off('SIGTERM', ask);
  }
  // What a library left open must not keep a finished program alive.
  setTimeout(() => process.exit(), 500).unref();
}
