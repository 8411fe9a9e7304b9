/** A task works until its signal aborts, drains, and returns. */
export type Task = (signal: AbortSignal) => Promise<void>;

/**
 * Runs tasks side by side. When one ends, by return or throw, all are aborted; resolves when all have ended.
 * Throws the first task's error, or all of them as an AggregateError.
 */
export async function supervise(signal: AbortSignal, tasks: readonly Task[]): Promise<void> {
  const stop = new AbortController();
  const linked = AbortSignal.any([signal, stop.signal]);
  const errors: unknown[] = [];
  await Promise.all(
    tasks.map(async (task) => {
      try {
        await task(linked);
      } catch (error) {
        errors.push(error);
      } finally {
        stop.abort();
      }
    }),
  );
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) throw new AggregateError(errors, 'several tasks failed');
}
