import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Alert, AlertSchema, AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { alertId } from '../../../aggregator/alerts/alert-id.ts';
import { START_MS } from './block-of.ts';

/** Transition `transition` of the alert of one GPU: odd ones fire, even ones resolve, one a second. */
export function alertOf(
  gpu: string,
  transition: number,
  more: Partial<Omit<Alert, '$typeName' | '$unknown'>> = {},
): Alert {
  return create(AlertSchema, {
    id: alertId('east', 'n1.rack', gpu, 'hot', ''),
    rule: 'hot',
    cluster: 'east',
    node: 'n1.rack',
    gpu,
    state: transition % 2 === 1 ? AlertState.FIRING : AlertState.RESOLVED,
    severity: Severity.CRITICAL,
    transition: BigInt(transition),
    updatedAt: timestampFromMs(START_MS + transition * 1000),
    ...more,
  });
}
