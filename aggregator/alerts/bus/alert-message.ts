import { fromJsonString, toJsonString } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { type Alert, AlertSchema, AlertState, type Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { toSubject } from './subject.ts';

export const ALERT_SUBJECTS = 'gpufleet.alerts.>';

/**
 * `gpufleet.alerts.<cluster>.<node>.<gpu>.<rule>.<key>`, one for each alert. The GPU is its UUID, or its index where
 * there is none, as in the alert's id: after a swap the new GPU must not write over the old one's last state.
 */
export function alertSubject(alert: Alert): string {
  return toSubject(
    'gpufleet.alerts',
    alert.cluster,
    alert.node,
    alert.gpuUuid || alert.gpu,
    alert.rule,
    alert.key,
  );
}

/** The alert as protobuf JSON with the names of the .proto file. */
export function encodeAlert(alert: Alert): string {
  return toJsonString(AlertSchema, alert, { useProtoFieldName: true });
}

/** Undefined where the text is no alert: someone else wrote to the subject. Fields of newer versions are ignored. */
export function decodeAlert(text: string): Alert | undefined {
  try {
    return fromJsonString(AlertSchema, text, { ignoreUnknownFields: true });
  } catch {
    return undefined;
  }
}

export function messageId(alert: Alert): string {
  return `${alert.id}:${alert.transition}`;
}

export function stateName(alert: Alert): string {
  return alert.state === AlertState.FIRING ? 'firing' : 'resolved';
}

export type Verdict =
  /** Ours follows theirs: publish it. */
  | 'publish'
  /** It is there already. */
  | 'stored'
  /** Another owner has said the same: nothing new. */
  | 'repeat'
  /** Another owner knows better. */
  | 'superseded';

/** What the last message of a subject says, as far as it decides what may follow it. */
export interface Standing {
  readonly transition: bigint;
  readonly state: AlertState;
  readonly severity: Severity;
  readonly suppressed: boolean;
  readonly updatedMs: number;
  /** When somebody acknowledged it, Unix ms; 0 where nobody has. */
  readonly acknowledgedMs: number;
}

export function standingOf(alert: Alert): Standing {
  const { transition, state, severity, suppressed, updatedAt, acknowledged } = alert;
  return {
    ...{ transition, state, severity, suppressed },
    updatedMs: updatedAt ? timestampMs(updatedAt) : 0,
    acknowledgedMs: acknowledged?.at ? timestampMs(acknowledged.at) : 0,
  };
}

/**
 * What to do with a transition of ours, given the last message of its subject. A transition that counts on from
 * theirs follows it. Otherwise two owners have written, and the newer sample decides, or the later acknowledgement
 * where they differ in that alone: it is published with the next number if it says anything new, and refused if theirs
 * is as new. A new owner that knows of no acknowledgement must not take away what somebody said to the one before it.
 */
export function judge(ours: Standing, theirs: Standing): Verdict {
  const sameCondition =
    ours.state === theirs.state && ours.severity === theirs.severity && ours.suppressed === theirs.suppressed;
  const sameTimes = ours.updatedMs === theirs.updatedMs && ours.acknowledgedMs === theirs.acknowledgedMs;
  if (sameCondition && sameTimes) return 'stored';
  if (ours.transition > theirs.transition) return 'publish';
  if (sameCondition) return ours.acknowledgedMs > theirs.acknowledgedMs ? 'publish' : 'repeat';
  return ours.updatedMs > theirs.updatedMs ? 'publish' : 'superseded';
}
