import { metricNamed } from '#shared/catalogue/metrics.ts';
import type { Source } from '#shared/model/block.ts';
import { type Dictionary, labelOf } from '#shared/model/dictionary.ts';
import { type CounterWatch, counterWatchOf } from './counter-watch.ts';
import { frameSlotOf, gpuOf, isWholeGpu, signalOf } from './gpu-frame.ts';

export interface ProgramGpu {
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
  /** Slot of each input, by input. */
  readonly inputs: ReadonlyMap<number, number>;
  /** Signal of each input, for people. */
  readonly signals: ReadonlyMap<number, string>;
}

export interface ProgramCounter {
  readonly slot: number;
  readonly uuid: string;
  readonly signal: string;
  readonly metric: string;
  readonly watch: CounterWatch;
}

/** Any gauge of a GPU: those that change with jobs are among them. */
export interface ProgramGauge {
  readonly slot: number;
  readonly uuid: string;
  readonly metric: string;
}

export interface ProgramLink {
  readonly slot: number;
  readonly uuid: string;
  readonly signal: string;
}

/** What of a dictionary detectors look at. Series of MIG instances, hosts and networks are left out. */
export interface NodeProgram {
  readonly gpus: readonly ProgramGpu[];
  readonly counters: readonly ProgramCounter[];
  readonly links: readonly ProgramLink[];
  readonly gauges: readonly ProgramGauge[];
}

/** A flag, a state, a mask, an Xid: without a unit, and a mean of it says nothing. */
function isCode(name: string): boolean {
  return metricNamed(name)?.unit === '';
}

export function compileProgram(source: Source, dictionary: Dictionary): NodeProgram {
  const gpus = new Map<
    string,
    { gpu: ProgramGpu; inputs: Map<number, number>; ranks: Map<number, number>; signals: Map<number, string> }
  >();
  const counters: ProgramCounter[] = [];
  const links: ProgramLink[] = [];
  const gauges: ProgramGauge[] = [];
  for (const [slot, { name, labels, kind }] of dictionary.series.entries()) {
    const id = gpuOf(source, labels);
    if (id === undefined || kind === 'info' || !isWholeGpu(labels)) continue;
    let entry = gpus.get(id.uuid);
    if (entry === undefined) {
      const inputs = new Map<number, number>();
      const signals = new Map<number, string>();
      entry = { gpu: { ...id, inputs, signals }, inputs, signals, ranks: new Map() };
      gpus.set(id.uuid, entry);
    }
    const frame = frameSlotOf(name, labels);
    if (frame !== undefined && frame.rank < (entry.ranks.get(frame.input) ?? Number.POSITIVE_INFINITY)) {
      entry.ranks.set(frame.input, frame.rank);
      entry.inputs.set(frame.input, slot);
      entry.signals.set(frame.input, signalOf(name, labels));
    }
    if (kind === 'gauge' && !isCode(name)) gauges.push({ slot, uuid: id.uuid, metric: name });
    const watch = counterWatchOf(name, labels);
    const signal = signalOf(name, labels);
    if (watch !== undefined) counters.push({ slot, uuid: id.uuid, signal, metric: name, watch });
    else if (name === 'gpu_link_state' && labelOf(labels, 'link'))
      links.push({ slot, uuid: id.uuid, signal });
  }
  return { gpus: [...gpus.values()].map(({ gpu }) => gpu), counters, links, gauges };
}
