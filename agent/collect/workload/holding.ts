/** A GPU as a scheduler or a process names it: one of these is set. */
export type GpuName =
  /** `GPU-...` or a MIG instance's `MIG-...`. */
  | { readonly uuid: string }
  /** As NVML counts. */
  | { readonly index: number }
  /** The number in /dev/nvidia<minor>. */
  | { readonly minor: number }
  | { readonly pci: string };

/** Who holds a GPU. */
export interface Holding {
  readonly gpu: GpuName;
  /** Of `gpu_job_info`, without those that name the GPU; `workload` says which kind: kubernetes, slurm or process. */
  readonly labels: Readonly<Record<string, string>>;
}

/** What a source of holdings found. */
export interface Holdings {
  readonly held: readonly Holding[];
  /** Things that it could not read and that may be holdings. */
  readonly malformed: number;
}

/** A device id of Kubernetes or an entry of CUDA_VISIBLE_DEVICES; undefined where it names no GPU that we know how to find. */
export function gpuNameOf(id: string): GpuName | undefined {
  // Time slicing appends a replica: `GPU-8d76...::3`.
  const bare = id.split('::')[0]!;
  if (/^(?:GPU|MIG)-[0-9A-Za-z/-]{1,120}$/.test(bare)) return { uuid: bare };
  // NVIDIA's plugin with `deviceIDStrategy: index`.
  if (/^\d{1,3}$/.test(bare)) return { index: Number(bare) };
  // The plugin of GKE names device files.
  const minor = /^nvidia(\d{1,3})$/.exec(bare)?.[1];
  if (minor !== undefined) return { minor: Number(minor) };
  // AMD's plugin.
  if (/^[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]$/.test(bare)) return { pci: bare };
  return undefined;
}
