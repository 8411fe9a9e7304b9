import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';

/** Busy CPU time of the whole machine and of this process, seconds. */
interface CpuSnapshot {
  readonly at: number;
  /** Time that a hypervisor gave to other machines among it: what waits for that is as slow as behind a neighbour here. */
  readonly busy: number;
  readonly own: number;
}

function snapshot(): CpuSnapshot {
  const busy =
    cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0) / 1000;
  const { user, system } = process.cpuUsage();
  const own = (user + system) / 1e6 + childSeconds();
  return { at: performance.now() / 1000, busy: busy + stolenSeconds(), own };
}

/** From /proc/stat, field 8 of the first line, in ticks of 10 ms; 0 where there is no such file. */
function stolenSeconds(): number {
  try {
    return Number(readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]!.split(/ +/)[8]) / 100;
  } catch {
    return 0;
  }
}

/** CPU of ended children, from /proc/self/stat (fields 16 and 17, in ticks of 10 ms). */
function childSeconds(): number {
  try {
    const stat = readFileSync('/proc/self/stat', 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[13]) + Number(fields[14])) / 100;
  } catch {
    return 0;
  }
}

/** Measures how many cores others used while `body` ran: a run with much of it says little. */
export async function withCpuTaken<T>(body: () => Promise<T>): Promise<{ result: T; otherCores: number }> {
  const before = snapshot();
  const result = await body();
  const after = snapshot();
  const others = after.busy - before.busy - (after.own - before.own);
  return { result, otherCores: Math.max(0, others / (after.at - before.at)) };
}
