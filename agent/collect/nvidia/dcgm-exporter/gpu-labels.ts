import type { Labels } from '#shared/model/dictionary.ts';

/**
 * The labels of one line of dcgm-exporter, sorted out by what they say:
 *
 *     gpu="2",UUID="GPU-8d76…",pci_bus_id="00000000:75:00.0",device="nvidia2",modelName="NVIDIA H100 80GB HBM3",
 *     Hostname="node-a",DCGM_FI_DRIVER_VERSION="580.105.08",container="main",namespace="ml",pod="train-0"
 */
export interface GpuLabels {
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
  /** MIG instance, empty on a whole GPU. */
  readonly migId: string;
  readonly migProfile: string;
  /** What is true of the GPU whatever it does, under our names: driver_version, pci_bus_id, hostname, serial ... */
  readonly facts: Labels;
  /** Who uses it: namespace, pod, container and their like. */
  readonly job: Labels;
  /** Labels of which the exporter's documentation says nothing: relabelling, a site's own mapping. */
  readonly others: Labels;
}

type Part = 'gpu' | 'uuid' | 'model' | 'migId' | 'migProfile';

/** Spellings of dcgm-exporter 2 to 4.8, and those of its link and switch series (gpu_uuid, model_name). */
const PARTS: ReadonlyMap<string, Part> = mapOf({
  gpu: 'gpu',
  UUID: 'uuid',
  uuid: 'uuid',
  gpu_uuid: 'uuid',
  modelName: 'model',
  model_name: 'model',
  model: 'model',
  GPU_I_ID: 'migId',
  GPU_I_PROFILE: 'migProfile',
});

const FACTS = mapOf({
  pci_bus_id: 'pci_bus_id',
  device: 'device',
  Hostname: 'hostname',
  hostname: 'hostname',
});

/** Kubernetes, as given and as Prometheus renames it (exported_), older exporters, and the HPC job mapping. */
const JOB = mapOf({
  ...Object.fromEntries(
    ['container', 'namespace', 'pod', 'pod_uid', 'hpc_job', 'vgpu'].flatMap((name) => [
      [name, name],
      [`exported_${name}`, name],
    ]),
  ),
  container_name: 'container',
  pod_name: 'pod',
  pod_namespace: 'namespace',
});

/** dcgm-exporter prints a field that is configured as a label under the field's name, on every series. */
const FIELD = /^DCGM_FI_(?:DEV_|SYSTEM_)?(.+)$/;
/** Where the DCGM 4.6 name of a text field differs in more than its prefix. */
const RENAMED_FIELDS = mapOf({
  board_serial: 'serial',
  gpu_name: 'name',
  gpu_brand: 'brand',
  gpu_minor_number: 'minor_number',
});

/** Sorts out a line's labels. `taken` are those that its field claims for the series, such as xid. */
export function sortOutLabels(labels: Labels, taken: ReadonlyMap<string, string>): GpuLabels {
  const parts: Record<Part, string> = { gpu: '', uuid: '', model: '', migId: '', migProfile: '' };
  const facts = new Map<string, string>();
  const job = new Map<string, string>();
  const others = new Map<string, string>();
  for (const [name, value] of labels) {
    if (taken.has(name)) continue;
    const part = PARTS.get(name);
    const fact = FACTS.get(name) ?? factOfField(name);
    const ofJob = JOB.get(name);
    if (part !== undefined && parts[part] === '') parts[part] = value;
    else if (fact !== undefined && !facts.has(fact)) facts.set(fact, value);
    else if (ofJob !== undefined && !job.has(ofJob)) job.set(ofJob, value);
    // Two spellings of the same: the second keeps its own name.
    else others.set(name, value);
  }
  return { ...parts, facts: [...facts], job: [...job], others: [...others] };
}

function factOfField(label: string): string | undefined {
  const name = FIELD.exec(label)?.[1]?.toLowerCase();
  return name === undefined ? undefined : (RENAMED_FIELDS.get(name) ?? name);
}

/** A map and not an object: a label may be named `constructor`. */
function mapOf<T extends string>(entries: Readonly<Record<string, T>>): ReadonlyMap<string, T> {
  return new Map(Object.entries(entries));
}
