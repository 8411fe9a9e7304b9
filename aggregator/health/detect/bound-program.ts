import { BackgroundGauges } from './background-gauges.ts';
import { CHANNEL_COUNT, CHANNELS, CONDITION_COUNT, CONDITIONS, SENSOR_COUNT, SENSORS } from './channels.ts';
import { FRAME, FRAME_WIDTH } from './gpu-frame.ts';
import type { FindingSink } from './node-detection.ts';
import type { NodeProgram, ProgramGpu } from './node-program.ts';
import type { NodeRows } from './node-rows.ts';

/** GPUs of one node; sixteen is the largest board, and one that is exchanged leaves its row behind. */
export const MAX_GPUS = 64;
/** Counters and links of one node: a hundred for each GPU. */
const MAX_ROWS = 6400;

/** Inputs that are judged one sample after another. */
const JUDGED: readonly number[] = [...CHANNELS, ...SENSORS].map(({ target }) => FRAME[target]);

/** A dictionary's slots, tied to the rows of its node. */
export interface BoundProgram {
  /** Unix ms of the newest tick; NaN before the first. */
  lastMs: number;
  /** GPUs of which this dictionary has a gauge that is judged. */
  readonly gpus: readonly number[];
  /** Slot and place in the frame of each input. */
  readonly slots: Int32Array;
  readonly places: Int32Array;
  /** Places of these GPUs that another dictionary fills, or none. */
  readonly foreign: Int32Array;
  /** GPUs whose power is in this dictionary. */
  readonly powered: Int32Array;
  /** By channel: the GPUs whose target is in this dictionary. */
  readonly channels: readonly Int32Array[];
  /** Rows of sensors and conditions whose target is in this dictionary. */
  readonly sensors: Int32Array;
  readonly conditions: Int32Array;
  readonly counterSlots: Int32Array;
  readonly counterRows: Int32Array;
  readonly linkSlots: Int32Array;
  readonly linkRows: Int32Array;
  readonly background: BackgroundGauges;
}

/** Finds the rows of a dictionary's series, and makes those that are missing, as far as there is room. */
export function bindProgram(program: NodeProgram, rows: NodeRows, sink: FindingSink): BoundProgram {
  addRows(program, rows, sink);
  const known = program.gpus.flatMap((gpu) => {
    const row = rows.gpuRow(gpu.uuid);
    return row === undefined ? [] : [{ row, gpu }];
  });
  const slots: number[] = [];
  const places: number[] = [];
  const foreign: number[] = [];
  for (const { row, gpu } of known) {
    adopt(rows, row, gpu);
    for (let input = 0; input < FRAME_WIDTH; input++) {
      const slot = gpu.inputs.get(input);
      if (slot === undefined) foreign.push(row * FRAME_WIDTH + input);
      else {
        slots.push(slot);
        places.push(row * FRAME_WIDTH + input);
      }
    }
  }
  const rowsOf = (targets: readonly { readonly target: keyof typeof FRAME }[], width: number) =>
    Int32Array.from(
      known.flatMap(({ row, gpu }) =>
        targets.flatMap(({ target }, i) => (gpu.inputs.has(FRAME[target]) ? [row * width + i] : [])),
      ),
    );
  const counters = rowsFound(program.counters, (uuid, signal) => rows.counterRow(uuid, signal));
  const links = rowsFound(program.links, (uuid, signal) => rows.linkRow(uuid, signal));
  return {
    lastMs: Number.NaN,
    gpus: known.filter(({ gpu }) => JUDGED.some((input) => gpu.inputs.has(input))).map(({ row }) => row),
    slots: Int32Array.from(slots),
    places: Int32Array.from(places),
    foreign: Int32Array.from(foreign),
    powered: Int32Array.from(known.filter(({ gpu }) => gpu.inputs.has(FRAME.power)).map(({ row }) => row)),
    channels: CHANNELS.map(({ target }) => rowsOf([{ target }], 1)),
    sensors: rowsOf(SENSORS, SENSOR_COUNT),
    conditions: rowsOf(CONDITIONS, CONDITION_COUNT),
    counterSlots: counters.slots,
    counterRows: counters.rows,
    linkSlots: links.slots,
    linkRows: links.rows,
    background: new BackgroundGauges(program.gauges.filter(({ uuid }) => rows.gpuRow(uuid) !== undefined)),
  };
}

function addRows(program: NodeProgram, rows: NodeRows, sink: FindingSink): void {
  const gpus = program.gpus.filter(({ uuid }) => rows.gpuRow(uuid) === undefined);
  const room = Math.max(0, MAX_GPUS - rows.gpus.length);
  const admitted = gpus.slice(0, room).filter(() => sink.admit(CHANNEL_COUNT + CONDITION_COUNT));
  rows.addGpus(admitted.map(({ gpu, uuid, model }) => ({ gpu, uuid, model, signals: [], holdUntilMs: 0 })));
  const has = ({ uuid }: { readonly uuid: string }) => rows.gpuRow(uuid) !== undefined && sink.admit(1);
  const isNewCounter = program.counters.filter(
    ({ uuid, signal }) => rows.counterRow(uuid, signal) === undefined,
  );
  rows.addCounters(isNewCounter.slice(0, MAX_ROWS - rows.counterGpus.length).filter(has));
  const isNewLink = program.links.filter(({ uuid, signal }) => rows.linkRow(uuid, signal) === undefined);
  rows.addLinks(isNewLink.slice(0, MAX_ROWS - rows.linkGpus.length).filter(has));
}

/** What a dictionary says of a GPU that was known before it. An input that is another series now begins anew. */
function adopt(rows: NodeRows, row: number, { gpu, model, signals }: ProgramGpu): void {
  const known = rows.gpus[row]!;
  known.gpu = gpu;
  if (model !== '') known.model = model;
  let another = false;
  for (const [input, signal] of signals) {
    const before = known.signals[input];
    another ||= before !== undefined && before !== signal;
    known.signals[input] = signal;
  }
  if (another) rows.rearm(row);
}

function rowsFound(
  series: readonly { readonly slot: number; readonly uuid: string; readonly signal: string }[],
  rowOf: (uuid: string, signal: string) => number | undefined,
): { slots: Int32Array; rows: Int32Array } {
  const found = series.flatMap(({ slot, uuid, signal }) => {
    const row = rowOf(uuid, signal);
    return row === undefined ? [] : [[slot, row] as const];
  });
  return {
    slots: Int32Array.from(found, ([slot]) => slot),
    rows: Int32Array.from(found, ([, row]) => row),
  };
}
