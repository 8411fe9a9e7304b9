import { describe, expect, test } from 'vitest';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { canonicalSeries } from '../../../agent/collect/canonical-series.ts';
import type { Reading } from '../../../agent/collect/collector.ts';
import { SourceArbiter } from '../../../agent/collect/source-arbiter.ts';

interface Said {
  readonly name: string;
  readonly labels: Record<string, string>;
  readonly value?: number;
  readonly state?: SlotState;
}

/** A source that says the same series at each read, until it is told otherwise. */
function source(name: string, rank: number, said: readonly Said[]) {
  const series = said.map((one) => canonicalSeries(one.name, one.labels));
  const dictionary = createDictionary(name, 1000, [...series, canonicalSeries('up', { source: name })]);
  const collector = { name, rank, intervalMs: 1000 };
  const reading = (state?: SlotState): Reading => ({
    dictionary,
    timestampMs: 1,
    values: Float64Array.from([...said.map(({ value = 1 }) => value), state === undefined ? 1 : 0]),
    states: Uint8Array.from([
      ...said.map((one) => state ?? one.state ?? SlotState.Present),
      SlotState.Present,
    ]),
    events: [],
    rejected: new Map(),
  });
  return { collector, reading };
}

const shown = ({ dictionary, values, states }: Reading): string[] =>
  dictionary.series.map(
    ({ name, labels }, i) =>
      `${name} ${labels.map(([, value]) => value).join(' ')} ${states[i] === 0 ? values[i] : `state ${states[i]}`}`,
  );

const gpu = { gpu: '0', uuid: 'GPU-1', model: 'H100' };
const nvml = source('nvml', 10, [
  { name: 'gpu_power_watts', labels: gpu, value: 301 },
  { name: 'gpu_info', labels: { ...gpu, serial: '1' } },
]);
const exporter = source('dcgm-exporter', 20, [
  { name: 'gpu_power_watts', labels: { ...gpu, gpu: '7', model: 'NVIDIA H100' }, value: 302 },
  { name: 'gpu_fan_ratio', labels: gpu, value: 0.5 },
  { name: 'gpu_info', labels: { ...gpu, pci_bus_id: '1b' } },
]);

// Lost without it: two sources write one series, and whoever came last is drawn: values jump between the two.
describe('one source for each series of a GPU', () => {
  const arbiter = () => {
    let now = 0;
    const made = new SourceArbiter(() => now);
    const later = (ms: number): void => {
      now += ms;
    };
    return { made, later };
  };

  test('the better one is heard, the other gives what it alone has, and the rest is counted', () => {
    const { made } = arbiter();
    const alone = exporter.reading();
    expect(made.admit(exporter.collector, alone)).toBe(alone);
    const best = nvml.reading();
    expect(made.admit(nvml.collector, best)).toBe(best);
    const rest = made.admit(exporter.collector, exporter.reading());
    expect(shown(rest)).toEqual(['gpu_fan_ratio 0 H100 GPU-1 0.5', 'up dcgm-exporter 1']);
    expect(rest.rejected.get('outranked')).toBe(2);
    expect(made.admit(exporter.collector, exporter.reading()).dictionary).toBe(rest.dictionary);
  });

  test('a field that the better one cannot read comes from the other', () => {
    const { made } = arbiter();
    const blind = source('nvml', 10, [
      { name: 'gpu_power_watts', labels: gpu, state: SlotState.NotSupported },
      { name: 'gpu_fan_ratio', labels: gpu, state: SlotState.NoPermission },
    ]);
    made.admit(exporter.collector, exporter.reading());
    expect(shown(made.admit(blind.collector, blind.reading()))).toEqual(['up nvml 1']);
    const all = exporter.reading();
    expect(made.admit(exporter.collector, all)).toBe(all);
  });

  test('while the better one is silent the other speaks, until it is back', () => {
    const { made, later } = arbiter();
    made.admit(nvml.collector, nvml.reading());
    made.admit(exporter.collector, exporter.reading());
    later(16_000);
    made.admit(nvml.collector, nvml.reading(SlotState.Timeout));
    expect(shown(made.admit(exporter.collector, exporter.reading()))).toContain(
      'gpu_power_watts 7 NVIDIA H100 GPU-1 302',
    );
    expect(shown(made.admit(nvml.collector, nvml.reading(SlotState.Timeout)))).toEqual(['up nvml 0']);
    expect(shown(made.admit(nvml.collector, nvml.reading()))).toHaveLength(3);
    expect(shown(made.admit(exporter.collector, exporter.reading()))).toHaveLength(2);
  });

  test('one that never answers again, or was taken away, is not waited for', () => {
    const { made, later } = arbiter();
    made.admit(nvml.collector, nvml.reading());
    made.admit(exporter.collector, exporter.reading());
    later(16_000);
    expect(shown(made.admit(exporter.collector, exporter.reading()))).toHaveLength(4);
    made.admit(nvml.collector, nvml.reading());
    made.forget('nvml');
    expect(shown(made.admit(exporter.collector, exporter.reading()))).toHaveLength(4);
  });

  // Lost without it: a field that only the exporter has vanishes for good once two sources read at the same moment.
  test('a field that the better one cannot read stays with the other, also while the better one reads', () => {
    const { made } = arbiter();
    const blind = source('nvml', 10, [
      { name: 'gpu_power_watts', labels: gpu, state: SlotState.NotSupported },
    ]);
    const reading = blind.reading();
    made.admit(blind.collector, reading);
    // As a collector's own array is from the begin of a read to its end.
    reading.states.fill(SlotState.Absent);
    const all = exporter.reading();
    expect(made.admit(exporter.collector, all)).toBe(all);
  });

  // Lost without it: after a reload to a longer interval two sources take turns, and their series end and begin.
  test('a source that was given a longer interval is waited for that long', () => {
    const { made, later } = arbiter();
    made.admit(nvml.collector, nvml.reading());
    made.admit({ ...nvml.collector, intervalMs: 60_000 }, nvml.reading());
    made.admit(exporter.collector, exporter.reading());
    later(61_000);
    expect(shown(made.admit(exporter.collector, exporter.reading()))).toHaveLength(2);
  });
});
