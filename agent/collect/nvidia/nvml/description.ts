/** What the probe's child says of the node; the slots of a reading follow its order. */
export interface NvmlDescription {
  readonly driver: string;
  readonly gpus: readonly DescribedGpu[];
  /** GPUs that the driver counts and does not let be opened. */
  readonly faults: readonly { readonly index: number; readonly text: string }[];
}

export interface DescribedGpu {
  /** NVML's, by which the driver's tools and DCGM call it too. */
  readonly index: number;
  readonly uuid: string;
  readonly serial: string;
  /** As NVML writes it: 00000000:91:00.0 */
  readonly pci: string;
  readonly model: string;
  readonly vbios: string;
  /** Of /dev/nvidia<minor>. */
  readonly minor: string;
  /** For each group its slots: see slotCode. The first of the fast ones is gpu_up. */
  readonly slots: readonly (readonly number[])[];
}
