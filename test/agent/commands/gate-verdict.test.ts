import { expect, test } from 'vitest';
import { CONDITIONS, judge } from '../../../agent/commands/gate-verdict.ts';
import type { GateFacts, GpuFacts } from '../../../agent/control/gate-facts.ts';
import { factsOf, gpuOf, NOW } from '../control/fake-control.ts';

const ask = { gpus: undefined, requireAggregator: false, ignore: new Set<string>() };
const incident = { what: 'Xid 79', name: 'GPU has fallen off the bus', at_ms: NOW - 60_000 };

// Lost without it: scripts in prologs, that know the codes by heart, take the wrong action.
test('the exit codes are what they always were', () => {
  expect(CONDITIONS.map(([name, code]) => `${name} ${code}`)).toEqual([
    'not-running 3',
    'no-answer 4',
    'missing 10',
    'lost 11',
    'fatal 12',
    'unrepairable 13',
    'remap-pending 14',
    'ecc 15',
    'recovery 16',
    'diagnostic 17',
    'stale 20',
    'paused 21',
    'aggregator 22',
  ]);
});

test('a healthy node is ok', () => {
  expect(judge(factsOf(), ask)).toEqual({ condition: 'ok', code: 0, reason: 'ok: 1 GPU' });
});

const broken: readonly (readonly [what: string, code: number, reason: string, gpu: Partial<GpuFacts>])[] = [
  ['lost', 11, 'GPU 0 does not answer', { lost: true }],
  [
    'fatal',
    12,
    'GPU 0 had Xid 79 (GPU has fallen off the bus) at 2027-01-15T07:59:00.000Z',
    { fatal: [incident] },
  ],
  ['unrepairable', 13, 'GPU 0: row remapping failed', { row_remap_failed: true }],
  ['unrepairable', 13, 'GPU 0: memory cannot be repaired', { unrepairable: true }],
  ['remap-pending', 14, 'GPU 0: a row remapping waits for a reset', { row_remap_pending: true }],
  ['ecc', 15, 'GPU 0: 4 uncorrected ECC errors since the driver was loaded', { uncorrected_ecc_errors: 4 }],
  ['recovery', 16, 'GPU 0: the driver asks to reboot the node', { recovery_action: 2 }],
  ['recovery', 16, 'GPU 0: the driver asks to do what its code 9 means', { recovery_action: 9 }],
  [
    'diagnostic',
    17,
    'GPU 0 failed dcgmi memory at',
    { failed_diagnostic: { what: 'diagnostic', name: 'dcgmi memory', at_ms: NOW } },
  ],
  ['stale', 20, 'GPU 0 was not read yet', { last_read_ms: null }],
  ['stale', 20, 'GPU 0 was last read 31 s ago', { last_read_ms: NOW - 31_000 }],
];

// Lost without it: a job starts on a GPU that will fail it.
test.each(broken)('%s closes with %i and says why: %s', (condition, code, reason, gpu) => {
  const verdict = judge(factsOf({ gpus: [gpuOf(gpu)] }), ask);
  expect(verdict).toMatchObject({ condition, code, gpu: '0' });
  expect(verdict.reason).toContain(`${condition}: ${reason}`);
  expect(verdict.reason).not.toContain('\n');
  const ignored = judge(factsOf({ gpus: [gpuOf(gpu)] }), { ...ask, ignore: new Set([condition]) });
  expect(ignored.code).toBe(0);
});

test('what no source says closes nothing: not every card has every field', () => {
  const gpu = gpuOf({
    row_remap_failed: null,
    row_remap_pending: null,
    uncorrected_ecc_errors: null,
    recovery_action: null,
  });
  expect(judge(factsOf({ gpus: [gpu] }), ask).code).toBe(0);
});

const counts: readonly (readonly [
  what: string,
  facts: Partial<GateFacts>,
  gpus: number | undefined,
  code: number,
  reason: string,
])[] = [
  [
    'as configured',
    { expected_gpus: { count: 2, from: 'config' } },
    undefined,
    10,
    '1 of 2 GPUs are there (config)',
  ],
  [
    'as learnt',
    { expected_gpus: { count: 8, from: 'learnt' } },
    undefined,
    10,
    '1 of 8 GPUs are there (learnt)',
  ],
  [
    'as asked for, whatever is configured',
    { expected_gpus: { count: 8, from: 'config' } },
    1,
    0,
    'ok: 1 GPU',
  ],
  ['more than asked for', {}, 2, 10, '1 of 2 GPUs are there (--gpus)'],
  [
    'none, and nobody knows of any',
    { gpus: [], expected_gpus: { count: null, from: 'unknown' } },
    undefined,
    10,
    'no GPU was ever seen',
  ],
  [
    'none, as it should be',
    { gpus: [], expected_gpus: { count: 0, from: 'config' } },
    undefined,
    0,
    'ok: 0 GPUs',
  ],
  [
    'a GPU that only an event told of',
    { gpus: [gpuOf({ last_read_ms: null, interval_ms: null })] },
    undefined,
    10,
    '0 of 1',
  ],
];

test.each(counts)('how many GPUs: %s', (_what, facts, gpus, code, reason) => {
  const verdict = judge(factsOf(facts), { ...ask, gpus });
  expect(verdict.code).toBe(code);
  expect(verdict.reason).toContain(reason);
});

test('the worst comes first; while paused nothing else is known', () => {
  const gpus = [
    gpuOf({ row_remap_pending: true, last_read_ms: 0 }),
    gpuOf({ gpu: '1', uncorrected_ecc_errors: 1, fatal: [incident] }),
  ];
  expect(judge(factsOf({ gpus }), ask)).toMatchObject({ condition: 'fatal', gpu: '1' });
  const paused = judge(factsOf({ gpus, paused_until_ms: NOW + 1_000 }), ask);
  expect(paused).toMatchObject({ condition: 'paused', code: 21 });
});

test('the aggregator counts only where it is asked for', () => {
  const facts = factsOf({ aggregator_connected: false });
  expect(judge(facts, ask).code).toBe(0);
  expect(judge(facts, { ...ask, requireAggregator: true }).code).toBe(22);
});
