import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { FleetPart } from './fleet-plan.ts';
import type { PartResult } from './watch-part.ts';

/** The benchmark's machine has two cores. */
const WORKERS = 2;

/** Runs the parts on all workers; `done` after each. Results in the order of the parts, whichever worker had them. */
export async function watchParts(
  parts: readonly FleetPart[],
  done: (finished: number, result: PartResult) => void,
): Promise<PartResult[]> {
  const results: PartResult[] = new Array(parts.length);
  let next = 0;
  let finished = 0;
  const work = async (): Promise<void> => {
    const worker = new Worker(new URL('./part-worker.ts', import.meta.url));
    try {
      while (next < parts.length) {
        const index = next++;
        worker.postMessage(parts[index]!);
        // Rejects where the worker failed.
        const [result] = (await once(worker, 'message')) as [PartResult];
        results[index] = result;
        done(++finished, result);
      }
    } catch (error) {
      // The other workers need not go on.
      next = parts.length;
      throw error;
    } finally {
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: Math.min(WORKERS, parts.length) }, work));
  return results;
}
