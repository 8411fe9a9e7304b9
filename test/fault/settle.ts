import { setTimeout as sleep } from 'node:timers/promises';
import type { Fleet } from './fleet.ts';
import type { NodeUnderTest } from './node-under-test.ts';

/**
 * All agents must have nothing pending for so long: a new incarnation of the store is noticed within 5 s, what it
 * had from a copy is read back then, and only then are agents asked to send again.
 */
const QUIET_MS = 15_000;
const LONGEST_MS = 300_000;
const LOOK_EVERY_MS = 500;

/** Waits until everything is where it belongs, as the agents themselves see it. Returns too when that takes too long. */
export async function untilDrained(
  fleet: Fleet,
  nodes: readonly NodeUnderTest[],
  say: (line: string) => void,
): Promise<void> {
  const began = performance.now();
  let quietSince = began;
  let told = began;
  for (;;) {
    const pending = await Promise.all(nodes.map((node) => node.pending().catch(() => Number.NaN)));
    const now = performance.now();
    if (pending.some((count) => count !== 0)) quietSince = now;
    if (now - quietSince >= QUIET_MS) return say('nothing is pending any more');
    if (now - told >= 10_000) {
      told = now;
      say(`pending: ${nodes.map(({ name }, index) => `${name} ${pending[index]}`).join(', ')}`);
    }
    if (now - began > LONGEST_MS || fleet.deaths.length > 0)
      return say('it does not drain: comparing what there is');
    await sleep(LOOK_EVERY_MS);
  }
}
