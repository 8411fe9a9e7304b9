import { setTimeout as sleep } from 'node:timers/promises';
import { cpuSeconds } from '../peers/process-usage.ts';
import type { PacedCount } from './paced-streams.ts';
import type { Program } from './program.ts';

export interface WatchedLoad {
  readonly seconds: number;
  /** CPU seconds of each process, in the order given. */
  readonly cpu: readonly number[];
  /** Accepted while it was watched. */
  readonly ticks: number;
}

/** More than this share not accepted in time: what was measured is not the load that was meant. */
const BEHIND = 0.02;

/** What paced streams and the processes behind them do in `forMs`; says so where they do not keep up. */
export async function watchLoad(
  load: Program,
  pids: readonly number[],
  forMs: number,
  log: (line: string) => void,
): Promise<WatchedLoad> {
  const look = async () => ({
    count: await load.ask<PacedCount>({ kind: 'count' }),
    at: performance.now(),
    cpu: pids.map(cpuSeconds),
  });
  const before = await look();
  await sleep(forMs);
  const after = await look();
  const ticks = after.count.acknowledged - before.count.acknowledged;
  const sent = after.count.sent - before.count.sent;
  if (ticks < (1 - BEHIND) * sent) log(`the aggregator fell behind: ${ticks} of ${sent} ticks were accepted`);
  return {
    seconds: (after.at - before.at) / 1000,
    cpu: after.cpu.map((seconds, i) => seconds - before.cpu[i]!),
    ticks,
  };
}
