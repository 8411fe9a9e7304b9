import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';
import type { ActionContext, ActionTarget, Executor, Facts, StepOutcome } from '../executor.ts';
import { executorKind } from './executor-kind.ts';
import { guarded } from './guarded.ts';
import { KubernetesApi } from './kubernetes-api.ts';
import { type DrainSettings, drainOnce, faultOf, podsOf } from './kubernetes-drain.ts';
import {
  changePatch,
  hasChange,
  type KubernetesNode,
  type NodeChange,
  nodeFacts,
  nodeOf,
  oursOf,
  taintSchema,
  undoPatch,
} from './kubernetes-node.ts';
import { nameThere, nodeNames, nodeOfUndo } from './node-names.ts';

/** Where a pod finds its service account. */
const ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';
const file = v.pipe(v.string('must be a path'), v.minLength(1, 'must not be empty'));

const schema = v.pipe(
  v.strictObject({
    cordon: v.optional(v.boolean('must be true or false'), true),
    taint: v.optional(taintSchema),
    /** Evict the node's pods, and wait until they are gone. */
    drain: v.optional(
      v.union(
        [
          v.boolean(),
          v.strictObject({
            /** Each pod's own where not set. */
            grace: v.optional(duration(1_000, 86_400_000)),
            /** Evict pods that no controller makes again, too: their work is lost. */
            unmanaged: v.optional(v.boolean(), false),
          }),
        ],
        'must be true, false, or grace and unmanaged',
      ),
      false,
    ),
    /** HTTPS only: the token is a password. */
    api: v.optional(
      v.pipe(
        v.string('must be a URL'),
        v.check((url) => URL.canParse(url) && new URL(url).protocol === 'https:', 'must be an https:// URL'),
      ),
      'https://kubernetes.default.svc',
    ),
    ca_file: v.optional(file, `${ACCOUNT}/ca.crt`),
    token_file: v.optional(file, `${ACCOUNT}/token`),
    /** Of one request. */
    timeout: v.optional(duration(100, 300_000), '10s'),
    node_names: nodeNames,
  }),
  v.check(({ cordon, taint, drain }) => cordon || taint !== undefined || drain !== false, 'does nothing'),
  v.check(
    ({ cordon, taint, drain }) => drain === false || cordon || taint !== undefined,
    'must cordon or taint what it drains',
  ),
);

type Settings = v.InferOutput<typeof schema>;

/** Changes of the node by others that a try puts up with; kubelets and controllers write it every few seconds. */
const MAX_CONFLICTS = 5;

/**
 * Cordons, taints and drains the node in Kubernetes. What was changed stands in an annotation on the node, so that
 * only that is taken back. Evicted pods are not brought back: the scheduler has placed them elsewhere.
 */
export const kubernetesKind = executorKind(
  schema,
  { takesOut: true, undoesUnsure: true },
  (settings, { clock }) =>
    guarded(
      new KubernetesExecutor(
        settings,
        new KubernetesApi({
          url: settings.api,
          caFile: settings.ca_file,
          tokenFile: settings.token_file,
          timeoutMs: settings.timeout,
          clock,
        }),
      ),
    ),
);

/** The API server's own words on a 404; those of a proxy in front of it, or of a wrong path, say nothing of the node. */
const NO_NODE = /answered 404: nodes "[^"]+" not found/;

class KubernetesExecutor implements Executor {
  readonly kind = 'kubernetes';
  readonly #api: KubernetesApi;
  readonly #change: NodeChange;
  readonly #drain: DrainSettings | undefined;
  readonly #names: Settings['node_names'];

  constructor({ cordon, taint, drain, node_names }: Settings, api: KubernetesApi) {
    this.#api = api;
    this.#change = { cordon, taint };
    this.#names = node_names;
    const { grace, unmanaged = false } = typeof drain === 'object' ? drain : {};
    const graceSeconds = grace === undefined ? undefined : Math.round(grace / 1000);
    this.#drain = drain === false ? undefined : { graceSeconds, unmanaged };
  }

  async preview(target: ActionTarget, context: ActionContext, signal: AbortSignal): Promise<string> {
    const name = nameThere(this.#names, target.node);
    if (name === undefined) return noName(target).why;
    const { cordon, taint } = this.#change;
    const wanted = [
      cordon && 'cordon',
      taint && `taint (${taint.key}:${taint.effect})`,
      this.#drain && 'drain',
    ];
    const would = `would ${wanted.filter((word) => word).join(', ')} node ${name} in Kubernetes`;
    const node = await this.#get(name, signal);
    if ('outcome' in node) return `${would}; what it is now cannot be seen: ${node.why}`;
    if (hasChange(node, this.#change) && !oursOf(node, context.stepId))
      return `would leave node ${name} as it is: it is ${describe(node)} already`;
    if (!this.#drain) return `${would}; now it is ${describe(node)}`;
    const pods = await podsOf(this.#api, name, signal);
    const running = 'outcome' in pods ? pods.why : `${pods.length} pods to evict`;
    return `${would}; now it is ${describe(node)}, with ${running}`;
  }

  async execute(target: ActionTarget, context: ActionContext, signal: AbortSignal): Promise<StepOutcome> {
    const name = nameThere(this.#names, target.node);
    if (name === undefined) return noName(target);
    const changed = await this.#patched(name, signal, (node) => {
      // Done by an earlier try of this step: only its drain goes on.
      if (oursOf(node, context.stepId)) return undefined;
      return hasChange(node, this.#change) ? 'already' : changePatch(node, this.#change, context.stepId);
    });
    if ('outcome' in changed) return changed;
    const { before, after } = changed;
    const ours = oursOf(after, context.stepId);
    if (!ours) return { outcome: 'already', before: nodeFacts(before) };
    if (this.#drain) {
      const state = await drainOnce(this.#api, name, this.#drain, signal);
      if ('outcome' in state) return state;
      if (state.left > 0) return { outcome: 'waiting', why: state.why, afterMs: state.afterMs };
    }
    const { cordoned, taint } = ours;
    const undo: Facts = { node: name, cordoned, taint: taint !== undefined };
    return {
      outcome: 'done',
      before: before === after ? {} : nodeFacts(before),
      after: nodeFacts(after),
      undo,
    };
  }

  async undo(
    target: ActionTarget,
    context: ActionContext,
    undo: Facts,
    signal: AbortSignal,
  ): Promise<StepOutcome> {
    const name = nodeOfUndo(undo) ?? nameThere(this.#names, target.node);
    if (name === undefined) return noName(target);
    const changed = await this.#patched(name, signal, (node) => {
      const ours = oursOf(node, context.stepId);
      return ours ? undoPatch(node, ours) : 'already';
    });
    // The node has left the cluster: one that comes back under its name is not as we left it.
    if ('outcome' in changed) return NO_NODE.test(changed.why) ? { outcome: 'already', before: {} } : changed;
    const { before, after } = changed;
    if (before === after) return { outcome: 'already', before: nodeFacts(before) };
    return { outcome: 'done', before: nodeFacts(before), after: nodeFacts(after) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#api[Symbol.asyncDispose]();
  }

  /** Reads the node, changes it as `patchOf` says, and again where somebody else was first. */
  async #patched(
    name: string,
    signal: AbortSignal,
    patchOf: (node: KubernetesNode) => object | 'already' | undefined,
  ): Promise<{ before: KubernetesNode; after: KubernetesNode } | Fault> {
    for (let conflicts = 0; conflicts < MAX_CONFLICTS; conflicts++) {
      const before = await this.#get(name, signal);
      if ('outcome' in before) return before;
      const patch = patchOf(before);
      if (patch === undefined || patch === 'already') return { before, after: before };
      const answer = await this.#api.request('PATCH', pathOf(name), signal, patch);
      if (answer.status === 409) continue;
      const after = nodeOf(answer.object);
      return after ? { before, after } : faultOf(answer);
    }
    return { outcome: 'retry', why: `others changed node ${name} ${MAX_CONFLICTS} times meanwhile` };
  }

  async #get(name: string, signal: AbortSignal): Promise<KubernetesNode | Fault> {
    const answer = await this.#api.request('GET', pathOf(name), signal);
    if (!answer.object) return faultOf(answer);
    return (
      nodeOf(answer.object) ?? {
        outcome: 'retry',
        why: 'the API server answered with something else than a node',
      }
    );
  }
}

type Fault = Extract<StepOutcome, { outcome: 'retry' | 'failed' }>;

function pathOf(name: string): string {
  return `/api/v1/nodes/${encodeURIComponent(name)}`;
}

function noName({ node }: ActionTarget): Fault {
  return { outcome: 'failed', why: `node ${node} has no name in Kubernetes: see node_names` };
}

function describe({ unschedulable, taints }: KubernetesNode): string {
  const state = unschedulable ? 'cordoned' : 'schedulable';
  return taints.length === 0 ? state : `${state} with ${taints.length} taints`;
}
