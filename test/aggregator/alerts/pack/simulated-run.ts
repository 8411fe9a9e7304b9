import type { Source } from '#shared/model/block.ts';
import { createSimulatedCollector } from '../../../../agent/collect/simulated/collector.ts';
import type { InjectedFault } from '../../../../agent/collect/simulated/faults.ts';
import type { GpuModel } from '../../../../agent/collect/simulated/profiles.ts';
import type { LoadPattern } from '../../../../agent/collect/simulated/workload.ts';
import { PackRun } from './pack-run.ts';

export interface SimulatedRun {
  readonly model?: GpuModel;
  readonly load?: LoadPattern;
  readonly gpus?: number;
  readonly seed?: number;
  readonly intervalMs?: number;
  /** Before, during and after the fault. */
  readonly minutes: readonly [before: number, during: number, after: number];
  readonly fault?: InjectedFault;
}

const SOURCE: Source = { cluster: 'c', node: 'n1', externalLabels: [] };

/** A simulated node as its agent reads it, before the shipped rules. */
export async function simulated(options: SimulatedRun): Promise<PackRun> {
  const {
    minutes,
    fault,
    intervalMs = 10_000,
    model = 'H100',
    load = 'steady',
    gpus = 2,
    seed = 3,
  } = options;
  const [before, during, after] = minutes;
  const run = new PackRun();
  await using node = createSimulatedCollector({
    ...{ node: SOURCE.node, gpus, model, load, seed, intervalMs },
    stepSeconds: intervalMs / 1000,
    clock: run.clock,
  });
  const ticks = async (count: number) => {
    for (let tick = 0; tick < (count * 60_000) / intervalMs; tick++) {
      const reading = await node.collect(AbortSignal.abort());
      for (const event of reading.events) run.event(SOURCE, event);
      run.block(SOURCE, reading);
      run.pass(intervalMs);
    }
  };
  await ticks(before);
  if (fault !== undefined) node.inject({ duration: during * 60_000, ...fault });
  await ticks(during + after);
  return run;
}
