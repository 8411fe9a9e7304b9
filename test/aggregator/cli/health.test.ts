import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Gpu, GpuSchema } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { HealthDimension, HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import {
  HealthScope,
  HealthTransitionSchema,
  RejectedSampleSchema,
  ScopeHealthSchema,
} from '#proto/gpufleet/health/v1/health_service_pb.ts';
import { endOf } from '../../../aggregator/cli/moment.ts';
import type { TransitionQuery } from '../../../aggregator/query/health-view.ts';
import { startProgram } from '../../support/process.ts';
import { FakeHealth } from '../query/fake-health.ts';
import { FakeView, startApi } from '../query/fake-view.ts';

const OPERATOR = 'operator-token-0123456789';
const VIEWER = 'viewer-token-0123456789';
const AS_OPERATOR = ['--token', OPERATOR] as const;
const CLEARS_SCREEN = '\x1b[2J\x1b[31m';
const AT = timestampFromMs(Date.UTC(2026, 0, 1));

/** What an aggregator might say when it is told lies: its words must not reach the terminal as commands. */
class LoudHealth extends FakeHealth {
  override scope(scope: HealthScope, name: string): ReturnType<FakeHealth['scope']> {
    if (scope === HealthScope.NODE && name === 'node-9') return undefined;
    const counts = { score: 62.5, gpuCount: 8, healthy: 6, critical: 1, flapping: 1 };
    const gpu = { node: 'node-1', gpu: '3', uuid: 'GPU-1', model: `H100${CLEARS_SCREEN}` };
    const worst = [{ ...gpu, score: 10, state: HealthState.CRITICAL, points: 37 }];
    const parts =
      scope === HealthScope.FLEET
        ? [
            create(ScopeHealthSchema, { ...counts, scope: HealthScope.POOL, name: 'training' }),
            create(ScopeHealthSchema, {
              scope: HealthScope.POOL,
              score: Number.NaN,
              gpuCount: 2,
              unknown: 2,
            }),
          ]
        : [];
    return { health: create(ScopeHealthSchema, { scope, name, ...counts, worst, otherPoints: 0.5 }), parts };
  }

  override async transitions(filter: TransitionQuery, size: number, cursor: string) {
    const page = await super.transitions(filter, size, cursor);
    if (cursor === '') return page;
    const last = create(HealthTransitionSchema, {
      ...{ node: 'node-1', gpu: '1', uuid: 'GPU-2', from: HealthState.UNSPECIFIED, to: HealthState.DEGRADED },
      ...{ time: AT, why: `two\nlines${CLEARS_SCREEN}`, by: 'ann', suppressed: true, flapping: true },
      contributions: [
        { signal: 'gpu_link_state', points: 34.6 },
        { signal: 'xid', points: 0.01 },
      ],
    });
    return { transitions: [last], next: '' };
  }

  override rejected(node: string) {
    const { totals } = super.rejected(node);
    const whole = { node: 'node-1', reason: 'from_the_future', count: 400, time: AT };
    const sample = { ...whole, metric: 'gpu_power_watts', labels: { gpu: '0' }, value: 4e9, count: 1 };
    const all = [whole, { ...sample, reason: 'out_of_range' }];
    return { samples: node === 'node-2' ? [] : all.map((one) => create(RejectedSampleSchema, one)), totals };
  }
}

/** A message's fields, for another one. */
function plainOf({ $typeName: _, ...fields }: Gpu): object {
  return fields;
}

class LoudView extends FakeView {
  override readonly health = new LoudHealth();
  of: Partial<Omit<Gpu, '$typeName' | 'health'>> & { health?: object } = {};

  override gpu(uuid: string) {
    const row = super.gpu(uuid);
    return (
      row && {
        ...row,
        message: () => create(GpuSchema, { ...plainOf(row.message()), ...this.of } as never),
      }
    );
  }
}

describe('health on the command line, against the API', () => {
  const view = new LoudView();
  let server: Awaited<ReturnType<typeof startApi>>;
  beforeAll(async () => {
    server = await startApi({
      view,
      access: {
        anonymousRead: true,
        check: (token) =>
          token === OPERATOR
            ? { role: 'operator', name: 'mina', node: undefined }
            : token === VIEWER
              ? { role: 'viewer', name: '', node: undefined }
              : undefined,
      },
    });
  });
  beforeEach(() => {
    view.health.calls.length = 0;
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

  // Lost without it: where to look first in a fleet of thousands.
  test('health: the score of the fleet with who takes points off it, and of its pools', async () => {
    const { code, output } = await gpufleet('health');
    expect(code).toBe(0);
    expect(output.split('\n')).toEqual([
      'fleet: 62.5; 8 GPUs, 1 critical, 1 flapping, 6 healthy',
      '',
      expect.stringMatching(/^POINTS +GPU +HEALTH +MODEL +UUID$/),
      expect.stringMatching(/^ *-37\.0 +node-1\/3 +10\.0 critical +H100 \[2J \[31m +GPU-1$/),
      'all others together take 0.5',
      '',
      expect.stringMatching(/^POOL +SCORE +GPUS +CRITICAL +DEGRADED +FLAPPING +UNKNOWN +HEALTHY$/),
      expect.stringMatching(/^training +62\.5 +8 +1 +- +1 +- +6$/),
      expect.stringMatching(/^\(none\) +- +2 +- +- +- +2 +-$/),
      '',
    ]);
    expect((await gpufleet('health', '--node', 'node-1')).output).toMatch(/^node-1: 62\.5; 8 GPUs/);
    expect(await json('health', '--pool', 'training')).toMatchObject({
      health: { scope: 'HEALTH_SCOPE_POOL', name: 'training', gpu_count: 8, worst: [{ uuid: 'GPU-1' }] },
    });
    expect(await gpufleet('health', '--node', 'node-9')).toEqual({
      code: 3,
      output: 'Cannot get health of "node-9": it was not seen\n',
    });
    expect((await gpufleet('health', '--node', 'a', '--pool', 'b')).code).toBe(2);
  });

  // Lost without it: why a GPU was drained last night.
  test('transitions: page by page, with the rule, the costs, who, and whether anybody was told', async () => {
    const asked = ['--node', 'node-1', '--gpu', 'GPU-1', '--to', 'critical', '--since', '2026-01-01'];
    const { code, output } = await gpufleet('transitions', ...asked);
    expect(code).toBe(0);
    expect(output.split('\n')).toEqual([
      expect.stringMatching(/^TIME +GPU +CHANGE +SCORE +WHY$/),
      expect.stringMatching(
        /^2026-01-01T00:00:00Z +node-1\/0 +healthy > critical +10\.0 +Xid 79: fallen off the bus$/,
      ),
      expect.stringMatching(
        /^2026-01-01T00:00:00Z +node-1\/1 +new > degraded \(flapping\) +- +two lines \[2J \[31m; -34\.6 gpu_link_state; by ann; no alert: its node is marked$/,
      ),
      '',
    ]);
    expect(view.health.calls[0]).toMatchObject({
      transitions: {
        node: 'node-1',
        gpuUuid: 'GPU-1',
        to: HealthState.CRITICAL,
        fromMs: Date.UTC(2026, 0, 1),
      },
      size: 100,
      cursor: '',
    });
    expect((await gpufleet('transitions', '--limit', '1')).output.split('\n')).toHaveLength(3);
    expect(await json('transitions')).toMatchObject({
      transitions: [
        { from: 'HEALTH_STATE_HEALTHY', score: 10 },
        { by: 'ann', suppressed: true },
      ],
    });
    expect((await gpufleet('transitions', '--to', 'sick')).code).toBe(2);
    expect((await gpufleet('transitions', '--since', 'soon')).code).toBe(2);
  });

  test('anomalies and patterns, as tables and as JSON', async () => {
    const open = await gpufleet('anomalies');
    expect(open.code).toBe(0);
    expect(open.output).toMatch(/^SINCE .*\n\d+d ago +node-1\/0 +open +2\.5 +unlike its peers\n$/);
    expect((await gpufleet('anomalies', '--all')).output).toMatch(/ over +2\.5 /);
    expect(await json('anomalies', '--all')).toMatchObject({
      anomalies: [{ id: 'a1', strength: 2.5, contributions: [{ detector: 'peer' }] }, { id: 'a2' }],
    });

    expect((await gpufleet('patterns')).output).toMatch(
      /^KIND .*\nlemon +2026-01-01T00:00:00Z +90 % +node-1 failed three times within 28 days\n$/,
    );
    expect((await gpufleet('patterns', '--kind', 'trend')).output).toBe('no pattern stands out\n');
    expect(await json('patterns', '--kind', 'lemon')).toMatchObject({
      patterns: [{ subjects: ['c/node-1'] }],
    });
    expect(await gpufleet('patterns', '--kind', 'odd')).toEqual({
      code: 2,
      output: expect.stringMatching(/^Cannot list patterns: kind must be one of trend, /),
    });
  });

  test('rejected samples, with what was rejected of all nodes since the start', async () => {
    const rejected = await gpufleet('rejected', '--node', 'node-1');
    expect(rejected.output.split('\n')).toEqual([
      expect.stringMatching(/^TIME +NODE +COUNT +VALUE +REASON +SERIES$/),
      expect.stringMatching(/ node-1 +400 +- +from_the_future +the whole tick$/),
      expect.stringMatching(/ node-1 +1 +4000000000 +out_of_range +gpu_power_watts\{gpu="0"\}$/),
      'of all nodes, since the start: 12 out_of_range',
      '',
    ]);
    expect((await gpufleet('rejected', '--node', 'node-2')).output).toBe(
      'nothing was rejected\nof all nodes, since the start: 12 out_of_range\n',
    );
    expect(await json('rejected')).toMatchObject({ totals: { out_of_range: '12' } });
  });

  // Lost without it: anybody who can read could silence a node, or nobody would know who did.
  test('nobody but an operator sets a mark or takes one away', async () => {
    const mark = ['mark', 'node-1', 'drained', '--why', 'fan'];
    expect((await gpufleet(...mark)).code).toBe(4);
    expect((await gpufleet(...mark, '--token', VIEWER)).code).toBe(4);
    expect((await gpufleet('unmark', 'node-1', '--why', 'done')).code).toBe(4);
    expect((await gpufleet('mark', 'node-1', 'drained', ...AS_OPERATOR)).code).toBe(2);
    expect((await gpufleet(...mark, '--until', 'soon', ...AS_OPERATOR)).output).toMatch(
      /must be a time such as .*how long from now/,
    );
    expect((await gpufleet('mark', 'node-9', 'drained', '--why', 'x', ...AS_OPERATOR)).code).toBe(3);
    expect((await gpufleet('unmark', 'node-2', '--why', 'done', ...AS_OPERATOR)).code).toBe(3);
    expect(await gpufleet('marks')).toEqual({ code: 0, output: 'no node is marked\n' });
  });

  test('a mark has a reason, an author and an end, and is gone when it is taken away', async () => {
    const mark = ['mark', 'node-1', 'drained', '--why', `fan\n${CLEARS_SCREEN}`, '--until', '2099-01-01'];
    expect(await gpufleet(...mark, ...AS_OPERATOR)).toEqual({
      code: 0,
      output: 'node-1 is marked drained until 2099-01-01T00:00:00Z\n',
    });
    expect((await gpufleet('marks')).output).toMatch(
      /^NODE .*\nnode-1 +drained +- +2099-01-01T00:00:00Z +mina +fan \[2J \[31m\n$/,
    );
    expect(await json('marks')).toMatchObject({ marks: [{ node: 'node-1', by: 'mina', mark: 'drained' }] });
    expect(await json('mark', 'node-1', 'maintenance', '--why', 'x', ...AS_OPERATOR)).toMatchObject({
      mark: { mark: 'maintenance' },
    });
    expect(await gpufleet('unmark', 'node-1', '--why', 'done', ...AS_OPERATOR)).toEqual({
      code: 0,
      output: 'node-1 is no longer marked\n',
    });
    expect((await gpufleet('marks')).output).toBe('no node is marked\n');
  });

  test('a GPU is cleared by an operator who says what was done and why', async () => {
    const cleared = ['clear', 'GPU-1', '--cause', 'repair', '--why', 'new board'];
    expect((await gpufleet(...cleared)).code).toBe(4);
    expect((await gpufleet('clear', 'GPU-1', '--why', 'x', ...AS_OPERATOR)).code).toBe(2);
    expect((await gpufleet('clear', 'GPU-1', '--cause', 'prayer', '--why', 'x', ...AS_OPERATOR)).code).toBe(
      2,
    );
    expect((await gpufleet('clear', 'GPU-9', '--cause', 'repair', '--why', 'x', ...AS_OPERATOR)).code).toBe(
      3,
    );
    view.health.calls.length = 0;
    expect(await gpufleet(...cleared, ...AS_OPERATOR)).toEqual({
      code: 0,
      output: 'GPU-1 is cleared: 95.0, degraded\n',
    });
    expect(view.health.calls).toEqual([{ clear: 'GPU-1', cause: 'repair', why: 'new board', by: 'mina' }]);
    expect(await json(...cleared, ...AS_OPERATOR)).toMatchObject({ health: { score: 95 } });
  });

  test('a test anomaly is made by UUID or by node and index, with defaults that are seen', async () => {
    expect((await gpufleet('inject', 'node-1/0')).code).toBe(4);
    expect((await gpufleet('inject', 'node-1/0', '--strength', 'much', ...AS_OPERATOR)).code).toBe(2);
    expect((await gpufleet('inject', 'node-1/0', '--seconds', '1e9', ...AS_OPERATOR)).code).toBe(2);
    expect((await gpufleet('inject', 'node-1/0', ...AS_OPERATOR)).output).toMatch(
      /^test anomaly on node-1\/0, for 60 s: look for it in `gpufleet anomalies`/,
    );
    const asked = ['--metric', 'gpu_power_watts', '--strength', '3', '--seconds', '5'];
    expect(await json('inject', 'GPU-1', ...asked, ...AS_OPERATOR)).toMatchObject({
      anomaly: { test: true },
    });
    expect(view.health.calls).toEqual([
      { inject: 'node-1/0', metric: 'gpu_temperature_celsius', strength: 2, seconds: 60, by: 'mina' },
      { inject: 'GPU-1', metric: 'gpu_power_watts', strength: 3, seconds: 5, by: 'mina' },
    ]);
  });

  // Lost without it: what a person needs to decide whether a GPU goes back to work.
  test('gpu says the state and since when, what is owed, each cost with its source, and what is not known', async () => {
    const dimensions = [
      { dimension: HealthDimension.MEMORY, score: 100, coverage: 1 },
      { dimension: HealthDimension.THERMAL, score: 87, coverage: 0.5 },
      { dimension: HealthDimension.POWER, score: 0, coverage: 0 },
    ];
    const cost = { dimension: HealthDimension.RELIABILITY, signal: 'xid', points: 90 };
    view.of = {
      model: `H100${CLEARS_SCREEN}`,
      labels: { rack: 'r7' },
      health: {
        ...{ score: 10, state: HealthState.CRITICAL, dimensions, confidence: 0.84, lowestScore: 4.5 },
        ...{ profile: 'h100', profileVersion: '2', owesClearing: true, flapping: true },
        stateSince: timestampFromMs(Date.now() - 7_200_000),
        contributions: [
          { ...cost, explanation: 'Xid 79\nnow', source: 'a paper' },
          { ...cost, points: 0.5, explanation: 'hot (a card)', source: 'a card' },
        ],
      },
    };
    const { code, output } = await gpufleet('gpu', 'GPU-node-1-0');
    expect(code).toBe(0);
    expect(output.split('\n').slice(0, 9)).toEqual([
      'node-1/0  H100 [2J [31m  GPU-node-1-0',
      'rack=r7',
      'health 10.0 critical, for 2h, held: it changed too often within a day',
      '  critical until a passed check, a repair or `gpufleet clear`',
      '  -90.0  reliability: Xid 79 now (a paper)',
      '  -0.5  reliability: hot (a card)',
      '  memory 100, thermal 87 (50 % known), power -',
      '  confidence 84 %, lowest score 4.5 if the rest is at its worst, profile h100 version 2',
      expect.stringMatching(/^- °C, -\/- W, - % busy, -\/- GiB, 0 alerts firing, read - ago$/),
    ]);
    expect(output).toMatch(/\nVALUE {2}SERIES\n {2}100 {2}gpu_power_watts\n/);
    expect(await json('gpu', 'GPU-node-1-0')).toMatchObject({
      gpu: { health: { owes_clearing: true, confidence: 0.84, dimensions: [{ score: 100 }, {}, {}] } },
      samples: [{ state: 'SAMPLE_STATE_PRESENT' }, {}],
    });

    view.of = {};
    expect((await gpufleet('gpu', 'GPU-node-1-0')).output).toMatch(/\nhealth unknown\n/);
  });
});

const NOW = Date.UTC(2026, 0, 31, 12);
test.each([
  ['2h', NOW + 7_200_000],
  ['3d', NOW + 3 * 86_400_000],
  ['2026-02-01', Date.UTC(2026, 1, 1)],
  ['never', undefined],
  ['2026', undefined],
])('the end %j', (text, ms) => expect(endOf(text, NOW)).toBe(ms));
