import { FleetError } from '#shared/errors/fleet-error.ts';
import { smiFields } from './smi-fields.ts';
import {
  bestText,
  factOf,
  isGpuUuid,
  MAX_GPUS,
  type SmiGpu,
  type SmiReport,
  unreachableGpus,
} from './smi-report.ts';
import type { SmiNumber, SmiReader } from './smi-value.ts';

/** Where the columns are: of one header line. */
interface Columns {
  readonly count: number;
  readonly at: ReadonlyMap<string, number>;
  /** For each of smiFields its columns, the best first. */
  readonly fields: readonly (readonly number[])[];
}

const NOTHING_FOUND = 'No devices were found';
/** What is shown of an answer that is no table. */
const MAX_SHOWN = 200;

/**
 * Reads `nvidia-smi --query-gpu=... --format=csv`, with or without nounits:
 *
 *     index, uuid, name, power.draw [W], temperature.gpu, fan.speed [%]
 *     0, GPU-8d76..., NVIDIA H100 80GB HBM3, 433.78 W, 53, [N/A]
 *
 * A row counts only as a whole: with as many cells as the header, a newline behind it and a UUID. Throws
 * `unavailable` where there is no header, with what there is instead.
 */
export function parseCsvReport(output: Buffer): SmiReport {
  const text = output.toString();
  const lines = text.split('\n');
  // Without its newline the last line may be cut in the middle of a number.
  const cut = lines.pop()!;
  const unreachable = unreachableGpus(lines);
  const top = lines.findIndex((line) => cellsOf(line).includes('uuid'));
  if (top === -1) {
    if (text.includes(NOTHING_FOUND)) return { gpus: [], unreachable, malformed: 0 };
    if (unreachable.length > 0) return { gpus: [], unreachable, malformed: 0 };
    throw new FleetError('unavailable', `Cannot read nvidia-smi's answer: ${shown(text)}`);
  }
  const columns = columnsOf(lines[top]!);
  const gpus = new Map<string, SmiGpu>();
  const before = lines.slice(0, top).filter((line) => !isRemark(line));
  let malformed = before.length + (cut.trim() === '' ? 0 : 1);
  for (const line of lines.slice(top + 1)) {
    if (isRemark(line)) continue;
    const gpu = gpus.size < MAX_GPUS ? gpuOf(cellsOf(line), columns) : undefined;
    if (gpu && !gpus.has(gpu.uuid)) gpus.set(gpu.uuid, gpu);
    else malformed++;
  }
  return { gpus: [...gpus.values()], unreachable, malformed };
}

/** `Unable to determine ...`, `WARNING: infoROM is corrupted at gpu 0000:00:1E.0`: no row, and no damaged one. */
function isRemark(line: string): boolean {
  return /^\s*(?:$|unable to |warning: )/i.test(line);
}

function cellsOf(line: string): string[] {
  return line.split(',').map((cell) => cell.trim());
}

function columnsOf(header: string): Columns {
  const at = new Map<string, number>();
  const units = new Map<string, string>();
  const cells = cellsOf(header);
  cells.forEach((cell, i) => {
    const [, name = cell, unit = ''] = /^(\S+) \[(.+)\]$/.exec(cell) ?? [];
    // Twice the same name: which is right cannot be told, the first is taken.
    if (at.has(name)) return;
    at.set(name, i);
    units.set(name, unit);
  });
  const fields = smiFields.map(({ csv, read }) =>
    csv.flatMap((name) => (at.has(name) && fits(units.get(name)!, read) ? [at.get(name)!] : [])),
  );
  return { count: cells.length, at, fields };
}

/** A driver that changes a unit changes the value: it is not read then. Temperatures and counts name none. */
function fits(unit: string, read: SmiReader): boolean {
  return unit === '' || unit === (read as Partial<SmiNumber>).unit;
}

function gpuOf(cells: readonly string[], { count, at, fields }: Columns): SmiGpu | undefined {
  const cell = (name: string): string => factOf(cells[at.get(name) ?? -1]);
  const uuid = cell('uuid');
  if (cells.length !== count || !isGpuUuid(uuid)) return undefined;
  return {
    uuid,
    index: /^\d{1,3}$/.test(cell('index')) ? cell('index') : '',
    model: cell('name'),
    facts: {
      driver_version: cell('driver_version'),
      pci_bus_id: cell('pci.bus_id'),
      serial: cell('serial'),
      vbios_version: cell('vbios_version'),
    },
    texts: fields.map((columns) => bestText(columns.map((column) => cells[column]))),
    instances: [],
  };
}

function shown(text: string): string {
  return text.trim().replaceAll(/\s+/g, ' ').slice(0, MAX_SHOWN) || 'it is empty';
}
