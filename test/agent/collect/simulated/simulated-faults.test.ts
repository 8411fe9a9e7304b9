import { describe, expect, test } from 'vitest';
import { FAULTS, type FaultKind } from '../../../../agent/collect/simulated/faults.ts';
import { xidNamed } from '../../../../shared/catalogue/xid.ts';
import { SlotState } from '../../../../shared/model/slot-state.ts';
import { CORE, MEMORY, Simulation, SM } from './simulation.ts';

const GPU = 3;
const UNCORRECTED = ['type', 'uncorrected'] as const;
const CORRECTED = ['type', 'corrected'] as const;
const BRAKE = ['reason', 'hw_power_brake'] as const;
const LINK_0 = ['link', '0'] as const;

/** In the steady phase of a job, before any fault. */
async function busyNode(): Promise<Simulation> {
  const simulation = new Simulation();
  await simulation.read(0);
  await simulation.run(300);
  expect(simulation.value(GPU, 'gpu_power_watts')).toBeGreaterThan(400);
  return simulation;
}

interface Effect {
  /** Seconds that the fault is given. */
  readonly seconds: number;
  /** True while the fault is there (after its seconds), false before it and after it has passed. */
  readonly visible: (simulation: Simulation) => boolean;
  /** Seconds until it is not visible any more, 1 where not given. */
  readonly passes?: number;
}

const rising = (name: string, label?: readonly [string, string]) => {
  let before = Number.NaN;
  return (simulation: Simulation): boolean => {
    const now = simulation.value(GPU, name, label);
    const rose = now > before;
    before = now;
    return rose;
  };
};

/** What a reader of the samples sees of each fault; faults that are states or events are below. */
const EFFECTS: Partial<Record<FaultKind, Effect>> = {
  thermal_runaway: {
    seconds: 90,
    visible: (simulation) => simulation.value(GPU, 'gpu_temperature_celsius', CORE) > 95,
    passes: 60,
  },
  ecc_burst: { seconds: 30, visible: rising('gpu_ecc_errors_total', UNCORRECTED), passes: 2 },
  ecc_corrected: { seconds: 30, visible: rising('gpu_ecc_errors_total', CORRECTED), passes: 2 },
  row_remap_failure: {
    seconds: 5,
    visible: (simulation) => simulation.value(GPU, 'gpu_row_remap_failed') === 1,
  },
  nvlink_down: { seconds: 5, visible: (simulation) => simulation.value(GPU, 'gpu_link_state', LINK_0) === 0 },
  power_brake: {
    seconds: 20,
    visible: (simulation) => (simulation.value(GPU, 'gpu_clock_event_reasons') & 0x80) !== 0,
  },
  memory_full: {
    seconds: 5,
    visible: (simulation) => simulation.value(GPU, 'gpu_memory_utilization_ratio') > 0.99,
  },
};

describe('in the samples, and gone when it is over', () => {
  // Lost without it: a rule or detector is tried against a fault that does nothing, or never ends.
  test.each(Object.entries(EFFECTS))('%s', async (kind, { seconds, visible, passes = 1 }) => {
    const simulation = await busyNode();
    visible(simulation);
    await simulation.run(1);
    expect(visible(simulation)).toBe(false);
    simulation.collector.inject({ gpu: GPU, kind, duration: seconds * 1000 });
    await simulation.run(seconds);
    expect(visible(simulation)).toBe(true);
    await simulation.run(passes);
    visible(simulation);
    await simulation.run(1);
    expect(visible(simulation)).toBe(false);
  });
});

describe('more than the one figure', () => {
  // Lost without it: a hot board throttles nothing, and "slow because hot" cannot be told from "slow".
  test('a board that runs hot halves its clock, counts the time, and is back to its peers afterwards', async () => {
    const simulation = await busyNode();
    const clock = simulation.value(GPU, 'gpu_clock_hertz', SM);
    simulation.collector.inject({ gpu: GPU, kind: 'thermal_runaway', duration: 300_000 });
    await simulation.run(120);
    expect(simulation.value(GPU, 'gpu_clock_hertz', SM)).toBeLessThan(0.55 * clock);
    expect(simulation.value(GPU, 'gpu_clock_event_reasons') & 0x40).toBe(0x40);
    expect(simulation.value(GPU, 'gpu_clock_event_seconds_total', ['reason', 'hw_thermal'])).toBeGreaterThan(
      60,
    );
    expect(simulation.value(GPU, 'gpu_temperature_margin_celsius')).toBeLessThan(0);
    expect(simulation.value(GPU - 1, 'gpu_temperature_celsius', CORE)).toBeLessThan(87);
    await simulation.run(480);
    const difference =
      simulation.value(GPU, 'gpu_temperature_celsius', CORE) -
      simulation.value(GPU - 1, 'gpu_temperature_celsius', CORE);
    expect(Math.abs(difference)).toBeLessThan(10);
    expect(simulation.value(GPU, 'gpu_clock_event_reasons') & 0x68).toBe(0);
  });

  // Lost without it: the counters of a repaired bank fall, and every rate over them shows a reset.
  test('a burst of ECC errors stays in the counters and the remapped rows', async () => {
    const simulation = await busyNode();
    simulation.collector.inject({ gpu: GPU, kind: 'ecc_burst', duration: 30_000 });
    await simulation.run(60);
    expect(simulation.value(GPU, 'gpu_ecc_errors_total', CORRECTED)).toBeGreaterThanOrEqual(600);
    expect(simulation.value(GPU, 'gpu_ecc_errors_total', UNCORRECTED)).toBe(3);
    expect(simulation.value(GPU, 'gpu_remapped_rows', ['cause', 'uncorrectable'])).toBe(3);
    expect(simulation.value(GPU, 'gpu_row_remap_pending')).toBe(0);
    expect(simulation.value(GPU - 1, 'gpu_ecc_errors_total', UNCORRECTED)).toBe(0);
  });

  // Lost without it: a link that is down goes on counting bytes.
  test('a link that is down carries nothing and counts errors, while the next one takes more', async () => {
    const simulation = await busyNode();
    const bytes = (link: string) => simulation.value(GPU, 'gpu_link_bytes_total', ['link', link]);
    simulation.collector.inject({ gpu: GPU, kind: 'nvlink_down', duration: 10_000 });
    await simulation.run(1);
    const before = [bytes('0'), bytes('1')];
    await simulation.run(5);
    expect(bytes('0')).toBe(before[0]);
    expect(bytes('1')).toBeGreaterThan(before[1]!);
    expect(simulation.value(GPU, 'gpu_link_crc_flit_errors_total', LINK_0)).toBe(30);
  });

  // Lost without it: a power brake is not visible where people look for it.
  test('a power brake takes power away and counts its time', async () => {
    const simulation = await busyNode();
    const before = simulation.value(GPU, 'gpu_power_watts');
    simulation.collector.inject({ gpu: GPU, kind: 'power_brake', duration: 20_000 });
    await simulation.run(20);
    expect(simulation.value(GPU, 'gpu_power_watts')).toBeLessThan(0.5 * before);
    expect(simulation.value(GPU, 'gpu_clock_event_seconds_total', BRAKE)).toBe(20);
  });

  // Lost without it: promise 4 (unchanged is not frozen) has nothing to be tried on.
  test('a frozen sensor repeats its values while the counters go on', async () => {
    const simulation = await busyNode();
    const sensors = () => [
      simulation.value(GPU, 'gpu_power_watts'),
      simulation.value(GPU, 'gpu_power_instant_watts'),
      simulation.value(GPU, 'gpu_temperature_celsius', CORE),
      simulation.value(GPU, 'gpu_temperature_celsius', MEMORY),
    ];
    const before = sensors();
    const joules = simulation.value(GPU, 'gpu_energy_joules_total');
    simulation.collector.inject({ gpu: GPU, kind: 'frozen_sensor', duration: 10_000 });
    await simulation.run(10, () => expect(sensors()).toEqual(before));
    expect(simulation.value(GPU, 'gpu_energy_joules_total')).toBeGreaterThan(joules);
    expect(simulation.states(GPU)).toEqual(new Set([SlotState.Present]));
    await simulation.run(1);
    expect(sensors()[0]).not.toBe(before[0]);
  });
});

describe('in the events', () => {
  const withXid = Object.entries(FAULTS).flatMap(([kind, effect]) =>
    'xid' in effect ? [[kind, effect.xid] as const] : [],
  );

  // Lost without it: the alert on critical Xids has nothing to fire on, or fires at every read.
  test.each(withXid)('%s raises Xid %i once, in the words of the kernel', async (kind, code) => {
    const simulation = new Simulation();
    await simulation.read(0);
    simulation.collector.inject({ gpu: GPU, kind, duration: 5000 });
    const xids = [];
    for (let i = 0; i < 10; i++)
      xids.push(...(await simulation.read(1)).events.filter(({ type }) => type === 'xid'));
    const { name, severity } = xidNamed(code);
    expect(xids).toHaveLength(1);
    expect(xids[0]).toMatchObject({
      gpu: String(GPU),
      timestampMs: simulation.now - 9000,
      text: `NVRM: Xid (PCI:0000:61:00): ${code}, pid='<unknown>', name=<unknown>, ${name}`,
      attributes: { code: String(code), name, severity, source: 'simulated' },
    });
    expect(xids[0]!.gpuUuid).toMatch(/^GPU-/);
    expect(simulation.value(GPU, 'gpu_xid_last')).toBe(code);
    expect(simulation.value(GPU - 1, 'gpu_xid_last')).toBe(0);
  });

  // Lost without it: only the Xids that we thought of can be tried.
  test('a fault of kind xid raises the code that it is given', async () => {
    const simulation = new Simulation({ faults: [{ at: 2, gpu: 0, kind: 'xid', code: 62 }] });
    await simulation.read(0);
    expect((await simulation.read(1)).events).toEqual([]);
    expect((await simulation.read(1)).events).toMatchObject([{ type: 'xid', attributes: { code: '62' } }]);
    expect((await simulation.read(1)).events).toEqual([]);
  });
});

describe('in the states', () => {
  // Lost without it: a GPU that fell off the bus looks like one that is idle, or like one that never was.
  test('a lost GPU is stale once, then absent, with gpu_up at 0; and comes back', async () => {
    const simulation = await busyNode();
    simulation.collector.inject({ gpu: GPU, kind: 'off_the_bus', duration: 5000 });
    const { events } = await simulation.read(1);
    expect(events.map(({ type }) => type)).toEqual(['xid', 'gpu_lost']);
    expect(simulation.states(GPU)).toEqual(new Set([SlotState.Stale]));
    expect(simulation.value(GPU, 'gpu_up')).toBe(0);
    expect(simulation.last.states[simulation.slot(GPU, 'gpu_up')]).toBe(SlotState.Present);
    await simulation.run(4, () => {
      expect(simulation.states(GPU)).toEqual(new Set([SlotState.Absent]));
      expect(simulation.last.events).toEqual([]);
    });
    expect(simulation.states(GPU - 1)).toEqual(new Set([SlotState.Present]));
    expect((await simulation.read(1)).events).toMatchObject([{ type: 'gpu_back', gpu: String(GPU) }]);
    expect(simulation.states(GPU)).toEqual(new Set([SlotState.Present]));
    expect(simulation.value(GPU, 'gpu_up')).toBe(1);
  });

  // Lost without it: a series that never was gets a stale marker in the store.
  test('a GPU that was lost from the start is absent, not stale', async () => {
    const simulation = new Simulation({ faults: [{ at: 0, gpu: GPU, kind: 'off_the_bus' }] });
    await simulation.read(0);
    expect(simulation.states(GPU)).toEqual(new Set([SlotState.Absent]));
  });

  // Lost without it: a driver call that hangs is tried on nothing, and takes a node's other GPUs with it.
  test('a stuck read waits for its deadline; then its GPU timed out and the others have values', async () => {
    const simulation = await busyNode();
    simulation.collector.inject({ gpu: GPU, kind: 'stuck_read', duration: 5000 });
    const deadline = new AbortController();
    let settled = false;
    const reading = simulation.read(1, deadline.signal).finally(() => {
      settled = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(settled).toBe(false);
    deadline.abort();
    await reading;
    expect(simulation.states(GPU)).toEqual(new Set([SlotState.Timeout]));
    expect(simulation.states(GPU - 1)).toEqual(new Set([SlotState.Present]));
    // A signal that has aborted already does not hang.
    await simulation.read(1, deadline.signal);
    expect(simulation.states(GPU)).toEqual(new Set([SlotState.Timeout]));
    await simulation.read(5);
    expect(simulation.states(GPU)).toEqual(new Set([SlotState.Present]));
  });

  // Lost without it: a new kind of fault comes without a test of what it does.
  test('every kind of fault has a test here', () => {
    const tested = ['xid', 'application_xid', 'off_the_bus', 'frozen_sensor', 'stuck_read'];
    expect([...Object.keys(EFFECTS), ...tested].sort()).toEqual(Object.keys(FAULTS).sort());
  });
});
