import { setTimeout as sleep } from 'node:timers/promises';
import { describeFault, type Fault } from './fault.ts';
import type { Fleet } from './fleet.ts';
import type { NodeUnderTest } from './node-under-test.ts';

/**
 * Does all faults, each at its time: the lanes of the targets run side by side, and a lane that is late because
 * something took long to start stays late. Every fault is undone when this returns.
 */
export async function injectFaults(
  fleet: Fleet,
  faults: readonly Fault[],
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const began = performance.now();
  const lanes = Object.values(Object.groupBy(faults, ({ target }) => target));
  await Promise.all(
    lanes.map(async (lane) => {
      for (const fault of lane ?? []) {
        await sleep(Math.max(0, fault.atS * 1_000 - (performance.now() - began)), undefined, { signal });
        say(describeFault(fault));
        const found = await inject(fleet, fault, signal);
        if (found !== '') say(`${describeFault(fault)}: ${found}`);
      }
    }),
  );
}

/** Returns what there is to say of it. */
async function inject(fleet: Fleet, fault: Fault, signal: AbortSignal): Promise<string> {
  const away = (): Promise<void> => sleep(fault.forS * 1_000, undefined, { signal });
  switch (fault.target) {
    case 'store':
      return injectStore(fleet, fault, away);
    case 'nats':
    case 'aggregator': {
      const program = fleet[fault.target];
      return stopOrKill(fault, program, () => program.start(), away);
    }
    default:
      return injectNode(fleet, fleet.node(fault.target), fault, away);
  }
}

interface Killable {
  kill9(): Promise<void>;
  pause(): void;
  resume(): void;
}

async function stopOrKill(
  fault: Fault,
  target: Killable,
  start: () => Promise<void>,
  away: () => Promise<void>,
): Promise<string> {
  if (fault.kind === 'stop') {
    target.pause();
    await away();
    target.resume();
    return '';
  }
  if (fault.kind !== 'kill') throw new Error(`there is no ${fault.kind} of ${fault.target}`);
  await target.kill9();
  await away();
  await start();
  return '';
}

async function injectStore(fleet: Fleet, fault: Fault, away: () => Promise<void>): Promise<string> {
  const { store } = fleet;
  const { program } = store;
  if (fault.kind === 'copy-store') {
    await store.copy();
    return '';
  }
  if (fault.kind === 'restore-store') {
    await store.setBack();
    await away();
    await program.start();
    return '';
  }
  const target = {
    kill9: () => store.kill9(),
    pause: () => program.pause(),
    resume: () => program.resume(),
  };
  return stopOrKill(fault, target, () => program.start(), away);
}

async function injectNode(
  fleet: Fleet,
  node: NodeUnderTest,
  fault: Fault,
  away: () => Promise<void>,
): Promise<string> {
  switch (fault.kind) {
    case 'partition':
      await node.link.cut();
      await away();
      await node.link.mend();
      return '';
    case 'fill-disk':
      node.fillDisk();
      await away();
      node.freeDisk();
      return '';
    case 'clock-step':
      await node.stepClock((fault.stepS ?? 0) * 1_000);
      return '';
    case 'corrupt':
    case 'reimage':
      return damage(node, fault, away);
    case 'clone-disk': {
      const clone = fleet.node(fault.clone ?? '');
      await node.kill9();
      await clone.cloneFrom(node);
      await away();
      await Promise.all([node.start(), clone.start()]);
      return '';
    }
    default:
      return stopOrKill(fault, node, () => node.start(), away);
  }
}

/** Cut off first: so there are samples that nobody else has. */
async function damage(node: NodeUnderTest, fault: Fault, away: () => Promise<void>): Promise<string> {
  await node.link.cut();
  await away();
  await node.kill9();
  let hit = '';
  if (fault.kind === 'reimage') await node.wipe();
  else hit = await node.flipBytes(fault.part ?? 0);
  await node.start();
  await node.link.mend();
  return hit;
}
