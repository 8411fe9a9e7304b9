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
  fan_failure: { seconds: 5, visible: (simulation) => simulation.fan(GPU) === 0 },
  ecc_uncorrected: { seconds: 30, visible: rising('gpu_ecc_errors_total', UNCORRECTED), passes: 2 },
  ecc_corrected: { seconds: 30, visible: rising('gpu_ecc_errors_total', CORRECTED), passes: 2 },
  row_remap_failure: {
    seconds: 5,
    visible: (simulation) => simulation.value(GPU, 'gpu_row_remap_failed') === 1,
  },
  nvlink_down: { seconds: 5, visible: (simulation) => simulation.value(GPU, 'gpu_link_state', LINK_0) === 0 },
  nvlink_flap: {
    seconds: 65,
    visible: (simulation) => simulation.value(GPU, 'gpu_link_state', LINK_0) === 0,
  },
  pcie_downtrain: { seconds: 5, visible: (simulation) => simulation.value(GPU, 'gpu_pcie_link_width') < 16 },
  straggler: {
    seconds: 5,
    visible: (simulation) =>
      simulation.value(GPU, 'gpu_clock_hertz', SM) < 0.8 * simulation.value(GPU - 1, 'gpu_clock_hertz', SM),
  },
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

describe('of the node', () => {
  const ENERGY = 'gpu_energy_joules_total';
  const boards = [0, 1, 2, 3, 4, 5, 6, 7];

  // Lost without it: a fan that stands still harms nobody, or is as bad as a board without any air.
  test('a fan that stands still warms its board most, the others a little, and the other fans make up for it', async () => {
    const simulation = await busyNode();
    const cores = () => boards.map((gpu) => simulation.value(gpu, 'gpu_temperature_celsius', CORE));
    const before = cores();
    expect(simulation.fan(0)).toBeLessThan(1);
    simulation.collector.inject({ kind: 'fan_failure', gpu: GPU, duration: 300_000 });
    await simulation.run(290);
    const warmer = cores().map((celsius, gpu) => celsius - before[gpu]!);
    expect(warmer[GPU]).toBeGreaterThan(8);
    expect(Math.max(...warmer.filter((_, gpu) => gpu !== GPU))).toBeLessThan(8);
    expect(Math.min(...warmer)).toBeGreaterThan(0);
    expect(simulation.fan(GPU)).toBe(0);
    expect(simulation.fan(0)).toBe(1);
  });

  // Lost without it: what reads counters over a reload of the driver is tried on nothing.
  test('a driver that is loaded again takes all GPUs away and begins to count from nothing', async () => {
    const simulation = await busyNode();
    simulation.collector.inject({ kind: 'ecc_burst', gpu: GPU, duration: 10_000 });
    await simulation.run(20);
    const errors = simulation.value(GPU, 'gpu_ecc_errors_total', UNCORRECTED);
    const counters = simulation.last.dictionary.series
      .map(({ name, kind }, slot) => ({ name, kind, slot, value: simulation.last.values[slot]! }))
      .filter(({ kind }) => kind === 'counter');
    simulation.collector.inject({ kind: 'driver_reload' });
    const types = (await simulation.read(1)).events.map(({ type }) => type);
    expect(types).toEqual([...boards.map(() => 'gpu_lost'), 'job_change']);
    await simulation.run(19, () => {
      for (const gpu of boards) expect(simulation.states(gpu)).toEqual(new Set([SlotState.GpuLost]));
    });
    const { events } = await simulation.read(1);
    expect(events.map(({ type }) => type)).toEqual([...boards.map(() => 'gpu_back'), 'job_change']);
    const falling = new Set(simulation.collector.fallingCounters);
    for (const { name, slot, value } of counters) {
      const now = simulation.last.values[slot]!;
      const aggregate = simulation.last.dictionary.series[slot]!.labels.some(
        ([, one]) => one === 'aggregate',
      );
      if (!falling.has(name) || aggregate) expect(now, name).toBe(value);
      else if (value > 0) expect(now, name).toBeLessThan(value);
    }
    for (const gpu of boards) expect(simulation.value(gpu, ENERGY)).toBeLessThan(1000);
    // The board remembers what the driver forgets.
    expect(simulation.value(GPU, 'gpu_ecc_errors_total', ['scope', 'aggregate'])).toBeGreaterThan(0);
    expect(simulation.value(GPU, 'gpu_remapped_rows', ['cause', 'uncorrectable'])).toBe(errors);
    expect(simulation.value(GPU, 'gpu_xid_last')).toBe(0);
  });

  // Lost without it: nothing follows a job that is taken away, or one that takes its place.
  test('a job is taken away for as long as it says, and the next one begins', async () => {
    const simulation = await busyNode();
    const { machine } = simulation.collector;
    expect(machine.job?.job).toBe('train-0001');
    simulation.collector.inject({ kind: 'job_stop', duration: 60_000 });
    expect((await simulation.read(1)).events).toMatchObject([
      { type: 'job_change', gpu: '', attributes: { job: '', previous: 'train-0001', gpus: '8' } },
    ]);
    await simulation.run(59);
    expect(machine.job).toBeUndefined();
    expect(simulation.value(GPU, 'gpu_power_watts')).toBeLessThan(100);
    expect((await simulation.read(1)).events).toMatchObject([
      { type: 'job_change', attributes: { job: 'train-0002', previous: '' } },
    ]);
    simulation.collector.inject({ kind: 'job_start' });
    expect((await simulation.read(1)).events).toMatchObject([
      { type: 'job_change', attributes: { job: 'train-0003', previous: 'train-0002' } },
    ]);
    await simulation.run(300);
    expect(simulation.value(GPU, 'gpu_power_watts')).toBeGreaterThan(400);
  });

  // Lost without it: one slow board looks like eight slow ones, or like one that does less.
  test('its peers wait for a straggler: busy as before, with less for their SMs and memory to do', async () => {
    const simulation = await busyNode();
    const ratio = (gpu: number, name: string) => simulation.value(gpu, name);
    const before = ratio(GPU - 1, 'gpu_sm_active_ratio');
    simulation.collector.inject({ kind: 'straggler', gpu: GPU });
    await simulation.run(10);
    expect(ratio(GPU - 1, 'gpu_sm_active_ratio') / before).toBeLessThan(0.8);
    expect(ratio(GPU - 1, 'gpu_sm_active_ratio')).toBeLessThan(0.85 * ratio(GPU, 'gpu_sm_active_ratio'));
    expect(ratio(GPU - 1, 'gpu_utilization_ratio')).toBeGreaterThan(0.95);
    expect(ratio(GPU - 1, 'gpu_dram_active_ratio')).toBeCloseTo(ratio(GPU, 'gpu_dram_active_ratio'), 1);
    expect(ratio(GPU, 'gpu_clock_event_reasons') & 0xe8).toBe(0);
  });

  // Lost without it: the log that a test compares with says another thing than what was injected.
  test('what began and ended is listed, with its times', async () => {
    const simulation = await busyNode();
    simulation.collector.inject({ kind: 'off_the_bus', gpu: GPU, duration: 5000 });
    await simulation.run(10);
    simulation.collector.inject({ kind: 'memory_full', gpu: 0 });
    await simulation.run(1);
    expect(simulation.collector.applied).toEqual([
      { kind: 'off_the_bus', gpu: GPU, xid: 79, began: 301, ended: 306 },
      { kind: 'memory_full', gpu: 0, xid: undefined, began: 311, ended: undefined },
    ]);
  });
});

describe('on a board of AMD', () => {
  const amd = (): Simulation => new Simulation({ model: 'MI300X' });

  // Lost without it: rules for AMD's own figures have nothing that would trip them.
  test('errors are counted by RAS block, bad pages reach their threshold, an xGMI link goes down', async () => {
    const simulation = amd();
    await simulation.read(0);
    const blocks = (block: string) =>
      simulation.value(GPU, 'gpu_ecc_errors_by_location_total', ['location', block]);
    simulation.collector.inject({ kind: 'ecc_corrected', gpu: GPU, duration: 10_000 });
    simulation.collector.inject({ kind: 'row_remap_failure', gpu: GPU, duration: 20_000 });
    simulation.collector.inject({ kind: 'nvlink_down', gpu: GPU, duration: 20_000 });
    const { events } = await simulation.read(10);
    expect(events).toMatchObject([{ type: 'ras', gpu: '3', attributes: { code: 'bad_pages' } }]);
    expect(events[0]!.text).toBe(
      'amdgpu 0000:5c:00.0: amdgpu: Saved bad pages 128 reaches threshold value 128',
    );
    expect([blocks('umc'), blocks('gfx')]).toEqual([5, 0]);
    expect(simulation.value(GPU, 'gpu_bad_page_threshold_ratio')).toBe(1);
    expect(['0', '1'].map((link) => simulation.value(GPU, 'gpu_link_state', ['link', link]))).toEqual([0, 1]);
  });

  // Lost without it: a node of AMD reports what only NVIDIA's driver has.
  test('there are no Xids: to ask for one is an error, and none comes with a fault', async () => {
    const simulation = amd();
    await simulation.read(0);
    expect(() => simulation.collector.inject({ kind: 'xid', gpu: 0 })).toThrow(
      /boards of amd do not have it/,
    );
    simulation.collector.inject({ kind: 'off_the_bus', gpu: GPU });
    const { events } = await simulation.read(1);
    expect(events.map(({ type }) => type)).toEqual(['kernel_error', 'gpu_lost']);
    expect(simulation.last.dictionary.series.filter(({ name }) => name.includes('xid'))).toEqual([]);
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
  test('a lost GPU is stale once, then lost, with gpu_up at 0; and comes back', async () => {
    const simulation = await busyNode();
    simulation.collector.inject({ gpu: GPU, kind: 'off_the_bus', duration: 5000 });
    const { events } = await simulation.read(1);
    expect(events.map(({ type }) => type)).toEqual(['xid', 'gpu_lost']);
    expect(simulation.states(GPU)).toEqual(new Set([SlotState.Stale]));
    expect(simulation.value(GPU, 'gpu_up')).toBe(0);
    expect(simulation.last.states[simulation.slot(GPU, 'gpu_up')]).toBe(SlotState.Present);
    await simulation.run(4, () => {
      expect(simulation.states(GPU)).toEqual(new Set([SlotState.GpuLost]));
      expect(simulation.last.events).toEqual([]);
    });
    expect(simulation.states(GPU - 1)).toEqual(new Set([SlotState.Present]));
    expect((await simulation.read(1)).events).toMatchObject([{ type: 'gpu_back', gpu: String(GPU) }]);
    expect(simulation.states(GPU)).toEqual(new Set([SlotState.Present]));
    expect(simulation.value(GPU, 'gpu_up')).toBe(1);
  });

  // Lost without it: a series that never was gets a stale marker in the store.
  test('a GPU that was lost from the start is lost, not stale', async () => {
    const simulation = new Simulation({ faults: [{ at: 0, gpu: GPU, kind: 'off_the_bus' }] });
    await simulation.read(0);
    expect(simulation.states(GPU)).toEqual(new Set([SlotState.GpuLost]));
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
    const tested = ['xid', 'application_xid', 'off_the_bus', 'frozen_sensor', 'stuck_read'].concat(
      ['driver_reload', 'job_start', 'job_stop'], // below
    );
    expect([...Object.keys(EFFECTS), ...tested].sort()).toEqual(Object.keys(FAULTS).sort());
  });
});
