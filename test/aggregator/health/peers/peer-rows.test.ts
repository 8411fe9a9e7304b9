import { describe, expect, it } from 'vitest';
import type { Source } from '#shared/model/block.ts';
import { type Dictionary, labelOf } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createSimulatedCollector } from '../../../../agent/collect/simulated/collector.ts';
import type { GpuModel } from '../../../../agent/collect/simulated/profiles.ts';
import { READING } from '../../../../aggregator/health/peers/peer-row.ts';
import { PeerRows } from '../../../../aggregator/health/peers/peer-rows.ts';
import {
  blockOf,
  dictionaryOf,
  gpuLabels,
  ManualClock,
  SOURCE,
  START_MS,
  series,
} from '../../alerts/block-of.ts';

const HOUR_MS = 3_600_000;
const NAMES = Object.keys(READING) as (keyof typeof READING)[];
const noPool = (): string => '';

interface Row {
  readonly uuid: string;
  readonly node: string;
  readonly slot: number;
  readonly job: string;
  readonly readings: Readonly<Record<keyof typeof READING, number>>;
}

function rowsAt(rows: PeerRows, nowMs: number): Row[] {
  const found: Row[] = [];
  // A row is reused for the next: read at once.
  for (const { uuid, node, slot, job, readings } of rows.fresh(nowMs, noPool)) {
    const named = Object.fromEntries(NAMES.map((name) => [name, readings[READING[name]]!]));
    found.push({ uuid, node, slot, job, readings: named as Row['readings'] });
  }
  return found;
}

/** What a reader of the metrics page would write down. */
function expectedOf(
  { series: all }: Dictionary,
  { values, states }: { readonly values: Float64Array; readonly states: Uint8Array },
  gpu: number,
): Row['readings'] {
  const values_ = (name: string, labels: Readonly<Record<string, string>> = {}): number[] =>
    [...all.entries()]
      .filter(
        ([slot, one]) =>
          one.name === name &&
          states[slot] === SlotState.Present &&
          Object.entries({ ...labels, gpu: String(gpu) }).every(([k, v]) => labelOf(one.labels, k) === v),
      )
      .map(([slot]) => values[slot]!);
  const one = (name: string, labels?: Readonly<Record<string, string>>): number =>
    values_(name, labels)[0] ?? Number.NaN;
  const sum = (list: readonly number[]): number =>
    list.length === 0 ? Number.NaN : list.reduce((a, b) => a + b, 0);
  const celsius = (sensor: string): number => one('gpu_temperature_celsius', { sensor });
  return {
    coreCelsius: Number.isNaN(celsius('core')) ? celsius('hotspot') : celsius('core'),
    memoryCelsius: celsius('memory'),
    watts: one('gpu_power_watts'),
    limitWatts: one('gpu_power_limit_watts', { limit: 'enforced' }),
    smMegahertz: one('gpu_clock_hertz', { domain: 'sm' }) * 1e-6,
    utilisation: one('gpu_utilization_ratio', { task: 'general' }),
    clockReasons: one('gpu_clock_event_reasons'),
    stepSeconds: Number.NaN,
    tensorActive: one('gpu_tensor_active_ratio'),
    linkBytesPerSecond: one('gpu_io_bytes_per_second', { bus: 'nvlink', direction: 'transmit' }),
    linksUp: sum(values_('gpu_link_state').map((state) => (state === 1 ? 1 : 0))),
    linkErrors: sum(
      ['crc_flit', 'crc_data', 'replay', 'recovery'].flatMap((kind) =>
        values_(`gpu_link_${kind}_errors_total`),
      ),
    ),
    pcieLanes: one('gpu_pcie_link_width'),
    correctedErrors: one('gpu_ecc_errors_total', { scope: 'volatile', type: 'corrected' }),
    memoryUsed: one('gpu_memory_utilization_ratio'),
  };
}

describe('the rows that peers are compared by', () => {
  // Lost where one is read wrongly: that signal's siblings are compared by something else, and nobody notices.
  it.each<GpuModel>(['A100', 'H100', 'MI300X'])(
    'of a simulated %s are what its source shows',
    async (model) => {
      const clock = new ManualClock();
      await using node = createSimulatedCollector({
        ...{ node: SOURCE.node, gpus: 4, model, seed: 5, intervalMs: 30_000, load: 'jobs', clock },
        faults: [{ kind: 'nvlink_down', gpu: 2, at: 300 }],
      });
      const rows = new PeerRows();
      for (let tick = 0; tick < 40; tick++) {
        const reading = await node.collect(AbortSignal.abort());
        rows.evaluate({ source: SOURCE, live: true, ...reading });
        const found = rowsAt(rows, clock.now());
        expect(found).toHaveLength(4);
        for (const { slot, uuid, readings } of found) {
          expect(uuid).toBe(node.machine.boards[slot]!.uuid);
          expect(readings).toEqual(expectedOf(node.dictionary, reading, slot));
        }
        clock.ms += 30_000;
      }
    },
  );

  it('take the hotspot where there is no core sensor, in whatever order they come', () => {
    const hot = series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'hotspot' }));
    const core = series('gpu_temperature_celsius', gpuLabels(0, { sensor: 'core' }));
    const celsius = (all: (typeof hot)[], values: number[]): number => {
      const rows = new PeerRows();
      rows.evaluate(blockOf(dictionaryOf(all), START_MS, values));
      return rowsAt(rows, START_MS)[0]!.readings.coreCelsius;
    };
    expect(celsius([hot], [80])).toBe(80);
    expect(celsius([hot, core], [80, 70])).toBe(70);
    expect(celsius([core, hot], [70, 80])).toBe(70);
  });

  it('know no GPU of slices alone, nor of metrics that are named like a method', () => {
    const rows = new PeerRows();
    const slice = gpuLabels(0, { mig_id: '3' });
    const dictionary = dictionaryOf([
      series('gpu_power_watts', slice),
      series('gpu_job_info', slice),
      series('constructor', gpuLabels(1)),
    ]);
    rows.evaluate(blockOf(dictionary, START_MS, [100, 1, 1]));
    expect(rows.size).toBe(0);
  });

  // Lost without it: a link that comes back brings all errors of its life, and the GPU stands out among its peers.
  it('have no sum of links while one of them gives no value, and none of what the device lacks', () => {
    const errors = [0, 1, 2].map((link) =>
      series('gpu_link_crc_flit_errors_total', gpuLabels(0, { link: String(link) })),
    );
    const dictionary = dictionaryOf(errors);
    const rows = new PeerRows();
    const tick = (at: number, values: (number | undefined)[]): number => {
      const block = blockOf(dictionary, START_MS + at, values);
      block.states[2] = SlotState.NotSupported;
      rows.evaluate(block);
      return rowsAt(rows, START_MS + at)[0]?.readings.linkErrors ?? Number.NaN;
    };
    expect(tick(0, [1000, 5, 0])).toBe(1005);
    expect(tick(30_000, [1000, undefined, 0])).toBe(1005);
    expect(tick(150_000, [1000, undefined, 0])).toBeNaN();
    expect(tick(180_000, [1001, 5, 0])).toBe(1006);
  });

  it('forget a reading after three intervals, and a GPU after an hour', () => {
    const rows = new PeerRows();
    const dictionary = dictionaryOf([series('gpu_power_watts', gpuLabels(0))], 60_000);
    rows.evaluate(blockOf(dictionary, START_MS, [100]));
    expect(rowsAt(rows, START_MS + 180_000)).toHaveLength(1);
    expect(rowsAt(rows, START_MS + 180_001)).toHaveLength(0);
    expect(rowsAt(rows, START_MS + HOUR_MS)).toHaveLength(0);
    expect([rows.size, rows.countOf('east/gpu-07.rack3')]).toEqual([1, 1]);
    expect(rowsAt(rows, START_MS + HOUR_MS + 1)).toHaveLength(0);
    expect([rows.size, rows.countOf('east/gpu-07.rack3'), [...rows.nodes()].length]).toEqual([0, 0, 0]);
  });

  it('are of live ticks alone, of one look in ten seconds, and anew where the clock was set back', () => {
    const rows = new PeerRows();
    const dictionary = dictionaryOf([series('gpu_power_watts', gpuLabels(0))]);
    const watts = (at: number, value: number, live = true): number | undefined => {
      rows.evaluate(blockOf(dictionary, START_MS + at, [value], { live }));
      return rowsAt(rows, START_MS + at)[0]?.readings.watts;
    };
    expect(watts(0, 100, false)).toBeUndefined();
    expect(watts(0, 100)).toBe(100);
    expect(watts(9_000, 200)).toBe(100);
    expect(watts(10_000, 200)).toBe(200);
    expect(watts(-HOUR_MS, 300)).toBe(300);
  });

  it('are of so many GPUs and no more', () => {
    const rows = new PeerRows(2);
    const dictionary = dictionaryOf([0, 1, 2].map((gpu) => series('gpu_power_watts', gpuLabels(gpu))));
    rows.evaluate(blockOf(dictionary, START_MS, [1, 2, 3]));
    expect(rowsAt(rows, START_MS).map(({ uuid }) => uuid)).toEqual(['GPU-0', 'GPU-1']);
  });
});

describe('whose job a GPU has', () => {
  const power = dictionaryOf(
    [0, 1].map((gpu) => series('gpu_power_watts', gpuLabels(gpu))),
    30_000,
  );
  const jobs = (...ids: readonly Readonly<Record<string, string>>[]): Dictionary =>
    dictionaryOf(
      ids.map((labels, gpu) => series('gpu_job_info', gpuLabels(gpu, labels))),
      30_000,
    );
  const jobsAt = (rows: PeerRows, at: number): string[] => {
    rows.evaluate(blockOf(power, START_MS + at, [100, 100]));
    return rowsAt(rows, START_MS + at).map(({ job }) => job);
  };

  it.each([
    [{ slurm_job_id: '42', pod: 'p' }, '42'],
    [{ job_id: '7', slurm_job_id: '42' }, '7'],
    [{ pod: 'train-0', user: 'ada' }, 'train-0'],
    [{ user: 'ada' }, ''],
  ])('%j is job "%s"', (labels, job) => {
    const rows = new PeerRows();
    rows.evaluate(blockOf(jobs(labels), START_MS, [1]));
    expect(jobsAt(rows, 0)).toEqual([job, '']);
  });

  // Lost without it: GPUs are compared as if they still had the job that ended yesterday.
  it('none any more when its series is absent, or when nobody tells of jobs', () => {
    const rows = new PeerRows();
    const dictionary = jobs({ slurm_job_id: '42' }, { slurm_job_id: '43' });
    rows.evaluate(blockOf(dictionary, START_MS, [1, 1]));
    expect(jobsAt(rows, 0)).toEqual(['42', '43']);
    rows.evaluate(blockOf(dictionary, START_MS + 30_000, [1, undefined]));
    expect(jobsAt(rows, 30_000)).toEqual(['42', '']);
    expect(jobsAt(rows, 120_000)).toEqual(['42', '']);
    expect(jobsAt(rows, 150_000)).toEqual(['', '']);
  });
});

describe('nodes and their GPUs', () => {
  const dictionary = dictionaryOf(
    [0, 1].flatMap((gpu) => [
      series('gpu_power_watts', gpuLabels(gpu)),
      series('gpu_job_info', gpuLabels(gpu, { job_id: `${gpu >> 1}` })),
    ]),
  );
  const node = (name: string): Source => ({ cluster: 'east', node: name, externalLabels: [] });

  it('are counted, with their jobs, by the stream that was last heard', () => {
    const rows = new PeerRows();
    rows.evaluate(blockOf(dictionary, START_MS, [1, 1, 1, 1], { source: node('n0') }));
    const again = node('n0');
    rows.evaluate(blockOf(dictionary, START_MS, [1, 1, 1, 1], { source: again }));
    expect(rows.countOf('east/n0')).toBe(2);
    expect(rows.countOf('east/n1')).toBe(0);
    const [only, ...others] = [...rows.nodes()];
    expect(others).toEqual([]);
    expect(only).toEqual({ name: 'east/n0', source: again, jobs: ['0'] });
    expect(only!.source).toBe(again);
  });

  it('go with a GPU that was put into another node, and its job stays behind', () => {
    const rows = new PeerRows();
    rows.evaluate(blockOf(dictionary, START_MS, [1, 1, 1, 1], { source: node('n0') }));
    const power = dictionaryOf([series('gpu_power_watts', gpuLabels(1))]);
    rows.evaluate(blockOf(power, START_MS + 20_000, [1], { source: node('n1') }));
    expect([rows.size, rows.countOf('east/n0'), rows.countOf('east/n1')]).toEqual([2, 1, 1]);
    expect([...rows.nodes()].map(({ name, jobs }) => [name, jobs])).toEqual([
      ['east/n0', ['0']],
      ['east/n1', []],
    ]);
  });
});
