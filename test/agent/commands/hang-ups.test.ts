import { expect, test } from 'vitest';
import { HangUps } from '../../../agent/commands/hang-ups.ts';
import { until } from '../../support/wait.ts';

// Lost without it: a SIGHUP while the agent starts ends it, or the change that it told of is never taken on.
test('one that comes before the agent is there is carried out when it is', async () => {
  const hangUps = new HangUps();
  let reloads = 0;
  hangUps.ask();
  hangUps.ask();
  hangUps.serve(async () => void reloads++);
  expect(reloads).toBe(1);
});

// Lost without it: a storm of them keeps the agent reloading, with a record of each, long after the last.
test('those that come during a reload make one more', async () => {
  const hangUps = new HangUps();
  const releases: (() => void)[] = [];
  hangUps.serve(() => new Promise((resolve) => releases.push(resolve)));
  for (let i = 0; i < 100; i++) hangUps.ask();
  expect(releases).toHaveLength(1);
  releases[0]!();
  await until(() => releases.length === 2, { timeoutMs: 5_000, what: 'one more' });
  releases[1]!();
  hangUps.ask();
  await until(() => releases.length === 3, { timeoutMs: 5_000, what: 'a later one' });
});
