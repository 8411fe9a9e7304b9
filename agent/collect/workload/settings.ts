import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';

/** collectors.workload */
export const workloadSettings = v.strictObject({
  /** Instead of collection_interval. */
  interval: v.optional(duration(1000, 3_600_000), '10s'),
  /** `false`: kubelet is not asked. Where its socket's folder is missing at the start it is not asked either. */
  kubernetes: v.optional(v.boolean(), true),
  /** kubelet's pod-resources socket. */
  pod_resources_socket: v.optional(
    v.pipe(v.string(), v.startsWith('/', 'must be an absolute path')),
    '/var/lib/kubelet/pod-resources/kubelet.sock',
  ),
  /** Jobs of Slurm, from the processes of its steps. */
  slurm: v.optional(v.boolean(), true),
  /** Whether `scontrol show job` is run, once for each job whose processes do not tell its GPUs. */
  scontrol: v.optional(v.boolean(), true),
  /** Processes that hold a GPU and belong to neither. */
  processes: v.optional(v.boolean(), true),
});

export type WorkloadSettings = v.InferOutput<typeof workloadSettings>;
