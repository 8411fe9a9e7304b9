import type { Block, Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary, Labels, Series } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';

export const SOURCE: Source = { cluster: 'east', node: 'gpu-07.rack3', externalLabels: [] };
/** 2026-01-01T00:00:00Z */
export const START_MS = 1_767_225_600_000;

/** Labels of a GPU's series: index, UUID and model, and what is given. */
export function gpuLabels(gpu: number, more: Readonly<Record<string, string>> = {}): Labels {
  const labels = { gpu: String(gpu), uuid: `GPU-${gpu}`, model: 'NVIDIA H100 80GB HBM3', ...more };
  return Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
}

export function series(name: string, labels: Labels, unit = ''): Series {
  return { name, labels, kind: 'gauge', decimals: 2, help: '', unit };
}

export function dictionaryOf(all: readonly Series[], intervalMs = 1000): Dictionary {
  return createDictionary('test', intervalMs, all);
}

/** A block whose values stand in slot order; undefined for a series that the source did not give. */
export function blockOf(
  dictionary: Dictionary,
  timestampMs: number,
  values: readonly (number | undefined)[],
  more: Partial<Pick<Block, 'source' | 'live'>> = {},
): Block {
  return {
    source: SOURCE,
    live: true,
    dictionary,
    timestampMs,
    values: Float64Array.from(values, (value) => value ?? 0),
    states: Uint8Array.from(values, (value) => (value === undefined ? SlotState.Absent : SlotState.Present)),
    ...more,
  };
}

export function xidEvent(code: number, timestampMs: number, gpu = 0): FleetEvent {
  return {
    type: 'xid',
    timestampMs,
    gpu: String(gpu),
    gpuUuid: `GPU-${gpu}`,
    text: `NVRM: Xid (PCI:0000:1b:00): ${code}, pid=1234, something`,
    attributes: { code: String(code) },
  };
}

/** Time that only moves when told to. */
export class ManualClock implements Clock {
  ms = START_MS;

  now(): number {
    return this.ms;
  }

  monotonic(): number {
    return this.ms - START_MS + 5_000;
  }
}
