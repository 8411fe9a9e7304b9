/**
 * The run itself, in the surroundings that main.ts has made for it. Takes its task as JSON in its one argument;
 * ends with 0 when everything was found as promised, 1 when not. Ends, and everything with it, when its standard
 * input does.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError } from '#shared/errors/fleet-error.ts';
import { compare } from './compare.ts';
import { Fleet, type FleetOptions } from './fleet.ts';
import { injectFaults } from './inject.ts';
import { raiseLoopback } from './link.ts';
import { SAMPLES_PER_SECOND } from './oracle-source.ts';
import { forcedRepeatS, type Plan, undecidedS } from './plan.ts';
import { renderReport, summarize } from './report.ts';
import { untilDrained } from './settle.ts';
import { readWitnesses } from './witness.ts';

export interface Task {
  readonly plan: Plan;
  readonly directory: string;
  readonly binaries: FleetOptions['binaries'];
  readonly isolated: boolean;
}

const LOOK_AT_ROWS_MS = 500;

const task = JSON.parse(process.argv[2] ?? '{}') as Task;
const began = performance.now();
const stop = new AbortController();
process.stdin.resume().once('end', () => stop.abort(new Error('interrupted')));

function say(line: string): void {
  const seconds = ((performance.now() - began) / 1_000).toFixed(1).padStart(7);
  process.stdout.write(`${seconds} s  ${line}\n`);
}

async function main(): Promise<boolean> {
  const { plan } = task;
  if (task.isolated) await raiseLoopback();
  await using fleet = await Fleet.create({ ...task, ...plan });
  try {
    return await Promise.race([run(fleet, plan), interrupted(stop.signal)]);
  } catch (error) {
    say(`failed: ${describeError(error)}`);
    return false;
  } finally {
    stop.abort();
    for (const node of fleet.nodes.values()) {
      await node.kill9();
      await node.keepDisk(join(task.directory, 'disks-at-the-end')).catch(() => {});
    }
  }
}

function interrupted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

async function run(fleet: Fleet, plan: Plan): Promise<boolean> {
  await Promise.all([fleet.store.program.start(), fleet.nats.start()]);
  await fleet.aggregator.start();
  await Promise.all(plan.nodes.map((name) => fleet.node(name).start()));
  say('everything runs');
  void lookAtRows(fleet);
  const faults = task.isolated ? plan.faults : plan.faults.filter(({ kind }) => kind !== 'fill-disk');
  const runMs = plan.minutes * 60_000;
  const started = performance.now();
  await injectFaults(fleet, faults, say, stop.signal);
  await sleep(Math.max(0, runMs - (performance.now() - started)));
  if (fleet.deaths.length > 0) throw new Error(fleet.deaths.join('\n'));
  say('healed; no more ticks from here on');
  const running = [...fleet.nodes.values()].filter(({ isRunning }) => isRunning);
  for (const node of running) await node.freeze();
  await untilDrained(fleet, running, say);
  const { deaths } = fleet;
  const evidence = {
    seed: plan.seed,
    ticks: readWitnesses(join(task.directory, 'witness')),
    raw: await fleet.store.export(true),
    answered: await fleet.store.export(false),
    losses: await fleet.losses(),
    delivered: await fleet.deliveredEvents(),
    undecided: undecidedS(plan) * SAMPLES_PER_SECOND,
  };
  writeFileSync(join(task.directory, 'ledger.json'), JSON.stringify(evidence.losses, null, 1));
  await fleet.store.look();
  const summary = summarize({
    verdict: compare(evidence),
    rows: fleet.store.rows,
    uniqueSamples: evidence.answered.reduce((sum, { timestamps }) => sum + timestamps.length, 0),
    forcedRepeatS: forcedRepeatS(plan),
    lengthS: plan.minutes * 60,
    deaths,
  });
  process.stdout.write(renderReport(summary));
  return summary.passed;
}

/** Often: what a kill -9 of the store takes from its counter must be little. */
async function lookAtRows(fleet: Fleet): Promise<void> {
  while (!stop.signal.aborted) {
    await fleet.store.look().catch(() => {});
    await sleep(LOOK_AT_ROWS_MS);
  }
}

main().then(
  (passed) => process.exit(passed ? 0 : 1),
  (error: unknown) => {
    say(`failed: ${describeError(error)}`);
    process.exit(1);
  },
);
