import * as v from 'valibot';
import type { StepOutcome } from '../executor.ts';
import type { KubernetesAnswer, KubernetesApi } from './kubernetes-api.ts';

/** A pod of the node, as far as a drain looks at it. */
interface Pod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly isLeaving: boolean;
  /** Something makes another one elsewhere: a Job, a ReplicaSet, a StatefulSet. */
  readonly hasController: boolean;
}

export interface DrainSettings {
  /** Seconds between asking a pod's processes to end and killing them; each pod's own where undefined. */
  readonly graceSeconds: number | undefined;
  /** Evict pods that nothing makes again, too. */
  readonly unmanaged: boolean;
}

/** How a drain stands: `left` pods still run, and why. */
export interface DrainState {
  readonly left: number;
  readonly why: string;
  readonly afterMs: number;
}

type Fault = Extract<StepOutcome, { outcome: 'retry' | 'failed' }>;

/** Pods of one page: a node has 110 of them by default, at most some hundreds. */
const PAGE = 200;
const MAX_PAGES = 50;
/** How soon a drain looks again, where the API server does not say; own judgement. */
const LOOK_AGAIN_MS = 5_000;
/** kubectl-drain(1) leaves these alone: the kubelet's own, and those that come back at once. */
const MIRROR = 'kubernetes.io/config.mirror';
const ENDED = new Set(['Succeeded', 'Failed']);

const podSchema = v.object({
  metadata: v.object({
    name: v.string(),
    namespace: v.string(),
    uid: v.string(),
    deletionTimestamp: v.optional(v.string()),
    annotations: v.optional(v.record(v.string(), v.string()), {}),
    ownerReferences: v.optional(
      v.array(v.object({ kind: v.string(), controller: v.optional(v.boolean()) })),
      [],
    ),
  }),
  status: v.optional(v.object({ phase: v.optional(v.string(), '') }), {}),
});

const pageSchema = v.object({
  metadata: v.optional(v.object({ continue: v.optional(v.string(), '') }), {}),
  items: v.array(podSchema),
});

/** Why an answer is not what was hoped for, and whether another try helps. */
export function faultOf({ status, why }: KubernetesAnswer): Fault {
  const final = status >= 400 && status < 500 && ![401, 408, 409, 410, 429].includes(status);
  return { outcome: final ? 'failed' : 'retry', why };
}

/** Evicts once what may be evicted (policy/v1 Eviction, which heeds disruption budgets), and says what is left. */
export async function drainOnce(
  api: KubernetesApi,
  node: string,
  settings: DrainSettings,
  signal: AbortSignal,
): Promise<DrainState | Fault> {
  const pods = await podsOf(api, node, signal);
  if ('outcome' in pods) return pods;
  let afterMs = LOOK_AGAIN_MS;
  const words = new Map<string, string[]>();
  const leave = (why: string, { namespace, name }: Pod): void => {
    words.set(why, [...(words.get(why) ?? []), `${namespace}/${name}`]);
  };
  let left = 0;
  for (const pod of pods) {
    if (pod.isLeaving) {
      leave('ending', pod);
    } else if (!pod.hasController && !settings.unmanaged) {
      leave('made by no controller, so nothing would make it again', pod);
    } else {
      const answer = await evict(api, pod, settings, signal);
      // It ended by itself.
      if (answer.status === 404) continue;
      if (answer.object) leave('ending', pod);
      // Somebody changes it, or another has its name: the next look tells.
      else if (answer.status === 409) leave('changing', pod);
      else if (answer.status === 429) {
        leave('held by a disruption budget', pod);
        afterMs = Math.max(afterMs, answer.retryAfterMs ?? 0);
      } else if (answer.status >= 500) {
        // Such as two disruption budgets over one pod, which may stay: it must not keep the others.
        leave(`not evicted (${answer.why})`, pod);
      } else {
        const fault = faultOf(answer);
        return { ...fault, why: `pod ${pod.namespace}/${pod.name} cannot be evicted: ${fault.why}` };
      }
    }
    left++;
  }
  const why = [...words].map(
    ([reason, names]) => `${names.length} ${reason} (${names.slice(0, 3).join(', ')})`,
  );
  return { left, why: `${left} pods run on: ${why.join('; ')}`, afterMs };
}

/** The pods that a drain waits for. A list that expired (410) is begun anew, once. */
export async function podsOf(api: KubernetesApi, node: string, signal: AbortSignal): Promise<Pod[] | Fault> {
  for (let attempt = 0; ; attempt++) {
    const pods = await listOnce(api, node, signal);
    if (pods !== 'expired') return pods;
    if (attempt > 0) return { outcome: 'retry', why: 'the list of pods expired while it was read' };
  }
}

async function listOnce(
  api: KubernetesApi,
  node: string,
  signal: AbortSignal,
): Promise<Pod[] | Fault | 'expired'> {
  const pods: Pod[] = [];
  let from = '';
  for (let page = 0; page < MAX_PAGES; page++) {
    const query = new URLSearchParams({ fieldSelector: `spec.nodeName=${node}`, limit: String(PAGE) });
    if (from !== '') query.set('continue', from);
    const answer = await api.request('GET', `/api/v1/pods?${query}`, signal);
    if (answer.status === 410 && from !== '') return 'expired';
    if (!answer.object) return faultOf(answer);
    const result = v.safeParse(pageSchema, answer.object);
    if (!result.success)
      return { outcome: 'retry', why: 'the API server answered with something else than pods' };
    for (const one of result.output.items) {
      const pod = podOf(one);
      if (pod) pods.push(pod);
    }
    from = result.output.metadata.continue;
    if (from === '') return pods;
  }
  return { outcome: 'failed', why: `node ${node} has more than ${MAX_PAGES * PAGE} pods` };
}

/** Undefined for those that a drain leaves alone. */
function podOf({ metadata, status }: v.InferOutput<typeof podSchema>): Pod | undefined {
  const { name, namespace, uid, annotations, ownerReferences, deletionTimestamp } = metadata;
  const controller = ownerReferences.find((one) => one.controller === true);
  if (MIRROR in annotations || controller?.kind === 'DaemonSet' || ENDED.has(status.phase ?? ''))
    return undefined;
  const isLeaving = deletionTimestamp !== undefined;
  return { namespace, name, uid, isLeaving, hasController: controller !== undefined };
}

function evict(
  api: KubernetesApi,
  { namespace, name, uid }: Pod,
  { graceSeconds }: DrainSettings,
  signal: AbortSignal,
): Promise<KubernetesAnswer> {
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}/eviction`;
  return api.request('POST', path, signal, {
    apiVersion: 'policy/v1',
    kind: 'Eviction',
    metadata: { name, namespace },
    // Never another pod that got its name meanwhile.
    deleteOptions: {
      preconditions: { uid },
      ...(graceSeconds !== undefined && { gracePeriodSeconds: graceSeconds }),
    },
  });
}
