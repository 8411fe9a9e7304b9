import { createLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { LibraryProbe } from '../../../../agent/collect/probe/library-probe.ts';

/** Has a probe over the toy library, prints its child's pid, and stays. */
const probe = new LibraryProbe({
  name: 'toy',
  module: new URL('./toy-library.ts', import.meta.url).href,
  options: { folder: process.argv[2] },
  timeoutMs: 60_000,
  startTimeoutMs: 60_000,
  proc: '/proc',
  clock: systemClock,
  logger: createLogger('owner', 'silent'),
});
const answer = await probe.read(0, AbortSignal.timeout(60_000));
if ('failure' in answer) throw new Error(answer.failure);
process.stdout.write(`child ${(answer.description as { pid: number }).pid}\n`);
setInterval(() => {}, 1000);
