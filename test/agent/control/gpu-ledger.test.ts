import { describe, expect, test } from 'vitest';
import type { Tick } from '#shared/model/block.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { canonicalSeries } from '../../../agent/collect/canonical-series.ts';
import { GpuLedger } from '../../../agent/control/gpu-ledger.ts';

function keptFacts() {
  const facts = new Map<string, string>();
  return {
    get: (name: string) => facts.get(name),
    set: (name: string, value: string) => void facts.set(name, value),
  };
}

const open = (facts = keptFacts(), options: Partial<ConstructorParameters<typeof GpuLedger>[0]> = {}) =>
  new GpuLedger({ facts, bootId: 'boot-1', bootedMs: 0, expected: undefined, ...options });

const event = (
  type: string,
  gpu: string,
  attributes: Record<string, string> = {},
  timestampMs = 1_000,
): FleetEvent => ({
  type,
  timestampMs,
  gpu,
  gpuUuid: gpu === '' ? '' : `GPU-${gpu}`,
  text: `${type} of ${gpu}`,
  attributes,
});
const xid = (gpu: string, code: number, more: Record<string, string> = {}) =>
  event('xid', gpu, { code: String(code), name: 'x', ...more });

const METRICS: readonly (readonly [string, Record<string, string>])[] = [
  ['gpu_up', {}],
  ['gpu_power_watts', {}],
  ['gpu_row_remap_failed', {}],
  ['gpu_row_remap_pending', {}],
  ['gpu_ecc_errors_total', { scope: 'volatile', type: 'uncorrected' }],
  ['gpu_ecc_errors_total', { scope: 'aggregate', type: 'uncorrected' }],
  ['gpu_recovery_action', {}],
];

/** A tick of GPUs; `values` in the order of METRICS. */
function tick(
  gpus: readonly string[],
  values: readonly number[] = [1, 300, 0, 0, 0, 9, 0],
  timestampMs = 2_000,
): Tick {
  const series = gpus.flatMap((gpu) =>
    METRICS.map(([name, labels]) =>
      canonicalSeries(name, { gpu, uuid: `GPU-${gpu}`, model: 'M', ...labels }),
    ),
  );
  return {
    dictionary: createDictionary('nvml', 1000, series),
    timestampMs,
    values: Float64Array.from(gpus.flatMap(() => values)),
    states: new Uint8Array(series.length),
  };
}

describe('how many GPUs there should be', () => {
  // Lost without it: a card that went away is silence, and jobs start on seven of eight.
  test('the most that were ever seen, also after a restart; the configuration knows better', () => {
    const facts = keptFacts();
    const ledger = open(facts);
    expect(ledger.expected).toEqual({ count: null, from: 'unknown' });
    ledger.learn([tick(['0', '1', '2'])]);
    ledger.learn([tick(['0', '1'])]);
    expect(ledger.expected).toEqual({ count: 3, from: 'learnt' });
    expect(open(facts).expected).toEqual({ count: 3, from: 'learnt' });
    expect(open(facts, { expected: 8 }).expected).toEqual({ count: 8, from: 'config' });
    ledger.expect(0);
    expect(ledger.expected).toEqual({ count: 0, from: 'config' });
  });

  test('two sources of one GPU are one GPU, and a MIG instance is none of its own', () => {
    const ledger = open();
    const other = createDictionary('host', 1000, [
      canonicalSeries('gpu_up', { gpu: '0', uuid: 'GPU-0' }),
      canonicalSeries('gpu_power_watts', { gpu: '0', uuid: 'MIG-7' }),
      canonicalSeries('up', { source: 'host' }),
    ]);
    ledger.learn([
      tick(['0']),
      { dictionary: other, timestampMs: 1, values: new Float64Array(3), states: new Uint8Array(3) },
    ]);
    expect(ledger.expected.count).toBe(1);
  });
});

describe('what the series say', () => {
  test('a healthy GPU, and what each metric means', () => {
    const ledger = open();
    expect(ledger.gpus([tick(['0'])])).toEqual([
      {
        gpu: '0',
        uuid: 'GPU-0',
        model: 'M',
        lost: false,
        last_read_ms: 2_000,
        interval_ms: 1_000,
        row_remap_failed: false,
        row_remap_pending: false,
        unrepairable: null,
        uncorrected_ecc_errors: 0,
        recovery_action: 0,
        fatal: [],
        failed_diagnostic: null,
      },
    ]);
    expect(ledger.gpus([tick(['0'], [1, 300, 1, 1, 4, 9, 2])])[0]).toMatchObject({
      row_remap_failed: true,
      row_remap_pending: true,
      uncorrected_ecc_errors: 4,
      recovery_action: 2,
    });
  });

  // Lost without it: a GPU off the bus passes for one whose values are merely missing.
  test('lost by gpu_up, or by the state of its slots; a GPU that was not read has no time', () => {
    const ledger = open();
    expect(ledger.gpus([tick(['0'], [0, 300, 0, 0, 0, 0, 0])])[0]!.lost).toBe(true);
    const gone = tick(['0']);
    gone.states.fill(SlotState.GpuLost);
    expect(ledger.gpus([gone])[0]).toMatchObject({ lost: true, last_read_ms: 2_000 });
    const late = tick(['0']);
    late.states.fill(SlotState.Timeout);
    expect(open().gpus([late])[0]).toMatchObject({ lost: false, last_read_ms: null, row_remap_failed: null });
    // Lost without it: a driver that hangs makes all GPUs missing, where they only are not read any more.
    expect(ledger.gpus([late])[0]).toMatchObject({ lost: false, last_read_ms: 2_000, interval_ms: 1_000 });
  });

  test('GPUs are in the order of their numbers', () => {
    expect(
      open()
        .gpus([tick(['10', '2', '0'])])
        .map(({ gpu }) => gpu),
    ).toEqual(['0', '2', '10']);
  });
});

describe('what events say', () => {
  // Lost without it: a GPU that fell off the bus once takes the next job.
  test('a fatal Xid stays until a diagnostic passes, over restarts of the agent', () => {
    const facts = keptFacts();
    const ledger = open(facts);
    ledger.observe(xid('1', 79));
    expect(ledger.gpus([tick(['0', '1'])]).map(({ fatal }) => fatal.length)).toEqual([0, 1]);
    const again = open(facts);
    expect(again.gpus([tick(['0', '1'])])[1]!.fatal).toEqual([{ what: 'Xid 79', name: 'x', at_ms: 1_000 }]);
    again.observe(event('diagnostic', '1', { result: 'pass', source: 'dcgmi' }));
    expect(open(facts).gpus([tick(['0', '1'])])[1]!.fatal).toEqual([]);
  });

  test('a reboot clears Xids and not failed diagnostics', () => {
    const facts = keptFacts();
    const ledger = open(facts);
    ledger.observe(xid('0', 79));
    ledger.observe(event('diagnostic', '0', { result: 'fail', source: 'dcgmi', test: 'memory' }));
    const after = open(facts, { bootId: 'boot-2' }).gpus([tick(['0'])])[0]!;
    expect(after.fatal).toEqual([]);
    expect(after.failed_diagnostic).toEqual({ what: 'diagnostic', name: 'dcgmi memory', at_ms: 1_000 });
  });

  test('harmless Xids, followers of another, and those of an earlier boot are none', () => {
    const ledger = open(undefined, { bootedMs: 500 });
    ledger.observe(xid('0', 31));
    ledger.observe(xid('0', 79, { severity: 'info' }));
    ledger.observe(xid('0', 79, { follows: '48' }));
    ledger.observe({ ...xid('0', 79), timestampMs: 499 });
    expect(ledger.gpus([tick(['0'])])[0]!.fatal).toEqual([]);
    ledger.observe(event('ras', '0', { severity: 'critical' }));
    expect(ledger.gpus([tick(['0'])])[0]!.fatal).toHaveLength(1);
  });

  // Lost without it: a diagnostic of the whole node clears nothing, or that of one GPU clears its neighbours.
  test('a pass of all GPUs clears all, a pass of one clears one', () => {
    const ledger = open();
    ledger.learn([tick(['0', '1', '2'])]);
    for (const gpu of ['0', '1', '2']) ledger.observe(xid(gpu, 79));
    ledger.observe({ ...event('diagnostic', '', { result: 'pass' }), gpu: '1' });
    // By index alone: the Xid was kept by UUID.
    expect(ledger.gpus([tick(['0', '1', '2'])]).map(({ fatal }) => fatal.length)).toEqual([1, 0, 1]);
    ledger.observe(event('diagnostic', '', { result: 'pass' }));
    expect(ledger.gpus([tick(['0', '1', '2'])]).every(({ fatal }) => fatal.length === 0)).toBe(true);
  });

  test('lost by an event until it is read again; one that no source ever had is there all the same', () => {
    const ledger = open();
    ledger.observe(event('gpu_lost', '3'));
    expect(ledger.gpus([])).toMatchObject([{ uuid: 'GPU-3', lost: true, last_read_ms: null }]);
    expect(ledger.gpus([tick(['3'], undefined, 900)])[0]!.lost).toBe(true);
    expect(ledger.gpus([tick(['3'], undefined, 1_100)])[0]!.lost).toBe(false);
    ledger.observe(event('gpu_back', '3'));
    expect(ledger.gpus([])).toEqual([]);
  });

  // Lost without it: a storm of events with made-up names fills memory and the disk of facts.
  test('storms are bounded', () => {
    const facts = keptFacts();
    const ledger = open(facts);
    for (let i = 0; i < 100; i++) ledger.observe(xid('0', 79));
    for (let i = 0; i < 2_000; i++) ledger.observe(xid(`made-up-${i}`, 79));
    const gpus = ledger.gpus([]);
    expect(gpus.length).toBeLessThanOrEqual(256);
    expect(gpus.find(({ uuid }) => uuid === 'GPU-0')!.fatal).toHaveLength(8);
    expect(facts.get('control/incidents')!.length).toBeLessThanOrEqual(32_768);
  });

  test('facts that are no JSON are as if there were none', () => {
    const facts = keptFacts();
    facts.set('control/incidents', '{"fatal":');
    facts.set('control/gpus_seen', 'many');
    expect(open(facts).expected.count).toBeNull();
  });
});

// Lost without it: a node whose driver hangs goes on getting jobs, because the kernel log still counts its Xids.
test('who holds a GPU and what the kernel says of it is no read of it, and makes no GPU', () => {
  const ledger = open();
  const gpu = { gpu: '0', uuid: 'GPU-0' };
  const series = [
    canonicalSeries('gpu_job_info', { ...gpu, job: '7' }),
    canonicalSeries('gpu_job_info', { gpu: '5', job: '8' }),
    canonicalSeries('gpu_xid_errors_total', { ...gpu, xid: '13' }),
    canonicalSeries('gpu_ras_events_total', { ...gpu, severity: 'critical', class: 'x' }),
  ];
  const said: Tick = {
    dictionary: createDictionary('kernel-log', 1000, series),
    timestampMs: 90_000,
    values: new Float64Array(series.length).fill(1),
    states: new Uint8Array(series.length),
  };
  const hung = tick(['0']);
  ledger.learn([hung, said]);
  expect(ledger.expected.count).toBe(1);
  expect(ledger.gpus([hung, said])).toMatchObject([{ gpu: '0', last_read_ms: 2_000, interval_ms: 1000 }]);
});
