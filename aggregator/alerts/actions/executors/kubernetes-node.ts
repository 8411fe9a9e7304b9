import { createHash } from 'node:crypto';
import * as v from 'valibot';

/** Of Kubernetes' own, by the same names (core/v1 Taint). */
export const taintSchema = v.strictObject({
  key: v.pipe(
    v.string('must be text'),
    v.regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,252}$/, 'is not the key of a taint'),
  ),
  value: v.optional(
    v.pipe(v.string('must be text'), v.regex(/^[A-Za-z0-9._-]{0,63}$/, 'is not the value of a taint')),
    '',
  ),
  effect: v.picklist(
    ['NoSchedule', 'PreferNoSchedule', 'NoExecute'],
    'must be NoSchedule, PreferNoSchedule or NoExecute',
  ),
});

type Taint = v.InferOutput<typeof taintSchema>;

/** What to do to a node. */
export interface NodeChange {
  readonly cordon: boolean;
  readonly taint: Taint | undefined;
}

/** What a node's object says, of what matters here. */
export interface KubernetesNode {
  readonly resourceVersion: string;
  readonly unschedulable: boolean;
  readonly taints: readonly Readonly<Record<string, unknown>>[];
  readonly annotations: Readonly<Record<string, string>>;
}

/** What we changed, as our annotation on the node says: only that is ever taken back. */
interface Ours {
  readonly step: string;
  readonly cordoned: boolean;
  readonly taint: Taint | undefined;
}

/** The annotation that says what a step of ours changed, one for each step; names have at most 63 characters. */
export function annotationOf(step: string): string {
  return `gpufleet/step-${createHash('sha256').update(step).digest('hex').slice(0, 24)}`;
}

const nodeSchema = v.object({
  metadata: v.object({
    resourceVersion: v.string(),
    annotations: v.optional(v.record(v.string(), v.string()), {}),
  }),
  spec: v.optional(
    v.object({
      unschedulable: v.optional(v.boolean(), false),
      taints: v.optional(v.array(v.record(v.string(), v.unknown())), []),
    }),
    {},
  ),
});

const oursSchema = v.object({
  step: v.string(),
  cordoned: v.boolean(),
  taint: v.optional(taintSchema),
});

/** Undefined where it is no Node object. */
export function nodeOf(object: unknown): KubernetesNode | undefined {
  const result = v.safeParse(nodeSchema, object);
  if (!result.success) return undefined;
  const { metadata, spec } = result.output;
  const { resourceVersion, annotations } = metadata;
  return { resourceVersion, annotations, unschedulable: spec.unschedulable, taints: spec.taints };
}

/** What a step of ours changed on the node, where it did. */
export function oursOf({ annotations }: KubernetesNode, step: string): Ours | undefined {
  try {
    const result = v.safeParse(oursSchema, JSON.parse(annotations[annotationOf(step)] ?? 'null'));
    return result.success && result.output.step === step ? { taint: undefined, ...result.output } : undefined;
  } catch {
    return undefined;
  }
}

/** Whether all of the change is on the node, whoever made it. */
export function hasChange(node: KubernetesNode, { cordon, taint }: NodeChange): boolean {
  return (!cordon || node.unschedulable) && (!taint || node.taints.some((one) => isSame(one, taint)));
}

/** The merge patch that makes the change and says that it was ours; refused with 409 where the node changed meanwhile. */
export function changePatch(node: KubernetesNode, { cordon, taint }: NodeChange, step: string) {
  const adds = taint && !node.taints.some((one) => isSame(one, taint)) ? taint : undefined;
  const cordoned = cordon && !node.unschedulable;
  const ours = { step, cordoned, ...(adds && { taint: adds }) };
  return {
    metadata: {
      resourceVersion: node.resourceVersion,
      annotations: { [annotationOf(step)]: JSON.stringify(ours) },
    },
    spec: { ...(cordoned && { unschedulable: true }), ...(adds && { taints: [...node.taints, adds] }) },
  };
}

/** The merge patch that takes back what our annotation says; `null` takes a field away (RFC 7396). */
export function undoPatch(node: KubernetesNode, { step, cordoned, taint }: Ours) {
  return {
    metadata: { resourceVersion: node.resourceVersion, annotations: { [annotationOf(step)]: null } },
    spec: {
      ...(cordoned && { unschedulable: null }),
      ...(taint && { taints: node.taints.filter((one) => !isSame(one, taint)) }),
    },
  };
}

export function nodeFacts({ unschedulable, taints }: KubernetesNode) {
  return {
    unschedulable,
    taints: taints
      .slice(0, 20)
      .map(({ key, value, effect }) => `${key}=${value ?? ''}:${effect}`.slice(0, 300)),
  };
}

/** A node has a taint once for each key and effect. */
function isSame(one: Readonly<Record<string, unknown>>, taint: Taint): boolean {
  return one.key === taint.key && one.effect === taint.effect;
}
