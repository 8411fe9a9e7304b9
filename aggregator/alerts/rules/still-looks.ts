import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { IDENTITY } from '../aggregate/series-labels.ts';
import type { LabelMatch, ThresholdRule } from './rules.ts';

/**
 * Whether a sample can still judge an alert of an earlier form of the rule. Not where the rule looks at another metric
 * now, at other GPUs, or tells alerts apart by other labels, so that the series has an alert under another id: nothing
 * would ever end that one. `earlier` is undefined where it is not known, after a restart.
 */
export function stillLooksAt(rule: ThresholdRule, alert: Alert, earlier?: ThresholdRule): boolean {
  const named = namesOf(alert);
  return rule.values.some(({ metric, labels }) => {
    if (!isOfGpu(labels, alert) || named.some((name) => Object.hasOwn(labels, name))) return false;
    return (
      earlier?.values.some((before) => before.metric === metric && isKept(before.labels, labels)) ?? true
    );
  });
}

/** Labels that the key holds. One whose value is not that of the alert may be a part of another one's value. */
function namesOf({ key, labels }: Alert): string[] {
  const pairs = key.split(',').map((pair) => pair.split('=', 2));
  return pairs.filter(([name, value]) => labels[name!] === value).map(([name]) => name!);
}

function isOfGpu(match: LabelMatch, { gpu, gpuUuid, gpuModel }: Alert): boolean {
  const { gpu: index = gpu, uuid = gpuUuid, model = gpuModel } = match;
  return index === gpu && uuid === gpuUuid && model === gpuModel;
}

/** What was asked for is asked for still: else it is in the key now. */
function isKept(before: LabelMatch, after: LabelMatch): boolean {
  return Object.keys(before).every((name) => IDENTITY.has(name) || Object.hasOwn(after, name));
}
