import type { Labels } from '#shared/model/dictionary.ts';
import { sortedLabels } from '../canonical-series.ts';

/**
 * What a cgroup is, from its path: the labels that name it, or whether to look further inside. Slices are named by
 * `cgroup`; a pod by `pod_uid`; a container by `container_id` (and its pod); a job by `slurm_job_id`.
 */
export type CgroupIdentity =
  /** Has series; `inside` says whether what is in it may have some too. */
  | { readonly labels: Labels; readonly inside: boolean }
  /** None of its own. */
  | { readonly labels: undefined; readonly inside: boolean };

const ID = '[0-9a-f]{64}';
/** systemd's scopes: `docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-<id>.scope`, `libpod-<id>.scope`, `nerdctl-<id>.scope`. */
const CONTAINER_SCOPE = new RegExp(`^(?:docker|cri-containerd|crio|libpod|nerdctl)-(${ID})\\.scope$`);
/** cgroupfs: the id alone, in /docker or in a pod. */
const CONTAINER_FOLDER = new RegExp(`^(${ID})$`);
/** systemd: `kubepods-burstable-pod8f0d1b2c_1111_2222_3333_444455556666.slice`; of a static pod, 32 hex digits. */
const POD_SLICE = /^(?:kubelet-)?kubepods(?:-burstable|-besteffort)?-pod([0-9a-f_]{32,36})\.slice$/;
/** cgroupfs: `pod8f0d1b2c-1111-2222-3333-444455556666` */
const POD_FOLDER = /^pod([0-9a-f-]{32,36})$/;
/** Slurm with cgroup v2: system.slice/slurmstepd.scope/job_123, or <node>_slurmstepd.scope. */
const SLURM_SCOPE = /^(?:.+_)?slurmstepd\.scope$/;
const SLURM_JOB = /^job_(\d{1,10})$/;
const SLICE = /^[^/]+\.slice$/;
/** Folders of cgroupfs drivers, and slices that hold pods or containers further inside. */
const HOLDERS =
  /^(kubepods|burstable|besteffort|docker|((kubelet-)?kubepods(-burstable|-besteffort)?|kubelet|system|machine)\.slice)$/;

const LEAF: CgroupIdentity = { labels: undefined, inside: false };
const HOLDER: CgroupIdentity = { labels: undefined, inside: true };

/** `path` from the root of the cgroups, such as /system.slice/docker-<id>.scope; `podUid` of the pod that it is in. */
export function cgroupIdentity(path: string, podUid: string | undefined): CgroupIdentity {
  const parts = path.slice(1).split('/');
  const name = parts.at(-1)!;
  const container = (CONTAINER_SCOPE.exec(name) ?? CONTAINER_FOLDER.exec(name))?.[1];
  if (container !== undefined) return named({ container_id: container, pod_uid: podUid }, false);
  const pod = podOf(name);
  if (pod !== undefined) return named({ pod_uid: pod }, true);
  if (SLURM_SCOPE.test(name)) return HOLDER;
  const job = SLURM_SCOPE.test(parts.at(-2) ?? '') ? SLURM_JOB.exec(name)?.[1] : undefined;
  if (job !== undefined) return named({ slurm_job_id: job }, false);
  if (parts.length === 1 && SLICE.test(name)) return named({ cgroup: path }, HOLDERS.test(name));
  return HOLDERS.test(name) ? HOLDER : LEAF;
}

/** The pod's UID as Kubernetes writes it, from the name of its cgroup. */
export function podOf(name: string): string | undefined {
  return (POD_SLICE.exec(name)?.[1] ?? POD_FOLDER.exec(name)?.[1])?.replaceAll('_', '-');
}

function named(labels: Readonly<Record<string, string | undefined>>, inside: boolean): CgroupIdentity {
  return { labels: sortedLabels(labels), inside };
}
