import { XMLParser, XMLValidator } from 'fast-xml-parser';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { migFields, type SmiField, smiFields } from './smi-fields.ts';
import {
  bestText,
  factOf,
  isGpuUuid,
  MAX_GPUS,
  type MigInstance,
  type SmiGpu,
  type SmiReport,
  unreachableGpus,
} from './smi-report.ts';

/** Long, and not read: a list of every clock that can be set, and the processes, which are another source's. */
const BULK = ['supported_clocks', 'processes', 'accounted_processes'];
const ROOT = '<?xml';

/** No entities: the report has none, and expanding them is what makes XML dangerous. Texts stay as printed. */
const parser = new XMLParser({
  ignoreAttributes: true,
  parseTagValue: false,
  processEntities: false,
  maxNestedTags: 16,
  isArray: (name) => name === 'gpu' || name === 'mig_device',
});

/**
 * Reads `nvidia-smi -q -x`, DTD versions 10 to 13:
 *
 *     <nvidia_smi_log>
 *       <driver_version>590.44.01</driver_version>
 *       <gpu id="00000000:61:00.0">
 *         <uuid>GPU-...</uuid> <fb_memory_usage><used>65720 MiB</used></fb_memory_usage> ...
 *
 * GPUs are not numbered in it; `indexOf` says what the index of a UUID is, and the position is taken where that is
 * not known. Throws `unavailable` where the answer is not well-formed: half a report is none.
 */
export function parseXmlReport(
  output: Buffer,
  indexOf: (uuid: string) => string | undefined = () => undefined,
): SmiReport {
  const text = output.toString();
  const start = Math.max(0, text.indexOf(ROOT));
  const unreachable = unreachableGpus(text.slice(0, start).split('\n'));
  const log = logOf(BULK.reduce(without, text.slice(start)).trim());
  const gpus = new Map<string, SmiGpu>();
  let malformed = 0;
  for (const [position, node] of listOf(log.gpu).entries()) {
    const { gpu, malformed: within } = gpuOf(node, textAt(log, 'driver_version'));
    malformed += within;
    if (!gpu || gpus.has(gpu.uuid) || gpus.size >= MAX_GPUS) malformed++;
    else gpus.set(gpu.uuid, { ...gpu, index: indexOf(gpu.uuid) ?? String(position) });
  }
  return { gpus: [...gpus.values()], unreachable, malformed };
}

/** Linear also where a closing tag is missing: then the rest stays, and is not well-formed. */
function without(xml: string, tag: string): string {
  const kept: string[] = [];
  let at = 0;
  for (;;) {
    const open = xml.indexOf(`<${tag}>`, at);
    const close = open < 0 ? -1 : xml.indexOf(`</${tag}>`, open);
    const next = xml.indexOf(`<${tag}>`, open + 1);
    // With its closing tag damaged it would take half of the next GPU along.
    if (close < 0 || (next >= 0 && next < close)) return kept.join('') + xml.slice(at);
    kept.push(xml.slice(at, open));
    at = close + tag.length + 3;
  }
}

type Node = Readonly<Record<string, unknown>>;

function logOf(xml: string): Node {
  const valid = XMLValidator.validate(xml);
  if (valid !== true) throw unreadable(`line ${valid.err.line}: ${valid.err.msg}`);
  let parsed: Node;
  try {
    parsed = parser.parse(xml) as Node;
  } catch (error) {
    throw unreadable(error instanceof Error ? error.message : String(error), error);
  }
  const log = parsed.nvidia_smi_log;
  if (!isNode(log)) throw unreadable('no nvidia_smi_log in it');
  return log;
}

function unreadable(why: string, cause?: unknown): FleetError {
  return new FleetError('unavailable', `Cannot read nvidia-smi's report: ${why.slice(0, 200)}`, { cause });
}

function gpuOf(node: Node, driver: string | undefined): { gpu: SmiGpu | undefined; malformed: number } {
  const uuid = factOf(textAt(node, 'uuid'));
  if (!isGpuUuid(uuid)) return { gpu: undefined, malformed: 0 };
  const { instances, malformed } = instancesOf(node);
  const gpu: SmiGpu = {
    uuid,
    index: '',
    model: factOf(textAt(node, 'product_name')),
    facts: {
      driver_version: factOf(driver),
      pci_bus_id: factOf(textAt(node, 'pci.pci_bus_id')),
      serial: factOf(textAt(node, 'serial')),
      vbios_version: factOf(textAt(node, 'vbios_version')),
    },
    texts: textsOf(node, smiFields),
    instances,
  };
  return { gpu, malformed };
}

/** Several compute instances of one GPU instance tell the same: the first is taken. */
function instancesOf(node: Node): { instances: MigInstance[]; malformed: number } {
  const instances = new Map<string, MigInstance>();
  let malformed = 0;
  const { mig_devices: devices } = node;
  for (const device of isNode(devices) ? listOf(devices.mig_device) : []) {
    const migId = factOf(textAt(device, 'gpu_instance_id'));
    if (!/^\d{1,3}$/.test(migId)) malformed++;
    else if (!instances.has(migId)) instances.set(migId, { migId, texts: textsOf(device, migFields) });
  }
  return { instances: [...instances.values()], malformed };
}

function textsOf(node: Node, fields: readonly SmiField[]): (string | undefined)[] {
  return fields.map(({ xml }) => bestText(xml.map((path) => textAt(node, path))));
}

/** The text at a path; undefined where there is none, or where an element on it comes twice. A block may be N/A. */
function textAt(node: Node, path: string): string | undefined {
  let at: unknown = node;
  for (const name of path.split('.')) {
    if (typeof at === 'string') return at === 'N/A' ? at : undefined;
    if (!isNode(at) || !Object.hasOwn(at, name)) return undefined;
    at = at[name];
  }
  return typeof at === 'string' ? at.trim() : undefined;
}

function listOf(list: unknown): Node[] {
  return Array.isArray(list) ? list.map((one) => (isNode(one) ? one : {})) : [];
}

function isNode(thing: unknown): thing is Node {
  return typeof thing === 'object' && thing !== null && !Array.isArray(thing);
}
