import type { Block, Source } from '#shared/model/block.ts';
import { type Dictionary, labelOf } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import type { PatternBook } from './health/patterns/pattern-book.ts';

export interface RoomFeedOptions {
  readonly patterns: Pick<PatternBook, 'roomFigure'>;
  readonly rackOf: (source: Source) => string | undefined;
  /** Most nodes; 50,000 by default. Others are not looked at. */
  readonly maxNodes?: number;
}

/**
 * Air at the inlet of a chassis, and the label that names the sensor. From prometheus-community's ipmi_exporter and
 * from the common Redfish exporters (names as in their documentation), which an agent passes through as they are.
 */
const TEMPERATURES: ReadonlyMap<string, string> = new Map([
  ['ipmi_temperature_celsius', 'name'],
  ['redfish_chassis_temperature_celsius', 'sensor'],
]);
/** As BMCs of Dell, HPE, Lenovo and Supermicro name it: Inlet Temp, 01-Inlet Ambient, Ambient Temp, System Intake. */
const INLET = /inlet|ambient|intake/i;
/** Power of the whole chassis: ipmi_exporter's DCMI metric, by its newer and its older name. */
const POWERS: readonly string[] = [
  'ipmi_dcmi_power_consumption_current_watts',
  'ipmi_dcmi_power_consumption_watts',
];
/** What a BMC said so long ago says nothing of now; they are read every minute or less. Own judgement. */
const FRESH_MS = 600_000;

interface Program {
  readonly inlets: readonly number[];
  readonly powers: readonly number[];
}

interface Node {
  source: Source;
  celsius: number;
  celsiusMs: number;
  watts: number;
  wattsMs: number;
}

interface Rack {
  inlets: number;
  celsius: number;
  watts: number;
}

/**
 * Temperature at the inlet and power, by rack, where nodes bring what their BMC says: a room that swings through the
 * day. Power is that of the nodes that are heard; nodes that no rack is known of do not count.
 */
export class RoomFeed {
  readonly #options: RoomFeedOptions;
  readonly #programs = new WeakMap<Dictionary, Program | 'none'>();
  readonly #nodes = new Map<string, Node>();

  constructor(options: RoomFeedOptions) {
    this.#options = options;
  }

  evaluate(block: Block): void {
    if (!block.live) return;
    let program = this.#programs.get(block.dictionary);
    if (program === undefined) {
      program = compile(block.dictionary);
      this.#programs.set(block.dictionary, program);
    }
    if (program === 'none') return;
    const node = this.#nodeOf(block.source);
    if (node === undefined) return;
    const celsius = meanOf(program.inlets, block);
    if (!Number.isNaN(celsius)) {
      node.celsius = celsius;
      node.celsiusMs = block.timestampMs;
    }
    const watts = meanOf(program.powers, block) * program.powers.length;
    if (!Number.isNaN(watts)) {
      node.watts = watts;
      node.wattsMs = block.timestampMs;
    }
  }

  /** Tells the patterns what is known of each rack now. About once a minute; `nowMs` by the wall clock. */
  round(nowMs: number): void {
    const { patterns, rackOf } = this.#options;
    const racks = new Map<string, Rack>();
    for (const [name, node] of this.#nodes) {
      if (!isFresh(node.celsiusMs, nowMs) && !isFresh(node.wattsMs, nowMs)) {
        this.#nodes.delete(name);
        continue;
      }
      const rack = rackOf(node.source);
      if (rack !== undefined) add(racks, rack, node, nowMs);
    }
    for (const [rack, { inlets, celsius, watts }] of racks) {
      if (inlets > 0) patterns.roomFigure(`rack ${rack}`, 'inlet', celsius / inlets, nowMs);
      if (watts > 0) patterns.roomFigure(`rack ${rack}`, 'power', watts / 1000, nowMs);
    }
  }

  #nodeOf(source: Source): Node | undefined {
    const name = `${source.cluster}/${source.node}`;
    let node = this.#nodes.get(name);
    if (node === undefined) {
      if (this.#nodes.size >= (this.#options.maxNodes ?? 50_000)) return undefined;
      node = { source, celsius: 0, celsiusMs: Number.NaN, watts: 0, wattsMs: Number.NaN };
      this.#nodes.set(name, node);
    }
    node.source = source;
    return node;
  }
}

function compile({ series }: Dictionary): Program | 'none' {
  const inlets: number[] = [];
  const byName = new Map<string, number[]>();
  for (const [slot, { name, labels }] of series.entries()) {
    const sensor = TEMPERATURES.get(name);
    if (sensor !== undefined && INLET.test(labelOf(labels, sensor) ?? '')) inlets.push(slot);
    if (POWERS.includes(name)) byName.set(name, [...(byName.get(name) ?? []), slot]);
  }
  // Of an exporter that has both names, one: they are the same power.
  const powers = POWERS.map((name) => byName.get(name)).find((slots) => slots !== undefined) ?? [];
  return inlets.length === 0 && powers.length === 0 ? 'none' : { inlets, powers };
}

/** Of those that are there; NaN of none. */
function meanOf(slots: readonly number[], { values, states }: Block): number {
  let sum = 0;
  let count = 0;
  for (let i = 0; i < slots.length; i++) {
    if (states[slots[i]!] !== SlotState.Present) continue;
    sum += values[slots[i]!]!;
    count++;
  }
  return sum / count;
}

function add(racks: Map<string, Rack>, name: string, node: Node, nowMs: number): void {
  let rack = racks.get(name);
  if (rack === undefined) {
    rack = { inlets: 0, celsius: 0, watts: 0 };
    racks.set(name, rack);
  }
  if (isFresh(node.celsiusMs, nowMs)) {
    rack.inlets++;
    rack.celsius += node.celsius;
  }
  if (isFresh(node.wattsMs, nowMs)) rack.watts += node.watts;
}

function isFresh(atMs: number, nowMs: number): boolean {
  return Math.abs(nowMs - atMs) <= FRESH_MS;
}
