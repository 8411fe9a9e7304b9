import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startProgram } from '../../support/process.ts';
import { FakeView, startApi } from '../query/fake-view.ts';

const OPERATOR = 'operator-token-0123456789';
const AS_OPERATOR = ['--token', OPERATOR] as const;

describe('what is done about alerts, on the command line, against the API', () => {
  const view = new FakeView();
  let server: Awaited<ReturnType<typeof startApi>>;
  beforeAll(async () => {
    server = await startApi({
      view,
      access: {
        anonymousRead: true,
        check: (token) =>
          token === OPERATOR ? { role: 'operator', name: 'mina', node: undefined } : undefined,
      },
    });
  });
  beforeEach(() => {
    Object.assign(view.alerting, { noise: '', fault: '' });
    view.alerting.calls.length = 0;
    view.alerting.made.clear();
  });
  afterAll(() => server?.[Symbol.asyncDispose]());

  async function gpufleet(...args: string[]): Promise<{ code: number | null; output: string }> {
    await using child = await startProgram('aggregator/cli/main.ts', {
      args,
      env: { GPUFLEET_SERVER: server.url, NO_COLOR: '1' },
    });
    const { status } = await child.exited;
    return { code: status, output: child.output };
  }

  async function json(...args: string[]): Promise<unknown> {
    const { code, output } = await gpufleet(...args, '--json');
    expect(code, output).toBe(0);
    return JSON.parse(output);
  }

  // Lost without it: a quiet night while a rack is being rebuilt.
  test('silence, silences, unsilence', async () => {
    expect((await gpufleet('silences')).output).toBe('nothing is silenced\n');
    const matchers = ['node=gpu-017', 'rule=~"gpu-.*"'];
    const made = await gpufleet(
      'silence',
      ...matchers,
      '--until',
      '2h',
      '--why',
      'fan on order',
      ...AS_OPERATOR,
    );
    expect(made).toMatchObject({
      code: 0,
      output: expect.stringMatching(/^silence s1 until .*: it covers 2 firing alerts\n$/),
    });
    expect(view.alerting.calls.at(-1)).toMatchObject({
      set: {
        matchers,
        comment: 'fan on order',
        startsAtMs: undefined,
        endsAtMs: expect.closeTo(Date.now() + 7_200_000, -5),
      },
      by: 'mina',
    });
    expect((await gpufleet('silences')).output).toMatch(
      /^ID .*\ns1 +active .* 2 +mina +node=gpu-017 rule=~"gpu-\.\*" +fan on order\n$/,
    );
    expect(await json('silences', '--expired')).toMatchObject({ silences: [{ id: 's1', matchers }] });
    expect((await gpufleet('unsilence', 's1', ...AS_OPERATOR)).output).toBe('silence s1 has ended\n');
    expect((await gpufleet('unsilence', 's9', ...AS_OPERATOR)).code).toBe(3);
    expect(
      (await gpufleet('silence', 'nonsense', '--until', '2h', '--why', 'x', ...AS_OPERATOR)).output,
    ).toContain('has no operator');
    expect((await gpufleet('silence', 'a=b', '--why', 'x', ...AS_OPERATOR)).code, 'without an end').toBe(2);
    expect((await gpufleet('silence', 'a=b', '--until', '2h', ...AS_OPERATOR)).code, 'without a reason').toBe(
      2,
    );
    expect((await gpufleet('silence', 'a=b', '--until', '2h', '--why', 'x')).code, 'without a token').toBe(4);
  });

  test('ack, and taking it back', async () => {
    const acked = await gpufleet('ack', '5f0c', '--comment', 'on it', ...AS_OPERATOR);
    expect(acked).toEqual({ code: 0, output: '5f0c is acknowledged: no reminders until it fires anew\n' });
    expect((await gpufleet('ack', '5f0c', '--withdraw', ...AS_OPERATOR)).output).toBe(
      '5f0c is no longer acknowledged\n',
    );
    expect(view.alerting.calls).toEqual([
      { acknowledge: '5f0c', comment: 'on it', by: 'mina' },
      { withdraw: '5f0c', by: 'mina' },
    ]);
    expect((await gpufleet('ack', 'none', ...AS_OPERATOR)).code).toBe(3);
    expect(await json('ack', '5f0c', ...AS_OPERATOR)).toMatchObject({
      alert: { acknowledged: { by: 'mina' } },
    });
  });

  // Lost without it: an action that waits for a word that nobody knows is wanted.
  test('actions: what waits, for what, and the word', async () => {
    const { output } = await gpufleet('actions', '--state', 'pending', '--node', 'node-1');
    expect(output.split('\n')[1]).toMatch(
      /^a1 +pending +node-1\/3 +drain-critical +\d+d +mark done, slurm +slurmctld does not answer \(Xid 79\)$/,
    );
    expect((await gpufleet('actions', 'approve', 'a1', ...AS_OPERATOR)).output).toBe(
      'a1 is pending: slurmctld does not answer\n',
    );
    await gpufleet('actions', 'reject', 'a1', '--why', 'spare node', ...AS_OPERATOR);
    await gpufleet('actions', 'undo', 'a1', '--why', 'fixed', ...AS_OPERATOR);
    expect(view.alerting.calls.slice(1)).toEqual([
      { approve: 'a1', comment: '', by: 'mina' },
      { reject: 'a1', comment: 'spare node', by: 'mina' },
      { undo: 'a1', comment: 'fixed', by: 'mina' },
    ]);
    expect((await gpufleet('actions', 'reject', 'a1', ...AS_OPERATOR)).code, 'without a reason').toBe(2);
    expect((await gpufleet('actions', '--state', 'sleeping')).code).toBe(2);
    expect(await json('actions')).toMatchObject({ actions: [{ state: 'ACTION_STATE_PENDING' }, {}] });
  });

  test('notifications, audit and rules', async () => {
    expect((await gpufleet('notifications', '--state', 'dead')).output.split('\n')[1]).toMatch(
      /^2026-01-01T00:00:00Z +dead \(3 tries\) +on-call \(slack\) +critical +n1 +\[FIRING:2\] gpu-critical +channel_not_found$/,
    );
    expect((await gpufleet('notifications', 'resend', ...AS_OPERATOR)).output).toBe(
      '2 notifications are sent again\n',
    );
    const audited = await gpufleet('audit', '--who', 'mina', '--since', '2026-01-01', '--limit', '2');
    expect(audited.output.split('\n').slice(1)).toEqual([
      expect.stringMatching(/^2026-01-01T00:00:00Z +mina +silence\.set +node-1 +done +s1 +fan$/),
      expect.stringMatching(/^2026-01-01/),
      '',
    ]);
    expect(await json('audit')).toMatchObject({ entries: [{ shard: 'agg-0' }, {}, {}] });

    expect((await gpufleet('rules')).output).toMatch(
      /^RULE .*\ngpu-temperature +threshold +3 +0 +GPU temperature\ngpu-xid +event \(off\) .*\nloaded 2026-01-01T00:00:00Z\n$/,
    );
    expect((await gpufleet('rules', 'reload', ...AS_OPERATOR)).output).toBe(
      '2 rules run: 1 new, 0 changed, 0 gone\n',
    );
    view.alerting.fault = 'Cannot read alert rules rules.yaml:3:5: rules[0].name: is missing';
    expect((await gpufleet('rules')).output).toContain(
      'the file on disk is not what runs: Cannot read alert rules rules.yaml:3:5',
    );
    expect(await gpufleet('rules', 'reload', ...AS_OPERATOR)).toMatchObject({
      code: 2,
      output: expect.stringContaining('rules.yaml:3:5'),
    });
  });

  test('words of others do not move the cursor', async () => {
    view.alerting.noise = '\x1b[2J\x1b[31m';
    for (const command of ['actions', 'notifications', 'audit'])
      expect((await gpufleet(command)).output).not.toContain('\x1b');
  });
});
